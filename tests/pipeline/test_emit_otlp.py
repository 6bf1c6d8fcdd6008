"""OTLP out: the same values as on ``/metrics``, every setting of the SDK's exporters, and a backend that fails."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest
from otlp_backend import OtlpBackend
from prometheus_client.parser import text_string_to_metric_families as parse_text
from telemetry_samples import iteration, request, samples, some_records, window

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import UsageError
from sofa_otel.core.names import FindingId, Instrument
from sofa_otel.core.otlp import decode, event_rows
from sofa_otel.core.prometheus_names import label_name, label_value, metric_name
from sofa_otel.core.records import Correlation, Iteration, SwarmInfo, SwarmWindow
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.core.telemetry import Histogram, MetricPoint, Resource, Scope, iteration_spans, records_of, spans_of
from sofa_otel.core.totals import Totals
from sofa_otel.exporters.emit.file import OtlpFile
from sofa_otel.exporters.emit.otlp_metrics import OtlpMetrics
from sofa_otel.exporters.emit.otlp_spans import OtlpSpans
from sofa_otel.exporters.emit.prometheus import PrometheusEndpoint
from sofa_otel.exporters.emit.resource import job_resource
from sofa_otel.exporters.emit.sampling import IterationTracer
from sofa_otel.exporters.emit.transport import SendResult, resolve_endpoint

SCOPE = Scope("sofa_otel", "1")


@pytest.fixture
def backend() -> Iterator[OtlpBackend]:
    backend = OtlpBackend()
    yield backend
    backend.close()


def full_totals() -> Totals:
    """Totals with at least one point of every metric they can make."""
    totals = Totals(start_ns=10**18)
    totals.add(some_records())
    totals.add([SwarmInfo(job="j", rank=0, swarm=f"{1:016x}", caption='mat"mul', kind=names.SwarmKind.COMPUTE)])
    totals.add([
        Correlation(
            job="j", rank=0, swarm=f"{1:016x}", resource="process.cpu.time", lag_s=0.5, strength=0.75,
            status=names.CorrelationStatus.CANDIDATE,
        )
    ])  # fmt: skip
    totals.set_findings("j", 0, [FindingId.LOADER_BOUND])
    totals.set(names.COLLECTOR_CPU_TIME, 1.25, "j", 0, (names.COLLECTOR, "probe"))
    totals.set(names.COLLECTOR_RATE, 1e6, "j", 0, (names.COLLECTOR, "probe"))
    table = SeriesTable()
    ids = [
        table.intern(metric.name, metric.unit, metric.instrument.value, host__x="1")
        for metric in names.ALL.values()
        if not metric.name.startswith(("sofa.iteration", "sofa.swarm", "sofa.finding", "sofa.collector", "sofa.straggler"))
    ]
    totals.add_resources(
        ResourceBatch(BatchHeader("j", 0, "h", "proc"), table, [10**18] * len(ids), ids, [0.1 + i for i in range(len(ids))])
    )
    return totals


def translated(points: list[MetricPoint]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Points as the Collector's Prometheus exporter would serve them."""
    out: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for point in points:
        name = metric_name(point.metric)
        labels = {label_name(key): label_value(value) for key, value in point.attributes}
        labels |= {"otel_scope_name": SCOPE.name, "otel_scope_version": SCOPE.version}
        if not isinstance(point.value, Histogram):
            out[name, tuple(sorted(labels.items()))] = point.value
            continue
        seen = 0
        for bound, count in zip([*map(str, point.value.bounds), "+Inf"], point.value.counts, strict=True):
            seen += count
            out[f"{name}_bucket", tuple(sorted((labels | {"le": bound}).items()))] = seen
        out[f"{name}_sum", tuple(sorted(labels.items()))] = point.value.sum
        out[f"{name}_count", tuple(sorted(labels.items()))] = point.value.count
    return out


