"""LineClock: the four ways in which strace tells time, as nanoseconds that only go on."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.exporters.read.strace_lines import Lines, Time
from sofa_otel.exporters.read.strace_scan import Places

_DAY_NS: Final = 86_400_000_000_000
_APART_NS: Final = 400 * _DAY_NS
"""Lines of one block that are further from its middle than this have a damaged time."""


class LineClock:
    """Times of consecutive blocks of lines.

    Attributes:
        kind: How this recording tells time, by its first line that does. Lines that tell it in another way are not its own.
    """

    def __init__(self) -> None:
        self.kind = Time.NONE
        self._now_ns = 0
        self._last_of_day: int | None = None

    @property
    def name(self) -> str:
        """``unix`` or ``own``, as in batch headers."""
        return "unix" if self.kind == Time.UNIX else "own"

    def times(self, lines: Lines) -> tuple[Places, NDArray[np.bool_]]:
        """``(ns, whether the line has a time)``."""
        told = np.flatnonzero(lines.clock)
        if self.kind == Time.NONE and len(told):
            self.kind = Time(int(lines.clock[told[0]]))
        good = lines.clock == self.kind if self.kind else np.zeros(len(lines.clock), bool)
        times = lines.time
        if self.kind == Time.UNIX:
            return times, self._near(times, good)
        rows = np.flatnonzero(good)
        if self.kind == Time.NONE or not len(rows):
            return times, good
        times = times.copy()
        if self.kind == Time.OF_DAY:
            times[rows] = self._over_midnight(times[rows])
        else:
            times[rows] = self._now_ns + np.cumsum(np.minimum(times[rows], _APART_NS))
        self._now_ns = int(times[rows[-1]])
        return times, good

    def _over_midnight(self, of_day: Places) -> Places:
        """Each step is taken the shorter way round the clock, so one wrong line does not make a day of difference."""
        if self._last_of_day is None:
            self._last_of_day = self._now_ns = int(of_day[0])
        step = np.diff(of_day, prepend=self._last_of_day)
        step = (step + _DAY_NS // 2) % _DAY_NS - _DAY_NS // 2
        self._last_of_day = int(of_day[-1])
        return self._now_ns + np.cumsum(step)

    @staticmethod
    def _near(times: Places, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
        own = times[good]
        if not len(own) or int(own.max()) - int(own.min()) < _APART_NS:
            return good
        middle = int(np.partition(own, len(own) // 2)[len(own) // 2])
        return good & (np.abs(times - middle) < _APART_NS)
