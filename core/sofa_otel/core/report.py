"""The document ``sofa/report/v1``: everything a run says, as one typed value.

Processors fill it, the rule engine adds findings, the page and the terminal draw it, scripts read it as JSON. Field names are an
interface (see docs/reference): add, do not rename.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sofa_otel.core.names import CorrelationStatus, FindingId, IterationKind, Phase, Resource, Severity, SwarmKind
from sofa_otel.core.records import Gain, LoopLevel, SwarmMember, SwarmRelation

SCHEMA = "sofa/report/v1"


class CollectorSummary(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    events: int
    dropped: int
    cpu_s: float


class RunCost(msgspec.Struct, frozen=True, kw_only=True):
    """``step_ratio`` is None unless it was measured (probe on against off in the same run)."""

    step_ratio: float | None = None
    cpu_s: float = 0.0
    rss_bytes: int = 0


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    command: list[str]
    started_ns: int
    ended_ns: int
    exit_code: int | None
    job: str
    rank: int
    world_size: int
    ranks: list[int]
    warnings: list[str]
    collectors: list[CollectorSummary]
    cost: RunCost
    endpoints: list[str]


class Duration(msgspec.Struct, frozen=True):
    """Seconds over iterations of kind train; ``cv`` is the coefficient of variation."""

    median: float
    mean: float
    p10: float
    p90: float
    cv: float


class IterationItem(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    start_ns: int
    end_ns: int
    kind: IterationKind
    anomalous: bool
    score: float


class RankIterations(msgspec.Struct, frozen=True, kw_only=True):
    rank: int
    found: bool
    reason: str
    level: str
    source: str
    confidence: float
    count: int
    warmup: int
    duration_s: Duration | None
    locked_after: int = 0


class Iterations(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` is complete iterations from the first step on, kinds train and warmup."""

    found: bool
    reason: str
    level: str
    source: str
    confidence: float
    count: int
    warmup: int
    duration_s: Duration | None
    levels: list[LoopLevel]
    by_rank: list[RankIterations]
    items: list[IterationItem]


class Swarm(msgspec.Struct, frozen=True, kw_only=True):
    """``time_s`` and ``share`` are of the leading thread in training iterations (shares sum to 1); ``concurrent_s`` is time of
    threads and processes beside it; ``trend`` is the relative change of per-iteration time from the first to the last third."""

    id: str
    caption: str
    kind: SwarmKind
    phase: Phase
    time_s: float
    share: float
    calls: int
    per_iteration_s: float
    trend: float
    members: list[SwarmMember]
    relations: list[SwarmRelation]
    concurrent_s: float = 0.0
    per_window_s: list[float] = []
    """Seconds per iteration in up to 60 equal slices of the run, for sparklines."""


class Bottleneck(msgspec.Struct, frozen=True):
    class_: Resource = msgspec.field(name="class")
    share: float
    evidence: list[str]


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """``exposed`` seconds and ``shares`` by resource; shares sum to 1. ``phases`` seconds by phase."""

    total_s: float
    exposed: dict[Resource, float]
    shares: dict[Resource, float]
    bottleneck: Bottleneck | None
    windows: dict[str, float]
    phases: dict[Phase, float] = {}


class CorrelationItem(msgspec.Struct, frozen=True, kw_only=True):
    swarm: str
    resource: str
    lag_s: float
    strength: float
    status: CorrelationStatus
    tests: dict[str, float]


class StragglerItem(msgspec.Struct, frozen=True, kw_only=True):
    rank: int
    iterations: int
    delay_s: float
    cause: str


class FindingItem(msgspec.Struct, frozen=True, kw_only=True):
    id: FindingId
    severity: Severity
    title: str
    evidence: list[str]
    suggestion: str
    predicted_gain: Gain | None
    rank: int = 0
    metric: str = ""
    value: float = 0.0
    reference: float = 0.0


class Marks(msgspec.Struct, frozen=True):
    count: int
    period_s: float


class ResourceLane(msgspec.Struct, frozen=True, kw_only=True):
    """A resource series thinned for drawing: rates for counters, values for gauges."""

    metric: str
    unit: str
    attributes: dict[str, str]
    rank: int
    time_ns: list[int]
    value: list[float]


class RankTrack(msgspec.Struct, frozen=True, kw_only=True):
    """A rank's iterations as columns, for drawing ranks above each other: start (UNIX ns) and duration (s) of each."""

    rank: int
    start_ns: list[int]
    duration_s: list[float]


class FlameNode(msgspec.Struct, kw_only=True):
    """d3-flame-graph's form: ``value`` in seconds includes the children."""

    name: str
    value: float
    children: list[FlameNode] = []


class Flame(msgspec.Struct, frozen=True, kw_only=True):
    swarm: str
    root: FlameNode


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Whole document. ``lanes``, ``flames``, ``phase_items`` and ``rank_tracks`` are for drawing; the rest is an interface."""

    schema: str = SCHEMA
    run: RunSummary
    iterations: Iterations
    swarms: list[Swarm]
    breakdown: Breakdown
    correlations: list[CorrelationItem]
    stragglers: list[StragglerItem]
    communication: dict[str, Any]
    topology: dict[str, Any]
    network: dict[str, Any]
    disk: dict[str, Any]
    gpu: dict[str, Any]
    features: dict[str, float]
    findings: list[FindingItem]
    marks: Marks | None = None
    lanes: list[ResourceLane] = []
    flames: list[Flame] = []
    phase_items: list[dict[Phase, float]] = []
    """Seconds by phase for ``iterations.items``, same order; empty when not known."""
    rank_tracks: list[RankTrack] = []
    """Every rank's iterations, when there is more than one rank."""
