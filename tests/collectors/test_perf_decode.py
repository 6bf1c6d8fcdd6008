"""Bytes of perf rings to system call rows: nothing lost, nothing invented, whatever the order of records and rings."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collect.perf_capture import Plan, RateGuard, Wishes
from sofa_otel.exporters.collect.perf_decode import ENTER, EXIT, decode
from sofa_otel.exporters.collect.perf_pairing import SLICE_NS, Pairing, entries
from sofa_otel.exporters.collect.syscall_names import AARCH64, X86_64


def sample(kind: np.dtype, time: int, tid: int, number: int, value: int = 0) -> bytes:
    row = np.zeros(1, kind)
    row["type"], row["size"], row["time"], row["pid"], row["tid"], row["id"] = 9, kind.itemsize, time, tid, tid, number
    if kind is ENTER:
        row["args"][0, 1] = value
    else:
        row["ret"] = value
    return row.tobytes()


def lost(count: int) -> bytes:
    return struct.pack("<IHHQQ", 2, 0, 48, 7, count) + bytes(24)


def test_layouts_are_the_kernels() -> None:
    assert (ENTER.itemsize, EXIT.itemsize) == (104, 64)
    assert ENTER.fields is not None
    assert ENTER.fields["args"][1] == 52, "header 8, tid 8, time 8, cpu 8, raw size 4, common 8, id 8"


@given(st.lists(st.one_of(st.just(None), st.integers(1, 50)), max_size=60))
def test_every_sample_and_every_lost_event_is_found(records: list[int | None]) -> None:
    data = b"".join(sample(ENTER, index, 5, 1) if count is None else lost(count) for index, count in enumerate(records))
    found = decode(data, ENTER)
    assert found.samples["time"].tolist() == [index for index, count in enumerate(records) if count is None]
    assert found.lost == sum(count for count in records if count is not None)


@given(st.binary(max_size=500))
def test_any_bytes_are_taken(data: bytes) -> None:
    decode(data, ENTER)
    decode(data + sample(EXIT, 1, 1, 1), EXIT)


Call = tuple[int, int, int, int, int]
"""tid, number, start, end, return value."""


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    calls: list[Call] = []
    for tid in range(1, draw(st.integers(1, 4)) + 1):
        now = draw(st.integers(0, 50))
        for _ in range(draw(st.integers(0, 12))):
            start = now + draw(st.integers(1, 30))
            end = start + draw(st.integers(1, 60))
            calls.append((tid, draw(st.sampled_from([0, 1, 202])), start, end, draw(st.integers(-5, 99))))
            now = end
    return calls


@settings(max_examples=200)
@given(histories(), st.lists(st.integers(1, 900), max_size=6), st.randoms())
def test_rows_do_not_depend_on_rounds_or_order(calls: list[Call], borders: list[int], random: object) -> None:
    """Records arrive in rounds; within a round in any order; a record may arrive before its time is due."""
    borders = [*sorted(borders), 10_000]
    pairing = Pairing(frozenset())
    rows: set[tuple[int, ...]] = set()
    count = 0
    previous = -1
    for border in borders:
        enter = [c for c in calls if previous <= c[2] < border]
        left = [c for c in calls if previous <= c[3] < border]
        random.shuffle(enter)  # type: ignore[attr-defined]
        random.shuffle(left)  # type: ignore[attr-defined]
        entered = decode(b"".join(sample(ENTER, c[2], c[0], c[1], c[0] * 7) for c in enter), ENTER).samples
        exits = decode(b"".join(sample(EXIT, c[3], c[0], c[1], c[4]) for c in left), EXIT).samples
        out = pairing.join(entries(entered), exits, border - 5)
        previous = border
        assert (np.diff(out.start) >= 0).all()
        count += len(out.start)
        rows |= set(zip(*(x.tolist() for x in (out.tid, out.id, out.start, out.start + out.duration, out.ret)), strict=True))
    assert rows == set(calls)
    assert count == len(calls)


def test_an_open_call_comes_in_slices_that_add_up() -> None:
    pairing = Pairing(frozenset())
    entered = decode(sample(ENTER, 100, 5, 202, 0), ENTER).samples
    none = np.empty(0, EXIT)
    total, pieces = 0, 0
    for second in range(1, 4):
        out = pairing.join(entries(entered), none, second * SLICE_NS + 100)
        entered = entered[:0]
        assert out.duration.tolist() == [SLICE_NS]
        assert out.start.tolist() == [(second - 1) * SLICE_NS + 100]
        total, pieces = total + SLICE_NS, pieces + 1
    out = pairing.join(entries(entered), decode(sample(EXIT, 3 * SLICE_NS + 600, 5, 202, 0), EXIT).samples, 4 * SLICE_NS)
    assert out.duration.tolist() == [500]
    assert len(pairing.open_calls) == 0


def test_lost_records_make_no_false_durations() -> None:
    pairing = Pairing(frozenset())
    entered = decode(sample(ENTER, 10, 5, 0) + sample(ENTER, 50, 5, 1) + sample(ENTER, 90, 6, 231), ENTER).samples
    exits = decode(sample(EXIT, 60, 5, 1, 9) + sample(EXIT, 5, 7, 3, 1), EXIT).samples
    out = pairing.join(entries(entered), exits, 1000)
    assert list(zip(out.start.tolist(), out.duration.tolist(), out.ret.tolist(), strict=True)) == [(10, 0, 0), (50, 10, 9)]
    assert pairing.open_calls["tid"].tolist() == [6]
    pairing.drop(np.array([6], np.uint32))
    assert len(pairing.open_calls) == 0


def test_calls_that_never_return_are_not_waited_for() -> None:
    out = Pairing(frozenset({231})).join(entries(decode(sample(ENTER, 90, 6, 231), ENTER).samples), np.empty(0, EXIT), 1000)
    assert out.duration.tolist() == [0]


NUMBERS = {"read": 0, "futex": 202}


def ask(mode: str, *names: str, until_ns: int = 0) -> CaptureRequest:
    rows = [(name, "syscall", "", 0) for name in names]
    return CaptureRequest(source="perf_syscalls", mode=mode, names=rows, until_ns=until_ns)  # type: ignore[arg-type]


def test_narrow_needs_every_ranks_consent() -> None:
    wishes = Wishes(NUMBERS)
    assert wishes.plan({0, 1}, 0) == Plan()
    wishes.ask(ask("narrow", "futex"), 0)
    assert wishes.plan({0, 1}, 0) == Plan(), "rank 1 still learns"
    wishes.ask(ask("narrow", "read", "no_such_call"), 1)
    plan = wishes.plan({0, 1}, 0)
    assert plan.filter == "id == 0 || id == 202"
    assert not plan.exits
    wishes.ask(ask("wide", until_ns=100), None)
    assert wishes.plan({0, 1}, 50) == Plan(), "a burst for all"
    assert wishes.plan({0, 1}, 150) == plan
    wishes.ask(ask("wide", until_ns=100), 1)
    assert wishes.plan({0, 1}, 50) == Plan()
    assert wishes.plan({0, 1}, 150) == plan, "the burst has ended"
    wishes.ask(ask("off"), None)
    assert not wishes.plan({0, 1}, 200).on


def test_the_guard_sheds_in_order_and_gives_back() -> None:
    guard = RateGuard(1000)
    ids = np.array([202] * 900 + [0] * 90 + [1] * 10, np.int64)
    nobody: frozenset[int] = frozenset()
    assert guard.observe(2000, ids, nobody)
    assert guard.apply(Plan(), nobody) == Plan(exits=False)
    assert "commonest" in guard.observe(2000, ids, nobody)
    assert guard.apply(Plan(), nobody).filter == "id != 202"
    assert guard.apply(Plan(exits=False, only=frozenset({0, 202})), nobody).filter == "id == 0 || id == 202", (
        "what was asked stays"
    )
    said = [guard.observe(50, ids[:20], nobody) for _ in range(20)]
    assert [text for text in said if text] == [
        "all system calls are recorded again",
        "durations of system calls are recorded again",
    ]
    assert guard.apply(Plan(), nobody) == Plan()


def test_the_guard_narrows_to_what_was_asked() -> None:
    guard = RateGuard(1000)
    asked = frozenset({0})
    ids = np.zeros(1000, np.int64)
    guard.observe(5000, ids, asked)
    guard.observe(5000, ids, asked)
    assert guard.apply(Plan(), asked).filter == "id == 0"
    assert guard.observe(5000, ids, asked) == ""


def test_tables_are_complete() -> None:
    for table, futex, exit_group in ((X86_64, 202, 231), (AARCH64, 98, 94)):
        assert table[futex] == "futex"
        assert table[exit_group] == "exit_group"
        assert len(set(table.values())) == len(table)
        assert set(range(424, 470)) <= set(table)
    assert set(range(335)) <= set(X86_64)
    assert {n for n in range(295) if n not in AARCH64} <= set(range(244, 260))
    assert {AARCH64[n] for n in (63, 64, 291, 264)} == {"read", "write", "statx", "name_to_handle_at"}
