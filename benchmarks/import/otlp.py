"""Speed and memory of the OTLP importer, beside the plain ways: the generated protobuf classes, and ``json.loads`` a line.

    python benchmarks/import/otlp.py [FILE …] [--spans N]

Without FILE it writes spans of eight attributes in five forms. Each reading runs in a process of its own; spans a CPU second, CPU
seconds a GB, and peak RSS over that of a process that only imports the code.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.readers import measure, rows_of

REQUEST = 4000


def ours(path: Path) -> int:
    from sofa_otel.exporters.read.otlp_file import OtlpImporter

    return rows_of(OtlpImporter(), path)


def plain(path: Path) -> int:
    """A tuple a span: name, times, ids, thread; everything of a file of one request in memory."""
    rows: list[tuple[object, ...]] = []
    count = 0
    for request in _protobuf(path) if path.suffix == ".pb" else _json(path):
        rows += request
        if len(rows) > 65_536:
            count += len(rows)
            rows.clear()
    return count + len(rows)


def _protobuf(path: Path) -> Iterator[list[tuple[object, ...]]]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with path.open("rb") as file:
        while head := file.read(4):
            size = int.from_bytes(head, "big") if head[0] == 0 else -1
            data = file.read(size) if size >= 0 else head + file.read()
            yield [
                (
                    span.name, span.start_time_unix_nano, span.end_time_unix_nano, span.trace_id, span.span_id,
                    {pair.key: pair.value for pair in span.attributes}.get("thread.id"),
                )
                for resource_spans in ExportTraceServiceRequest.FromString(data).resource_spans
                for scope in resource_spans.scope_spans
                for span in scope.spans
            ]  # fmt: skip


def _json(path: Path) -> Iterator[list[tuple[object, ...]]]:
    with path.open("rb") as file:
        for text in file if path.suffix == ".jsonl" else (file.read(),):
            yield [
                (
                    span["name"], int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]), span["traceId"], span["spanId"],
                    {pair["key"]: pair["value"] for pair in span["attributes"]}.get("thread.id"),
                )
                for resource_spans in json.loads(text)["resourceSpans"]
                for scope in resource_spans["scopeSpans"]
                for span in scope["spans"]
            ]  # fmt: skip


def nothing(path: Path) -> int:
    import sofa_otel.exporters.read.otlp_file  # noqa: F401

    return 0


def write(folder: Path, spans: int) -> list[Path]:
    """The same spans framed, as one message, a request a line, as one document, and as one indented document."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    for key, value in (("service.name", "train"), ("host.name", "node-1")):
        of_resource.resource.attributes.add(key=key).value.string_value = value
    of_resource.resource.attributes.add(key="process.pid").value.int_value = 4711
    scope = of_resource.scope_spans.add()
    scope.scope.name = "loop"
    rng, now = random.Random(1), 1_700_000_000_000_000_000
    texts = []
    for i in range(REQUEST):
        now += rng.randrange(10**6)
        span = scope.spans.add(
            trace_id=rng.randbytes(16), span_id=rng.randbytes(8), parent_span_id=rng.randbytes(8), kind=2,
            name=rng.choice(["train_step", "GET /", "fetch", "forward"]), start_time_unix_nano=now,
            end_time_unix_nano=now + rng.randrange(10**7),
        )  # fmt: skip
        for key, number in (
            ("thread.id", 100 + i % 8), ("step", i), ("http.response.status_code", 200), ("server.port", rng.randrange(60_000)),
        ):  # fmt: skip
            span.attributes.add(key=key).value.int_value = number
        for name, word in (("http.request.method", "GET"), ("url.full", f"http://host/{i}"), ("code.function.name", "main")):
            span.attributes.add(key=name).value.string_value = word
        span.attributes.add(key="loss").value.double_value = rng.random()
        texts.append(_document(span))
    data, count = request.SerializeToString(), max(spans // REQUEST, 1)
    about = [{"key": "service.name", "value": {"stringValue": "train"}}]
    document = {
        "resourceSpans": [{"resource": {"attributes": about}, "scopeSpans": [{"scope": {"name": "loop"}, "spans": texts}]}]
    }
    line = json.dumps(document, separators=(",", ":")).encode()
    border = line.index(b'"spans":[') + len(b'"spans":[')
    inside = line[border:-6]
    files: dict[str, Iterator[bytes]] = {
        "frames.pb": (len(data).to_bytes(4, "big") + data for _ in range(count)),
        "single.pb": (data for _ in range(count)),
        "lines.jsonl": (line + b"\n" for _ in range(count)),
        "one.json": chain((line[:border], inside), repeating((b",", inside), count - 1), (line[-6:],)),
        "indented.json": (json.dumps(document, indent=2).encode() for _ in range(count)),
    }  # fmt: skip
    for name, parts in files.items():
        with (folder / name).open("wb") as file:
            file.writelines(parts)
    return [folder / name for name in files]


def repeating(parts: tuple[bytes, ...], count: int) -> Iterator[bytes]:
    return chain.from_iterable(repeat(parts, count))


def _document(span: Any) -> dict[str, Any]:
    attributes = []
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        name = {"int_value": "intValue", "string_value": "stringValue"}.get(kind, "doubleValue")
        attributes.append({"key": pair.key, "value": {name: str(value) if name == "intValue" else value}})
    return {
        "traceId": span.trace_id.hex(), "spanId": span.span_id.hex(), "parentSpanId": span.parent_span_id.hex(),
        "name": span.name, "kind": 2, "startTimeUnixNano": str(span.start_time_unix_nano),
        "endTimeUnixNano": str(span.end_time_unix_nano), "attributes": attributes, "status": {},
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--spans", type=int, default=400_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or write(Path(folder), options.spans)
        least = measure(nothing, files[0])["rss_mb"]
        print(
            f"{'':14}{'MB':>6}{'spans':>10}{'spans/CPU s':>13}{'CPU s/GB':>10}{'RSS MB':>8}   plain: spans/CPU s, RSS MB, ratio"
        )
        for path in files:
            size, mine = path.stat().st_size / 1e6, measure(ours, path, nothing)
            speed, per_gb = mine["rows"] / mine["cpu_s"], mine["cpu_s"] / size * 1e3
            line = f"{path.name:14}{size:6.0f}{mine['rows']:10,.0f}{speed:13,.0f}{per_gb:10.1f}{mine['rss_mb'] - least:8.0f}"
            if path.name != "indented.json" and size < 300:
                other = measure(plain, path, nothing)
                slow = other["rows"] / other["cpu_s"]
                line += f"   {slow:,.0f}, {other['rss_mb'] - least:.0f}, {speed / slow:.1f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
