"""Damaged and cut off traces: what stands around the damage is read, what was lost is said once, and nothing hangs."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from kineto_reference import Writer
from kineto_traces import event, read_text, rows_of, trace
from reading import DATA, damage, read, survives

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read import kineto_events, kineto_window
from sofa_otel.exporters.read.kineto import KinetoImporter

COUNT = 60
MIDDLE = 30


def written(style: str) -> list[str]:
    """Events ``f0``, ``f1`` … as text."""
    events = [event(f"f{i}", ts=i, args={"External id": i + 1, "Input Dims": [[3, 4], [{"a": "b"}]]}) for i in range(COUNT)]
    if style == "compact":
        return [json.dumps(one, separators=(",", ":")) for one in events]
    lines = [[f'"{key}": {json.dumps(value)}' for key, value in one.items()] for one in events]
    return ["  {\n    " + ", ".join(one[:5]) + ",\n    " + ",\n    ".join(one[5:]) + "\n  }" for one in lines]


def document(events: list[str], style: str, bare: bool) -> str:
    body = (",\n" if style == "torch" else ",").join(events)
    return f"[{body}]" if bare else f'{{"schemaVersion": 1, "traceEvents": [\n{body}\n], "traceName": "x"}}'


BREAKS = {
    "lost quote": lambda text: text.replace('"ph"', '"ph', 1),
    "lost closing quote of the name": lambda text: text.replace(f'f{MIDDLE}"', f"f{MIDDLE}", 1),
    "lost last brace": lambda text: text[:-1],
    "lost first brace": lambda text: text.replace("{", "", 1),
    "lost bracket": lambda text: text.replace("[", "", 1),
    "one more bracket": lambda text: text.replace("[", "[[", 1),
    "one more brace": lambda text: text + "}",
    "lost colon": lambda text: text.replace(":", "", 1),
    "letters for a number": lambda text: text.replace("10", "1x0", 1),
    "zeros": lambda text: text[:20] + "\0" * 300 + text[60:],
    "a tail without a head": lambda text: text[30:],
    "a head without a tail": lambda text: text[: len(text) // 2],
    "a line of something else": lambda text: "Segmentation fault (core dumped)",
}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("style", ["torch", "compact"])
@pytest.mark.parametrize("way", BREAKS)
def test_damage_costs_only_the_damaged(way: str, style: str, bare: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = written(style)
    events[MIDDLE] = BREAKS[way](events[MIDDLE])
    for size in (1 << 19, 700):
        monkeypatch.setattr(kineto_window, "CHUNK", size)
        monkeypatch.setattr(kineto_events, "CHUNK", size)
        found = read_text(tmp_path, document(events, style, bare))
        names = {row.name for row in rows_of(found)}
        # Where two events have grown together the second may be lost with the first.
        lost = {f"f{i}" for i in range(COUNT)} - names
        assert lost <= {f"f{MIDDLE}", f"f{MIDDLE + 1}"}
        assert len(lost) <= (2 if way in {"lost last brace", "a head without a tail"} else 1)
        assert len(found.warnings) <= 1
        if lost:
            assert found.warnings
            assert found.warnings[0].startswith(f"trace.json, event {MIDDLE + 1} (byte ")
            assert "damaged" in found.warnings[0]


def test_many_damaged_events_are_one_warning(tmp_path: Path) -> None:
    events = written("torch")
    for i in range(5, COUNT, 3):
        events[i] = events[i].replace('"ts": ', '"ts" ')
    found = read_text(tmp_path, document(events, "torch", False))
    assert len(rows_of(found)) == COUNT - 19
    text = document(events, "torch", False)
    at = text.rindex("{", 0, text.index('"f5"'))
    assert found.warnings == [f"trace.json, event 6 (byte {at}): 19 damaged events left out"]


@pytest.mark.parametrize("style", ["torch", "compact"])
def test_a_lost_comma_or_a_stray_bracket_loses_no_event(style: str, tmp_path: Path) -> None:
    for between in ("\n", ",,\n", "]\n", "\n]\n,\n", ",\n}\n,"):
        events = written(style)
        events[MIDDLE : MIDDLE + 2] = [events[MIDDLE] + between + events[MIDDLE + 1]]
        assert len(rows_of(read_text(tmp_path, document(events, style, False)))) == COUNT


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('"memory bandwidth (GB/s)": inf', "f"), ('"x": -inf', "f"), ('"x": nan', "f"), ('"x": [1, -nan, Infinity, NaN]', "f"),
        ('"x": -nan(ind)', "f"), ('"path": "C:\\Users\\x"', "f"), ('"x": "\\q", "y": inf', ": inf, nan"), ('"x": "a\tb\nc"', "f"),
        ('"x": "\\ud800"', "f"),
    ],
)  # fmt: skip
def test_what_writers_do_wrong_is_understood(value: str, name: str, tmp_path: Path) -> None:
    events = [
        f'{{\n "ph": "X", "cat": "gpu_memcpy", "name": "{name}", "pid": 0, "tid": 7, "ts": {i}, "dur": 0,\n "args": {{\n'
        f' {value if i % 3 == 0 else 0 or chr(34) + "y" + chr(34) + ": 1"}, "device": 2, "stream": 9, "bytes": 77 }} }}'
        for i in range(20)
    ]
    found = read_text(tmp_path, '{"traceEvents": [' + ",\n".join(events) + "\n]}")
    rows = rows_of(found)
    assert [(row.name, row.start_ns, row.device, row.tid, row.bytes) for row in rows] == [
        (name, i * 1000, 2, 9, 77) for i in range(20)
    ]
    assert not found.warnings


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    text = trace(*(event(f"f{i}", ts=i) for i in range(9))).encode().replace(b'"f4"', b'"f\xff4"')
    found = read_text(tmp_path, text)
    assert [row.name for row in rows_of(found)] == ["f0", "f1", "f2", "f3", "f5", "f6", "f7", "f8", "f\N{REPLACEMENT CHARACTER}4"]


def test_fields_of_a_strange_type_are_left_out(tmp_path: Path) -> None:
    strange = [
        event("a", pid={"x": 1}), event("b", args=[1, 2]), event("c", args={"device": [1], "External id": 4}),
        event("d", cat=["x"]),
        {**event("e"), "ph": None}, event("f", args={"correlation": 1e300}),
    ]  # fmt: skip
    found = read_text(tmp_path, trace(*(one for i in range(30) for one in (event(f"ok{i}"), *strange))))
    rows = rows_of(found)
    assert len(rows) == 30 * 6
    assert {row.name: row.link for row in rows if len(row.name) == 1} == {"a": 0, "b": 0, "c": 4, "d": 0, "f": 0}


@pytest.mark.parametrize("bare", [False, True])
def test_cut_off_anywhere(bare: bool, tmp_path: Path) -> None:
    events = written("torch")[:4]
    text = document(events, "torch", bare)
    ends = [text.index(one) + len(one) for one in events]
    for cut in range(ends[0], len(text)):
        found = read_text(tmp_path, text[:cut])
        whole = sum(end <= cut for end in ends)
        assert [row.name for row in rows_of(found)] == [f"f{i}" for i in range(whole)]
        inside = whole < 4 and "{" in text[ends[whole - 1] : cut]
        if inside:
            (warning,) = found.warnings
            byte = text.index("{", ends[whole - 1])
            assert warning == f"trace.json, byte {byte}: the file ends inside event {whole + 1}; the events before it were read"
        else:
            assert len(found.warnings) == (not bare)
    with pytest.raises(InputError, match=r"trace\.json"):
        read_text(tmp_path, text[: ends[0] - 1])


def test_damaged_metadata_costs_no_event(tmp_path: Path) -> None:
    text = trace(*(event(f"f{i}", ts=i) for i in range(9)), deviceProperties=[{"id": 0}], distributedInfo={"rank": 2})
    for broken in (
        text.replace('"deviceProperties"', '"deviceProperties', 1),
        text.replace('"traceEvents": [', "", 1),
        text[25:],
    ):
        found = read_text(tmp_path, broken)
        assert len(rows_of(found)) == 9
        assert len(found.warnings) == 1


def test_any_damage_to_the_head_leaves_the_events(tmp_path: Path) -> None:
    head = '{"a": {"b": [1, "c"]}, "deviceProperties": [{"id": 0, "name": "A"}],\n"x": "y", "traceEvents": ['
    text = head + ",".join(written("compact")) + '], "distributedInfo": {"rank": 2}}'
    for at in range(len(head)):
        for instead in ("", '"', "}", "[", "\0", "{"):
            found = read_text(tmp_path, text[:at] + instead + text[at + 1 :])
            assert len(rows_of(found)) == COUNT, (at, instead)


def test_cut_off_while_compressed(tmp_path: Path) -> None:
    whole = gzip.compress(Writer(1).text(8000).encode())
    path = tmp_path / "trace.json.gz"
    path.write_bytes(whole[:-1000])
    found = read(KinetoImporter(), path)
    assert len(rows_of(found)) > 500
    (warning,) = found.warnings
    assert "EOFError" in warning


FUZZED = [Writer(seed).text(40).encode() for seed in range(14)]
FUZZED += [document(written(style), style, False).encode() for style in ("torch", "compact")]


@pytest.mark.parametrize("part", range(4))
def test_damaged_input(part: int, tmp_path: Path) -> None:
    sample = gzip.decompress((DATA / "kineto_gloo_rank1.json.gz").read_bytes())
    for seed in range(part * 500, part * 500 + 500):
        whole = sample if seed % 20 == 0 else FUZZED[seed % len(FUZZED)]
        survives(KinetoImporter(), damage(whole, seed), tmp_path, "trace.json")


def test_small_damage_costs_little(tmp_path: Path) -> None:
    rng = random.Random(5)
    whole = document(written("torch"), "torch", False)
    for _ in range(300):
        data = bytearray(whole.encode())
        data[rng.randrange(60, len(data) - 30)] = rng.randrange(256)
        found = survives(KinetoImporter(), bytes(data), tmp_path, "trace.json")
        assert found is not None
        assert len(rows_of(found)) >= COUNT - 2


HOSTILE = [
    b"[" * 300_000,
    b'{"traceEvents":[' + b"[" * 300_000,
    b'{"traceEvents":[{"ph":' * 20_000,
    b'[{"ph":"X","args":' + b'{"a":' * 100_000,
    b'[{"ph":"' + b"x" * 3_000_000,
    b'{"a":"' + b"x" * 3_000_000,
    b'{"a":' * 100_000,
    b"[" + b'{"ph":"X"}' * 50_000,
    b"[" + b"\0" * 3_000_000,
    b'[{"ph":"X","ts":1,"name":"' + b'\\"},{' * 200_000,
    b"[" + b"]" * 300_000,
    b'[{"ph":[' * 50_000,
    b'[{"ph":"X","ts":1,"a":[' + b'{"ph":"X","a":[' * 900,
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_input_ends(number: int, tmp_path: Path) -> None:
    survives(KinetoImporter(), HOSTILE[number], tmp_path, "trace.json", seconds=5)
