"""The OTLP messages that we read as JSON, as typed structs. Names and nesting are those of opentelemetry-proto."""

from __future__ import annotations

from typing import Any

import msgspec

Integer = int | str | None
Number = float | str | None


class JsonMessage(msgspec.Struct, rename="camel", omit_defaults=True):
    """Base: lowerCamelCase names; null and absent are the default, as protobuf's JSON mapping has it."""


class JKeyValue(JsonMessage):
    key: str = ""
    value: dict[str, Any] | None = None


class JResource(JsonMessage):
    attributes: list[JKeyValue] | None = None


class JScope(JsonMessage):
    name: str | None = None
    version: str | None = None
    attributes: list[JKeyValue] | None = None


class JEvent(JsonMessage):
    time_unix_nano: Integer = 0
    name: str | None = None
    attributes: list[JKeyValue] | None = None


class JLink(JsonMessage):
    trace_id: str | None = None
    span_id: str | None = None
    attributes: list[JKeyValue] | None = None


class JStatus(JsonMessage):
    message: str | None = None
    code: Integer = 0


class JSpan(JsonMessage):
    trace_id: str | None = None
    span_id: str | None = None
    trace_state: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    kind: Integer = 0
    start_time_unix_nano: Integer = 0
    end_time_unix_nano: Integer = 0
    attributes: list[JKeyValue] | None = None
    events: list[JEvent] | None = None
    links: list[JLink] | None = None
    status: JStatus | None = None


class JScopeSpans(JsonMessage):
    scope: JScope | None = None
    spans: list[JSpan] | None = None


class JResourceSpans(JsonMessage):
    resource: JResource | None = None
    scope_spans: list[JScopeSpans] | None = None
    schema_url: str | None = None


class JTraces(JsonMessage):
    resource_spans: list[JResourceSpans] | None = None


class JPoint(JsonMessage):
    attributes: list[JKeyValue] | None = None
    start_time_unix_nano: Integer = 0
    time_unix_nano: Integer = 0
    as_double: Number = None
    as_int: Integer = None
    count: Integer = 0
    sum: Number = 0.0
    bucket_counts: list[Integer] | None = None
    explicit_bounds: list[Number] | None = None
    min: Number = None
    max: Number = None


class JData(JsonMessage):
    data_points: list[JPoint] | None = None
    aggregation_temporality: Integer = 0
    is_monotonic: bool | None = False


class JMetric(JsonMessage):
    name: str | None = None
    description: str | None = None
    unit: str | None = None
    gauge: JData | None = None
    sum: JData | None = None
    histogram: JData | None = None
    exponential_histogram: JData | None = None
    summary: JData | None = None


class JScopeMetrics(JsonMessage):
    scope: JScope | None = None
    metrics: list[JMetric] | None = None


class JResourceMetrics(JsonMessage):
    resource: JResource | None = None
    scope_metrics: list[JScopeMetrics] | None = None
    schema_url: str | None = None


class JMetrics(JsonMessage):
    resource_metrics: list[JResourceMetrics] | None = None
