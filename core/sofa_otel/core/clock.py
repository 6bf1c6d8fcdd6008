"""Clocks: monotonic stamps on the UNIX epoch, although the wall clock may be stepped or slewed under us.

Sources stamp with the monotonic clock, which never jumps; records carry UNIX time. The two are tied by a pair of readings (an
anchor). The tie is checked again now and then: a slow drift (NTP slewing) is followed, so that times agree with other machines; a
step is noticed and told, and the time of day that is given out never runs backwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

STEP_NS: Final = 50_000_000
"""A change of the epoch offset by more than this between two checks is a step, not a drift."""


class Anchor(NamedTuple):
    """One instant on both clocks, and how far apart the readings were at most."""

    monotonic_ns: int
    epoch_ns: int
    uncertainty_ns: int

    @property
    def offset_ns(self) -> int:
        """Epoch minus monotonic."""
        return self.epoch_ns - self.monotonic_ns


def read_anchor(
    monotonic: Callable[[], int] = time.monotonic_ns, epoch: Callable[[], int] = time.time_ns, *, tries: int = 5
) -> Anchor:
    """Read both clocks as close together as they can be read: the best of a few bracketed readings."""
    best: Anchor | None = None
    for _ in range(tries):
        before = monotonic()
        wall = epoch()
        after = monotonic()
        anchor = Anchor((before + after) // 2, wall, (after - before + 1) // 2)
        if best is None or anchor.uncertainty_ns < best.uncertainty_ns:
            best = anchor
    assert best is not None
    return best


class Step(NamedTuple):
    """The wall clock was set: at this instant (new epoch) by this much (positive: forward)."""

    at_ns: int
    by_ns: int


class EpochClock:
    """Monotonic nanoseconds → UNIX nanoseconds.

    Between two checks the offset is constant. A drift found by a check is applied from that check on. A step is *not* applied
    to this clock: a run keeps one time axis, and the step is reported, so that whoever compares with other machines knows.

    Attributes:
        anchor: The tie that is in force.
        steps: Steps seen so far.
    """

    def __init__(self, monotonic: Callable[[], int] = time.monotonic_ns, epoch: Callable[[], int] = time.time_ns) -> None:
        self._monotonic = monotonic
        self._epoch = epoch
        self.anchor = read_anchor(monotonic, epoch)
        self.steps: list[Step] = []
        self._stepped_ns = 0
        self._last_ns = 0

    def now_ns(self) -> int:
        """UNIX nanoseconds now; never less than it was before, whatever happens to the wall clock."""
        # A check may have taken the offset back by a drift: wait for the clock to catch up.
        self._last_ns = max(self._last_ns, self._monotonic() + self.anchor.offset_ns)
        return self._last_ns

    def to_epoch(self, monotonic_ns: int) -> int:
        """A stamp of the monotonic clock as UNIX nanoseconds."""
        return monotonic_ns + self.anchor.offset_ns

    def to_epoch_array(self, monotonic_ns: NDArray[Any]) -> NDArray[np.int64]:
        """Stamps of the monotonic clock, ``i64``, as UNIX nanoseconds."""
        return monotonic_ns.astype(np.int64, copy=False) + np.int64(self.anchor.offset_ns)

    def check(self) -> Step | None:
        """Compare the clocks again; call every few seconds.

        Returns:
            The step, if the wall clock was set since the last check.
        """
        now = read_anchor(self._monotonic, self._epoch)
        moved = now.offset_ns - self._stepped_ns - self.anchor.offset_ns
        if abs(moved) > STEP_NS + now.uncertainty_ns:
            step = Step(now.epoch_ns, moved)
            self.steps.append(step)
            self._stepped_ns += moved
            return step
        if abs(moved) <= now.uncertainty_ns + self.anchor.uncertainty_ns:
            return None  # no more than the readings themselves are uncertain
        self.anchor = Anchor(now.monotonic_ns, now.monotonic_ns + self.anchor.offset_ns + moved, now.uncertainty_ns)
        return None
