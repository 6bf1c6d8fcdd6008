"""perf.data: every call, sample and stack that perf itself sees, in file and pipe, whole and damaged."""

from __future__ import annotations

import gzip
import random
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from perf_data_writer import (
    CALLCHAIN,
    IDENTIFIER,
    IP,
    PERIOD,
    RAW,
    READ,
    ROUND,
    TID,
    TIME,
    attr,
    call_sample,
    comm,
    cpu_sample,
    file_of,
    fork,
    leave,
    mmap,
    pipe_of,
    record,
    text_feature,
    words,
)  # fmt: skip
from reading import DATA, Gathered, damage, survives
from reading import read as read_with

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Futex, Kind, Wait
from sofa_otel.exporters.collect.syscall_names import X86_64
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.perf_data import read_perf_data
from sofa_otel.exporters.read.perf_data_borders import borders
from sofa_otel.exporters.read.source import ByteSource

SAMPLED = IP | TID | TIME | PERIOD | CALLCHAIN
CALLED = IDENTIFIER | TID | TIME | RAW
CLOCK_EVENT = (attr(1, 0, SAMPLED), [7], "cpu-clock")
CALL_EVENTS = [(attr(2, 443, CALLED), [1], "raw_syscalls:sys_enter"), (attr(2, 442, CALLED), [2], "raw_syscalls:sys_exit")]
MS = 1_000_000


class PerfData:
    """The binary half of the perf importer."""

    name = "perf"

    def recognise(self, head: bytes, name: str) -> float:
        return float(head.startswith(b"PERFILE2"))

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        read_perf_data(source, sink)


def read(path: Path) -> Gathered:
    return read_with(PerfData(), path)


@pytest.fixture
def made(tmp_path: Path):
    def make(data: bytes) -> Gathered:
        path = tmp_path / "made.data"
        path.write_bytes(data)
        return read(path)

    return make


def stacks(found: Gathered) -> list[list[str]]:
    """``module+offset``, innermost first, of every row."""
    symbols, paths = found.tables.symbols, found.tables.paths
    return [
        [f"{symbols[frame].module}+{symbols[frame].function}" for frame in reversed(paths.frames(path))]
        for path in found.rows.path.tolist()
    ]


def calls(found: Gathered) -> list[tuple[str, int, int, int]]:
    """``(name, tid, start, duration)`` of every call."""
    rows = found.rows.take(found.rows.kind == Kind.SYSCALL)
    names = [found.tables.symbols[name].function for name in rows.name.tolist()]
    return list(zip(names, rows.tid.tolist(), rows.start_ns.tolist(), rows.duration_ns.tolist(), strict=True))


def enter(time: int, call: int, *values: int, pid: int = 10, tid: int = 10) -> bytes:
    return call_sample(1, pid, tid, time, call, *(values or (0,) * 6))


def leave_call(time: int, call: int, result: int = 0, *, pid: int = 10, tid: int = 10) -> bytes:
    return call_sample(2, pid, tid, time, call, result)


# -- real recordings, against perf script ------------------------------------------------------------------------------------
def test_calls_are_those_that_perf_script_shows() -> None:
    line = re.compile(r"^\s*(\d+)/(\d+)\s+\[(\d+)\]\s+(\d+)\.(\d{9}):\s+raw_syscalls:sys_(enter|exit): NR (-?\d+)(.*)$")
    opened: dict[int, tuple[int, int]] = {}
    expected = []
    with gzip.open(DATA / "perf_calls.txt.gz", "rt") as text:
        for found in filter(None, map(line.match, text)):
            tid, time, number = int(found[2]), int(found[4]) * 10**9 + int(found[5]), int(found[7])
            if found[6] == "enter":
                opened[tid] = (time, number)
            elif opened.get(tid, (0, -1))[1] == number:
                begin, _ = opened.pop(tid)
                expected.append((X86_64[number], tid, begin, time - begin))
    got = calls(read(DATA / "perf_calls.data.gz"))
    assert len(expected) > 500
    assert set(expected) <= set(got)
    assert len(got) == len(expected) + len(opened)  # what never returned is there, too


