"""Records ↔ telemetry points: the one place that says how an iteration becomes spans.

Emitters know only :class:`SpanPoint` and :class:`MetricPoint`; the gateway reads our own spans back with the same file, so that
the mapping cannot drift apart. Counters live in :mod:`sofa_otel.core.totals`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from sofa_otel.core import names
from sofa_otel.core.names import IterationKind, Phase, SwarmKind
from sofa_otel.core.records import AnyRecord, Iteration, SwarmInfo, SwarmWindow

Value = str | bool | int | float | bytes | None | tuple[Any, ...] | dict[str, Any]
"""An OTLP AnyValue: arrays are tuples, key-value lists are dicts."""

Attributes = tuple[tuple[str, Value], ...]

KIND_INTERNAL: Final = 1
"""``SpanKind.SPAN_KIND_INTERNAL`` of OTLP."""

_PHASE_ORDER: Final = {phase: position for position, phase in enumerate(Phase)}


class SpanEvent(msgspec.Struct, frozen=True):
    """A point in time inside a span."""

    time_ns: int
    name: str
    attributes: Attributes = ()


class SpanLink(msgspec.Struct, frozen=True):
    """A reference to a span of any trace."""

    trace_id: int
    span_id: int
    attributes: Attributes = ()


class SpanPoint(msgspec.Struct, frozen=True):
    """One span.

    Attributes:
        trace_id: 128-bit integer, never 0 in a valid span.
        span_id, parent_id: 64-bit integers; ``parent_id`` 0 is a root.
        start_ns, end_ns: UNIX ns.
        kind, status: The numbers of OTLP (``SpanKind``, ``Status.StatusCode``).
    """

    name: str
    trace_id: int
    span_id: int
    start_ns: int
    end_ns: int
    parent_id: int = 0
    attributes: Attributes = ()
    kind: int = KIND_INTERNAL
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    status: int = 0
    status_message: str = ""
    trace_state: str = ""

    def attribute(self, key: str) -> Value:
        """Value of an attribute, None when absent."""
        return next((value for name, value in self.attributes if name == key), None)


class Histogram(msgspec.Struct, frozen=True):
    """Explicit buckets: ``counts`` has one more entry than ``bounds`` (upper, inclusive); ``min`` and ``max`` may be unknown."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    min: float | None = None
    max: float | None = None

    @property
    def count(self) -> int:
        """Observations in all buckets."""
        return sum(self.counts)


class MetricPoint(msgspec.Struct, frozen=True):
    """One data point. Counters and histograms are cumulative since ``start_ns`` (0: since a time nobody knows)."""

    metric: names.Metric
    attributes: Attributes
    value: float | Histogram
    time_ns: int
    start_ns: int = 0


class Resource(msgspec.Struct, frozen=True):
    """Who the telemetry is about: OTLP resource attributes."""

    attributes: Attributes = ()
    schema_url: str = ""

    def get(self, key: str) -> Value:
        """Value of an attribute, None when absent."""
        return next((value for name, value in self.attributes if name == key), None)


class Scope(msgspec.Struct, frozen=True):
    """OTLP instrumentation scope."""

    name: str = "sofa_otel"
    version: str = ""
    attributes: Attributes = ()


def trace_id(iteration: Iteration) -> int:
    """128-bit id, the same wherever and however often the iteration is emitted: H(job, rank, start, index)."""
    return _hash(16, iteration.job, iteration.rank, iteration.start_ns, iteration.index)


def iteration_spans(
    iteration: Iteration,
    windows: Iterable[SwarmWindow] = (),
    infos: Mapping[str, SwarmInfo] | None = None,
    ratio: float = 1.0,
) -> list[SpanPoint]:
    """The parent span ``sofa.iteration`` and a child ``sofa.swarm`` for each window that covers it.

    A swarm's time in an iteration is a sum, not one interval. The leading thread's swarms are laid end to end in the order of
    the phases, so that lengths are exact and the children fill the parent; concurrent ones start with the iteration.

    Args:
        iteration: The iteration.
        windows: Windows of the same rank; those of other iterations are left out. A window over n iterations gives 1/n.
        infos: Captions and kinds by swarm id.
        ratio: Share of iterations that get spans (``sofa.sample.ratio``).
    """
    trace = trace_id(iteration)
    root = _hash(8, names.SPAN_ITERATION, trace)
    spans = [
        SpanPoint(
            names.SPAN_ITERATION,
            trace,
            root,
            iteration.start_ns,
            iteration.end_ns,
            attributes=(
                (names.JOB_ID, iteration.job),
                (names.RANK, iteration.rank),
                (names.ITERATION_INDEX, iteration.index),
                (names.ITERATION_JOB_INDEX, iteration.job_index),
                (names.ITERATION_CONFIDENCE, iteration.confidence),
                (names.ITERATION_SOURCE, iteration.source),
                (names.ITERATION_PERIOD, (iteration.end_ns - iteration.start_ns) / 1e9),
                (names.ITERATION_KIND, iteration.kind.value),
                (names.ITERATION_LEVEL, iteration.level),
                (names.ITERATION_ANOMALOUS, iteration.anomalous),
                (names.ITERATION_SCORE, iteration.score),
                (names.SAMPLE_RATIO, ratio),
            ),
        )
    ]
    cursor = iteration.start_ns
    mine = [w for w in windows if w.iteration <= iteration.index < w.iteration + w.iterations and w.iteration >= 0]
    for window in sorted(mine, key=lambda w: (w.concurrent, _PHASE_ORDER[w.phase], w.swarm)):
        start = iteration.start_ns if window.concurrent else cursor
        end = start + window.time_ns // window.iterations
        if not window.concurrent:
            cursor = end
        spans.append(_swarm_span(iteration, window, (infos or {}).get(window.swarm), (trace, root), (start, end)))
    return spans