def test_scrape_and_otlp_route_have_equal_names_and_values(backend: OtlpBackend) -> None:
    totals = full_totals()
    resource = job_resource("j", 0, environ={})
    metrics = OtlpMetrics(totals.points, resource, SCOPE, backend.url)
    assert metrics.export()
    metrics.stop()
    endpoint = PrometheusEndpoint(totals.points, port=0, resource=resource, scope=SCOPE)
    endpoint.start()
    try:
        scraped = samples(parse_text(request(endpoint.port)[1].decode()))
    finally:
        endpoint.stop()
    (group,) = decode.decode_metrics(backend.requests[0].body)
    assert backend.requests[0].path == "/v1/metrics"
    assert group.resource == resource
    assert {point.metric.name for point in group.points} >= {metric.name for metric in names.ALL.values()} - {
        "sofa.straggler.delay", "sofa.collector.dropped", "sofa.collector.latency",
    }  # fmt: skip
    target = {key: value for key, value in scraped.items() if key[0] == "target_info"}
    assert len(target) == 1
    assert translated(group.points) == {key: value for key, value in scraped.items() if key not in target}
    counters = [point for point in group.points if point.metric.instrument is not Instrument.GAUGE]
    assert all(point.start_ns == 10**18 for point in counters if point.metric.name.startswith("sofa.iteration"))


def test_delta_preference_is_honoured_and_loses_nothing_when_a_request_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OtlpBackend(200, 400)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    totals = Totals(start_ns=1)
    metrics = OtlpMetrics(totals.points, endpoint=backend.url)
    totals.add([iteration(0, 100_000_000), window("aa", 5)])
    assert metrics.export()
    backend._statuses = [400]
    totals.add([iteration(1, 100_000_000), window("aa", 7)])
    assert not metrics.export()
    totals.add([iteration(2, 100_000_000), window("aa", 9)])
    assert metrics.export()
    metrics.stop()
    backend.close()
    swarm_time, counts = [], []
    for sent in backend.requests[:2]:
        (group,) = decode.decode_metrics(sent.body)
        swarm_time += [round(p.value * 1e9) for p in group.points if p.metric == names.SWARM_TIME]  # type: ignore[operator]
        counts += [p.value.count for p in group.points if isinstance(p.value, Histogram)]
    assert (swarm_time, counts) == ([5, 16], [1, 2])


def test_settings_of_the_sdk_exporters_are_used(backend: OtlpBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-tenant=a")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none")
    spans = OtlpSpans()
    spans.start()
    spans.export(iteration_spans(iteration(0, 5)))
    assert spans.stop().sent == 1
    metrics = OtlpMetrics(full_totals().points)
    assert metrics.export()
    metrics.stop()
    traces = next(r for r in backend.requests if r.path == "/v1/traces")
    others = next(r for r in backend.requests if r.path == "/v1/metrics")
    assert (traces.headers["x-tenant"], traces.headers.get("content-encoding")) == ("a", "gzip")
    assert (others.headers["authorization"], others.headers.get("content-encoding")) == ("Bearer x", None)
    assert traces.headers["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        (None, {}, ("http/protobuf", None)),
        ("http://h:4318", {}, ("http/protobuf", "http://h:4318/v1/traces")),
        ("http://h:4318/", {}, ("http/protobuf", "http://h:4318/v1/traces")),
        ("http://h/otlp/v1/traces", {}, ("http/protobuf", "http://h/otlp/v1/traces")),
        ("http://h:4317", {}, ("grpc", "http://h:4317")),
        ("grpcs://h:9", {}, ("grpc", "https://h:9")),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317"}, ("grpc", None)),
        (None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("grpc", None)),
        ("http://h:4317", {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, ("http/protobuf", "http://h:4317/v1/traces")),
        (
            None,
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ("http/protobuf", None),
        ),
    ],
)
def test_protocol_and_address(url: str | None, environ: dict[str, str], expected: tuple[str, str | None]) -> None:
    assert tuple(resolve_endpoint(url, "traces", environ)) == expected


@pytest.mark.parametrize(
    ("url", "environ"), [("h:4318", {}), ("http://h:x", {}), (None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})]
)
def test_bad_settings_name_the_knob(url: str | None, environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"endpoint|OTEL_EXPORTER_OTLP_PROTOCOL"):
        resolve_endpoint(url, "traces", environ)


def test_spans_over_grpc() -> None:
    grpc = pytest.importorskip("grpc")
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    got: list[object] = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
        def Export(self, request: object, context: object) -> object:
            got.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    spans = OtlpSpans(endpoint=f"grpc://127.0.0.1:{port}")
    spans.start()
    spans.export(iteration_spans(iteration(0, 5)))
    stats = spans.stop()
    server.stop(0)
    assert (stats.sent, stats.dropped, len(got)) == (1, 0, 1)