def test_scheduler_rows_are_times_off_the_cpu() -> None:
    found = read(DATA / "perf_calls.data.gz")
    rows = found.rows.take(found.rows.kind == Kind.SCHED)
    names = np.array([found.tables.symbols[name].function for name in rows.name.tolist()])
    away = rows.take(names == "sched_switch")
    woken = rows.take(names == "sched_wakeup")
    assert len(away) > 20
    assert len(woken) > 5
    sleeps = [(t, s, d) for name, t, s, d in calls(found) if name == "clock_nanosleep"]
    inside = [
        any(tid == t and s <= start and start + length <= s + d for t, s, d in sleeps)
        for tid, start, length in zip(away.tid.tolist(), away.start_ns.tolist(), away.duration_ns.tolist(), strict=True)
    ]
    assert sum(inside) > len(sleeps) / 2  # a thread that sleeps is off its CPU for most of the call


def test_stacks_are_those_that_perf_script_shows() -> None:
    expected: list[list[tuple[str, int]]] = []
    with gzip.open(DATA / "perf_stacks.txt.gz", "rt") as text:
        for line in text:
            found = re.match(r"^\s+([0-9a-f]+) \((.*)\)$", line)
            if found:
                expected[-1].append((found[2].rsplit("/", 1)[-1], int(found[1], 16)))
            elif line.strip():
                expected.append([])
    found = read(DATA / "perf_stacks.data")
    rows, symbols = found.rows, found.tables.symbols
    assert len(rows) == len(expected) > 20
    for path, name, frames in zip(rows.path.tolist(), rows.name.tolist(), expected, strict=True):
        got = [symbols[frame] for frame in reversed(found.tables.paths.frames(path))]
        assert got[0] == symbols[name]
        assert [symbol.module for symbol in got] == [module for module, _ in frames]
        for symbol, (module, address) in zip(got, frames, strict=True):
            assert symbol.function == f"0x{symbol.offset:x}"
            if module.startswith("python3"):
                assert symbol.offset == address
    assert (rows.duration_ns == 2_500_000).all()
    assert (rows.subkind == Wait.ON_CPU).all()


def test_the_clock_of_the_recording_gives_the_epoch() -> None:
    rows = read(DATA / "perf_stacks.data").rows
    assert (rows.header.clock, rows.header.host) == ("unix", "node1")
    assert 1_700_000_000 * 10**9 < rows.start_ns.min() < 1_900_000_000 * 10**9
    assert read(DATA / "perf_calls.data.gz").rows.header.clock == "own"


def test_a_compressed_pipe_is_read_as_a_whole() -> None:
    found = read(DATA / "perf_pipe_zstd.data")
    assert found.warnings == []
    assert len(calls(found)) == 518
    assert (found.rows.kind == Kind.CPU_SAMPLE).sum() == 178
    assert (found.rows.header.clock, found.rows.header.host) == ("unix", "node1")


def test_samples_with_every_field() -> None:
    found = read(DATA / "perf_many_fields.data.gz")
    kinds = found.rows.kind
    assert ((kinds == Kind.CPU_SAMPLE).sum(), (kinds == Kind.SYSCALL).sum()) == (12, 453)
    names = {name for name, *_ in calls(found)}
    assert {"openat", "write", "close", "clock_nanosleep"} <= names
    assert not any("damaged" in warning for warning in found.warnings)


def test_bytes_descriptor_and_futex_are_told(made) -> None:
    data = enter(100, 1, 5, 0, 64, 0, 0, 0) + leave_call(200, 1, 64)
    data += enter(300, 202, 0x1000, 128, 0, 0, 0, 0) + leave_call(900, 202)
    data += enter(1000, 202, 0x1000, 129, 1, 0, 0, 0) + leave_call(1100, 202, 1)
    data += enter(1200, 0, 3, 0, 8, 0, 0, 0) + leave_call(1300, 0, -11)
    rows = made(file_of(CALL_EVENTS, data)).rows
    assert rows.bytes.tolist() == [64, 0, 0, 0]
    assert rows.peer.tolist() == [5, 0, 0, 3]
    assert rows.subkind.tolist() == [0, Futex.WAIT, Futex.WAKE, 0]


