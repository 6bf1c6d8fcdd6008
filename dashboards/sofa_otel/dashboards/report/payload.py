"""What the page's charts draw: the report as columns, thinned to what a screen can show.

The tables of the page are HTML made from the report itself; only canvases need data. Times are integers relative to ``origin``
(milliseconds for lanes, microseconds for steps), phases and names are indices. The size is bounded whatever the run's is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind, Phase
from sofa_otel.core.report import Report, ResourceLane
from sofa_otel.dashboards.report import thin, view

STEPS: Final = 6000
"""Bars kept of the iterations; beyond it neighbours are merged."""
LANES: Final = 40
LANE_POINTS: Final = 60_000
"""Points kept of all lanes together."""
LANE_RANKS: Final = 8
"""With more ranks than this a lane is a band (lowest, median, highest rank)."""
HEAT_COLUMNS: Final = 240
FLAME_ROWS: Final = 24_000
NAME_LENGTH: Final = 240

_KINDS: Final = list(IterationKind)
_PHASES: Final = list(Phase)


def chart_data(report: Report) -> dict[str, Any]:
    """Everything the charts need, JSON-encodable; NaN stands for "no value"."""
    origin = origin_ns(report)
    return {
        "origin": origin // 1_000_000,
        "noun": view.level_noun(report.iterations.level),
        "phases": [_look("phase", phase, view.PHASES[phase]) for phase in _PHASES],
        "kinds": [_look("iteration", kind, view.ITERATION_KINDS[kind]) for kind in _KINDS],
        "tones": [list(tone) for tone in view.RANKS],
        "heat": [list(pair) for pair in view.HEAT],
        "alarm": list(view.RED),
        "steps": _steps(report, origin),
        "histogram": _histogram(report),
        "ranks": _ranks(report, origin),
        "lanes": lanes(report, origin)[0],
        "flames": _flames(report),
    }


def origin_ns(report: Report) -> int:
    """Zero of the page's time axis, UNIX ns: the first thing that the run knows of."""
    starts = [item.start_ns for item in report.iterations.items[:1]] + [lane.time_ns[0] for lane in report.lanes if lane.time_ns]
    started = report.run.started_ns
    return min([started, *starts]) if started else min(starts, default=0)


def _look(group: str, key: str, look: view.Look) -> dict[str, str]:
    return {"css": f"--{group}-{view.slug(key)}", "label": look.label, "light": look.light, "dark": look.dark}


