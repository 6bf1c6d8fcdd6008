"""Records: what the processors conclude. Frozen, msgspec-encodable, and the only thing emitters and reports know."""

from __future__ import annotations

from typing import Literal

import msgspec

from sofa_otel.core.names import CorrelationStatus, FindingId, IterationKind, Phase, Resource, Severity, SwarmKind


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base: every record belongs to a rank of a job."""

    job: str
    rank: int


class Iteration(Record, frozen=True, kw_only=True, tag="iteration"):
    """One pass of the training loop.

    Attributes:
        level: Loop level (``step``, ``micro-batch``, ``epoch`` …).
        index: Rank-local number from 0; keeps counting across re-learning.
        job_index: The same iteration's number in the job, -1 until ranks are aligned.
        start_ns, end_ns: UNIX ns. The next iteration starts where this one ends unless something lies between.
        confidence: Calibrated probability that this is the right period and level.
        source: Stream the boundary comes from (``probe:loop``, ``probe:hook``, ``probe:sample``, ``syscall`` …).
        score: Robust z-score of the duration.
    """

    level: str
    index: int
    job_index: int = -1
    start_ns: int
    end_ns: int
    kind: IterationKind = IterationKind.TRAIN
    confidence: float
    source: str
    anomalous: bool = False
    score: float = 0.0


class LoopLevel(msgspec.Struct, frozen=True):
    """One level of the loop nest that the stream holds."""

    name: str
    count: int
    period_s: float


class Detection(Record, frozen=True, kw_only=True, tag="detection"):
    """The detector's current verdict for a rank; the last one written wins.

    Attributes:
        reason: Always filled when nothing was found, with figures ("4 steps seen, 5 needed: run 30 s or longer").
        locked_ns: Event time of the first lock, 0 before.
        locked_after: Iterations that had ended in event time at the first lock.
    """

    found: bool
    reason: str
    level: str = ""
    source: str = ""
    confidence: float = 0.0
    levels: list[LoopLevel] = []
    locked_ns: int = 0
    locked_after: int = 0


class SwarmMember(msgspec.Struct, frozen=True):
    """A function of a swarm and its share of the swarm's time (0..1)."""

    function: str
    module: str
    share: float


class SwarmRelation(msgspec.Struct, frozen=True):
    """An edge of the swarm graph. ``kind``: caller, callee, module, wakes, waits-for, phase."""

    kind: str
    swarm: str
    weight: float


class SwarmInfo(Record, frozen=True, kw_only=True, tag="swarm_info"):
    """Identity of a swarm. ``swarm`` is the 64-bit id in 16 lower-case hexadecimal digits; the last one written wins."""

    swarm: str
    caption: str
    kind: SwarmKind
    phase: Phase = Phase.UNKNOWN
    members: list[SwarmMember] = []
    relations: list[SwarmRelation] = []


class SwarmWindow(Record, frozen=True, kw_only=True, tag="swarm_window"):
    """What a swarm used in one iteration, or in ``iterations`` consecutive ones from ``iteration`` on.

    ``iteration`` is -1 for time outside any iteration. ``time_ns`` is wall time of the rank's leading thread unless
    ``concurrent``: then it is time of other threads and processes that ran beside it.
    """

    iteration: int
    iterations: int = 1
    swarm: str
    phase: Phase = Phase.UNKNOWN
    time_ns: int
    calls: int = 0
    bytes: int = 0
    concurrent: bool = False


class PhaseBreakdown(Record, frozen=True, kw_only=True, tag="phase_breakdown"):
    """Exposed wall time of the leading thread by phase and by resource, for ``iterations`` iterations from ``iteration`` on.

    Both maps sum to the covered wall time. ``saturation`` holds 0..1 by resource where a counter gives it.
    """

    iteration: int
    iterations: int = 1
    start_ns: int
    end_ns: int
    phase_ns: dict[Phase, int]
    exposed_ns: dict[Resource, int]
    overlapped_ns: dict[Resource, int] = {}
    saturation: dict[Resource, float] = {}
    waits_ns: dict[str, int] = {}
    """The leading thread's time by what it was doing (``kinds.Wait`` names in lower case); tells a lock from the GIL."""


class Correlation(Record, frozen=True, kw_only=True, tag="correlation"):
    """An association between a swarm and a resource metric. ``lag_s`` > 0: the resource follows the swarm."""

    swarm: str
    resource: str
    lag_s: float
    strength: float
    status: CorrelationStatus
    tests: dict[str, float] = {}


class Straggler(Record, frozen=True, kw_only=True, tag="straggler"):
    """``rank`` made the others wait ``delay_s`` in total over ``iterations`` iterations."""

    iterations: int
    delay_s: float
    cause: str = ""


class Anomaly(Record, frozen=True, kw_only=True, tag="anomaly"):
    """A slow iteration, a change point or a stall."""

    kind: Literal["slow", "change", "stall"]
    time_ns: int
    iteration: int
    value_s: float
    reference_s: float


class Gain(msgspec.Struct, frozen=True):
    """Predicted ratio old/new of the iteration time: > 1 is faster."""

    low: float
    mid: float
    high: float


class Finding(Record, frozen=True, kw_only=True, tag="finding"):
    """What limits the job, in plain words.

    Attributes:
        metric, value, reference: The deciding figure and what it was compared with.
        evidence: Sentences with figures, each checkable in the report.
    """

    id: FindingId
    severity: Severity
    title: str
    metric: str
    value: float
    reference: float
    evidence: list[str]
    suggestion: str
    predicted_gain: Gain | None = None


class StackProfile(Record, frozen=True, kw_only=True, tag="stack_profile"):
    """Time below one call path of a swarm over the whole run; written when the run ends.

    Attributes:
        frames: Outermost first, each ``function (file:line)`` or ``module!symbol``.
    """

    swarm: str
    frames: list[str]
    time_ns: int
    samples: int


class StepMarks(Record, frozen=True, kw_only=True, tag="step_marks"):
    """Step marks that the program wrote itself (``ProfilerStep#7``): for comparison only.

    Attributes:
        count: Different marks.
        period_s: Median distance of their starts, seconds; 0 with fewer than two.
    """

    count: int
    period_s: float


class CaptureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator or the governor asks of a source.

    Attributes:
        source: Collector name, or ``*``.
        mode: ``wide`` everything; ``narrow`` only ``ids``; ``raw`` keep raw events; ``off``.
        pid: Process it is meant for, 0 for all.
        names: What to keep in ``narrow``: symbols as ``(function, module, file, line)`` or system call names.
        rate_hz: Sampling rate wanted, 0 for the source's own choice.
    """

    source: str
    mode: Literal["wide", "narrow", "raw", "off"]
    pid: int = 0
    names: list[tuple[str, str, str, int]] = []
    rate_hz: float = 0.0
    reason: str = ""
    until_ns: int = 0


AnyRecord = (
    Iteration
    | Detection
    | SwarmInfo
    | SwarmWindow
    | PhaseBreakdown
    | Correlation
    | Straggler
    | Anomaly
    | Finding
    | StackProfile
    | StepMarks
)
"""Every record kind that is stored and emitted; decoded by its tag."""
