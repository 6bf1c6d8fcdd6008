"""SamplingRate: asks the sampler for what the detector needs, and no more.

While no loop is resolved it asks for the most (the probe stays inside its own cost budget); once locked it settles at about
24 samples an iteration, so that a job with long steps pays next to nothing and one with short steps is resolved as far as the
cost budget (the governor's business) allows.
"""

from __future__ import annotations

from typing import Any, Final

from sofa_otel.core.records import CaptureRequest
from sofa_otel.processors.iterate.settings import DetectorSettings

_PATIENCE_NS: Final = 400_000_000
_CLIMB: Final = 20.0
_GIVE_UP_NS: Final = 20_000_000_000


class SamplingRate:
    """Remembers what was asked for; every answer is a function of event time."""

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings
        self._asked = 0.0
        self._since_ns = 0
        self._began_ns = 0

    def state(self) -> list[Any]:
        """Plain values."""
        return [self._asked, self._since_ns, self._began_ns]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self._asked, self._since_ns, self._began_ns = state

    def searching(self, now: int, interval: float) -> CaptureRequest | None:
        """Nothing is locked and samples come every ``interval`` ns."""
        if interval <= 0:
            return None
        if not self._began_ns:
            self._began_ns = self._since_ns = now
        if now - self._since_ns < _PATIENCE_NS:
            return None
        self._since_ns = now
        if now - self._began_ns > _GIVE_UP_NS:
            if self._asked > 0:
                self._asked = 0.0
                return self._request(self._settings.usual_rate_hz, "no loop found in sampled stacks; back to the usual rate")
            return None
        rate = 1e9 / interval
        want = min(self._settings.max_rate_hz, _CLIMB * max(rate, self._asked))
        if self._asked and (want <= 1.2 * rate or want <= self._asked):
            return None  # a rate that nobody has asked for yet does not last, however high it is
        self._asked = want
        return self._request(want, f"no loop resolved at {rate:.0f} samples/s")

    def locked(self, period_ns: float, interval: float, *, sampled: bool) -> CaptureRequest | None:
        """Locked with this period; ``sampled`` when the boundaries come from samples."""
        self._began_ns = 0
        if interval <= 0 or period_ns <= 0:
            return None
        now_rate = self._asked or 1e9 / interval
        if not sampled:
            return None
        want = min(self._settings.max_rate_hz, max(20.0, self._settings.good_samples * 1e9 / period_ns))
        if self._asked and 0.8 < want / now_rate < 2.5:
            return None
        self._asked = want
        return self._request(want, f"{self._settings.good_samples:.0f} samples an iteration of {period_ns / 1e6:.1f} ms")

    def settle(self) -> float:
        """Rate to ask for together with narrowing to an exact source: the usual one if more was asked for, else 0."""
        raised, self._asked = self._asked > 0, 0.0
        return self._settings.usual_rate_hz if raised else 0.0

    def _request(self, rate: float, reason: str) -> CaptureRequest:
        return CaptureRequest(source="probe", mode="wide", rate_hz=round(rate, 1), reason=reason)
