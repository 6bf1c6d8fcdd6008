"""Files of OTLP as other programs write them: the SDK's spans in every form that a Collector or an SDK leaves on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import zstandard
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, set_span_in_context

START = 1_700_000_000_123_456_789


def sdk_spans(count: int) -> list[ReadableSpan]:
    """Spans of two services, nested, with events, links, every kind of attribute, and text that is hard to read."""
    spans: list[ReadableSpan] = []
    for service, about in (
        ("trainer", {"process.pid": 4711, "host.name": "node-1", "sofa.rank": 3, "odd": 'a "quoted" {brace}'}),
        ("web", {"process.pid": 42, "list": ["[", "]"]}),
    ):
        exporter = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource({"service.name": service, **about}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracers = [provider.get_tracer("loop", "1.2"), provider.get_tracer("opentelemetry.instrumentation.flask")]
        for i in range(count):
            at = START + i * 1_000_003
            attributes: dict[str, Any] = {
                "thread.id": 100 + i % 3, "step": i, "loss": 0.5, "last": i % 2 == 0, "path": f'C:\\x\\"{i}"\\', "odd": "}]{[",
                "many": [1, 2, 3], "code.line.number": 7,
            }  # fmt: skip
            outer = tracers[0].start_span("train_step", start_time=at, attributes=attributes, kind=SpanKind.INTERNAL)
            inner = tracers[1].start_span(
                f"GET /{i % 4}", context=set_span_in_context(outer), start_time=at + 10, kind=SpanKind.SERVER,
                links=[Link(outer.get_span_context(), {"why": "x"})],
            )  # fmt: skip
            inner.add_event("retry", {"name": "y"}, timestamp=at + 20)
            inner.set_status(Status(StatusCode.ERROR, "no"))
            inner.end(at + 500_000 + i)
            outer.end(at + 900_000)
        provider.shutdown()
        spans += exporter.get_finished_spans()
    return spans


def expected(spans: Sequence[ReadableSpan]) -> list[tuple[Any, ...]]:
    """Start, duration, name, scope, pid, tid, line, ids, rank and host of each, sorted."""
    out = []
    for span in spans:
        about, attributes = dict(span.resource.attributes), dict(span.attributes or {})
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.context is not None
        assert span.instrumentation_scope is not None
        out.append((
            span.start_time, span.end_time - span.start_time, span.name, span.instrumentation_scope.name, about["process.pid"],
            attributes.get("thread.id", 0), attributes.get("code.line.number", 0), span.context.span_id,
            span.parent.span_id if span.parent else 0, span.context.trace_id, about.get("sofa.rank", 0),
            about.get("host.name", "host"),
        ))  # fmt: skip
    return sorted(out)


def requests(spans: Sequence[ReadableSpan], size: int) -> list[ExportTraceServiceRequest]:
    return [encode_spans(spans[i : i + size]) for i in range(0, len(spans), size)]


def otlp_json(request: Any, **layout: Any) -> bytes:
    """OTLP's JSON: hexadecimal ids, enums as numbers (protobuf's own mapping differs in both)."""
    document = json_format.MessageToDict(request, use_integers_for_enums=True)
    _hexadecimal(document)
    return json.dumps(document, **layout).encode()


def _hexadecimal(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("traceId", "spanId", "parentSpanId") and isinstance(item, str):
                import base64

                value[key] = base64.b64decode(item).hex()
            else:
                _hexadecimal(item)
    elif isinstance(value, list):
        for item in value:
            _hexadecimal(item)


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def varint_frame(data: bytes) -> bytes:
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes((*out, size)) + data


def _single(parts: list[ExportTraceServiceRequest]) -> bytes:
    return b"".join(part.SerializeToString() for part in parts)  # protobuf messages concatenated are one message


def _one_document(parts: list[ExportTraceServiceRequest]) -> Any:
    whole = ExportTraceServiceRequest()
    for part in parts:
        whole.MergeFrom(part)
    return whole


FORMS: dict[str, Callable[[list[ExportTraceServiceRequest]], bytes]] = {
    "single.pb": _single,
    "collector.pb": lambda parts: b"".join(frame(part.SerializeToString()) for part in parts),
    "java.pb": lambda parts: b"".join(varint_frame(part.SerializeToString()) for part in parts),
    "collector-zstd.pb": lambda parts: b"".join(frame(zstandard.compress(part.SerializeToString())) for part in parts),
    "collector.jsonl": lambda parts: b"".join(otlp_json(part, separators=(",", ":")) + b"\n" for part in parts),
    "collector-zstd.json": lambda parts: b"".join(frame(zstandard.compress(otlp_json(part))) for part in parts),
    "pretty.json": lambda parts: otlp_json(_one_document(parts), indent=2),
    "compact.json": lambda parts: otlp_json(_one_document(parts), separators=(",", ":")),
    "pretty-many.json": lambda parts: b"\n".join(otlp_json(part, indent=1) for part in parts),
    "protobuf-mapping.json": lambda parts: json_format.MessageToJson(_one_document(parts)).encode(),
    "all.pb.zst": lambda parts: zstandard.compress(_single(parts)),
}
"""By name of the file: the same requests in each form."""
