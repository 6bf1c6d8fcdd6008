"""OTLP: golden bytes, equality with the generated protobuf classes, round trips both ways, and hostile input."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics as sdk_encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as sdk_encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sofa_otel.core import names
from sofa_otel.core.batch import COLUMNS, OPTIONAL_COLUMNS, BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp import decode, encode, event_rows, events, json_form
from sofa_otel.core.symbols import Symbol, Tables
from sofa_otel.core.telemetry import Histogram, MetricPoint, Resource, Scope, SpanEvent, SpanLink, SpanPoint

U64 = st.integers(0, (1 << 64) - 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
FLOAT = st.floats(allow_nan=False)
VALUE = st.recursive(
    st.one_of(TEXT, st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), FLOAT, st.binary(max_size=8), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
ATTRIBUTES = st.lists(st.tuples(TEXT, VALUE), max_size=4).map(tuple)
LINK = st.builds(SpanLink, st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1), ATTRIBUTES)
SPAN = st.builds(
    SpanPoint,
    name=TEXT, trace_id=st.integers(1, (1 << 128) - 1), span_id=st.integers(1, (1 << 64) - 1), start_ns=U64, end_ns=U64,
    parent_id=U64, attributes=ATTRIBUTES, kind=st.integers(0, 5), status=st.integers(0, 2), status_message=TEXT, trace_state=TEXT,
    events=st.lists(st.builds(SpanEvent, U64, TEXT, ATTRIBUTES), max_size=2).map(tuple),
    links=st.lists(LINK, max_size=2).map(tuple),
)  # fmt: skip
RESOURCE = st.builds(Resource, ATTRIBUTES, TEXT)
SCOPE = st.builds(Scope, TEXT, TEXT, ATTRIBUTES)
METRIC = st.one_of(
    st.sampled_from(list(names.ALL.values())), st.builds(names.Metric, TEXT, TEXT, st.sampled_from(list(names.Instrument)), TEXT)
)


@st.composite
def points(draw: Any) -> MetricPoint:
    metric = draw(METRIC)
    value: float | Histogram = draw(FLOAT)
    if metric.instrument is names.Instrument.HISTOGRAM:
        bounds = tuple(sorted(draw(st.lists(FLOAT, max_size=4))))
        counts = tuple(draw(st.lists(st.integers(0, 1 << 40), min_size=len(bounds) + 1, max_size=len(bounds) + 1)))
        value = Histogram(bounds, counts, draw(FLOAT), draw(st.none() | FLOAT), draw(st.none() | FLOAT))
    return MetricPoint(metric, draw(ATTRIBUTES), value, draw(U64), draw(U64))


@given(st.lists(SPAN, max_size=4), RESOURCE, SCOPE)
@settings(max_examples=150, deadline=None)
def test_spans_round_trip_and_are_canonical_protobuf(spans: list[SpanPoint], resource: Resource, scope: Scope) -> None:
    body = encode.encode_spans(spans, resource, scope)
    (group,) = decode.decode_spans(body)
    assert (group.resource, group.scope, group.spans) == (resource, scope, spans)
    if all(span.start_ns and span.end_ns and all(event.time_ns for event in span.events) for span in spans):
        assert ExportTraceServiceRequest.FromString(body).SerializeToString() == body, "canonical protobuf"
    text = json_form.encode_spans(spans, resource, scope)
    assert b"\n" not in text
    (group,) = decode.decode_spans(text, "application/json; charset=utf-8")
    assert (group.resource, group.scope, group.spans) == (resource, scope, spans)


@given(st.lists(points(), max_size=4), RESOURCE, SCOPE)
@settings(max_examples=150, deadline=None)
def test_metrics_round_trip(some: list[MetricPoint], resource: Resource, scope: Scope) -> None:
    (group,) = decode.decode_metrics(encode.encode_metrics(some, resource, scope))
    assert (group.resource, group.scope, group.points, group.skipped) == (resource, scope, some, 0)
    (group,) = decode.decode_metrics(json_form.encode_metrics(some, resource, scope), decode.JSON)
    assert (group.resource, group.scope, group.points, group.skipped) == (resource, scope, some, 0)


def test_golden_span_bytes() -> None:
    span = SpanPoint("sofa.iteration", 0x0102, 0x03, 1, 2, 0x04, ((names.RANK, 1), ("ok", True), ("x", 0.5), ("s", "é")))
    body = encode.encode_spans([span], Resource((("service.name", "t"),)), Scope("sofa_otel", "1"))
    assert body.hex() == (
        "0aad010a150a130a0c736572766963652e6e616d6512030a01741293010a0e0a09736f66615f6f74656c1201311280010a100000000000"
        "000000000000000000010212080000000000000003220800000000000000042a0e736f66612e697465726174696f6e3001390100000000"
        "0000004102000000000000004a0f0a09736f66612e72616e6b120218014a080a026f6b120210014a0e0a0178120921000000000000e03f"
        "4a090a017312040a02c3a9"
    )


def test_bytes_equal_those_of_the_sdks_encoder() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=SdkResource({"service.name": "t", "n": 3}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("scope", "2", attributes={"k": "v"})
    with tracer.start_as_current_span(
        "parent", attributes={"a": 1, "b": "x", "c": 1.5, "d": True, "e": [1, 2], "f": ["y"]}
    ) as parent:
        parent.add_event("event", {"z": 1})
        with tracer.start_as_current_span("child"):
            pass
    request = sdk_encode_spans(exporter.get_finished_spans())
    expected = request.SerializeToString()
    (group,) = decode.decode_spans(expected)
    ours = ExportTraceServiceRequest.FromString(encode.encode_spans(group.spans, group.resource, group.scope))
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.flags = 0
        if not span.status.code:
            span.ClearField("status")
    assert ours == request
    child, root = group.spans
    assert (child.name, child.parent_id, child.trace_id) == ("child", root.span_id, root.trace_id)
    assert root.attribute("e") == (1, 2)


def test_metric_bytes_equal_those_of_the_sdks_encoder() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=SdkResource({"service.name": "t"}))
    meter = provider.get_meter("scope", "2")
    meter.create_counter("a.count", "{x}", "help").add(2.5, {"k": "v"})
    meter.create_histogram("h", "s").record(0.3, {"k": 1})
    meter.create_observable_gauge("g", [lambda _: []])
    data = reader.get_metrics_data()
    assert data is not None
    request = sdk_encode_metrics(data)
    (group,) = decode.decode_metrics(request.SerializeToString())
    ours = ExportMetricsServiceRequest.FromString(encode.encode_metrics(group.points, group.resource, group.scope))
    assert ours == request


def test_json_of_other_writers_is_read() -> None:
    document = {
        "resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}, {"key": "nothing"}], "x": 1},
            "scopeSpans": [{"spans": [{
                "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "parentSpanId": "", "name": None,
                "startTimeUnixNano": 1544712660000000000, "endTimeUnixNano": "1544712661000000000", "kind": 2, "flags": 1,
                "attributes": [{"key": "i", "value": {"intValue": 7}}, {"key": "j", "value": {"intValue": "8"}}],
                "status": {}, "droppedEventsCount": 0,
            }]}],
        }],
    }  # fmt: skip
    (group,) = decode.decode_spans(json.dumps(document).encode(), decode.JSON)
    (span,) = group.spans
    assert span.trace_id == 0x5B8EFFF798038103D269B633813FC60C
    assert (span.start_ns, span.end_ns, span.kind, span.parent_id) == (1544712660000000000, 1544712661000000000, 2, 0)
    assert span.attributes == (("i", 7), ("j", 8))
    assert group.resource.attributes == (("service.name", "x"), ("nothing", None))


def test_exponential_histograms_and_summaries_are_counted_not_lost_silently() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="e")
    metric.exponential_histogram.data_points.add()
    (group,) = decode.decode_metrics(request.SerializeToString())
    assert (group.points, group.skipped) == ([], 1)


def test_nan_and_infinity_survive_json() -> None:
    values = [math.nan, math.inf, -math.inf]
    some = [MetricPoint(names.ITERATION_LAST, (("v", value),), value, 1) for value in values]
    (group,) = decode.decode_metrics(json_form.encode_metrics(some), decode.JSON)
    assert [str(point.value) for point in group.points] == [str(value) for value in values]
    assert [str(point.attributes[0][1]) for point in group.points] == [str(value) for value in values]


def test_integers_beyond_64_bits_stay_exact_as_text() -> None:
    (group,) = decode.decode_spans(encode.encode_spans([SpanPoint("n", 1, 1, 1, 1, attributes=(("big", 1 << 70),))]))
    assert group.spans[0].attribute("big") == str(1 << 70)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_hostile_bytes_give_typed_errors_only(body: bytes) -> None:
    for read in (
        lambda: decode.decode_spans(body),
        lambda: decode.decode_metrics(body),
        lambda: decode.decode_spans(body, decode.JSON),
        lambda: decode.decode_metrics(body, decode.JSON),
        lambda: event_rows.decode_events(body, Tables()),
    ):
        with contextlib.suppress(InputError):
            read()


@given(SPAN, st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_requests_give_typed_errors_only(span: SpanPoint, data: Any) -> None:
    for body, kind in ((encode.encode_spans([span]), decode.PROTOBUF), (json_form.encode_spans([span]), decode.JSON)):
        damaged = bytearray(body)
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(InputError):
            decode.decode_spans(bytes(damaged), kind)


def test_deep_nesting_is_refused() -> None:
    value: Any = {"intValue": 1}
    text = '{"arrayValue":{"values":[' * 5000 + json.dumps(value) + "]}}" * 5000
    body = f'{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{text}}}]}},"scopeSpans":[{{}}]}}]}}'
    with pytest.raises(InputError):
        decode.decode_spans(body.encode(), decode.JSON)


# -- events --------------------------------------------------------------------------------------------------------------------

SYMBOL = st.builds(Symbol, TEXT, TEXT, U64, TEXT, st.integers(0, 1 << 31))


@st.composite
def batches(draw: Any) -> EventBatch:
    tables = Tables()
    n = draw(st.integers(0, 12))
    symbols = [tables.symbols.intern_symbol(symbol) for symbol in draw(st.lists(SYMBOL, min_size=1, max_size=4))]
    paths = [0] + [
        tables.paths.intern_frames(frames)
        for frames in draw(st.lists(st.lists(st.sampled_from(symbols), max_size=3), max_size=3))
    ]
    columns: dict[str, Any] = {}
    for key, dtype in (COLUMNS | OPTIONAL_COLUMNS).items():
        info = np.iinfo(dtype)
        least = 0 if key in ("start_ns", "duration_ns") else max(info.min, -1) if key in ("cpu", "device") else info.min
        most = 1 << 61 if key in ("start_ns", "duration_ns") else info.max
        values = {"name": st.sampled_from(symbols), "path": st.sampled_from(paths)}.get(key, st.integers(least, most))
        columns[key] = np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype)
    if draw(st.booleans()):
        columns = {key: column for key, column in columns.items() if key in COLUMNS}
    return EventBatch.build(BatchHeader(draw(TEXT.filter(bool)), 3, "h", "probe/1", "unix", 9), tables, **columns)


@given(batches())
@settings(max_examples=150, deadline=None)
def test_event_batches_round_trip(batch: EventBatch) -> None:
    tables = Tables()
    back = event_rows.decode_events(events.encode_events(batch), tables)
    if not len(batch):
        assert back == []
        return
    (got,) = back
    assert got.header == batch.header
    for key in COLUMNS:
        if key not in ("name", "path"):
            np.testing.assert_array_equal(got.columns[key], batch.columns[key], key)
    np.testing.assert_array_equal(got.optional("link"), batch.optional("link"))
    if "span_id" in batch.columns:
        for key in ("span_id", "parent_id", "trace_hi", "trace_lo"):
            given_ids = batch.optional(key) != 0
            np.testing.assert_array_equal(got.optional(key)[given_ids], batch.optional(key)[given_ids], key)
    for row in range(len(batch)):
        assert tables.symbols[int(got.name[row])] == batch.tables.symbols[int(batch.name[row])]
        assert [tables.symbols[s] for s in tables.paths.frames(int(got.path[row]))] == [
            batch.tables.symbols[s] for s in batch.tables.paths.frames(int(batch.path[row]))
        ]


def test_event_ids_are_valid_unique_and_repeatable() -> None:
    batch = EventBatch.build(BatchHeader("j", 0, "h", "s"), Tables(), start_ns=np.arange(1, 2000))
    body = events.encode_events(batch)
    assert body == events.encode_events(batch)
    (group,) = decode.decode_spans(body)
    assert len({span.span_id for span in group.spans}) == len(group.spans)
    assert all(span.span_id and span.trace_id and not span.parent_id for span in group.spans)
    assert ExportTraceServiceRequest.FromString(body).SerializeToString() == body, "canonical field order"


def test_spans_of_other_sources_become_span_rows() -> None:
    spans = [SpanPoint("GET /", 7, 8, 100, 350, 9, (("code.stacktrace", 'File "a.py", line 1'), ("thread.id", 5)))]
    body = encode.encode_spans(spans, Resource((("service.name", "web"), ("process.pid", 42))), Scope("flask"))
    tables = Tables()
    (batch,) = event_rows.decode_events(body, tables, seq=4)
    assert batch.header == BatchHeader("web", 0, "", "otlp/web", "unix", 4)
    assert tables.symbols[int(batch.name[0])] == Symbol("GET /", "flask")
    row = {key: int(column[0]) for key, column in batch.columns.items()}
    assert (row["start_ns"], row["duration_ns"], row["kind"], row["pid"], row["tid"], row["path"]) == (
        100,
        250,
        Kind.SPAN,
        42,
        5,
        0,
    )
    assert (row["span_id"], row["parent_id"], row["trace_lo"]) == (8, 9, 7)
