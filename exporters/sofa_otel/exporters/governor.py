"""Keeps what observing costs inside a budget, and can say what was given up for it.

The budget is a share of the CPU time that the target's tree itself uses (1 % by default), with a small absolute floor so that a
job that sleeps is still seen. Collectors are asked to give up detail by :class:`CaptureRequest`, one step at a time, in this
order:

1. ``pyspy``: 20, then 10 samples a second, then off.
2. ``perf_syscalls``: at most 20,000, then 5,000, then 1,000 records a second (it drops durations and the commonest calls to
   get there), then off.
3. ``probe``: 50, then 20, then 10 samples a second. Never off: it is what finds the iterations.

A collector that causes less than a tenth of the cost is passed over. Counters of ``/proc`` are not shed: they cost two
thousandths of a core together. A step is taken after two windows above the budget and given back after six windows below half
of it; each time a step had to be taken again, the wait before it is given back doubles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collector import CollectorStats

WINDOW_NS: Final = 5_000_000_000


class Step(msgspec.Struct, frozen=True):
    """One thing to give up: samples or records a second, or (0) the whole source."""

    source: str
    rate_hz: float
    words: str


ORDER: Final[tuple[Step, ...]] = (
    Step("pyspy", 20, "Python stacks of processes without a probe: 20 samples/s"),
    Step("pyspy", 10, "Python stacks of processes without a probe: 10 samples/s"),
    Step("pyspy", 0, "Python stacks of processes without a probe: off"),
    Step("perf_syscalls", 20_000, "system calls: at most 20,000 records/s"),
    Step("perf_syscalls", 5_000, "system calls: at most 5,000 records/s"),
    Step("perf_syscalls", 1_000, "system calls: at most 1,000 records/s"),
    Step("perf_syscalls", 0, "system calls: off"),
    Step("probe", 50, "Python stacks: 50 samples/s"),
    Step("probe", 20, "Python stacks: 20 samples/s"),
    Step("probe", 10, "Python stacks: 10 samples/s"),
)
"""What is given up, the least valuable first."""

_MINOR_SHARE: Final = 0.1
_OVER_WINDOWS: Final = 2
_UNDER_WINDOWS: Final = 6
_MOST_PATIENCE: Final = 16


class Usage(msgspec.Struct, frozen=True):
    """Cost in the last window: CPU seconds used, CPU seconds allowed."""

    used_s: float
    allowed_s: float


class Governor:
    """Decides what collectors give up.

    Args:
        budget: Share of the target tree's CPU time that collectors may use, in their own threads and inside the target.
        floor: CPU seconds a second of wall time that are always allowed.
        order: Steps, the first to be given up first.
    """

    def __init__(self, budget: float = 0.01, floor: float = 0.005, order: tuple[Step, ...] = ORDER) -> None:
        self.budget = budget
        self.floor = floor
        self._order = order
        self._asked: dict[str, CaptureRequest] = {}
        self._taken: list[Step] = []
        self._patience: dict[Step, int] = {}
        self._window_ns = 0
        self._target_s = 0.0
        self._costs: dict[str, float] = {}
        self._over = self._under = 0
        self.last = Usage(0.0, 0.0)

    def note(self, request: CaptureRequest) -> CaptureRequest:
        """Pass a request of the operator for one source (not ``*``) through the governor: what was shed stays shed.

        Returns:
            The request to hand to collectors, its rate lowered to what is allowed, or ``off``.
        """
        self._asked[request.source] = request
        return self._limited(request)

    def observe(self, now_ns: int, target_cpu_s: float, stats: Mapping[str, CollectorStats]) -> list[CaptureRequest]:
        """Take the accounts; call it about once a second.

        Args:
            now_ns: Time.
            target_cpu_s: CPU seconds of the target's tree so far.
            stats: Each running collector's own account so far.

        Returns:
            Requests to hand to collectors; empty as long as nothing changes.
        """
        costs = {name: one.cpu_s + one.target_cpu_s for name, one in stats.items()}
        if not self._window_ns:
            self._window_ns, self._target_s, self._costs = now_ns, target_cpu_s, costs
            return []
        elapsed = now_ns - self._window_ns
        if elapsed < WINDOW_NS:
            return []
        spent = {name: max(0.0, cost - self._costs.get(name, 0.0)) for name, cost in costs.items()}
        allowed = max(self.budget * max(0.0, target_cpu_s - self._target_s), self.floor * elapsed * 1e-9)
        used = sum(spent.values())
        self.last = Usage(used, allowed)
        self._window_ns, self._target_s, self._costs = now_ns, target_cpu_s, costs
        self._over = self._over + 1 if used > allowed else 0
        self._under = self._under + 1 if used < allowed / 2 else 0
        if self._over >= _OVER_WINDOWS:
            self._over = 0
            return self._shed(spent, used)
        if self._taken and self._under >= _UNDER_WINDOWS * self._patience.get(self._taken[-1], 1):
            self._under = 0
            step = self._taken.pop()
            return [self._current(step.source)]
        return []

    def shed(self) -> list[str]:
        """What is given up now, in words; for each source only the furthest step."""
        return list({step.source: step.words for step in self._taken}.values())

    def _shed(self, spent: Mapping[str, float], used: float) -> list[CaptureRequest]:
        for step in self._order:
            if step in self._taken or spent.get(step.source, 0.0) < _MINOR_SHARE * used:
                continue
            self._taken.append(step)
            self._patience[step] = min(self._patience.get(step, 0) * 2 or 1, _MOST_PATIENCE)
            self._under = 0
            return [self._current(step.source)]
        return []

    def _current(self, source: str) -> CaptureRequest:
        asked = self._asked.get(source) or CaptureRequest(source=source, mode="wide")
        return self._limited(asked)

    def _limited(self, request: CaptureRequest) -> CaptureRequest:
        limits = [step.rate_hz for step in self._taken if step.source == request.source]
        if not limits or request.mode == "off":
            return request
        rate = min(limits)
        reason = f"governor: {self.last.used_s:.3f} CPU s used, {self.last.allowed_s:.3f} allowed"
        if rate == 0:
            return msgspec.structs.replace(request, mode="off", reason=reason)
        lowered = min(rate, request.rate_hz) if request.rate_hz else rate
        return msgspec.structs.replace(request, rate_hz=lowered, reason=request.reason or reason)
