"""When events of a trace were: exact numbers, the clock's base and the rank wherever they stand, begin and end."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kineto_reference import nanoseconds
from kineto_traces import event, only, read_text, rows_of, trace

from sofa_otel.exporters.read.kineto_numbers import all_nanoseconds
from sofa_otel.exporters.read.kineto_numbers import nanoseconds as one_nanoseconds

BASE = 1_790_857_026 * 10**9
HEAD = {"distributedInfo": {"rank": 5, "world_size": 8, "backend": "nccl"}, "baseTimeNanoseconds": BASE, "host_name": "node7"}


@pytest.mark.parametrize("before", [(), ("distributedInfo",), ("baseTimeNanoseconds",), ("host_name",), tuple(HEAD)])
def test_rank_clock_and_host_stand_anywhere(before: tuple[str, ...], tmp_path: Path) -> None:
    head = {key: value for key, value in HEAD.items() if key in before}
    tail = {key: value for key, value in HEAD.items() if key not in before}
    events = [event(f"f{number % 100}", ts=number) for number in range(40_000)]
    found = read_text(tmp_path, json.dumps({**head, "traceEvents": events, **tail}))
    assert len(found.batches) > (1 if len(before) == 3 else 0)
    for batch in found.batches:
        header = batch.header
        assert (header.rank, header.clock, header.host, header.job, header.source) == (5, "unix", "node7", "job", "kineto")
    assert [batch.header.seq for batch in found.batches] == list(range(len(found.batches)))
    assert found.rows.start_ns.tolist() == [BASE + number * 1000 for number in range(40_000)]


def test_what_the_file_does_not_say_is_the_sinks(tmp_path: Path) -> None:
    header = read_text(tmp_path, trace(event("f"), baseTimeNanoseconds="x", distributedInfo={"rank": -1})).batches[0].header
    assert (header.rank, header.clock, header.host) == (0, "own", "host")


def test_absolute_times_need_no_base(tmp_path: Path) -> None:
    now = 1_712_195_495_519_689
    found = read_text(tmp_path, trace(event("f", ts=now), baseTimeNanoseconds=BASE))
    assert found.batches[0].header.clock == "unix"
    assert only(found)["start_ns"] == now * 1000


NUMBERS = [
    ("4566161618111.334", 4_566_161_618_111_334),
    ("1712195495519689.0", 1_712_195_495_519_689_000),
    ("1790857026000000.001", 1_790_857_026_000_000_001),
    ("1999999999999999.999", 1_999_999_999_999_999_999),
    ("2111111111111111.111", 2_111_111_111_111_111_111),
    ("4.566161618111334e12", 4_566_161_618_111_334),
    ("0.30000000000000004", 300),
    ("0", 0), ("0.001", 1), (".5", 500), ("12.", 12_000), ("1e3", 10**6), ("1.5E-3", 2), ("1.4e-3", 1), ("-12.345", -12_345),
    ("12.3456", 12_346), ("12.3454999", 12_345), ("12.0005", 12_001), ('"17.25"', 17_250), ("+3", 3000),
]  # fmt: skip
NO_NUMBERS = [
    ("4566161618111.334", 4_566_161_618_111_334),
    ("1712195495519689.0", 1_712_195_495_519_689_000),
    ("1790857026000000.001", 1_790_857_026_000_000_001),
    ("1999999999999999.999", 1_999_999_999_999_999_999),
    ("2111111111111111.111", 2_111_111_111_111_111_111),
    ("4.566161618111334e12", 4_566_161_618_111_334),
    ("0.30000000000000004", 300),
    ("0", 0), ("0.001", 1), (".5", 500), ("12.", 12_000), ("1e3", 10**6), ("1.5E-3", 2), ("1.4e-3", 1), ("-12.345", -12_345),
    ("12.3456", 12_346), ("12.3454999", 12_345), ("12.0005", 12_001), ('"17.25"', 17_250), ("+3", 3000),
]  # fmt: skip
NO_NUMBERS = [
    "",
    "null",
    "true",
    '"x"',
    "1.2.3",
    "--1",
    "1e",
    "e5",
    "9" * 40,
    "1e400",
    "-",
    ".",
    "4e18",
    "{}",
    "1 2",
    "nan",
    "0x10",
]


def test_numbers_are_exact() -> None:
    for text, expected in NUMBERS:
        assert one_nanoseconds(text.encode()) == expected
        assert all_nanoseconds(text.encode() + b",").value.tolist() == [expected]
    everything = all_nanoseconds("".join(f"{text}," for text, _ in NUMBERS).encode())
    assert everything.value.tolist() == [expected for _, expected in NUMBERS]
    assert everything.good.all()
    mixed = all_nanoseconds("".join(f"7.5,{text}," for text in NO_NUMBERS).encode())
    assert mixed.good.tolist() == [True, False] * len(NO_NUMBERS)
    assert mixed.value.tolist() == [7500, 0] * len(NO_NUMBERS)
    assert all(one_nanoseconds(text.encode()) is None for text in NO_NUMBERS)


@given(st.lists(st.tuples(st.integers(-(10**18), 2 * 10**18), st.integers(0, 6), st.booleans()), max_size=30), st.booleans())
def test_numbers_are_the_nearest(given_numbers: list[tuple[int, int, bool]], same: bool) -> None:
    digits = given_numbers[0][1] if given_numbers else 0
    numbers = [Decimal(value).scaleb(-3 - (digits if same else more)) for value, more, _ in given_numbers]
    texts = [f"{number:f}" if plain else str(number) for number, (_, _, plain) in zip(numbers, given_numbers, strict=True)]
    found = all_nanoseconds("".join(f"{text}," for text in texts).encode())
    assert found.good.all()
    assert found.value.tolist() == [nanoseconds(number) for number in numbers]


def test_times_that_are_none_cost_their_event(tmp_path: Path) -> None:
    bad = [event("a", ts=None), event("b", ts={"x": [1, 2]}), event("c", ts="1e99")]
    del bad[0]["ts"]
    found = read_text(tmp_path, trace(event("f", dur=None), *bad, event("g", ts="7.5", dur=-3)))
    assert [(row.name, row.start_ns, row.duration_ns) for row in rows_of(found)] == [("f", 5000, 0), ("g", 7500, 0)]
    assert found.warnings == ["trace.json: 3 of 5 events have no time that can be one, and are left out"]


def test_begin_and_end(tmp_path: Path) -> None:
    def mark(ph: str, ts: Any, name: str | None = None, **more: Any) -> dict[str, Any]:
        return {"ph": ph, "ts": ts, "pid": 1, "tid": 2, **({"name": name, "cat": "x"} if name else {}), **more}

    events = [
        mark("E", 0), mark("B", 1, "outer", args={"External id": 3}), mark("B", 2.5, "inner"), mark("B", 2, "other", tid=3),
        mark("E", "3.001"), mark("B", 4, "inner"), mark("E", 5, "inner"), mark("B", 6, "lost"), mark("E", 9, "outer"),
        mark("b", 1, "async", id=1), mark("b", 2, "async", id="0x2"),
        mark("e", 7, "async", id=1), mark("e", 8, "async", id="0x2"),
        mark("E", 11, "never begun"), mark("B", 10, "last"), {**event("x"), "ts": 19, "dur": 1},
    ]  # fmt: skip
    found = read_text(tmp_path, json.dumps(events))
    rows = [(row.name, row.start_ns, row.duration_ns, row.tid, row.link) for row in rows_of(found)]
    assert rows == [
        ("async", 1000, 6000, 2, 0), ("async", 2000, 6000, 2, 0), ("inner", 2500, 501, 2, 0), ("inner", 4000, 1000, 2, 0),
        ("last", 10_000, 10_000, 2, 0), ("other", 2000, 18_000, 3, 0), ("outer", 1000, 8000, 2, 3), ("x", 19_000, 1000, 11, 0),
    ]  # fmt: skip
    assert found.warnings == [
        "trace.json: 3 begin and end events have no partner, and are left out",
        "trace.json: 2 events began and did not end: they last to the end of the recording",
    ]