# -- records of all CPUs -----------------------------------------------------------------------------------------------------
def test_rings_are_read_one_after_the_other(made, monkeypatch) -> None:
    monkeypatch.setattr("sofa_otel.exporters.read.perf_data.CHUNK", 256)
    one = b"".join(enter(t, 0) + leave_call(t + 50, 0) for t in range(100, 1000, 100))
    # The same thread moved: its exit is in a ring that is read earlier than the one of its entry.
    moved = leave_call(1500, 1, pid=11, tid=11) + ROUND + enter(1400, 1, pid=11, tid=11) + ROUND + enter(1600, 2) + ROUND
    got = calls(made(file_of(CALL_EVENTS, one + ROUND + moved + leave_call(1700, 2) + ROUND)))
    assert [call for call in got if call[0] == "write"] == [("write", 11, 1400, 100)]
    assert [call for call in got if call[0] == "read"] == [("read", 10, t, 50) for t in range(100, 1000, 100)]
    assert ("open", 10, 1600, 100) in got


def test_lost_ends_and_calls_that_never_return(made) -> None:
    data = enter(100, 0) + enter(300, 1) + leave_call(350, 1) + enter(400, 202) + enter(500, 7, tid=12)
    data += leave(10, 12, 700) + enter(800, 3, tid=13) + leave_call(900, 3, tid=13)
    assert sorted(calls(made(file_of(CALL_EVENTS, data))), key=lambda call: call[2]) == [
        ("read", 10, 100, 0),  # its exit was lost
        ("write", 10, 300, 50),
        ("futex", 10, 400, 500),  # still open when the recording ends
        ("poll", 12, 500, 200),  # its thread died in it
        ("close", 13, 800, 100),
    ]


def test_a_call_of_minutes_is_one_row(made, monkeypatch) -> None:
    monkeypatch.setattr("sofa_otel.exporters.read.perf_data.CHUNK", 1024)
    hour = 3600 * 10**9
    data = enter(0, 202) + ROUND
    for step in range(200):
        at = hour + step * 1000
        data += enter(at, 0, tid=11) + leave_call(at + 10, 0, tid=11) + ROUND
    data += leave_call(2 * hour, 202) + ROUND
    got = calls(made(file_of(CALL_EVENTS, data)))
    assert ("futex", 10, 0, 2 * hour) in got
    assert len(got) == 201


# -- addresses ---------------------------------------------------------------------------------------------------------------
def test_addresses_follow_the_mappings_of_their_time(made) -> None:
    data = mmap(10, 0x1000, 0x1000, 0x4000, "/usr/lib/libone.so.1", 0)
    data += cpu_sample(10, 10, 1 * MS, 0x1010)
    data += mmap(10, 0x1000, 0x800, 0, "/usr/lib/libtwo.so", 2 * MS) + cpu_sample(10, 10, 3 * MS, 0x1010, 0x1900)
    data += comm(10, 4 * MS, new_program=True) + cpu_sample(10, 10, 5 * MS, 0x1910)
    data += comm(10, 6 * MS, new_program=False) + mmap(10, 0x1000, 0x800, 0, "/usr/bin/three (deleted)", 6 * MS)
    data += fork(20, 10, 7 * MS) + cpu_sample(20, 20, 8 * MS, 0x1010)
    assert stacks(made(file_of([CLOCK_EVENT], data))) == [
        ["libone.so.1+0x4010"],
        ["libtwo.so+0x10", "libone.so.1+0x4900"],
        ["[unknown]+0x1000"],  # not mapped: no more than the page is told
        ["three+0x10"],
    ]


def test_the_kernels_addresses_are_relative_too(made) -> None:
    text = 0xFFFFFFFF81000000
    data = mmap(-1 & 0xFFFFFFFF, text, 0x1000000, text, "[kernel.kallsyms]_text", 0)
    data += mmap(-1 & 0xFFFFFFFF, 0xFFFFFFFFC0000000, 0x1000, 0, "/lib/modules/6.1/kernel/fs/ext4.ko", 0)
    data += cpu_sample(10, 10, MS, text + 0x40, -128, text + 0x40, 0xFFFFFFFFC0000010, -512, 0x1010)
    assert stacks(made(file_of([CLOCK_EVENT], data)))[0][1:] == [
        "[kernel.kallsyms]+0x40", "ext4.ko+0x10", "[unknown]+0x1000",
    ]  # fmt: skip