class Gate:
    """A sender whose answers the test decides."""

    def __init__(self, *answers: SendResult) -> None:
        self.bodies: list[bytes] = []
        self.open = threading.Event()
        self._answers = list(answers)

    def send(self, body: bytes) -> SendResult:
        self.open.wait(20)
        answer = self._answers.pop(0) if self._answers else SendResult(True)
        if answer.ok:
            self.bodies.append(body)
        return answer

    def close(self) -> None:
        self.open.set()


def test_a_full_queue_drops_whole_traces_and_counts_them() -> None:
    gate = Gate()
    spans = OtlpSpans(sender=gate, max_queue=10, max_batch=4, delay_s=0.01)
    spans.start()
    for index in range(20):
        child = SwarmWindow(job="j", rank=0, iteration=index, swarm="aa", time_ns=1)
        spans.export(iteration_spans(iteration(index, 5), [child]))
    assert spans.stats().dropped == 30
    gate.open.set()
    stats = spans.stop()
    assert (stats.sent, stats.dropped, stats.queued) == (10, 30, 0)
    sent = [span for body in gate.bodies for group in decode.decode_spans(body) for span in group.spans]
    assert [span.name for span in sent] == ["sofa.iteration", "sofa.swarm"] * 5


def test_refused_requests_are_dropped_and_failing_ones_sent_again() -> None:
    backend = OtlpBackend(400, 503)
    notes: list[str] = []
    spans = OtlpSpans(endpoint=backend.url, max_batch=1, delay_s=0.01, note=notes.append)
    spans.start()
    spans.export(iteration_spans(iteration(0, 5)))
    spans.export(iteration_spans(iteration(1, 5)))
    assert backend.wait(1)
    stats = spans.stop()
    backend.close()
    assert (stats.sent, stats.dropped) == (1, 1)
    assert "400" in notes[0]
    assert "again" in notes[1]


def test_stop_does_not_wait_for_a_dead_backend() -> None:
    spans = OtlpSpans(sender=Gate(*[SendResult(False, True, "down")] * 50), delay_s=0.01)
    spans._sender.open.set()  # type: ignore[attr-defined]
    spans.start()
    spans.export(iteration_spans(iteration(0, 5)))
    stats = spans.stop(timeout_s=0.3)
    assert (stats.sent, stats.dropped, stats.queued, stats.last_error) == (0, 1, 0, "down")


def test_event_batches_go_out_whole() -> None:
    gate = Gate()
    gate.open.set()
    spans = OtlpSpans(sender=gate, max_batch=100, delay_s=0.01)
    spans.start()
    tables = Tables()
    name = tables.symbols.intern("read", "syscall")
    spans.export_events(EventBatch.build(BatchHeader("j", 1, "h", "s"), tables, start_ns=np.arange(1, 251), name=name, kind=4))
    spans.export(iteration_spans(iteration(0, 5)))
    assert spans.stop().sent == 251
    rows = [batch for body in gate.bodies for batch in event_rows.decode_events(body, Tables()) if batch.header.source == "s"]
    assert sum(map(len, rows)) == 250


# -- records and spans ---------------------------------------------------------------------------------------------------------


def test_records_survive_the_way_through_spans() -> None:
    it = Iteration(
        job="j", rank=3, level="step", index=7, job_index=9, start_ns=10**18, end_ns=10**18 + 1000, confidence=0.75,
        kind=names.IterationKind.VALIDATION, source="probe:hook", anomalous=True, score=4.5,
    )  # fmt: skip
    windows = [
        SwarmWindow(job="j", rank=3, iteration=7, swarm="aa", phase=names.Phase.MODEL_FORWARD, time_ns=600, calls=3, bytes=8),
        SwarmWindow(job="j", rank=3, iteration=7, swarm="aa", phase=names.Phase.DATA_LOADING, time_ns=400),
        SwarmWindow(job="j", rank=3, iteration=7, swarm="bb", time_ns=5000, concurrent=True),
    ]
    info = SwarmInfo(job="j", rank=3, swarm="bb", caption="decode", kind=names.SwarmKind.INPUT, phase=names.Phase.UNKNOWN)
    spans = spans_of([*windows, info, it])
    root, *children = spans
    assert [(s.start_ns - it.start_ns, s.end_ns - it.start_ns) for s in children] == [(0, 400), (400, 1000), (0, 5000)]
    assert {s.parent_id for s in children} == {root.span_id}
    assert len({s.span_id for s in spans}) == 4
    assert spans == spans_of([*windows, info, it]), "ids are deterministic"
    back = records_of(spans)
    assert [r for r in back if isinstance(r, Iteration)] == [it]
    assert sorted(r.time_ns for r in back if isinstance(r, SwarmWindow)) == [400, 600, 5000]
    assert all(r in windows for r in back if isinstance(r, SwarmWindow))
    assert [r for r in back if isinstance(r, SwarmInfo)] == [info]


