"""OTLP's JSON form, both ways: hexadecimal ids, 64-bit integers as text or numbers, enums as numbers (OTLP specification, JSON
Protobuf Encoding). What protobuf's own JSON mapping writes (ids in base64, enums by name) is read as well.

Typed msgspec structs read it, so that a request is checked while it is parsed and unknown fields are ignored.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Final

import msgspec

from sofa_otel.core import names
from sofa_otel.core.errors import InputError
from sofa_otel.core.names import Instrument, Metric
from sofa_otel.core.otlp.decode import MetricGroup, SpanGroup, histogram
from sofa_otel.core.otlp.json_types import (
    Integer,
    JData,
    JEvent,
    JKeyValue,
    JLink,
    JMetric,
    JMetrics,
    JPoint,
    JResource,
    JResourceMetrics,
    JResourceSpans,
    JScope,
    JScopeMetrics,
    JScopeSpans,
    JSpan,
    JStatus,
    JTraces,
)
from sofa_otel.core.telemetry import Attributes, Histogram, MetricPoint, Resource, Scope, SpanEvent, SpanLink, SpanPoint, Value

_KINDS: Final = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
}
_CODES: Final = {f"STATUS_CODE_{name}": number for number, name in enumerate(("UNSET", "OK", "ERROR"))}


def decode_spans(body: bytes) -> list[SpanGroup]:
    """A JSON trace request.

    Raises:
        InputError: Not such a document.
    """
    try:
        request = msgspec.json.decode(body, type=JTraces)
        return [
            SpanGroup(_resource(rs.resource, rs.schema_url), _read_scope(ss.scope), [_read_span(span) for span in ss.spans or ()])
            for rs in request.resource_spans or ()
            for ss in rs.scope_spans or ()
        ]
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        raise _broken("trace", error) from error


def decode_metrics(body: bytes) -> list[MetricGroup]:
    """A JSON metrics request.

    Raises:
        InputError: Not such a document.
    """
    try:
        request = msgspec.json.decode(body, type=JMetrics)
        return [
            _read_metrics(_resource(rm.resource, rm.schema_url), sm)
            for rm in request.resource_metrics or ()
            for sm in rm.scope_metrics or ()
        ]
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError, TypeError, AttributeError) as error:
        raise _broken("metrics", error) from error


def encode_spans(spans: Iterable[SpanPoint], resource: Resource | None = None, scope: Scope | None = None) -> bytes:
    """A JSON trace request on one line."""
    resource, scope = resource or Resource(), scope or Scope()
    inner = JScopeSpans(_write_scope(scope), [_write_span(span) for span in spans])
    outer = JResourceSpans(JResource(_pairs(resource.attributes)), [inner], resource.schema_url or None)
    return msgspec.json.encode(JTraces([outer]))


def encode_metrics(points: Iterable[MetricPoint], resource: Resource | None = None, scope: Scope | None = None) -> bytes:
    """A JSON metrics request on one line; counters and histograms are cumulative."""
    resource, scope = resource or Resource(), scope or Scope()
    metrics: list[JMetric] = []
    for metric, group in groupby(points, key=lambda point: point.metric):
        data = JData([_write_point(point) for point in group])
        message = JMetric(metric.name, metric.description or None, metric.unit or None)
        if metric.instrument is Instrument.GAUGE:
            message.gauge = data
        elif metric.instrument is Instrument.COUNTER:
            data.aggregation_temporality, data.is_monotonic, message.sum = 2, True, data
        else:
            data.aggregation_temporality, message.histogram = 2, data
        metrics.append(message)
    inner = JScopeMetrics(_write_scope(scope), metrics)
    outer = JResourceMetrics(JResource(_pairs(resource.attributes)), [inner], resource.schema_url or None)
    return msgspec.json.encode(JMetrics([outer]))


def _broken(signal: str, error: Exception) -> InputError:
    return InputError(f"not an OTLP JSON {signal} request: {error}", "see the JSON Protobuf Encoding of the OTLP specification")


def id_of(text: str | None, size: int) -> int:
    """An id of ``size`` bytes; 0, which is the invalid id, where the length is wrong.

    Raises:
        ValueError: It has the length of an id and is none.
    """
    if not text:
        return 0
    if len(text) == 2 * size:
        return int.from_bytes(bytes.fromhex(text), "big")
    if len(text) == 4 * (-(-size // 3)):
        data = b64decode(text, validate=True)
        return int.from_bytes(data, "big") if len(data) == size else 0
    return 0


def _enum(value: Integer, names_of: Mapping[str, int]) -> int:
    """An enum by number or by name."""
    return names_of[value] if isinstance(value, str) and value in names_of else _integer(value)


def _integer(value: Integer) -> int:
    return int(value) if value is not None else 0


def _time(value: Integer) -> int:
    time_ns = _integer(value)
    if not 0 <= time_ns < 1 << 64:
        raise ValueError(f"time {time_ns} is not an unsigned 64-bit number of nanoseconds")
    return time_ns


def _resource(resource: JResource | None, schema_url: str | None) -> Resource:
    return Resource(read_pairs(resource.attributes) if resource else (), schema_url or "")


def _read_scope(scope: JScope | None) -> Scope:
    return Scope(scope.name or "", scope.version or "", read_pairs(scope.attributes)) if scope else Scope("")


def _write_scope(scope: Scope) -> JScope:
    return JScope(scope.name or None, scope.version or None, _pairs(scope.attributes) or None)


def _read_span(span: JSpan) -> SpanPoint:
    status = span.status or JStatus()
    return SpanPoint(
        span.name or "",
        id_of(span.trace_id, 16),
        id_of(span.span_id, 8),
        _time(span.start_time_unix_nano),
        _time(span.end_time_unix_nano),
        id_of(span.parent_span_id, 8),
        read_pairs(span.attributes),
        _enum(span.kind, _KINDS),
        tuple(SpanEvent(_time(e.time_unix_nano), e.name or "", read_pairs(e.attributes)) for e in span.events or ()),
        tuple(SpanLink(id_of(e.trace_id, 16), id_of(e.span_id, 8), read_pairs(e.attributes)) for e in span.links or ()),
        _enum(status.code, _CODES),
        status.message or "",
        span.trace_state or "",
    )


def _write_span(span: SpanPoint) -> JSpan:
    return JSpan(
        f"{span.trace_id:032x}",
        f"{span.span_id:016x}",
        span.trace_state or None,
        f"{span.parent_id:016x}" if span.parent_id else None,
        span.name,
        span.kind,
        str(span.start_ns),
        str(span.end_ns),
        _pairs(span.attributes),
        [JEvent(str(event.time_ns), event.name, _pairs(event.attributes)) for event in span.events] or None,
        [JLink(f"{link.trace_id:032x}", f"{link.span_id:016x}", _pairs(link.attributes)) for link in span.links] or None,
        JStatus(span.status_message or None, span.status) if span.status or span.status_message else None,
    )


def _write_point(point: MetricPoint) -> JPoint:
    out = JPoint(_pairs(point.attributes), str(point.start_ns), str(point.time_ns))
    if isinstance(point.value, Histogram):
        value = point.value
        out.count, out.sum = str(value.count), _write_float(value.sum)
        out.bucket_counts = [str(count) for count in value.counts]
        out.explicit_bounds = [_write_float(bound) for bound in value.bounds]
        out.min, out.max = (None if edge is None else _write_float(edge) for edge in (value.min, value.max))
    else:
        out.as_double = _write_float(point.value)
    return out


def _read_metrics(resource: Resource, sm: JScopeMetrics) -> MetricGroup:
    points: list[MetricPoint] = []
    skipped = 0
    for message in sm.metrics or ():
        for data, instrument in (
            (message.gauge, Instrument.GAUGE),
            (message.sum, Instrument.COUNTER if message.sum and message.sum.is_monotonic else Instrument.GAUGE),
            (message.histogram, Instrument.HISTOGRAM),
        ):
            if data is None:
                continue
            metric = Metric(message.name or "", message.unit or "", instrument, message.description or "")
            known = names.ALL.get(metric.name)
            points += [_read_point(known if known == metric else metric, point) for point in data.data_points or ()]
        skipped += sum(len(data.data_points or ()) for data in (message.exponential_histogram, message.summary) if data)
    return MetricGroup(resource, _read_scope(sm.scope), points, skipped)


def _read_point(metric: Metric, point: JPoint) -> MetricPoint:
    value: float | Histogram
    if metric.instrument is Instrument.HISTOGRAM:
        value = histogram(
            tuple(float(bound or 0) for bound in point.explicit_bounds or ()),
            tuple(_integer(count) for count in point.bucket_counts or ()),
            _integer(point.count),
            float(point.sum or 0),
            least=None if point.min is None else float(point.min),
            most=None if point.max is None else float(point.max),
        )
    else:
        value = float(point.as_double if point.as_double is not None else _integer(point.as_int))
    return MetricPoint(
        metric, read_pairs(point.attributes), value, _time(point.time_unix_nano), _time(point.start_time_unix_nano)
    )


def read_pairs(pairs: list[JKeyValue] | None) -> Attributes:
    """Attributes of a message.

    Raises:
        ValueError, TypeError, AttributeError, OverflowError: A value is not what its key says.
    """
    return tuple([(pair.key, _read_value(pair.value)) for pair in pairs or ()])


def _read_value(value: Any) -> Value:
    if not value:
        return None
    kind, inner = next(iter(value.items()))
    match kind:
        case "stringValue":
            return str(inner)
        case "boolValue":
            return bool(inner)
        case "intValue":
            return int(inner)
        case "doubleValue":
            return float(inner)
        case "bytesValue":
            return b64decode(inner)
        case "arrayValue":
            return tuple(_read_value(item) for item in inner.get("values") or ())
        case "kvlistValue":
            return {str(pair.get("key", "")): _read_value(pair.get("value")) for pair in inner.get("values") or ()}
    return None


def _pairs(attributes: Attributes) -> list[JKeyValue]:
    return [JKeyValue(key, _write_value(value)) for key, value in attributes]


def _write_value(value: Value) -> dict[str, Any]:
    match value:
        case str():
            return {"stringValue": value.encode("utf-8", "replace").decode()}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)} if -(1 << 63) <= value < 1 << 63 else {"stringValue": str(value)}
        case float():
            return {"doubleValue": _write_float(value)}
        case bytes():
            return {"bytesValue": b64encode(value).decode()}
        case None:
            return {}
        case dict():
            return {"kvlistValue": {"values": [{"key": key, "value": _write_value(item)} for key, item in value.items()]}}
        case _:
            return {"arrayValue": {"values": [_write_value(item) for item in value]}}


def _write_float(value: float) -> float | str:
    """JSON has no NaN and no infinity: protobuf's mapping spells them."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
