"""Counters: what a run's resource series say about a span of time.

A counter's increase is counted per series and only within the span, so that processes which come and go (loader workers) count
for as long as they were seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import Metric
from sofa_otel.core.series import Series


class StoredSeries(Protocol):
    """A series as a run directory gives it back."""

    @property
    def series(self) -> Series: ...
    @property
    def rank(self) -> int: ...
    @property
    def time_ns(self) -> NDArray[np.int64]: ...
    @property
    def value(self) -> NDArray[np.float64]: ...


Match = Callable[[Series], bool]


def _any(_: Series) -> bool:
    return True


class Counters:
    """Resource series of one rank, cut to ``[start_ns, end_ns]``.

    Args:
        stored: All series of the rank.
        start_ns, end_ns: Span of interest; the last point before it serves as the counters' start.
    """

    def __init__(self, stored: Iterable[StoredSeries], start_ns: int, end_ns: int) -> None:
        self.seconds = max(end_ns - start_ns, 1) / 1e9
        self._rows: dict[str, list[tuple[Series, NDArray[np.int64], NDArray[np.float64]]]] = {}
        for one in stored:
            order = np.argsort(one.time_ns, kind="stable")
            time_ns, value = one.time_ns[order], one.value[order]
            first = max(int(np.searchsorted(time_ns, start_ns, "right")) - 1, 0)
            last = int(np.searchsorted(time_ns, end_ns, "right")) + 1  # one point beyond, or the end of a short run is lost
            if len(time_ns[first:last]):
                self._rows.setdefault(one.series.metric, []).append((one.series, time_ns[first:last], value[first:last]))

    def has(self, metric: Metric, match: Match = _any) -> bool:
        """Whether any point of the metric was seen."""
        return any(match(series) for series, _, _ in self._rows.get(metric.name, ()))

    def increase(self, metric: Metric, match: Match = _any) -> float:
        """Summed increase of a counter over all matching series.

        A fall by more than half is a reset, which counts from zero; a smaller one is two readers of one counter crossing.
        """
        total = 0.0
        for series, _, value in self._rows.get(metric.name, ()):
            if match(series) and len(value) > 1:
                reset = value[1:] < 0.5 * value[:-1]
                peak = np.maximum.accumulate(value) if not reset.any() else value
                step = np.diff(peak)
                total += float(np.where(step >= 0, step, np.where(reset, value[1:], 0.0)).sum())
        return total

    def rate(self, metric: Metric, match: Match = _any) -> float:
        """Increase per second of the span actually covered by points."""
        spans = [(int(t[0]), int(t[-1])) for s, t, _ in self._rows.get(metric.name, ()) if match(s) and len(t) > 1]
        if not spans:
            return 0.0
        seconds = (max(b for _, b in spans) - min(a for a, _ in spans)) / 1e9
        return self.increase(metric, match) / seconds if seconds > 0 else 0.0

    def mean(self, metric: Metric, match: Match = _any) -> float | None:
        """Mean over time of the *sum* of a gauge's matching series; None without points."""
        rows = [(t, v) for s, t, v in self._rows.get(metric.name, ()) if match(s)]
        if not rows:
            return None
        grid = np.unique(np.concatenate([t for t, _ in rows]))
        total = np.zeros(len(grid))
        for time_ns, value in rows:
            inside = (grid >= time_ns[0]) & (grid <= time_ns[-1])
            at = np.clip(np.searchsorted(time_ns, grid, "right") - 1, 0, len(value) - 1)
            total += np.where(inside, value[at], 0.0)
        return float(total.mean())

    def largest_increase(self, metric: Metric, match: Match = _any) -> float:
        """Largest increase of one series: several processes of one control group tell the same counter."""
        each = [series for series, _, _ in self._rows.get(metric.name, ()) if match(series)]
        return max((self.increase(metric, one.__eq__) for one in each), default=0.0)

    def greatest_mean(self, metric: Metric) -> float | None:
        """Largest mean of one series of a gauge; None without points."""
        return max((float(value.mean()) for _, _, value in self._rows.get(metric.name, ())), default=None)

    def least(self, metric: Metric, match: Match = _any) -> float | None:
        """Least of the series' last values (limits: the tightest one holds); None without points."""
        return min((float(value[-1]) for series, _, value in self._rows.get(metric.name, ()) if match(series)), default=None)

    def series(self, metric: str) -> list[tuple[Series, NDArray[np.int64], NDArray[np.float64]]]:
        """The cut series of a metric."""
        return self._rows.get(metric, [])

    def metrics(self) -> list[str]:
        """Names of the metrics seen."""
        return sorted(self._rows)
