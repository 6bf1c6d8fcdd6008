"""Iterations of a run, summed up for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sofa_otel.core.names import IterationKind
from sofa_otel.core.records import Detection, Iteration, LoopLevel
from sofa_otel.core.report import Duration, IterationItem, Iterations, RankIterations

COUNTED = (IterationKind.TRAIN, IterationKind.WARMUP)


def duration_of(seconds: Sequence[float]) -> Duration | None:
    """Distribution of iteration durations, seconds; None without any."""
    if not seconds:
        return None
    values = np.asarray(seconds)
    mean = float(values.mean())
    p10, median, p90 = (float(q) for q in np.quantile(values, (0.1, 0.5, 0.9)))
    return Duration(median=median, mean=mean, p10=p10, p90=p90, cv=float(values.std()) / mean if mean else 0.0)


def train_seconds(iterations: Sequence[Iteration]) -> list[float]:
    """Durations of iterations of kind train, s."""
    return [(one.end_ns - one.start_ns) / 1e9 for one in iterations if one.kind == IterationKind.TRAIN]


def summarise_rank(rank: int, iterations: Sequence[Iteration], detection: Detection | None) -> RankIterations:
    """One rank's line."""
    counted = [one for one in iterations if one.kind in COUNTED]
    found = bool(counted) and (detection is None or detection.found)
    reason = "" if found else (detection.reason if detection else "no events of this rank reached the detector")
    return RankIterations(
        rank=rank,
        found=found,
        reason=reason or ("" if found else "no loop was found"),
        level=detection.level if detection else (counted[0].level if counted else ""),
        source=detection.source if detection else (counted[0].source if counted else ""),
        confidence=detection.confidence if detection else 0.0,
        count=len(counted),
        warmup=sum(one.kind == IterationKind.WARMUP for one in counted),
        duration_s=duration_of(train_seconds(iterations)),
        locked_after=detection.locked_after if detection else 0,
    )


def summarise(by_rank: dict[int, tuple[list[Iteration], Detection | None]]) -> Iterations:
    """Iterations of the job: the lowest rank's items, a line for every rank."""
    lines = [summarise_rank(rank, *by_rank[rank]) for rank in sorted(by_rank)]
    if not lines:
        return Iterations(
            found=False, reason="no events reached the detector: see the warnings", level="", source="", confidence=0.0,
            count=0, warmup=0, duration_s=None, levels=[], by_rank=[], items=[],
        )  # fmt: skip
    lead = next((line for line in lines if line.found), lines[0])
    iterations, detection = by_rank[lead.rank]
    items = [
        IterationItem(index=i.index, start_ns=i.start_ns, end_ns=i.end_ns, kind=i.kind, anomalous=i.anomalous, score=i.score)
        for i in iterations
    ]
    return Iterations(
        found=lead.found,
        reason=lead.reason,
        level=lead.level,
        source=lead.source,
        confidence=lead.confidence,
        count=lead.count,
        warmup=lead.warmup,
        duration_s=lead.duration_s,
        levels=_levels(detection, lead, iterations),
        by_rank=lines,
        items=items if lead.found else [],
    )


def _levels(detection: Detection | None, lead: RankIterations, iterations: Sequence[Iteration]) -> list[LoopLevel]:
    """The loop nest over the whole run: the detector told its periods at the lock, when most cycles were still to come."""
    if detection is None or lead.duration_s is None:
        return []
    total_s = sum((one.end_ns - one.start_ns) / 1e9 for one in iterations if one.kind in COUNTED)
    out = []
    for level in detection.levels:
        if level.name == lead.level:
            out.append(LoopLevel(level.name, lead.count, lead.duration_s.median))
        elif level.period_s > 0:
            out.append(LoopLevel(level.name, round(total_s / level.period_s), level.period_s))
    return out
