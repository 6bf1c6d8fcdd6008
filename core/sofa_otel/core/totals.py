"""Totals: the counters behind every metric, fed with records and read as points.

One plain accumulator is the single source of truth of the scrape and of the OTLP route. Times are summed as integer nanoseconds,
so a total never depends on the order of its parts, and the whole state is a few kilobytes of bytes: counters survive a restart.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

import msgspec

from sofa_otel.core import names
from sofa_otel.core.errors import InputError
from sofa_otel.core.names import IterationKind, Phase, SwarmKind
from sofa_otel.core.records import AnyRecord, Correlation, Finding, Iteration, PhaseBreakdown, Straggler, SwarmInfo, SwarmWindow
from sofa_otel.core.series import ResourceBatch, Series
from sofa_otel.core.telemetry import Attributes, Histogram, MetricPoint, Value

STATE_VERSION: Final = 1
MAX_SWARMS: Final = 64
"""Swarms a job gets series of its own for; the rest share ``other``."""
MAX_SERIES: Final = 4000
"""Resource and self series kept; a host with more CPUs × modes than this loses the last ones, counted in ``refused``."""
OTHER: Final = "other"

_BOUNDS: Final = names.ITERATION_DURATION_BOUNDS


class _Swarm(msgspec.Struct):
    """``time_ns``, ``calls`` and ``bytes`` are pairs: of the leading thread, and concurrent to it."""

    time_ns: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    calls: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    bytes: list[int] = msgspec.field(default_factory=lambda: [0, 0])


class _Rank(msgspec.Struct):
    job: str
    rank: int
    count: dict[str, int] = {}
    time_ns: dict[str, int] = {}
    phase_ns: dict[str, int] = {}
    bottleneck_ns: dict[str, int] = {}
    last_ns: int = 0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    duration_ns: int = 0
    shortest_ns: int = 0
    longest_ns: int = 0
    swarms: dict[str, _Swarm] = {}
    infos: dict[str, tuple[str, str, str]] = {}
    findings: dict[str, bool] = {}
    delay_s: float = 0.0
    correlations: dict[str, tuple[float, float]] = {}


class _State(msgspec.Struct):
    version: int
    start_ns: int
    ranks: list[_Rank]
    swarms: dict[str, list[str]]


class Totals:
    """Counters of every rank this process sees. Safe to read from another thread than the one that adds.

    Args:
        start_ns: Start of the counters, UNIX ns; now by default.
    """

    def __init__(self, start_ns: int | None = None) -> None:
        self._state = _State(STATE_VERSION, time.time_ns() if start_ns is None else start_ns, [], {})
        self._began_ns = self._state.start_ns
        self._ranks: dict[tuple[str, int], _Rank] = {}
        self._series: dict[tuple[names.Metric, Attributes], tuple[float, int, int]] = {}
        self._lock = threading.Lock()
        self.refused = 0

    def add(self, records: Iterable[AnyRecord]) -> None:
        """Count ``records``; kinds that feed no metric are passed over."""
        with self._lock:
            for record in records:
                rank = self._rank(record.job, record.rank)
                match record:
                    case Iteration():
                        _add_iteration(rank, record)
                    case PhaseBreakdown():
                        for phase, time_ns in record.phase_ns.items():
                            _bump(rank.phase_ns, phase.value, time_ns)
                        for resource, time_ns in record.exposed_ns.items():
                            _bump(rank.bottleneck_ns, resource.value, time_ns)
                    case SwarmWindow():
                        self._add_window(rank, record)
                    case SwarmInfo():
                        rank.infos[record.swarm] = (record.caption, record.kind.value, record.phase.value)
                        if len(rank.infos) > 4 * MAX_SWARMS:
                            self._forget_infos(rank)
                    case Finding():
                        rank.findings[record.id.value] = True
                    case Straggler():
                        rank.delay_s = record.delay_s
                    case Correlation():
                        swarm = record.swarm if record.swarm in self._state.swarms.get(record.job, ()) else OTHER
                        rank.correlations[f"{swarm}\0{record.resource}"] = (record.strength, record.lag_s)

    def add_resources(self, batch: ResourceBatch) -> None:
        """Keep the newest value of every series of ``batch``; counters are taken as the cumulative values they are."""
        order = batch.time_ns.argsort(kind="stable")
        last = dict(zip(batch.series[order].tolist(), order.tolist(), strict=True))
        with self._lock:
            for series_id, row in last.items():
                series = batch.table[series_id]
                attributes: Attributes = (
                    (names.JOB_ID, batch.header.job),
                    (names.RANK, batch.header.rank),
                    *((key, value) for key, value in series.attributes if key not in (names.JOB_ID, names.RANK)),
                )
                self._keep(_metric_of(series), attributes, float(batch.value[row]), int(batch.time_ns[row]), 0)

    def set(self, metric: names.Metric, value: float, job: str, rank: int, *attributes: tuple[str, Value]) -> None:
        """Set a gauge or the cumulative value of a counter that somebody else keeps (collectors' own cost, queue lengths).

        Such values begin with this process and are not in :meth:`to_bytes`.
        """
        with self._lock:
            key: Attributes = ((names.JOB_ID, job), (names.RANK, rank), *attributes)
            self._keep(metric, key, float(value), 0, self._began_ns)

    def set_findings(self, job: str, rank: int, active: Iterable[names.FindingId]) -> None:
        """Say which findings hold now; those that held before and are not among them go to 0."""
        now = {finding.value for finding in active}
        with self._lock:
            findings = self._rank(job, rank).findings
            for finding in now | findings.keys():
                findings[finding] = finding in now

    def points(self, now_ns: int | None = None) -> list[MetricPoint]:
        """Every data point as of ``now_ns`` (now by default). Points of a metric are adjacent."""
        now = time.time_ns() if now_ns is None else now_ns
        with self._lock:
            points = [point for rank in self._ranks.values() for point in _rank_points(rank, now, self._state.start_ns)]
            points += [
                MetricPoint(metric, attributes, value, at_ns or now, start_ns)
                for (metric, attributes), (value, at_ns, start_ns) in self._series.items()
            ]
        order: dict[str, int] = {}
        for point in points:
            order.setdefault(point.metric.name, len(order))
        points.sort(key=lambda point: order[point.metric.name])
        return points

    def to_bytes(self) -> bytes:
        """State to be committed together with the input cursor."""
        with self._lock:
            self._state.ranks = list(self._ranks.values())
            return msgspec.json.encode(self._state)

    @classmethod
    def from_bytes(cls, data: bytes) -> Totals:
        """State of :meth:`to_bytes`.

        Raises:
            InputError: The bytes are damaged or of a later version.
        """
        try:
            state = msgspec.json.decode(data, type=_State)
        except msgspec.DecodeError as error:
            raise InputError(f"totals state cannot be read: {error}", "delete it; counters then start from zero") from error
        if state.version > STATE_VERSION:
            raise InputError(
                f"totals state has version {state.version}, this program reads up to {STATE_VERSION}", "update sofa-otel"
            )
        if any(len(rank.buckets) != len(_BOUNDS) + 1 for rank in state.ranks):
            raise InputError("totals state has histogram buckets of other bounds", "delete it; counters then start from zero")
        totals = cls(state.start_ns)
        totals._state = state
        totals._began_ns = time.time_ns()
        totals._ranks = {(rank.job, rank.rank): rank for rank in state.ranks}
        return totals

    def _rank(self, job: str, rank: int) -> _Rank:
        found = self._ranks.get((job, rank))
        if found is None:
            found = self._ranks[job, rank] = _Rank(job, rank)
        return found

    def _add_window(self, rank: _Rank, window: SwarmWindow) -> None:
        admitted = self._state.swarms.setdefault(window.job, [])
        key = window.swarm
        if key not in admitted:
            if len(admitted) < MAX_SWARMS:
                admitted.append(key)
            else:
                key = OTHER
        swarm = rank.swarms.get(key)
        if swarm is None:
            swarm = rank.swarms[key] = _Swarm()
        side = int(window.concurrent)
        swarm.time_ns[side] += window.time_ns
        swarm.calls[side] += window.calls
        swarm.bytes[side] += window.bytes

    def _forget_infos(self, rank: _Rank) -> None:
        admitted = set(self._state.swarms.get(rank.job, ()))
        for swarm in [swarm for swarm in rank.infos if swarm not in admitted][: 2 * MAX_SWARMS]:
            del rank.infos[swarm]

    def _keep(self, metric: names.Metric, attributes: Attributes, value: float, time_ns: int, start_ns: int) -> None:
        key = (metric, attributes)
        if key not in self._series and len(self._series) >= MAX_SERIES:
            self.refused += 1
            return
        self._series[key] = (value, time_ns, start_ns)


def _bump(table: dict[str, int], key: str, by: int) -> None:
    table[key] = table.get(key, 0) + by


def _add_iteration(rank: _Rank, iteration: Iteration) -> None:
    took = iteration.end_ns - iteration.start_ns
    _bump(rank.count, iteration.kind.value, 1)
    _bump(rank.time_ns, iteration.kind.value, took)
    rank.last_ns = max(rank.last_ns, iteration.end_ns)
    if iteration.kind is IterationKind.TRAIN:
        rank.shortest_ns = min(rank.shortest_ns, took) if any(rank.buckets) else took
        rank.longest_ns = max(rank.longest_ns, took)
        rank.buckets[bisect_left(_BOUNDS, took / 1e9)] += 1
        rank.duration_ns += took


def _rank_points(rank: _Rank, now: int, start: int) -> Iterable[MetricPoint]:
    who: Attributes = ((names.JOB_ID, rank.job), (names.RANK, rank.rank))

    def point(metric: names.Metric, value: float | Histogram, *more: tuple[str, Value]) -> MetricPoint:
        began = 0 if metric.instrument is names.Instrument.GAUGE else start
        return MetricPoint(metric, who + more, value, now, began)

    for kind, count in rank.count.items():
        yield point(names.ITERATION_COUNT, float(count), (names.ITERATION_KIND, kind))
    for kind, time_ns in rank.time_ns.items():
        yield point(names.ITERATION_TIME, time_ns / 1e9, (names.ITERATION_KIND, kind))
    for phase, time_ns in rank.phase_ns.items():
        yield point(names.ITERATION_PHASE_TIME, time_ns / 1e9, (names.PHASE, phase))
    for resource, time_ns in rank.bottleneck_ns.items():
        yield point(names.ITERATION_BOTTLENECK_TIME, time_ns / 1e9, (names.RESOURCE, resource))
    if rank.last_ns:
        yield point(names.ITERATION_LAST, rank.last_ns / 1e9)
    if any(rank.buckets):
        yield point(
            names.ITERATION_DURATION,
            Histogram(_BOUNDS, tuple(rank.buckets), rank.duration_ns / 1e9, rank.shortest_ns / 1e9, rank.longest_ns / 1e9),
        )
    for finding, active in rank.findings.items():
        yield point(names.FINDING_ACTIVE, float(active), (names.FINDING_ID, finding))
    if rank.delay_s:
        yield point(names.STRAGGLER_DELAY, rank.delay_s)
    for swarm_id, swarm in rank.swarms.items():
        ident = (names.SWARM_ID, swarm_id)
        for side, beside in enumerate((False, True)):
            if swarm.time_ns[side] or swarm.calls[side] or not beside:
                more = (ident, (names.SWARM_CONCURRENT, beside))
                yield point(names.SWARM_TIME, swarm.time_ns[side] / 1e9, *more)
                yield point(names.SWARM_CALLS, float(swarm.calls[side]), *more)
                yield point(names.SWARM_IO, float(swarm.bytes[side]), *more)
        caption, kind, phase = rank.infos.get(swarm_id, (swarm_id, SwarmKind.OTHER.value, Phase.UNKNOWN.value))
        yield point(names.SWARM_INFO, 1.0, ident, (names.SWARM_CAPTION, caption), (names.SWARM_KIND, kind), (names.PHASE, phase))
    for key, (strength, lag_s) in rank.correlations.items():
        swarm_id, metric = key.split("\0")
        pair = ((names.SWARM_ID, swarm_id), (names.RESOURCE_METRIC, metric))
        yield point(names.SWARM_CORRELATION, strength, *pair)
        yield point(names.SWARM_CORRELATION_LAG, lag_s, *pair)


def _metric_of(series: Series) -> names.Metric:
    known = names.ALL.get(series.metric)
    if known is not None:
        return known
    instrument = names.Instrument.COUNTER if series.kind == "counter" else names.Instrument.GAUGE
    return names.Metric(series.metric, series.unit, instrument, "")
