"""Thinning: fewer points that still look the same.

A page that opens at once holds no more points than a screen has columns. Means are kept where areas matter (phases of
iterations) and extremes where spikes matter (resource lanes, slow steps).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.report import FlameNode, RankTrack

Floats = NDArray[np.float64]


def edges(count: int, groups: int) -> NDArray[np.int64]:
    """Borders (``groups + 1``) of equal runs of ``count`` rows; never more groups than rows."""
    groups = max(1, min(groups, count))
    return np.linspace(0, count, groups + 1).astype(np.int64)


def means(values: Sequence[float] | Floats, groups: int) -> Floats:
    """Mean of each of at most ``groups`` equal runs."""
    column = np.asarray(values, np.float64)
    if not len(column):
        return column
    borders = edges(len(column), groups)
    return np.asarray(np.add.reduceat(column, borders[:-1]) / np.diff(borders))


def maxima(values: Sequence[float] | Floats, groups: int) -> Floats:
    """Largest value of each of at most ``groups`` equal runs."""
    column = np.asarray(values, np.float64)
    return column if not len(column) else np.asarray(np.maximum.reduceat(column, edges(len(column), groups)[:-1]))


def envelope(time: NDArray[np.int64], value: Floats, points: int) -> tuple[NDArray[np.int64], Floats]:
    """At most ``points`` rows that keep the lowest and the highest value of each run, in order of time."""
    if len(time) <= points:
        return time, value
    borders = edges(len(time), points // 2)
    keep: list[int] = []
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        low, high = first + int(np.argmin(value[first:last])), first + int(np.argmax(value[first:last]))
        keep += sorted({low, high})
    rows = np.asarray(keep, np.int64)
    return time[rows], value[rows]


def on_grid(time: NDArray[np.int64], value: Floats, grid: NDArray[np.int64]) -> Floats:
    """The series at the instants of ``grid``, linear between its points and NaN outside of them."""
    if not len(time):
        return np.full(len(grid), np.nan)
    return np.interp(grid, time, value, left=np.nan, right=np.nan)


def rank_map(tracks: Sequence[RankTrack], columns: int) -> tuple[NDArray[np.int64], list[Floats]]:
    """Mean iteration duration of every rank in ``columns`` equal slices of time.

    Returns:
        Borders of the slices (UNIX ns, ``columns + 1``) and a row of seconds for each track, NaN where no iteration ran.
    """
    starts = [np.asarray(track.start_ns, np.int64) for track in tracks]
    durations = [np.asarray(track.duration_s, np.float64) for track in tracks]
    filled = [column for column in starts if len(column)]
    if not filled:
        return np.zeros(0, np.int64), []
    first, last = min(int(column.min()) for column in filled), max(int(column.max()) for column in filled)
    columns = max(1, min(columns, max(len(column) for column in filled)))
    width = max(1, -(-(last - first + 1) // columns))
    rows = []
    for start, duration in zip(starts, durations, strict=True):
        slot = (start - first) // width
        total = np.bincount(slot, duration, minlength=columns)
        seen = np.bincount(slot, minlength=columns)
        row = np.divide(total, seen, out=np.full(columns, np.nan), where=seen > 0)
        for at in np.flatnonzero(duration * 1e9 > width).tolist():  # an iteration longer than a slice fills those it covers
            covered = slice(int(slot[at]) + 1, int(slot[at] + duration[at] * 1e9 // width) + 1)
            row[covered] = np.where(np.isnan(row[covered]), duration[at], row[covered])
        rows.append(row)
    return first + width * np.arange(columns + 1, dtype=np.int64), rows


def histogram(values: Floats, bins: int) -> tuple[Floats, NDArray[np.int64]]:
    """Counts in equal bins over the bulk of the values: two p10-p90 widths to either side of it.

    A few stragglers would press everything else into one bin; they lie outside of the borders and are told in words.
    """
    if not len(values):
        return np.zeros(0), np.zeros(0, np.int64)
    p10, p90 = (float(edge) for edge in np.percentile(values, (10, 90)))
    low, high = max(float(values.min()), p10 - 2 * (p90 - p10)), min(float(values.max()), p90 + 2 * (p90 - p10))
    if high - low < 1e-9 + 1e-3 * abs(high):
        low, high = low * 0.99 - 1e-9, high * 1.01 + 1e-9
    counts, borders = np.histogram(values, bins=bins, range=(low, high))
    return borders, counts.astype(np.int64)


def flatten(root: FlameNode, limit: int, smallest: float = 0.001) -> list[tuple[int, str, float]]:
    """A flame graph as pre-order rows (depth, name, seconds), without branches that nobody could see.

    Args:
        limit: Rows kept at most; the widest ones win.
        smallest: Share of the root below which a frame is left out.
    """
    floor = root.value * smallest
    while True:
        rows: list[tuple[int, str, float]] = []
        stack = [(0, root)]
        while stack and len(rows) <= limit:
            depth, node = stack.pop()
            rows.append((depth, node.name, node.value))
            kept = [child for child in node.children if child.value >= floor]
            stack += [(depth + 1, child) for child in sorted(kept, key=lambda child: child.value)]
        if len(rows) <= limit or floor >= root.value:
            return rows[:limit]
        floor = max(floor, root.value * 1e-4) * 2