def _swarm_span(
    iteration: Iteration, window: SwarmWindow, info: SwarmInfo | None, ids: tuple[int, int], at: tuple[int, int]
) -> SpanPoint:
    attributes: Attributes = (
        (names.JOB_ID, iteration.job),
        (names.RANK, iteration.rank),
        (names.ITERATION_INDEX, iteration.index),
        (names.SWARM_ID, window.swarm),
        (names.PHASE, window.phase.value),
        (names.CALLS, window.calls // window.iterations),
        (names.IO_BYTES, window.bytes // window.iterations),
        (names.SWARM_CONCURRENT, window.concurrent),
    )
    if info is not None:
        attributes += ((names.SWARM_CAPTION, info.caption), (names.SWARM_KIND, info.kind.value))
    span_id = _hash(8, ids[0], window.swarm, window.phase.value, window.concurrent)
    return SpanPoint(names.SPAN_SWARM, ids[0], span_id, at[0], at[1], ids[1], attributes)


def spans_of(records: Sequence[AnyRecord], infos: Mapping[str, SwarmInfo] | None = None) -> list[SpanPoint]:
    """Spans of every iteration in ``records``; swarm infos among them are used beside ``infos``."""
    known = dict(infos or {})
    windows: dict[tuple[str, int], list[SwarmWindow]] = {}
    for record in records:
        if isinstance(record, SwarmInfo):
            known[record.swarm] = record
        elif isinstance(record, SwarmWindow):
            windows.setdefault((record.job, record.rank), []).append(record)
    spans: list[SpanPoint] = []
    for record in records:
        if isinstance(record, Iteration):
            spans += iteration_spans(record, windows.get((record.job, record.rank), ()), known)
    return spans


def records_of(spans: Iterable[SpanPoint]) -> list[Iteration | SwarmWindow | SwarmInfo]:
    """Our own spans back as records; spans of any other name, or with attributes that are not ours, are left out.

    Exact inverse of :func:`iteration_spans` for windows over one iteration. A swarm's info comes once, with what the span holds.
    """
    out: list[Iteration | SwarmWindow | SwarmInfo] = []
    told: set[tuple[object, object, object]] = set()
    for span in spans:
        a = dict(span.attributes)
        try:
            if span.name == names.SPAN_ITERATION:
                out.append(_iteration(span, a))
            elif span.name == names.SPAN_SWARM:
                info = _swarm_info(a)
                if info is not None and (info.job, info.rank, info.swarm) not in told:
                    told.add((info.job, info.rank, info.swarm))
                    out.append(info)
                out.append(_swarm_window(span, a))
        except (KeyError, ValueError, TypeError):
            continue
    return out


def _iteration(span: SpanPoint, a: dict[str, Any]) -> Iteration:
    return Iteration(
        job=str(a[names.JOB_ID]),
        rank=int(a[names.RANK]),
        level=str(a[names.ITERATION_LEVEL]),
        index=int(a[names.ITERATION_INDEX]),
        job_index=int(a.get(names.ITERATION_JOB_INDEX, -1)),
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        kind=IterationKind(a[names.ITERATION_KIND]),
        confidence=float(a[names.ITERATION_CONFIDENCE]),
        source=str(a[names.ITERATION_SOURCE]),
        anomalous=bool(a.get(names.ITERATION_ANOMALOUS, False)),
        score=float(a.get(names.ITERATION_SCORE, 0.0)),
    )


def _swarm_window(span: SpanPoint, a: dict[str, Any]) -> SwarmWindow:
    return SwarmWindow(
        job=str(a[names.JOB_ID]),
        rank=int(a[names.RANK]),
        iteration=int(a[names.ITERATION_INDEX]),
        swarm=str(a[names.SWARM_ID]),
        phase=Phase(a[names.PHASE]),
        time_ns=span.end_ns - span.start_ns,
        calls=int(a.get(names.CALLS, 0)),
        bytes=int(a.get(names.IO_BYTES, 0)),
        concurrent=bool(a.get(names.SWARM_CONCURRENT, False)),
    )


def _swarm_info(a: dict[str, Any]) -> SwarmInfo | None:
    if names.SWARM_CAPTION not in a:
        return None
    return SwarmInfo(
        job=str(a[names.JOB_ID]),
        rank=int(a[names.RANK]),
        swarm=str(a[names.SWARM_ID]),
        caption=str(a[names.SWARM_CAPTION]),
        kind=SwarmKind(a[names.SWARM_KIND]),
        phase=Phase(a[names.PHASE]),
    )


def _hash(size: int, *parts: object) -> int:
    text = "\0".join(str(part) for part in parts)
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
    return int.from_bytes(digest, "big") or 1
