"""Which iterations share a record: each its own while they are slow, several to a window when they are fast.

Consecutive iterations under .1 s are folded until a window lasts .2 s, so that a rank makes at most a few windows a second and
each holds enough samples to say something. Windows depend on the iterations alone, not on how they were delivered.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sofa_otel.core.names import IterationKind
from sofa_otel.core.records import Iteration

OWN_NS: Final = 100_000_000
FOLD_NS: Final = 200_000_000
_TRAIN: Final = frozenset({IterationKind.TRAIN, IterationKind.WARMUP})


class Window(NamedTuple):
    """Consecutive iterations without a gap: number of the first, how many, their span, their kind."""

    first: int
    folded: int
    start_ns: int
    end_ns: int
    kind: IterationKind


class WindowMaker:
    """Folds iterations into windows; an unfinished window waits for the next call."""

    def __init__(self) -> None:
        self._open: Window | None = None

    @property
    def open_since(self) -> int | None:
        """Start of the unfinished window."""
        return None if self._open is None else self._open.start_ns

    def add(self, iteration: Iteration) -> list[Window]:
        """Windows that end with, or before, this iteration."""
        out: list[Window] = []
        new = Window(iteration.index, 1, iteration.start_ns, iteration.end_ns, iteration.kind)
        now = self._open
        if now is not None and not _fits(now, new):
            out.append(now)
            now = None
        if now is not None:
            new = Window(now.first, now.folded + 1, now.start_ns, new.end_ns, now.kind)
        length = new.end_ns - new.start_ns
        if length >= FOLD_NS or (new.folded == 1 and length >= OWN_NS):
            out.append(new)
            self._open = None
        else:
            self._open = new
        return out

    def flush(self) -> list[Window]:
        """The unfinished window."""
        out = [] if self._open is None else [self._open]
        self._open = None
        return out


def _fits(now: Window, new: Window) -> bool:
    same = now.kind is new.kind or (now.kind in _TRAIN and new.kind in _TRAIN)
    return same and new.start_ns == now.end_ns and new.first == now.first + now.folded and new.end_ns - new.start_ns < OWN_NS