def test_spans_that_are_not_ours_give_no_records() -> None:
    (root,) = iteration_spans(iteration(0, 5))
    broken = [root.__class__(root.name, 1, 2, 3, 4, attributes=pairs) for pairs in ((), ((names.JOB_ID, "j"), (names.RANK, "x")))]
    assert records_of(broken) == []


def traced(period_ns: int, count: int, anomalous: set[int] = frozenset()) -> list[Iteration]:  # type: ignore[assignment]
    tracer = IterationTracer()
    spans = []
    for index in range(count):
        start = 10**18 + index * period_ns
        it = Iteration(
            job="j", rank=0, level="step", index=index, start_ns=start, end_ns=start + period_ns, confidence=1.0, source="s",
            anomalous=index in anomalous,
        )  # fmt: skip
        spans += tracer.spans([it, SwarmWindow(job="j", rank=0, iteration=index, swarm="aa", time_ns=1)])
    spans += tracer.flush()
    ratios = {span.attribute(names.SAMPLE_RATIO) for span in spans if span.name == names.SPAN_ITERATION}
    assert all(isinstance(ratio, float) and 0 < ratio <= 1 for ratio in ratios)
    return [record for record in records_of(spans) if isinstance(record, Iteration)]


def test_slow_ranks_leave_every_iteration() -> None:
    assert len(traced(100_000_000, 50)) == 50


def test_fast_ranks_leave_at_most_ten_a_second_and_every_anomalous_one() -> None:
    odd = {501, 502, 503, 1777}
    kept = traced(1_000_000, 3000, odd)
    plain = [it for it in kept if not it.anomalous]
    seconds = [it.end_ns // 10**9 for it in plain]
    assert max(seconds.count(second) for second in set(seconds)) <= 10
    assert 25 <= len(plain) <= 40
    assert {it.index for it in kept if it.anomalous} == odd


def test_iterations_wait_one_call_for_their_windows() -> None:
    tracer = IterationTracer()
    assert tracer.spans([iteration(0, 5)]) == []
    spans = tracer.spans([SwarmWindow(job="j", rank=0, iteration=0, swarm="aa", time_ns=1)])
    assert [span.name for span in spans] == [names.SPAN_ITERATION, names.SPAN_SWARM]
    assert tracer.flush() == []


# -- resource, file, weight ----------------------------------------------------------------------------------------------------


def test_user_settings_win_over_service_names_but_not_over_facts() -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "team=a%20b,sofa.rank=9,service.name=x", "OTEL_SERVICE_NAME": "y"}
    resource = job_resource("j", 2, world_size=4, environ=environ)
    assert (resource.get("team"), resource.get("service.name"), resource.get("sofa.rank")) == ("a b", "y", 2)


def test_file_holds_one_whole_request_a_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    totals = full_totals()
    with OtlpFile(path, Resource((("service.name", "t"),)), SCOPE) as file:
        file.spans(iteration_spans(iteration(0, 5)) * 3000)
        file.metrics(totals.points(7))
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3
    assert sum(len(group.spans) for line in lines[:2] for group in decode.decode_spans(line, decode.JSON)) == 3000
    (group,) = decode.decode_metrics(lines[2], decode.JSON)
    assert group.points == totals.points(7)


def test_the_agents_emitters_import_neither_grpc_nor_pandas() -> None:
    code = (
        "import sys, sofa_otel.core.totals, sofa_otel.exporters.emit.prometheus as p, sofa_otel.exporters.emit.otlp_spans as s, "
        "sofa_otel.exporters.emit.otlp_metrics as m; s.OtlpSpans(); m.OtlpMetrics(lambda: []); "
        "print([n for n in ('grpc', 'pandas', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
