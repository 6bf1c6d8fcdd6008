"""OTLP requests of any source → points: protobuf and JSON. What is not understood is an :class:`InputError`, never a crash."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sofa_otel.core import names
from sofa_otel.core.errors import InputError
from sofa_otel.core.names import Instrument, Metric
from sofa_otel.core.telemetry import (
    Attributes,
    Histogram,
    MetricPoint,
    Resource,
    Scope,
    SpanEvent,
    SpanLink,
    SpanPoint,
    Value,
)

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"


class SpanGroup(msgspec.Struct, frozen=True):
    """Spans of one resource and scope."""

    resource: Resource
    scope: Scope
    spans: list[SpanPoint]


class MetricGroup(msgspec.Struct, frozen=True):
    """Points of one resource and scope; ``skipped`` counts data points of kinds that have no :class:`MetricPoint`."""

    resource: Resource
    scope: Scope
    points: list[MetricPoint]
    skipped: int = 0


def decode_spans(body: bytes, content_type: str = PROTOBUF) -> list[SpanGroup]:
    """An ``ExportTraceServiceRequest``, uncompressed.

    Raises:
        InputError: Not protobuf or JSON of that type.
    """
    if content_type.partition(";")[0].strip() == JSON:
        from sofa_otel.core.otlp import json_form

        return json_form.decode_spans(body)
    return [
        SpanGroup(_resource(resource_spans), _scope(scope_spans.scope), [_span(span) for span in scope_spans.spans])
        for resource_spans in parse_spans(body).resource_spans
        for scope_spans in resource_spans.scope_spans
    ]


def decode_metrics(body: bytes, content_type: str = PROTOBUF) -> list[MetricGroup]:
    """An ``ExportMetricsServiceRequest``, uncompressed. Sums that are not monotonic are gauges; exponential ones are skipped.

    Raises:
        InputError: Not protobuf or JSON of that type.
    """
    if content_type.partition(";")[0].strip() == JSON:
        from sofa_otel.core.otlp import json_form

        return json_form.decode_metrics(body)
    request = ExportMetricsServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise _broken(body, "metrics", error) from error
    return [
        _metrics(_resource(resource_metrics), scope_metrics)
        for resource_metrics in request.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
    ]


def parse_spans(body: bytes) -> ExportTraceServiceRequest:
    """The generated message, for readers of columns.

    Raises:
        InputError: Not such a message.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise _broken(body, "trace", error) from error
    return request


def value_of(value: Any) -> Value:
    """A generated ``AnyValue`` as a plain value."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(value_of(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    plain: Value = getattr(value, kind)
    return plain


def attributes_of(pairs: Any) -> Attributes:
    """Repeated generated ``KeyValue``."""
    return tuple([(pair.key, value_of(pair.value)) for pair in pairs])


def _broken(body: bytes, signal: str, error: Exception) -> InputError:
    return InputError(
        f"{len(body)} bytes are not an OTLP {signal} request: {error}",
        f"send protobuf as {PROTOBUF}, JSON as {JSON}, and undo the Content-Encoding first",
    )


def _resource(message: Any) -> Resource:
    return Resource(attributes_of(message.resource.attributes), message.schema_url)


def _scope(scope: Any) -> Scope:
    return Scope(scope.name, scope.version, attributes_of(scope.attributes))


def _span(span: Any) -> SpanPoint:
    return SpanPoint(
        span.name,
        id_of(span.trace_id, 16),
        id_of(span.span_id, 8),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        id_of(span.parent_span_id, 8),
        attributes_of(span.attributes),
        span.kind,
        tuple(SpanEvent(event.time_unix_nano, event.name, attributes_of(event.attributes)) for event in span.events),
        tuple(SpanLink(id_of(link.trace_id, 16), id_of(link.span_id, 8), attributes_of(link.attributes)) for link in span.links),
        span.status.code,
        span.status.message,
        span.trace_state,
    )


def id_of(data: bytes, size: int) -> int:
    """An id as an integer; 0, which is the invalid id, where the length is wrong."""
    return int.from_bytes(data, "big") if len(data) == size else 0


def _metrics(resource: Resource, scope_metrics: Any) -> MetricGroup:
    points: list[MetricPoint] = []
    skipped = 0
    for message in scope_metrics.metrics:
        kind = message.WhichOneof("data")
        counter = kind == "sum" and message.sum.is_monotonic
        if kind in ("sum", "gauge"):
            metric = _metric(message, Instrument.COUNTER if counter else Instrument.GAUGE)
            for point in getattr(message, kind).data_points:
                value = float(getattr(point, point.WhichOneof("value") or "as_double"))
                points.append(
                    MetricPoint(metric, attributes_of(point.attributes), value, point.time_unix_nano, point.start_time_unix_nano)
                )
        elif kind == "histogram":
            metric = _metric(message, Instrument.HISTOGRAM)
            for point in message.histogram.data_points:
                buckets = histogram(
                    tuple(point.explicit_bounds),
                    tuple(point.bucket_counts),
                    point.count,
                    point.sum,
                    least=point.min if point.HasField("min") else None,
                    most=point.max if point.HasField("max") else None,
                )
                points.append(
                    MetricPoint(
                        metric, attributes_of(point.attributes), buckets, point.time_unix_nano, point.start_time_unix_nano
                    )
                )
        elif kind is not None:
            skipped += len(getattr(message, kind).data_points)
    return MetricGroup(resource, _scope(scope_metrics.scope), points, skipped)


def histogram(
    bounds: tuple[float, ...], counts: tuple[int, ...], count: int, total: float, *, least: float | None, most: float | None
) -> Histogram:
    """A histogram as sent; one without buckets has all its observations in the overflow bucket."""
    if len(counts) != len(bounds) + 1:
        return Histogram((), (count,), total, least, most)
    return Histogram(bounds, counts, total, least, most)


def _metric(message: Any, instrument: Instrument) -> Metric:
    known = names.ALL.get(message.name)
    made = Metric(message.name, message.unit, instrument, message.description)
    return known if known == made else made
