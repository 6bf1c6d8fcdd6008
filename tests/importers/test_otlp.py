"""OTLP files: the same spans in every form give the same rows, and damage costs only what it hits."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from otlp_files import FORMS, START, expected, frame, requests, sdk_spans
from otlp_files import otlp_json as otlp_json_of
from reading import Gathered, damage, read, survives

from sofa_otel.core import names
from sofa_otel.core.batch import COLUMNS, OPTIONAL_COLUMNS, BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp.events import encode_events
from sofa_otel.core.records import Iteration
from sofa_otel.core.symbols import Tables
from sofa_otel.core.telemetry import Resource, iteration_spans
from sofa_otel.exporters.emit.file import OtlpFile
from sofa_otel.exporters.read import otlp_json, otlp_json_cut, otlp_window, otlp_wire
from sofa_otel.exporters.read.importer import detect
from sofa_otel.exporters.read.otlp_file import OtlpImporter
from sofa_otel.exporters.read.otlp_json_cut import Cutter, structure
from sofa_otel.exporters.read.source import ByteSource

SPANS = sdk_spans(60)


def rows_of(found: Gathered) -> list[tuple[Any, ...]]:
    out = []
    for batch in found.batches:
        c = {key: column.tolist() for key, column in batch.columns.items()}
        symbols = [found.tables.symbols[i] for i in c["name"]]
        assert (batch.kind == Kind.SPAN).all()
        assert batch.header.job == "job"
        assert batch.header.clock == "unix"
        out += [
            (
                c["start_ns"][i], c["duration_ns"][i], symbols[i].function, symbols[i].module, c["pid"][i], c["tid"][i],
                symbols[i].line, c["span_id"][i], c["parent_id"][i], c["trace_hi"][i] << 64 | c["trace_lo"][i],
                batch.header.rank, batch.header.host,
            )
            for i in range(len(batch))
        ]  # fmt: skip
    return sorted(out)


def read_bytes(folder: Path, data: bytes, name: str = "file") -> Gathered:
    path = folder / name
    path.write_bytes(data)
    return read(OtlpImporter(), path)


@pytest.mark.parametrize("small", [False, True], ids=["whole", "pieces"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if small:  # what is split by windows, blocks and chunks is put together again
        monkeypatch.setattr(otlp_window, "WINDOW", 700)
        monkeypatch.setattr(otlp_wire, "_BLOCK", 7)
        monkeypatch.setattr(otlp_json, "_BLOCK", 7)
        monkeypatch.setattr(otlp_json, "LONGEST_LINE", 3000)
        monkeypatch.setattr(otlp_json_cut, "CHUNK", 900)
        monkeypatch.setattr(otlp_json_cut, "MOST_BYTES", 2000)
        monkeypatch.setattr(ByteSource.chunks, "__defaults__", (500,))
    path = tmp_path / form
    path.write_bytes(FORMS[form](requests(SPANS, 37)))
    with ByteSource(path) as source:
        assert detect(source).name == "otlp"
    found = read(OtlpImporter(), path)
    assert rows_of(found) == expected(SPANS)
    assert not found.warnings
    assert {batch.header.source for batch in found.batches} == {"otlp/trainer", "otlp/web"}
    assert len({(batch.header.source, batch.header.seq) for batch in found.batches}) == len(found.batches)


@pytest.mark.parametrize("form", [form for form in FORMS if "zst" not in form])
def test_cut_off_files_keep_their_whole_spans(form: str, tmp_path: Path) -> None:
    parts = requests(SPANS[:40], 8)
    data = FORMS[form](parts)
    # Where a file may end without anything missing.
    borders = {len(FORMS[form](parts[:i])) - step for i in range(len(parts) + 1) for step in (0, 1)}
    everything = set(expected(SPANS[:40]))
    last = -1
    for cut in range(len(data) // 5, len(data), len(data) // 17):
        found = read_bytes(tmp_path, data[:cut])
        rows = rows_of(found)
        assert set(rows) <= everything
        assert len(rows) >= last
        assert len(rows) >= 40 * cut // len(data) - 6, (cut, len(data))
        last = len(rows)
        assert found.warnings or cut in borders
        assert all("file" in warning for warning in found.warnings)


@pytest.mark.parametrize("form", [form for form in FORMS if "zst" not in form])
def test_damage_costs_only_what_it_hits(form: str, tmp_path: Path) -> None:
    data = FORMS[form](requests(SPANS, 30))
    everything, kept = set(expected(SPANS)), []
    for seed in range(40):
        rng = random.Random(seed)
        broken = bytearray(data)
        at = rng.randrange(len(data) // 10, len(data) - 10)
        match seed % 4:
            case 0:
                broken[at] ^= 0x80
            case 1:
                del broken[at : at + 5]
            case 2:
                broken[at:at] = b'\xff\x00"}'
            case _:
                broken[at] = 0xFF
        found = read_bytes(tmp_path, bytes(broken))
        kept.append(len(set(rows_of(found)) & everything))
    assert sorted(kept)[5] >= len(everything) - 66, kept  # at most two requests of 30 but for a few
    assert min(kept) >= len(everything) * 0.1


def test_own_events_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n, tables = 3000, Tables()
    symbols = [tables.symbols.intern(f"f{i}", "m", (1 << 63) + i, "a.py", i) for i in range(20)]
    paths = [tables.paths.intern_frames(rng.choice(symbols, 4).tolist()) for _ in range(9)]
    columns = {key: rng.integers(1, 100, n).astype(dtype) for key, dtype in (COLUMNS | OPTIONAL_COLUMNS).items()}
    columns |= {"name": rng.choice(symbols, n), "path": rng.choice(paths, n), "kind": rng.integers(0, 17, n)}
    columns["start_ns"] = START + np.arange(n) * 1001
    header = BatchHeader("j", 5, "h", "probe/7", "own", 9)
    batch = EventBatch.build(header, tables, **columns)
    for form in (
        encode_events(batch),
        frame(encode_events(batch.take(slice(0, 2000)))) + frame(encode_events(batch.take(slice(2000, n)))),
    ):
        found = read_bytes(tmp_path, form)
        assert {one.header for one in found.batches} == {header}
        got = found.rows
        for key in batch.columns:
            if key not in ("name", "path"):
                np.testing.assert_array_equal(
                    got.optional(key) if key in OPTIONAL_COLUMNS else got.columns[key], batch.columns[key]
                )
        for row in range(0, n, 97):
            assert found.tables.symbols[int(got.name[row])] == tables.symbols[int(batch.name[row])]
            assert [found.tables.symbols[s] for s in found.tables.paths.frames(int(got.path[row]))] == [
                tables.symbols[s] for s in tables.paths.frames(int(batch.path[row]))
            ]


def _iteration(index: int) -> Iteration:
    return Iteration(
        job="j", rank=0, level="step", index=index, job_index=index, start_ns=START + index * 1000,
        end_ns=START + index * 1000 + 900, confidence=0.9, kind=names.IterationKind.TRAIN, source="probe:hook", anomalous=False,
        score=0.0,
    )  # fmt: skip


def test_what_sofa_found_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with OtlpFile(path, Resource((("service.name", "j"),))) as out:
        out.spans([span for index in range(50) for span in iteration_spans(_iteration(index))])
    alone = read(OtlpImporter(), path)
    assert len(alone.rows) == 50, "there is nothing else in the file"
    assert not alone.warnings
    with path.open("ab") as file:
        file.write(otlp_json_line(SPANS[:4]))
    found = read(OtlpImporter(), path)
    assert rows_of(found) == expected(SPANS[:4])
    assert len(found.warnings) == 1
    assert "run.jsonl" in found.warnings[0]
    assert "50" in found.warnings[0]


def otlp_json_line(spans: list[Any]) -> bytes:
    return b"".join(otlp_json_of(part) + b"\n" for part in requests(spans, 1000))


def _metrics() -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    for key, value in (("service.name", "collector"), ("host.name", "n1")):
        of_resource.resource.attributes.add(key=key).value.string_value = value
    scope = of_resource.scope_metrics.add()
    cpu = scope.metrics.add(name="system.cpu.time", unit="s")
    cpu.sum.is_monotonic, cpu.sum.aggregation_temporality = True, 2
    net = scope.metrics.add(name="system.network.io", unit="By")
    net.sum.is_monotonic, net.sum.aggregation_temporality = True, 1
    gpu = scope.metrics.add(name="hw.gpu.utilization", unit="1")
    other = scope.metrics.add(name="http.server.request.duration", unit="s")
    ours = scope.metrics.add(name="sofa.iteration.count")
    ours.sum.is_monotonic = True
    for i in range(3):
        for metric, value in ((cpu.sum, 10 + i), (net.sum, 100), (gpu.gauge, 0.5), (ours.sum, i)):
            point = metric.data_points.add(time_unix_nano=START + i)
            if isinstance(value, int):
                point.as_int = value
            else:
                point.as_double = value
            point.attributes.add(key="cpu.mode").value.string_value = "user"
            point.attributes.add(key="flag").value.bool_value = True
        other.histogram.data_points.add(time_unix_nano=START + i, count=1)
    return request


@pytest.mark.parametrize("form", ["json", "pb", "frames"])
def test_metrics_of_hosts_and_devices_become_series(form: str, tmp_path: Path) -> None:
    request = _metrics()
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5).body.string_value = "x"
    traces = requests(SPANS[:4], 1000)
    if form == "json":
        data = b"".join(otlp_json_of(part) + b"\n" for part in (request, logs, *traces))
    elif form == "frames":
        data = b"".join(frame(part.SerializeToString()) for part in (*traces, request, logs))
    else:
        data = request.SerializeToString()
    found = read_bytes(tmp_path, data)
    points = [
        (found.series[int(s)], int(t), float(v))
        for b in found.points
        for s, t, v in zip(b.series, b.time_ns, b.value, strict=True)
    ]
    values = {
        key: [v for s, _, v in points if s.metric == key]
        for key in ("system.cpu.time", "system.network.io", "hw.gpu.utilization")
    }
    assert values == {
        "system.cpu.time": [10, 11, 12],
        "system.network.io": [100, 200, 300],  # differences are added up
        "hw.gpu.utilization": [0.5, 0.5, 0.5],
    }
    assert len(points) == 9
    assert [t for s, t, _ in points if s.metric == "system.cpu.time"] == [START, START + 1, START + 2]
    series = points[0][0]
    assert (series.kind, series.unit, series.attribute("cpu.mode"), series.attribute("flag")) == ("counter", "s", "user", "true")
    assert {(b.header.host, b.header.job, b.header.source) for b in found.points} == {("n1", "job", "otlp/collector")}
    assert any("2 metrics" in warning for warning in found.warnings)
    if form != "pb":
        assert len(found.rows) == 4
        assert any("log" in warning for warning in found.warnings)


def test_json_of_any_version_and_layout(tmp_path: Path) -> None:
    document = {
        "unknown": {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "no", "startTimeUnixNano": 1}]}]}]},
        "resourceSpans": [
            {"resource": None, "scopeSpans": None},
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}, {"key": "x"}]},
                "instrumentationLibrarySpans": [
                    {
                        "instrumentationLibrary": {"name": "old"},
                        "spans": [
                            {
                                "traceId": "0" * 31 + "7", "spanId": "ABCDEF0123456789", "name": "a", "kind": "SPAN_KIND_SERVER",
                                "startTimeUnixNano": START, "endTimeUnixNano": str(START + 5), "flags": 1, "new": [{"deep": {}}],
                                "attributes": [
                                    {"key": "thread.id", "value": {"intValue": 9}},
                                    {"key": "thread.id2", "value": {"intValue": "x"}},
                                    {"key": "process.pid", "value": {"intValue": "77"}},
                                    {"value": {"newValue": 1}}, {"key": None},
                                ],
                            },
                            {"name": "b", "startTimeUnixNano": str(START), "endTimeUnixNano": str(START - 5)},
                        ],
                    }
                ],
            },
        ],
    }  # fmt: skip
    for layout in ({}, {"indent": 3}):
        found = read_bytes(tmp_path, json.dumps(document, **layout).encode())
        assert [row[:10] for row in rows_of(found)] == [
            (START, 0, "b", "old", 0, 0, 0, 0, 0, 0),
            (START, 5, "a", "old", 77, 9, 0, 0xABCDEF0123456789, 0, 7),
        ]
        assert not found.warnings


@pytest.mark.parametrize("form", ["single.pb", "compact.json"])
def test_memory_does_not_grow_with_the_file(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_json, "LONGEST_LINE", 1 << 20)
    request = requests(SPANS, 1000)[0]
    spans = request.resource_spans[0].scope_spans[0].spans
    peaks = []
    for count in (60, 400):
        whole = type(request)()
        whole.CopyFrom(request)
        del whole.resource_spans[1:]
        scope = whole.resource_spans[0].scope_spans[0]
        for _ in range(count):
            scope.spans.extend(spans)
        path = tmp_path / form
        path.write_bytes(FORMS[form]([whole]))
        sink = _Counting()
        tracemalloc.start()
        with ByteSource(path) as source:
            OtlpImporter().read(source, sink)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sink.rows > count * len(spans)
    assert peaks[1] < 1.4 * peaks[0] + (2 << 20), peaks


class _Counting(Gathered):
    rows = 0  # type: ignore[assignment]

    def events(self, batch: EventBatch) -> None:
        self.rows += len(batch)


@pytest.mark.parametrize("seed", range(60))
def test_documents_are_cut_between_items(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(otlp_json_cut, "CHUNK", rng.choice([1, 60, 5000]))
    monkeypatch.setattr(otlp_json_cut, "MOST_BYTES", rng.choice([1, 300, 9000]))

    def value(depth: int) -> Any:
        kinds = [lambda: rng.choice(['"', "\\", '\\"', "{", "]}", "é\n", ""]), rng.random, lambda: None]
        if depth:
            kinds += [
                lambda: {rng.choice(["a", '"', "spans"]): value(depth - 1) for _ in range(rng.randrange(3))},
                lambda: [value(depth - 1) for _ in range(rng.randrange(3))],
            ]
        return rng.choice(kinds)()

    documents, wanted = [], []
    for _ in range(rng.randrange(1, 4)):
        outer: list[Any] = []
        for r in range(rng.randrange(4)):
            scopes = []
            for s in range(rng.randrange(3)):
                items = [{"name": f"{r}.{s}.{i}", "v": value(4)} for i in range(rng.randrange(5))]
                scopes.append({"scope": {"name": f"{r}.{s}", "v": value(3)}, "spans": items, "after": value(2)})
                wanted += [(f"{r}.{s}", item) for item in items]
            outer.append({"resource": {"v": value(6)}, "scopeSpans": scopes, "schemaUrl": value(2)})
        documents.append({"before": value(3), "resourceSpans": outer, "after": value(3)})
    indent = rng.choice([None, 2])
    text = b"\n".join(json.dumps(one, indent=indent).encode() for one in documents)
    size = rng.choice([1, 7, 100, 10_000])
    cutter = Cutter(lambda at: pytest.fail(f"damage at {at}"))
    got = []
    for items in cutter.documents(text[i : i + size] for i in range(0, len(text), size)):
        for of_resource in json.loads(cutter.around(items))["resourceSpans"]:
            got += [(scope["scope"]["name"], item) for scope in of_resource["scopeSpans"] for item in scope["spans"]]
    assert got == wanted
    assert not cutter.cut_off


@pytest.mark.parametrize("seed", range(30))
def test_braces_in_strings_are_no_structure(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choice(['"', "\\\\", '\\"', "{", "}", "[", "]", "a"]) for _ in range(200)).encode()
    inside = escaped = False
    wanted = []
    for at, byte in enumerate(text):
        if escaped:
            escaped = False
        elif byte == ord("\\"):
            escaped = True
        elif byte == ord('"'):
            inside = not inside
        elif byte in b"{}[]" and not inside:
            wanted.append(at)
    assert structure(text)[0].tolist() == wanted


def _several() -> Iterator[tuple[str, bytes]]:
    for form, write in FORMS.items():
        yield form, write(requests(SPANS[:24], 5))
    yield "metrics.jsonl", otlp_json_of(_metrics()) + b"\n"
    yield "metrics.pb", _metrics().SerializeToString()


def test_hostile_bytes_cost_no_more_than_a_message(tmp_path: Path) -> None:
    importer = OtlpImporter()
    for name, data in _several():
        for seed in range(30):
            survives(importer, damage(data, seed), tmp_path, name)
    for name, data in (
        ("fields.pb", b"\x0a\xff\xff\x7f" + b"\x12\xfe\xff\x7f" + (b"\x12\xa0\x1f" + b"\x30\x01" * 2000) * 100),
        ("deep.json", b'{"resourceSpans":' + b"[{" * 50_000),
        ("brackets.json", b'{"resourceSpans":[' + b"}]" * 50_000),
        ("items.json", b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b'{"name":1]},{"name":' * 5_000),
        ("frames.pb", b"\x00\x00\x10\x00\x0a" * 20_000),
        ("long.pb", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x01" * 2_000),
    ):
        survives(importer, data, tmp_path, name)


def test_nothing_readable_is_an_input_error(tmp_path: Path) -> None:
    for name, data in (("noise.pb", b"\x0a\x05\xff\xff\xff\xff\xff" * 9), ("empty.pb", b""), ("a.json", b'{"resourceSpans":[{]')):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=name):
            read(OtlpImporter(), tmp_path / name)
