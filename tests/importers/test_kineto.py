"""Traces of the PyTorch profiler and Chrome's format: any style gives the rows of the plain reading, to the nanosecond."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from kineto_reference import Writer, reference
from kineto_traces import event, only, read_text, rows_of, trace
from reading import DATA, read

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read import kineto_events, kineto_window
from sofa_otel.exporters.read.importer import detect
from sofa_otel.exporters.read.kineto import KinetoImporter
from sofa_otel.exporters.read.source import ByteSource

SAMPLES = ("kineto_base_last", "kineto_microseconds", "kineto_memory", "kineto_gloo_rank1")
BASE = 1_790_857_026 * 10**9


@pytest.mark.parametrize("seed", range(140))
def test_reads_what_the_plain_reading_reads(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small chunks: hundreds of borders, most of them with something that only looks like one beside them.
    size = (1 << 19, 300, 2000, 20_000)[seed // 7 % 4]
    monkeypatch.setattr(kineto_window, "CHUNK", size)
    monkeypatch.setattr(kineto_events, "CHUNK", size)
    text = Writer(seed).text(250)
    found = read_text(tmp_path, text)
    expected = reference(text)
    assert len(expected) > 100
    assert rows_of(found) == expected
    assert not found.warnings


@pytest.mark.parametrize("sample", SAMPLES)
def test_reads_recordings(sample: str) -> None:
    path = DATA / f"{sample}.json.gz"
    found = read(KinetoImporter(), path)
    expected = [row for row in reference(_whole_ids(gzip.decompress(path.read_bytes()).decode())) if row.pid >= 0]
    got = [row for row in rows_of(found) if row.pid < 1 << 29]
    assert len(got) > 90
    assert got == expected
    assert not found.warnings
    info = json.loads(gzip.decompress(path.read_bytes()))["distributedInfo"]
    assert {batch.header.rank for batch in found.batches} == {info["rank"]}
    assert {batch.header.clock for batch in found.batches} == {"unix"}
    assert all(1.6e18 < start < 1.8e18 for batch in found.batches for start in batch.start_ns.tolist())


def _whole_ids(text: str) -> str:
    document = json.loads(text, parse_float=Decimal)
    for one in document["traceEvents"]:
        if isinstance(one["pid"], str):
            one["pid"] = one["tid"] = -1
    return json.dumps(document, default=str)


@pytest.mark.parametrize("end", ["", ",", ",\n", "\n]", "]", ",]", ", {}]", "] trailing words"])
def test_bare_arrays_need_no_end(end: str, tmp_path: Path) -> None:
    found = read_text(tmp_path, "[\n" + ",\n".join(json.dumps(event(f"f{i}", ts=i)) for i in range(5)) + end)
    assert [row.name for row in rows_of(found)] == ["f0", "f1", "f2", "f3", "f4"]
    assert not found.warnings


def test_byte_order_mark_and_large_metadata(tmp_path: Path) -> None:
    log = [f'line {number} "quoted" }} ] {{' for number in range(60_000)]
    found = read_text(
        tmp_path,
        b"\xef\xbb\xbf" + trace(event("f"), INFO=log, stackFrames={"1": {"name": "g"}}, baseTimeNanoseconds=BASE).encode(),
    )
    assert only(found)["start_ns"] == BASE + 5000
    assert not found.warnings


def test_long_events_are_whole(tmp_path: Path) -> None:
    long = [event(f"f{i}", ts=i, args={"Call stack": "frame;" * 200_000, "External id": i + 1}) for i in range(3)]
    assert [row.link for row in rows_of(read_text(tmp_path, trace(*long)))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("sample", "name"),
    [(f"{one}.json.gz", "kineto") for one in SAMPLES],
)
def test_is_recognised(sample: str, name: str) -> None:
    with ByteSource(DATA / sample) as source:
        assert detect(source).name == name


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        (b'{"traceEvents":[]}', 0.9, 1), (b'[{"name":"a","ph":"X","ts":1}', 0.8, 1), (b'  [\n{"ph" : "B", "ts":1}', 0.8, 1),
        (b'{"schemaVersion": 1, "deviceProperties": [', 0.8, 1),
        (b"[1, 2]", 0, 0), (b'{"a": 1}', 0, 0), (b"ph: X", 0, 0), (b"", 0, 0),
        (b'{"$schema":"https://www.speedscope.app/file-format-schema.json"', 0, 0), (b'{"resourceSpans":[', 0, 0),
        (b'[{"args":{"filename":"a.py"},"cat":"py-spy","name":"f","ph":"B"', 0.1, 0.5),
    ],
)  # fmt: skip
def test_is_sure_of_its_own(text: bytes, least: float, most: float) -> None:
    assert least <= KinetoImporter().recognise(text, "x.json") <= most


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"traceEvents": []}', '{"traceEvents": null}', "[1, 2]", "not json", "", '{"a": {"b": [']
)
def test_nothing_to_read_is_said(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trace\.json, byte \d+: "):
        read_text(tmp_path, text)


def test_memory_is_flat(tmp_path: Path) -> None:
    program = (
        "import re, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import reading as r;"
        "from sofa_otel.exporters.read.kineto import KinetoImporter;"
        "r.Gathered.events = lambda self, batch: None; r.read(KinetoImporter(), Path(sys.argv[2]));"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    one = gzip.decompress((DATA / "kineto_base_last.json.gz").read_bytes())
    begin = one.index(b"[", one.index(b'"traceEvents"')) + 1
    end = one.rindex(b"]", begin, one.index(b'"INFO"'))
    peaks = []
    for times in (40, 400):
        path = tmp_path / f"{times}.json"
        path.write_bytes(one[:begin] + b",".join([one[begin:end]] * times) + one[end:])
        command = [sys.executable, "-c", program, str(Path(__file__).parent), str(path)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(ran.stdout) / 1024)
        path.unlink()
    assert peaks[1] < peaks[0] + 15
    assert peaks[1] < 120
