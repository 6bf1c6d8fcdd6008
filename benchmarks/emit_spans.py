"""Spans a second on one core: ours against the SDK's own span creation and batch processor, in the same run.

    python benchmarks/emit_spans.py [--spans 20000] [--repeat 3]

Every row ends in the bytes of the same kind of OTLP request; nothing is sent. Ratios are against the first row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as sdk_encode
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp.decode import decode_spans
from sofa_otel.core.otlp.encode import encode_spans
from sofa_otel.core.otlp.event_rows import decode_events
from sofa_otel.core.otlp.events import EventEncoder, encode_events
from sofa_otel.core.records import Iteration, SwarmWindow
from sofa_otel.core.symbols import Tables
from sofa_otel.core.telemetry import Resource, SpanPoint, iteration_spans

REQUEST = 512
START = 1_700_000_000_000_000_000


class _Encoder(SpanExporter):
    """Encodes as the OTLP exporter does, and throws the bytes away."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: object) -> SpanExportResult:
        batch: list[ReadableSpan] = list(spans)  # type: ignore[call-overload]
        sdk_encode(batch).SerializePartialToString()
        self.spans += len(batch)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def points(count: int) -> list[SpanPoint]:
    """Iterations with 31 swarms each: spans of eight attributes and more."""
    spans: list[SpanPoint] = []
    for index in range(count // 32):
        start = START + index * 100_000_000
        iteration = Iteration(
            job="job", rank=0, level="step", index=index, start_ns=start, end_ns=start + 100_000_000, confidence=0.9, source="s"
        )
        windows = [
            SwarmWindow(job="job", rank=0, iteration=index, swarm=f"{i:016x}", time_ns=i * 1000, calls=index) for i in range(31)
        ]
        spans += iteration_spans(iteration, windows)
    return spans


def rows(count: int) -> EventBatch:
    """Events as a busy rank makes them: 150 names, 400 stacks, 8 threads."""
    random = np.random.default_rng(1)
    tables = Tables()
    symbols = [tables.symbols.intern(f"function_{i}", "module", i, "file.py", i) for i in range(150)]
    paths = np.array([tables.paths.intern_frames(random.choice(symbols, 12).tolist()) for _ in range(400)])
    return EventBatch.build(
        BatchHeader("job", 0, "host", "probe/1"), tables, start_ns=START + np.arange(count) * 10_000, duration_ns=5_000,
        kind=Kind.PYTHON_SAMPLE, subkind=1, name=random.choice(symbols, count), path=random.choice(paths, count), pid=7,
        tid=random.integers(7, 15, count),
    )  # fmt: skip


def sdk(spans: list[SpanPoint]) -> None:
    """The SDK's way: a span object each, the batch processor, its encoder."""
    exporter = _Encoder()
    provider = TracerProvider(resource=SdkResource({"service.name": "job"}))
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=len(spans) + 1))
    tracer = provider.get_tracer("sofa_otel")
    for span in spans:
        tracer.start_span(span.name, attributes=dict(span.attributes), start_time=span.start_ns).end(span.end_ns)
    provider.shutdown()
    if exporter.spans != len(spans):
        raise SystemExit(f"the SDK exported {exporter.spans} of {len(spans)} spans")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    spans, events = points(options.spans), rows(options.spans)
    resource, shared = Resource((("service.name", "job"),)), Tables()
    requests = [encode_spans(spans[i : i + REQUEST], resource) for i in range(0, len(spans), REQUEST)]
    event_requests = [encode_events(events.take(slice(i, i + REQUEST))) for i in range(0, len(events), REQUEST)]

    def ours() -> None:
        for i in range(0, len(spans), REQUEST):
            encode_spans(spans[i : i + REQUEST], resource)

    def batches() -> None:
        encoder = EventEncoder()
        for i in range(0, len(events), REQUEST):
            encoder.encode(events.take(slice(i, i + REQUEST)))

    table: list[tuple[str, Callable[[], object], int]] = [
        ("SDK: span objects, batch processor, encoder (baseline)", lambda: sdk(spans), len(spans)),
        ("records to span points", lambda: points(options.spans), len(spans)),
        ("span points to OTLP bytes", ours, len(spans)),
        ("event columns to OTLP bytes, 512 a request", batches, len(events)),
        ("event columns to OTLP bytes, one request", lambda: encode_events(events), len(events)),
        ("OTLP bytes to span points", lambda: [decode_spans(body) for body in requests], len(spans)),
        ("OTLP bytes to event columns", lambda: [decode_events(body, shared) for body in event_requests], len(events)),
    ]
    base = 0.0
    print(f"{'CPU seconds, best of ' + str(options.repeat):58}{'spans/s':>12}{'µs/span':>10}{'ratio':>8}")
    for name, run, count in table:
        best = min(_cpu(run) for _ in range(options.repeat))
        rate = count / best
        base = base or rate
        print(f"{name:58}{rate:12,.0f}{1e6 * best / count:10.2f}{rate / base:8.1f}")


def _cpu(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    main()
