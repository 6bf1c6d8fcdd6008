"""Watermark: up to which event time everything has been seen.

The minimum over the sources of their newest event, less the allowed lateness. A source that says nothing for a while no longer
holds the others back: a timer moves the watermark to ``now - max_delay`` at the latest.
"""

from __future__ import annotations

from typing import Final

LATENESS_NS: Final = 2_000_000_000
MAX_DELAY_NS: Final = 5_000_000_000


class Watermark:
    """Tracks sources' progress; never moves back.

    Args:
        lateness_ns: How far behind its source's newest event an event may come, ns.
        max_delay_ns: How far behind the wall clock the watermark may be held by a silent source, ns.
    """

    __slots__ = ("_lateness_ns", "_max_delay_ns", "_newest", "_value")

    def __init__(self, lateness_ns: int = LATENESS_NS, max_delay_ns: int = MAX_DELAY_NS) -> None:
        self._lateness_ns = lateness_ns
        self._max_delay_ns = max(max_delay_ns, lateness_ns)
        self._newest: dict[str, int] = {}
        self._value = 0

    @property
    def value(self) -> int:
        """Everything that completed before this UNIX ns has been seen; 0 before the first event."""
        return self._value

    def observe(self, source: str, newest_ns: int) -> None:
        """``source`` has delivered events up to ``newest_ns``."""
        if newest_ns <= self._newest.get(source, 0):
            return
        self._newest[source] = newest_ns
        slowest = min(self._newest.values()) - self._lateness_ns
        self._value = max(self._value, slowest)

    def tick(self, now_ns: int) -> None:
        """The wall clock is at ``now_ns``; sources silent for longer than the maximum delay are forgotten."""
        floor = now_ns - self._max_delay_ns
        if self._newest:
            self._value = max(self._value, floor)
            self._newest = {source: newest for source, newest in self._newest.items() if newest >= floor}

    def close(self, source: str) -> None:
        """``source`` has ended and holds nobody back any more."""
        self._newest.pop(source, None)
