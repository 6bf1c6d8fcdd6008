"""Finder: all swarms of a rank against all its resources, and the edges that pass the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.errors import MissingExtraError
from sofa_otel.core.names import CorrelationStatus
from sofa_otel.core.records import Correlation, Iteration, SwarmWindow
from sofa_otel.processors.correlate.fold import Units, edges_for, response, units_of
from sofa_otel.processors.correlate.gate import Design, frame_of
from sofa_otel.processors.correlate.lanes import Lane, lanes_of
from sofa_otel.processors.correlate.swarm_time import SwarmTime, swarm_time
from sofa_otel.processors.summary.counters import StoredSeries

MIN_ITERATIONS: Final = 40
MIN_INTERVALS: Final = 30
JOINT_Q: Final = 0.02
SHIFT_Q: Final = 0.20
ALONE_Q: Final = 0.05
ALONE_P: Final = 0.05
"""A candidate has passed the joint test at ``ALONE_Q``, and the other leans the same way at least this much (uncorrected)."""
MIN_STRENGTH: Final = 0.1
"""Below 1 % of the variance nothing follows for a user, and the two views of a closed sum differ by that much."""
_PER_SWARM: Final = 4
"""Units needed for every swarm in the joint regression."""
_MAX_SWARMS: Final = 64


class _Pair(NamedTuple):
    swarm: str
    metric: str
    lag_s: float
    joint_p: float
    joint_r: float
    shift_p: float
    shift_r: float


class _Ready(NamedTuple):
    units: Units
    design: Design
    columns: list[int]


def correlate(
    iterations: Sequence[Iteration], windows: Sequence[SwarmWindow], resources: Sequence[StoredSeries]
) -> list[Correlation]:
    """Associations between swarms and resource metrics of one rank, best first.

    Args:
        iterations: Of one rank and level; only those of kind train count.
        windows: Swarm windows of the same rank.
        resources: Its resource series, counters and gauges.

    Returns:
        At most one edge for a swarm and a metric. Empty with less than 40 iterations, or less than 30 usable sampling intervals
        for resources that are sampled more slowly than the iterations pass.

    Raises:
        MissingExtraError: scipy is not installed (extra ``run``).
    """
    time = swarm_time(iterations, windows)
    if time.iterations.sum() < MIN_ITERATIONS or not time.swarms:
        return []
    lanes = lanes_of(resources)
    if not lanes:
        return []
    try:
        pairs = _pairs(time, lanes)
    except ImportError as error:
        raise MissingExtraError("run", "correlating swarms with resources") from error
    return _gate(pairs, iterations[0].job, iterations[0].rank)


def _pairs(time: SwarmTime, lanes: Sequence[Lane]) -> list[_Pair]:
    known: dict[bytes, _Ready | None] = {}
    pairs: list[_Pair] = []
    for lane in lanes:
        start, end = edges_for(time, lane)
        key = start.tobytes() + end.tobytes()
        if key not in known:
            known[key] = _prepare(time, start, end)
        ready = known[key]
        tested = ready.design.test(response(lane, ready.units)) if ready else None
        if ready is None or tested is None:
            continue
        for k, column in enumerate(ready.columns):
            pairs.append(
                _Pair(
                    time.swarms[column], lane.metric, float(tested.lag[k]) * ready.units.length_s, float(tested.joint_p[k]),
                    float(tested.joint_r[k]), float(tested.shift_p[k]), float(tested.shift_r[k]),
                )
            )  # fmt: skip
    return pairs


def _prepare(time: SwarmTime, start: NDArray[np.int64], end: NDArray[np.int64]) -> _Ready | None:
    """Units, usable rows, and the swarms that so many rows can tell apart; None when there is too little."""
    if len(start) < MIN_INTERVALS:
        return None
    units = units_of(time, start, end)
    frame = frame_of(units.valid, units.linked)
    rows = frame.rows
    if len(rows) < MIN_INTERVALS - 5 or units.valid.sum() < MIN_INTERVALS or units.iterations < MIN_ITERATIONS:
        return None
    moves = np.diff(units.seconds, axis=0)[rows - 1]
    spread = moves.std(axis=0)
    spread[(np.abs(moves) > 0).mean(axis=0) < 0.2] = 0.0  # hardly ever there: one coincidence would decide
    order = np.argsort(-spread)[: max(min(len(rows) // _PER_SWARM, _MAX_SWARMS), 1)]
    columns = sorted(int(k) for k in order if spread[k] > 1e-3 * spread[order[0]] and spread[k] > 0)
    return _Ready(units, Design(units.seconds[:, columns], units.share[:, columns], frame), columns) if columns else None


def _gate(pairs: Sequence[_Pair], job: str, rank: int) -> list[Correlation]:
    from scipy.stats import false_discovery_control

    if not pairs:
        return []
    joint = false_discovery_control([pair.joint_p for pair in pairs])
    shift = false_discovery_control([pair.shift_p for pair in pairs])
    found: dict[tuple[str, str], Correlation] = {}
    for pair, q1, q2 in zip(pairs, joint, shift, strict=True):
        if abs(pair.joint_r) < MIN_STRENGTH or pair.joint_r * pair.shift_r <= 0:
            continue
        if q1 <= JOINT_Q and q2 <= SHIFT_Q:
            status = CorrelationStatus.ASSOCIATED
        elif q1 <= ALONE_Q and pair.shift_p <= ALONE_P:
            status = CorrelationStatus.CANDIDATE
        else:
            continue
        edge = Correlation(
            job=job, rank=rank, swarm=pair.swarm, resource=pair.metric, lag_s=round(pair.lag_s, 6),
            strength=round(pair.joint_r, 4), status=status,
            tests={"joint_p": pair.joint_p, "joint_q": float(q1), "shift_p": pair.shift_p, "shift_q": float(q2)},
        )  # fmt: skip
        old = found.get((pair.swarm, pair.metric))
        if old is None or _rank(edge) < _rank(old):
            found[pair.swarm, pair.metric] = edge
    return sorted(found.values(), key=_rank)


_ORDER: Final = (CorrelationStatus.CONFIRMED, CorrelationStatus.ASSOCIATED, CorrelationStatus.CANDIDATE)


def _rank(edge: Correlation) -> tuple[int, float, str, str]:
    return _ORDER.index(edge.status), -abs(edge.strength), edge.swarm, edge.resource
