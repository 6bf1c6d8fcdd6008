"""What the system call collector records right now: the wishes of operator and governor, and the guard against too high a rate.

Wide is every call with its duration. The guard sheds in this order: the exits (and with them durations and bytes), then
everything nobody asked for, or, where nobody asked, the commonest calls one after the other. It gives back in the reverse order
when the rate would have allowed it for ten rounds.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.records import CaptureRequest

MAX_RATE_HZ: Final = 40_000.0
"""Records a second (an entry or an exit) beyond which the guard sheds: about four per cent of a core, both sides together."""

_CALM_ROUNDS: Final = 10


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to record.

    Attributes:
        on: Record at all.
        exits: Record exits.
        only: Call numbers to keep, None for all.
        without: Call numbers to leave out.
    """

    on: bool = True
    exits: bool = True
    only: frozenset[int] | None = None
    without: frozenset[int] = frozenset()

    @property
    def filter(self) -> str:
        """As a tracepoint filter; empty for all."""
        if self.only is not None:
            return " || ".join(f"id == {number}" for number in sorted(self.only - self.without)) or "id == -2"
        return " && ".join(f"id != {number}" for number in sorted(self.without))


class Wishes:
    """Capture requests by rank, the last one of each kind. A rank that asked for nothing is wide.

    Args:
        numbers: Call number by name.
    """

    def __init__(self, numbers: dict[str, int]) -> None:
        self._numbers = numbers
        self._lasting: dict[int | None, CaptureRequest] = {}
        self._passing: dict[int | None, CaptureRequest] = {}

    def ask(self, request: CaptureRequest, rank: int | None) -> None:
        """Remember a request for one rank, or for all (None: it replaces what single ranks asked before)."""
        if request.until_ns:
            self._passing[rank] = request
            return
        if rank is None:
            self._lasting.clear()
            self._passing.clear()
        self._passing.pop(rank, None)
        self._lasting[rank] = request

    def asked(self) -> frozenset[int]:
        """Numbers that any narrow request names."""
        wanted = [*self._lasting.values(), *self._passing.values()]
        names = {row[0] for request in wanted if request.mode == "narrow" for row in request.names}
        return frozenset(self._numbers[name] for name in names if name in self._numbers)

    def plan(self, ranks: set[int], now_ns: int) -> Plan:
        """The least that satisfies every rank."""
        self._passing = {rank: request for rank, request in self._passing.items() if request.until_ns > now_ns}
        modes = {}
        for rank in ranks or {-1}:
            # A burst is a newer and shorter wish than any lasting one; a rank's own comes before that for all.
            order = (self._passing.get(rank), self._passing.get(None), self._lasting.get(rank), self._lasting.get(None))
            modes[rank] = next((request.mode for request in order if request is not None), "wide")
        if all(mode == "off" for mode in modes.values()):
            return Plan(on=False, exits=False)
        if any(mode in ("wide", "raw") for mode in modes.values()):
            return Plan()
        return Plan(exits=False, only=self.asked())


class RateGuard:
    """Keeps the rate of records below a limit by giving up detail.

    Attributes:
        limit_hz: Records a second.
        level: 0 nothing is shed, 1 exits, 2 also calls.
        without: Calls that are left out at level 2 when nobody asked for any.
    """

    def __init__(self, limit_hz: float = MAX_RATE_HZ) -> None:
        self.limit_hz = limit_hz
        self.level: Literal[0, 1, 2] = 0
        self.without: frozenset[int] = frozenset()
        self._calm = 0
        self._shed_at_hz = 0.0

    def apply(self, plan: Plan, asked: frozenset[int]) -> Plan:
        """The plan, less what has to be shed."""
        if self.level == 0 or not plan.on:
            return plan
        only = plan.only if plan.only is not None or self.level < 2 or not asked else asked
        without = self.without if only is None else frozenset()
        return Plan(on=True, exits=False, only=only, without=without)

    def observe(self, rate_hz: float, ids: NDArray[np.int64], asked: frozenset[int]) -> str:
        """Take the rate of one round.

        Args:
            rate_hz: Records a second in this round.
            ids: Call numbers of the round's entries.
            asked: Numbers that somebody asked for.

        Returns:
            What changed, in words; empty when nothing did.
        """
        if rate_hz > self.limit_hz:
            self._calm = 0
            return self._shed(rate_hz, ids, asked)
        if self.level and rate_hz < self.limit_hz / 4:
            self._calm += 1
            if self._calm >= _CALM_ROUNDS:
                self._calm = 0
                return self._give_back()
        else:
            self._calm = 0
        return ""

    def _shed(self, rate_hz: float, ids: NDArray[np.int64], asked: frozenset[int]) -> str:
        if self.level == 0:
            self.level = 1
            return "durations and bytes of system calls are no longer recorded"
        if self.level == 1 and asked:
            self.level = 2
            return "only the system calls that were asked for are recorded"
        if self.level == 2 and asked and not self.without:
            return ""  # the least that was asked for; the governor may still switch it off
        self.level = 2
        counts = np.bincount(ids[(ids >= 0) & (ids < 1024)], minlength=1)
        # Leave out the commonest until half of the limit would remain.
        keep = int(len(ids) * min(1.0, self.limit_hz / 2 / rate_hz))
        dropped: set[int] = set()
        for number in np.argsort(-counts, kind="stable").tolist():
            if len(ids) - int(counts[sorted(dropped)].sum() if dropped else 0) <= keep or not counts[number]:
                break
            dropped.add(number)
        self.without |= dropped
        return "the commonest system calls are left out"

    def _give_back(self) -> str:
        if self.level == 2:
            # Calls come back together; if that is too much the next round leaves them out again and calm starts anew.
            self.level, self.without = 1, frozenset()
            return "all system calls are recorded again"
        self.level = 0
        return "durations of system calls are recorded again"