def test_what_is_no_time_is_left_out_and_said(made) -> None:
    events = [CLOCK_EVENT, (attr(1, 2, SAMPLED | IDENTIFIER), [8], "page-faults")]
    events[0] = (attr(1, 0, SAMPLED | IDENTIFIER), [7], "cpu-clock")

    def sample(number: int, pid: int, time: int) -> bytes:
        return record(9, words(number, 0x10) + struct.pack("<II", pid, pid) + words(time, MS, 1, 0x10))

    found = made(file_of(events, sample(7, 10, MS) + sample(8, 10, MS) + sample(7, 0, MS) + sample(9, 10, MS)))
    assert len(found.rows) == 1  # the idle task, the page fault and the sample of nobody are not time of a thread
    assert any("1 samples of page-faults" in warning for warning in found.warnings)
    assert any("1 damaged samples" in warning for warning in found.warnings)


def test_cycles_with_a_fixed_period_last_until_the_next_sample(made) -> None:
    events = [(attr(0, 0, SAMPLED, every=1_000_000), [7], "cycles")]
    rows = made(file_of(events, b"".join(cpu_sample(10, 10, t * MS, 0x10) for t in (1, 2, 4, 4000)))).rows
    assert rows.duration_ns.tolist() == [10 * MS, MS, 2 * MS, 10 * MS]


@pytest.mark.parametrize("read_format", [0, 1 | 2 | 4, 4 | 8, 1 | 2 | 4 | 8 | 16])
def test_counts_that_are_read_along_are_passed_over(made, read_format: int) -> None:
    events = [(attr(1, 0, SAMPLED | READ, read_format=read_format), [7], "cpu-clock")]
    each = 1 + bool(read_format & 4) + bool(read_format & 16)
    values = [2, *([9] * bool(read_format & 1)), *([9] * bool(read_format & 2)), *([5] * each * 2)]
    if not read_format & 8:
        values = [5] * (1 + sum(bool(read_format & bit) for bit in (1, 2, 4, 16)))
    body = words(0x10) + struct.pack("<II", 10, 10) + words(MS, 3 * MS, *values, 2, 0x2000, 0x3000)
    found = made(file_of(events, record(9, body)))
    assert stacks(found) == [["[unknown]+0x2000", "[unknown]+0x3000"]]
    assert found.rows.duration_ns.tolist() == [3 * MS]


def test_samples_without_a_time_stand_in_their_order(made) -> None:
    events = [(attr(1, 0, IP | TID, every=2 * MS), [], "cpu-clock")]
    found = made(file_of(events, b"".join(record(9, words(0x10 * i) + struct.pack("<II", 10, 10)) for i in range(5))))
    assert found.rows.start_ns.tolist() == [0, 2 * MS, 4 * MS, 6 * MS, 8 * MS]
    assert any("no time" in warning for warning in found.warnings)


# -- forms and damage --------------------------------------------------------------------------------------------------------
def test_file_pipe_and_compressed_file_hold_the_same(made, tmp_path: Path) -> None:
    data = b"".join(enter(t, 0) + leave_call(t + 7, 0) + ROUND for t in range(0, 5000, 10))
    one = calls(made(file_of(CALL_EVENTS, data, {3: text_feature("elsewhere")})))
    assert len(one) == 500
    assert calls(made(pipe_of(CALL_EVENTS, data))) == one
    path = tmp_path / "made.data.gz"
    path.write_bytes(gzip.compress(file_of(CALL_EVENTS, data, {3: text_feature("elsewhere")})))
    packed = read(path)
    assert calls(packed) == one
    assert packed.rows.header.host == "elsewhere"


