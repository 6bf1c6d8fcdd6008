"""Points → OTLP protobuf requests.

Spans are concatenated bytes (measured by ``benchmarks/emit_spans.py``); metrics, a few hundred points a request, use the
generated classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from sofa_otel.core.names import Instrument
from sofa_otel.core.otlp import wire
from sofa_otel.core.telemetry import Histogram, MetricPoint, Resource, Scope, SpanEvent, SpanLink, SpanPoint

_TIMES: Final = struct.Struct("<cQcQ")
_TIME: Final = struct.Struct("<cQ")
_U64: Final = (1 << 64) - 1
CUMULATIVE: Final = 2
DELTA: Final = 1


def encode_spans(spans: Iterable[SpanPoint], resource: Resource | None = None, scope: Scope | None = None) -> bytes:
    """An ``ExportTraceServiceRequest`` of one resource and one scope."""
    return wrap_spans(b"".join([wire.field(2, _span(span)) for span in spans]), resource, scope)


def wrap_spans(spans: bytes, resource: Resource | None = None, scope: Scope | None = None) -> bytes:
    """A request around ``spans``, which are ``ScopeSpans.spans`` fields already."""
    resource, scope = resource or Resource(), scope or Scope()
    scope_spans = wire.field(1, _scope(scope)) + spans
    resource_spans = wire.field(1, wire.attributes(1, resource.attributes)) + wire.field(2, scope_spans)
    return wire.field(1, resource_spans + wire.text(3, resource.schema_url))


def encode_metrics(
    points: Iterable[MetricPoint], resource: Resource | None = None, scope: Scope | None = None, temporality: int = CUMULATIVE
) -> bytes:
    """An ``ExportMetricsServiceRequest`` of one resource and one scope; adjacent points of one metric share a ``Metric``."""
    from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

    resource, scope = resource or Resource(), scope or Scope()
    body = bytearray(wire.field(1, _scope(scope)))
    for metric, group in groupby(points, key=lambda point: point.metric):
        message: Any = pb.Metric(name=metric.name, description=metric.description, unit=metric.unit)
        for point in group:
            if isinstance(point.value, Histogram):
                message.histogram.aggregation_temporality = temporality
                target = message.histogram.data_points.add()
                _histogram(target, point.value)
            elif metric.instrument is Instrument.COUNTER:
                message.sum.aggregation_temporality = temporality
                message.sum.is_monotonic = True
                target = message.sum.data_points.add(as_double=point.value)
            else:
                target = message.gauge.data_points.add(as_double=point.value)
            target.start_time_unix_nano = point.start_ns
            target.time_unix_nano = point.time_ns
            field_number = 9 if isinstance(point.value, Histogram) else 7
            target.MergeFromString(wire.attributes(field_number, point.attributes))
        body += wire.field(2, message.SerializeToString())
    resource_metrics = wire.field(1, wire.attributes(1, resource.attributes)) + wire.field(2, bytes(body))
    return wire.field(1, resource_metrics + wire.text(3, resource.schema_url))


def _histogram(target: Any, value: Histogram) -> None:
    from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

    point = pb.HistogramDataPoint(
        count=value.count, sum=value.sum, bucket_counts=value.counts, explicit_bounds=value.bounds, min=value.min, max=value.max
    )
    target.CopyFrom(point)


def _scope(scope: Scope) -> bytes:
    return wire.text(1, scope.name) + wire.text(2, scope.version) + wire.attributes(3, scope.attributes)


def _span(span: SpanPoint) -> bytes:
    parts = [b"\x0a\x10", span.trace_id.to_bytes(16, "big"), b"\x12\x08", span.span_id.to_bytes(8, "big")]
    if span.trace_state:
        parts.append(wire.text(3, span.trace_state))
    if span.parent_id:
        parts += (b"\x22\x08", span.parent_id.to_bytes(8, "big"))
    parts.append(wire.text(5, span.name))
    parts.append(wire.number(6, span.kind))
    parts.append(_TIMES.pack(b"\x39", span.start_ns & _U64, b"\x41", span.end_ns & _U64))
    parts.append(wire.attributes(9, span.attributes))
    if span.events or span.links or span.status or span.status_message:
        parts += _rest(span.events, span.links, span.status, span.status_message)
    return b"".join(parts)


def _rest(events: Sequence[SpanEvent], links: Sequence[SpanLink], status: int, message: str) -> list[bytes]:
    parts = [
        wire.field(
            11, _TIME.pack(b"\x09", event.time_ns & _U64) + wire.text(2, event.name) + wire.attributes(3, event.attributes)
        )
        for event in events
    ]
    parts += [
        wire.field(
            13,
            wire.field(1, link.trace_id.to_bytes(16, "big"))
            + wire.field(2, link.span_id.to_bytes(8, "big"))
            + wire.attributes(4, link.attributes),
        )
        for link in links
    ]
    if status or message:
        parts.append(wire.field(15, wire.text(2, message) + wire.number(3, status)))
    return parts