def _steps(report: Report, origin: int) -> dict[str, Any]:
    items = report.iterations.items
    if not items:
        return {"count": 0}
    start = np.array([item.start_ns for item in items], np.int64) - origin
    end = np.array([item.end_ns for item in items], np.int64) - origin
    duration = (end - start) / 1e3
    borders = thin.edges(len(items), STEPS)
    first, last = borders[:-1], borders[1:] - 1
    kind = np.array([_KINDS.index(item.kind) for item in items])
    odd = np.array([item.anomalous for item in items])
    phases: Sequence[Mapping[Phase, float]] = report.phase_items if len(report.phase_items) == len(items) else []
    used = [phase for phase in _PHASES if any(phase in item for item in phases)]
    return {
        "count": len(items),
        "group": int(np.diff(borders).max()),
        "index": [items[row].index for row in first.tolist()],
        "start": (start[first] // 1000).tolist(),
        "end": (end[last] // 1000).tolist(),
        "mean": _whole(thin.means(duration, STEPS)),
        "max": _whole(thin.maxima(duration, STEPS)),
        "kind": kind[first].tolist(),
        "odd": np.maximum.reduceat(odd.astype(np.int8), first).tolist(),
        "phase": [_PHASES.index(phase) for phase in used],
        "split": [_whole(thin.means([item.get(phase, 0.0) * 1e6 for item in phases], STEPS)) for phase in used],
    }


def _histogram(report: Report) -> dict[str, Any] | None:
    values = train_seconds(report)
    duration = report.iterations.duration_s
    if len(values) < 2 or duration is None:
        return None
    borders, counts = thin.histogram(values, int(min(80, max(12, 3 * len(values) ** 0.5))))
    marks = {"median": duration.median, "p10": duration.p10, "p90": duration.p90}
    outside = {
        "shorter": int((values < borders[0]).sum()), "shortest": float(values.min()),
        "longer": int((values > borders[-1]).sum()), "longest": float(values.max()),
    }  # fmt: skip
    return {"edges": _short(borders, 6), "counts": counts.tolist(), "marks": marks, "outside": outside}


def train_seconds(report: Report) -> NDArray[np.float64]:
    """Durations of the training iterations in seconds."""
    items = report.iterations.items
    return np.array([(item.end_ns - item.start_ns) / 1e9 for item in items if item.kind is IterationKind.TRAIN], np.float64)


def _ranks(report: Report, origin: int) -> dict[str, Any] | None:
    tracks = sorted((track for track in report.rank_tracks if track.start_ns), key=lambda track: track.rank)
    if len(tracks) < 2:
        return None
    borders, rows = thin.rank_map(tracks, HEAT_COLUMNS)
    return {
        "ids": [track.rank for track in tracks],
        "edges": ((borders - origin) // 1_000_000).tolist(),
        "rows": [_short(row * 1e3) for row in rows],
    }


# -- lanes ---------------------------------------------------------------------------------------------------------------------
def lanes(report: Report, origin: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The lanes to draw, and the labels of those left out (flat at zero, or too many)."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[ResourceLane]] = defaultdict(list)
    for lane in report.lanes:
        groups[lane.metric, tuple(sorted(lane.attributes.items()))].append(lane)
    order = sorted(groups, key=lambda key: (view.metric_order(key[0]), key))
    drawn: list[dict[str, Any]] = []
    left_out = []
    points = max(60, min(600, LANE_POINTS // max(1, sum(min(len(group), LANE_RANKS) for group in groups.values()))))
    for key in order:
        label = view.metric_label(key[0], dict(key[1]))
        alive = [lane for lane in groups[key] if np.isfinite(lane.value).any() and np.nanmax(np.abs(lane.value)) > 0]
        if not alive or len(drawn) == LANES:
            left_out.append(label)
            continue
        unit = view.lane_unit(key[0], alive[0].unit)
        drawn.append({"label": label, "metric": view.clean(key[0]), "unit": view.clean(unit), **_lane(alive, origin, points)})
    return drawn, left_out


def _lane(group: Sequence[ResourceLane], origin: int, points: int) -> dict[str, Any]:
    columns = [_columns(lane, origin) for lane in sorted(group, key=lambda lane: lane.rank)]
    finite = np.concatenate([value for _, value in columns])
    facts = {"low": float(finite.min()), "high": float(finite.max()), "mean": float(finite.mean())}
    if len(columns) <= LANE_RANKS:
        series = []
        for lane, (time, value) in zip(sorted(group, key=lambda lane: lane.rank), columns, strict=True):
            time, value = thin.envelope(time, value, points)
            series.append({"rank": lane.rank, "time": (time // 1_000_000).tolist(), "value": _short(value)})
        return {"facts": facts, "series": series}
    grid = np.linspace(min(time[0] for time, _ in columns), max(time[-1] for time, _ in columns), 240).astype(np.int64)
    stack = np.array([thin.on_grid(time, value, grid) for time, value in columns])
    keep = np.isfinite(stack).any(axis=0)
    stack, grid = stack[:, keep], grid[keep]
    band = {name: _short(np.nanpercentile(stack, at, axis=0)) for name, at in (("low", 0), ("median", 50), ("high", 100))}
    return {"facts": facts, "ranks": len(columns), "band": {"time": (grid // 1_000_000).tolist(), **band}}


def _columns(lane: ResourceLane, origin: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    time, value = np.asarray(lane.time_ns, np.int64) - origin, np.asarray(lane.value, np.float64)
    keep = np.isfinite(value)
    return time[keep], value[keep]


# -- flames --------------------------------------------------------------------------------------------------------------------
def _flames(report: Report) -> dict[str, Any]:
    shares = {swarm.id: swarm.time_s for swarm in report.swarms}
    captions = {swarm.id: swarm.caption for swarm in report.swarms}
    flames = sorted((flame for flame in report.flames if flame.root.value > 0), key=lambda flame: -shares.get(flame.swarm, 0.0))
    limit = max(150, FLAME_ROWS // max(1, len(flames)))
    names: dict[str, int] = {}
    trees = []
    for flame in flames:
        rows: list[int] = []
        for depth, name, value in thin.flatten(flame.root, limit):
            short = view.clean(name[:NAME_LENGTH])
            rows += (depth, names.setdefault(short, len(names)), round(value * 1e6))
        label = view.clean(captions.get(flame.swarm, flame.swarm))[:NAME_LENGTH]
        trees.append({"swarm": view.clean(flame.swarm), "label": label, "rows": rows})
    return {"names": list(names), "trees": trees}


def _whole(values: NDArray[np.float64]) -> list[int]:
    return [round(value) for value in values.tolist()]


def _short(values: NDArray[np.float64], digits: int = 4) -> list[float | None]:
    """Four significant digits: more than a pixel shows, fewer bytes."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values.tolist()]