def test_a_clock_that_is_not_the_recordings_gives_no_epoch(made) -> None:
    sample = cpu_sample(10, 10, MS, 0x10)
    offset = struct.pack("<IIQQ", 1, 1, 10**18, 100)  # of CLOCK_MONOTONIC
    other = made(file_of([CLOCK_EVENT], sample, {29: offset})).rows
    assert (other.header.clock, other.start_ns.tolist()) == ("own", [MS])
    same = made(file_of([(attr(1, 0, SAMPLED, clockid=1), [7], "cpu-clock")], sample, {29: offset})).rows
    assert (same.header.clock, same.start_ns.tolist()) == ("unix", [10**18 - 100 + MS])


@pytest.mark.parametrize(
    ("head", "why"), [(b"2ELIFREP", "big-endian"), (b"PERFFILE", "first version"), (b"MZ\0\0\0\0\0\0", "no perf.data")]
)
def test_other_files_are_refused_by_name(made, head: bytes, why: str) -> None:
    with pytest.raises(InputError, match=f"made.data, byte 0.*{why}"):
        made(head + bytes(200))


def test_a_file_that_is_cut_off_keeps_what_is_whole(tmp_path: Path) -> None:
    whole = gzip.decompress((DATA / "perf_calls.data.gz").read_bytes())
    expected = set(calls(read(DATA / "perf_calls.data.gz")))
    path = tmp_path / "cut.data"
    for part in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(part * len(whole))])
        found = read(path)
        got = set(calls(found))
        # Names and formats of events stand at the end: what they are must be told by their looks.
        assert len(got) > (part - 0.1) * len(expected)
        assert len(got - expected) <= 3  # those that were open at the cut
        assert any(warning.startswith("cut.data, byte") and "cut off" in warning for warning in found.warnings)


def test_reading_goes_on_behind_damage(tmp_path: Path) -> None:
    whole = bytearray(gzip.decompress((DATA / "perf_calls.data.gz").read_bytes()))
    rows = len(calls(read(DATA / "perf_calls.data.gz")))
    path = tmp_path / "hurt.data"
    for seed in range(20):
        rng = random.Random(seed)
        hurt = bytearray(whole)
        at = rng.randrange(5_000, len(whole) - 20_000)
        if seed % 2:
            del hurt[at : at + rng.randrange(1, 300)]
        else:
            hurt[at : at + 200] = rng.randbytes(200)
        path.write_bytes(hurt)
        found = read(path)
        assert len(calls(found)) > 0.97 * rows
        assert any(warning.startswith("hurt.data, ") for warning in found.warnings)


def test_borders_are_those_of_a_walk() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        sizes = rng.choice([(104, 64), (8,), (104, 64, 8, 2048), tuple(8 * rng.randrange(1, 40) for _ in range(20))])
        data = b"".join(
            struct.pack("<IHH", rng.choice([9, 9, 9, 68, 10]), rng.randrange(3), size)
            # Payload that looks like records, too.
            + b"".join(rng.choice([struct.pack("<IHH", 9, 1, 104), rng.randbytes(8), bytes(8)]) for _ in range(size // 8 - 1))
            for size in rng.choices(sizes, k=rng.randrange(1, 2000))
        )
        data = data[: rng.choice([len(data), 8 * (len(data) // 9)])]
        all_words = np.frombuffer(data, np.uint64)
        size = np.frombuffer(data, np.uint16)[3::4]
        expected, here = [], 0
        while here < len(all_words):
            expected.append(here)
            here += int(size[here]) >> 3
        assert borders(all_words, size).tolist() == expected


def test_damaged_files_end_in_rows_or_a_typed_error(tmp_path: Path) -> None:
    sources = [
        gzip.decompress((DATA / "perf_calls.data.gz").read_bytes())[:40_000],
        gzip.decompress((DATA / "perf_many_fields.data.gz").read_bytes())[:60_000],
        (DATA / "perf_pipe_zstd.data").read_bytes(),
        (DATA / "perf_stacks.data").read_bytes(),
    ]
    read_any = 0
    for seed in range(2000):
        data = damage(sources[seed % len(sources)], seed)
        read_any += survives(PerfData(), data, tmp_path, "damaged.data") is not None
    assert read_any > 1000
