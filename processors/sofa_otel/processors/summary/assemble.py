"""Assembles the report document of one or several run directories (ranks or nodes of one job).

Findings are added by the rule engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sofa_otel.core import names
from sofa_otel.core.errors import MissingExtraError
from sofa_otel.core.names import IterationKind, Phase
from sofa_otel.core.records import Detection, Iteration, PhaseBreakdown, StackProfile, StepMarks, SwarmInfo, SwarmWindow
from sofa_otel.core.report import CollectorSummary, CorrelationItem, Iterations, Marks, RankTrack, Report, RunCost, RunSummary
from sofa_otel.core.run import RunReader
from sofa_otel.processors.correlate import correlate
from sofa_otel.processors.summary.counters import Counters, StoredSeries
from sofa_otel.processors.summary.features import feature_vector
from sofa_otel.processors.summary.iterations import summarise
from sofa_otel.processors.summary.lanes import lanes_of
from sofa_otel.processors.summary.stragglers import stragglers_of
from sofa_otel.processors.summary.swarms import breakdown_of, counted, flames_of, swarms_of


def _run_summary(readers: Sequence[RunReader], ranks: list[int]) -> RunSummary:
    first = readers[0].meta
    collectors: dict[str, CollectorSummary] = {}
    for reader in readers:
        for one in reader.meta.collectors:
            old = collectors.get(one.name, CollectorSummary(name=one.name, events=0, dropped=0, cpu_s=0.0))
            collectors[one.name] = CollectorSummary(
                name=one.name, events=old.events + one.events, dropped=old.dropped + one.dropped, cpu_s=old.cpu_s + one.cpu_s
            )
    metas = [reader.meta for reader in readers]
    return RunSummary(
        command=list(first.command),
        started_ns=min(meta.started_ns for meta in metas),
        ended_ns=max(meta.ended_ns for meta in metas),
        exit_code=first.exit_code,
        job=first.job,
        rank=min(ranks, default=first.rank),
        world_size=max([len(ranks), *(meta.world_size for meta in metas)]),
        ranks=ranks or sorted({meta.rank for meta in metas}),
        warnings=list(dict.fromkeys(warning for meta in metas for warning in meta.warnings)),
        collectors=list(collectors.values()),
        cost=RunCost(
            step_ratio=first.cost.step_ratio,
            cpu_s=sum(meta.cost.cpu_s for meta in metas),
            rss_bytes=max(meta.cost.rss_bytes for meta in metas),
        ),
        endpoints=list(dict.fromkeys(endpoint for meta in metas for endpoint in meta.endpoints)),
    )


def _phase_items(iterations: Iterations, parts: Sequence[PhaseBreakdown]) -> list[dict[Phase, float]]:
    by_index: dict[int, dict[Phase, float]] = {}
    for part in parts:
        if part.iteration >= 0:
            each = {phase: ns / 1e9 / part.iterations for phase, ns in part.phase_ns.items() if ns}
            for index in range(part.iteration, part.iteration + part.iterations):
                by_index[index] = each
    return [by_index.get(item.index, {}) for item in iterations.items] if by_index else []


def build_report(readers: Sequence[RunReader]) -> Report:
    """The report of ``readers`` (at least one), without findings.

    Figures of swarms, breakdown and features are the lowest rank's on which iterations were found.
    """
    detections: dict[int, Detection] = {}
    found: dict[int, list[Iteration]] = {}
    parts: dict[int, list[PhaseBreakdown]] = {}
    for reader in readers:
        for detection in reader.records(Detection):
            detections[detection.rank] = detection
        for iteration in reader.records(Iteration):
            found.setdefault(iteration.rank, []).append(iteration)
        for part in reader.records(PhaseBreakdown):
            parts.setdefault(part.rank, []).append(part)
    ranks = sorted({*detections, *found, *parts})
    iterations = summarise({rank: (found.get(rank, []), detections.get(rank)) for rank in ranks})
    run = _run_summary(readers, ranks)
    lead = next((line.rank for line in iterations.by_rank if line.found), min(ranks, default=run.rank))

    window = (run.started_ns, max(run.ended_ns, run.started_ns + 1))
    if found.get(lead):
        shown = [i for i in found[lead] if i.kind == IterationKind.TRAIN] or found[lead]
        window = (min(i.start_ns for i in shown), max(i.end_ns for i in shown))
    stored = [one for reader in readers for one in reader.resources(rank=lead)]
    counters = Counters(stored, *window)
    windows = [row for reader in readers for row in reader.records(SwarmWindow, rank=lead)]
    infos = [row for reader in readers for row in reader.records(SwarmInfo, rank=lead)]
    profiles = [row for reader in readers for row in reader.records(StackProfile, rank=lead)]
    lead_parts = parts.get(lead, [])
    elapsed = (run.ended_ns - run.started_ns) / 1e9
    train = {i.index for i in found.get(lead, []) if i.kind == IterationKind.TRAIN}
    split = breakdown_of(lead_parts, {}, train)
    features = feature_vector(iterations, split, counted(lead_parts, train), counters, max(elapsed, 0.0))
    breakdown = msgspec.structs.replace(split, windows=_windows(features))
    whole = Counters(stored, run.started_ns, max(run.ended_ns, window[1]))
    step = iterations.duration_s.median if iterations.duration_s else 0.0
    several = len(iterations.by_rank) > 1
    correlations, failed = _correlations(found.get(lead, []), windows, stored)
    if failed:
        run = msgspec.structs.replace(run, warnings=[*run.warnings, failed])
    return Report(
        run=run,
        iterations=iterations,
        swarms=swarms_of(windows, infos, train),
        breakdown=breakdown,
        correlations=correlations,
        stragglers=stragglers_of(parts, step),
        communication={"kinds": {}, "matrix": [], "collectives": []},
        topology={"gpus": [], "links": [], "ring": []},
        network=_network(counters),
        disk=_disk(counters),
        gpu={"devices": [], "active_region": None},
        features=features,
        findings=[],
        marks=next((Marks(row.count, row.period_s) for reader in readers for row in reader.records(StepMarks, rank=lead)), None),
        lanes=lanes_of(whole, lead, run.started_ns, max(run.ended_ns, window[1])),
        flames=flames_of(profiles),
        phase_items=_phase_items(iterations, lead_parts),
        rank_tracks=[
            RankTrack(
                rank=rank,
                start_ns=[i.start_ns for i in found[rank]],
                duration_s=[(i.end_ns - i.start_ns) / 1e9 for i in found[rank]],
            )
            for rank in sorted(found)
            if several
        ],
    )


def _correlations(
    iterations: Sequence[Iteration], windows: Sequence[SwarmWindow], stored: Sequence[StoredSeries]
) -> tuple[list[CorrelationItem], str]:
    """Correlations, best first, and a warning instead of an error: the rest of the report does not depend on them."""
    try:
        edges = correlate(iterations, windows, stored)
    except MissingExtraError as error:
        return [], str(error)
    except Exception as error:  # noqa: BLE001 - whatever a run holds, its report is written
        return [], f"correlations left out: {type(error).__name__}: {error}"
    return [
        CorrelationItem(
            swarm=e.swarm, resource=e.resource, lag_s=e.lag_s, strength=e.strength, status=e.status, tests=dict(e.tests)
        )
        for e in edges
    ], ""  # fmt: skip


def _windows(features: dict[str, float]) -> dict[str, float]:
    """Average usr/sys/iow/idl shares of the host's CPUs and the GPU's busy share, 0..1, where they were measured."""
    pairs = {
        "usr": "host_cpu_user",
        "sys": "host_cpu_system",
        "iow": "host_cpu_iowait",
        "idl": "host_cpu_idle",
        "gpu": "gpu_sm_util",
    }
    return {short: features[name] for short, name in pairs.items() if name in features}


def _network(counters: Counters) -> dict[str, object]:
    keys = (names.NETWORK_INTERFACE, names.NETWORK_DIRECTION)
    return {"flows": [], "interfaces": _by(counters, names.SYSTEM_NETWORK_IO, keys)}


def _disk(counters: Counters) -> dict[str, object]:
    return {"devices": _by(counters, names.SYSTEM_DISK_IO, (names.SYSTEM_DEVICE, names.DISK_DIRECTION))}


def _by(counters: Counters, metric: names.Metric, keys: tuple[str, str]) -> list[dict[str, object]]:
    """Bytes and rate per series of a metric that moved anything."""
    out: list[dict[str, object]] = []
    for one in {series for series, _, _ in counters.series(metric.name)}:
        moved = counters.increase(metric, one.__eq__)
        if moved:
            out.append(
                {
                    "name": one.attribute(keys[0]),
                    "direction": one.attribute(keys[1]),
                    "bytes": int(moved),
                    "Bps": counters.rate(metric, one.__eq__),
                }
            )
    return sorted(out, key=lambda row: (str(row["name"]), str(row["direction"])))
