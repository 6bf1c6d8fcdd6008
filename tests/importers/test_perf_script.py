"""perf's text: any fields, any chain, any of the tracepoints that matter."""

from __future__ import annotations

import gzip
import itertools
import random
from pathlib import Path

import pytest
from reading import DATA, Gathered, damage, read, survives

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Direction, Futex, Kind, Wait
from sofa_otel.core.symbols import Symbol
from sofa_otel.exporters.read.importer import detect
from sofa_otel.exporters.read.perf import PerfImporter
from sofa_otel.exporters.read.perf_script_frames import parse_frame, symbol_of
from sofa_otel.exporters.read.source import ByteSource


def read_text(folder: Path, text: str | bytes, name: str = "script.txt") -> Gathered:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(PerfImporter(), path)


def columns(found: Gathered, *keys: str) -> list[tuple[int, ...]]:
    return list(zip(*(found.rows.columns[key].tolist() for key in keys), strict=True))


def stack(found: Gathered, row: int) -> list[Symbol]:
    return [found.tables.symbols[symbol] for symbol in found.tables.paths.frames(int(found.rows.path[row]))]


CHAIN = """\
\tffffffff81b9764c iowrite16+0xc ([kernel.kallsyms])
\t           1c83aa2 at::(anonymous namespace)::f(int, float)::{lambda()#2}::operator()() const+0x2 (/opt/my lib (1).so (deleted))
\t            6a00 swallowed+0x430 (inlined)
\t            6a00 outer+0x430 (/usr/lib/libc.so.6)
\t    7f608c10a980 [unknown] ([unknown])
\t              85 py::Net.forward:/srv/net work.py+0x5 (/tmp/jitted-77-257.so)
\t           27249 [unknown] (/usr/lib/libc.so.6)
"""
FRAMES = [
    Symbol("[unknown]", "libc.so.6", 0x27249),
    Symbol("Net.forward", file="/srv/net work.py"),
    Symbol("[unknown]", "[unknown]"),
    Symbol("outer", "libc.so.6", 0x6A00 - 0x430),
    Symbol("swallowed", "libc.so.6"),
    Symbol("at::(anonymous namespace)::f(int, float)::{lambda()#2}::operator()() const", "my lib (1).so", 0x1C83AA2 - 2),
    Symbol("iowrite16", "[kernel.kallsyms]"),
]


@pytest.mark.parametrize(
    ("comm", "thread", "cpu", "misc", "digits", "period", "event"),
    list(
        itertools.product(
            ["", "python", "tmux: server 7", "kworker/1:0H-kb"],
            ["", "5060", "5000/5060"],
            ["", "[003]"],
            ["", "K"],
            [6, 9],
            ["", "10101010"],
            ["cpu-clock", "cpu-clock:ppp", "cycles:u", "cpu_core/cycles/P", ""],
        )
    )[::7],
)
def test_reads_any_fields(
    comm: str, thread: str, cpu: str, misc: str, digits: int, period: str, event: str, tmp_path: Path
) -> None:
    def head(time: int) -> str:
        clock = f"3207.{time:09d}"[: 5 + digits]
        words = [f"{comm:>16s}" if comm else "", f"{thread:>7s}" if thread else "", cpu, misc, f"{clock}:"]
        words += [f"{period:>10s}" if period else "", f"{event}:" if event else ""]
        return " ".join(word for word in words if word) + " \n"

    text = "".join(head(time) + CHAIN + "\n" for time in (1_000_000, 5_000_000, 9_000_000))
    found = read_text(tmp_path, text)
    assert not found.warnings
    assert len(found.rows) == 3
    base = 3207 * 10**9
    in_time = period and event.startswith("cpu-clock")
    assert columns(found, "start_ns", "duration_ns") == [
        (base + time, 10_101_010 if in_time else 4_000_000) for time in (1_000_000, 5_000_000, 9_000_000)
    ]
    assert {batch.header.clock for batch in found.batches} == {"own"}
    if thread:
        pid = 5000 if "/" in thread else 77  # the generated code's file name tells the process
        assert set(columns(found, "pid", "tid", "cpu")) == {(pid, 5060, 3 if cpu else -1)}
    assert stack(found, 0) == FRAMES
    assert (found.rows.kind == Kind.CPU_SAMPLE).all()
    assert (found.rows.subkind == Wait.ON_CPU).all()
    assert found.name_of(0) == "iowrite16"


def test_one_line_samples_and_fewer_fields(tmp_path: Path) -> None:
    text = "  python 5060 3207.235145:   10101010 cpu-clock:      7f7c3680a8a7 __memmove+0xa7 (/usr/lib/libc.so.6)\n"
    found = read_text(tmp_path, text * 2)
    assert stack(found, 0) == [Symbol("__memmove", "libc.so.6")]
    found = read_text(tmp_path, " 5060 3207.235145: \n\tffffffff815ffebc folio_remove\n\t  fdb09 PyDict_SetDefault\n\n")
    assert stack(found, 0) == [Symbol("PyDict_SetDefault"), Symbol("folio_remove")]
    found = read_text(tmp_path, "python 5060 3207.235145: cpu-clock: \npython 0 3207.235146: cpu-clock: \n")
    assert columns(found, "path", "name", "tid") == [(0, 0, 5060)], "the idle task is left out"
    spaces = "python 5060 3207.235145: 1 cpu-clock: \n" + CHAIN.expandtabs(8)
    assert stack(read_text(tmp_path, spaces), 0) == FRAMES


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"\t 85 main (/a/b.so+0x1234)", Symbol("main", "b.so")),
        (b"\t 85 [unknown] (/a/b.so+0x1234)", Symbol("[unknown]", "b.so", 0x1234)),
        (b"\t 7f1 operator()+0x1 (//anon)", Symbol("operator()", "[anon]")),
        (
            b"\t 7f1 std::function<void (int)>::operator()+0x1 (/x/y.so)",
            Symbol("std::function<void (int)>::operator()", "y.so", 0x7F0),
        ),
        (b"\t 7f1 [unknown] (memfd:doublemapper (deleted))", Symbol("[unknown]", "memfd:doublemapper")),
        (b"\t7f60850946f6 f+0x6 (/tmp/perf-5060.map)", Symbol("f", "[jit]")),
        (b"\t55d0850946f6 f+0x6 (/usr/bin/x)", Symbol("f", "x")),
        (b"\t 9f py::<module>:<frozen site>+0x5 (/tmp/perf-5060.map)", Symbol("<module>", file="<frozen site>")),
    ],
)
def test_takes_frames_apart(line: bytes, expected: Symbol) -> None:
    frame = parse_frame(line)
    assert frame is not None
    assert symbol_of(frame) == expected


def test_one_of_several_sampled_events_is_told(tmp_path: Path) -> None:
    lines = [
        f"p 7 1.00000{i}: 1000 {event}: \n\t 10 f+0x1 (/a)\n\n"
        for i, event in enumerate(["instructions:u", "task-clock", "cpu-clock:u", "probe:f", "dummy:HG", "cpu-clock:k"])
    ]
    assert [row[0] for row in columns(read_text(tmp_path, "".join(lines)), "start_ns")] == [1_000_002_000, 1_000_005_000]


def test_system_calls_are_joined(tmp_path: Path) -> None:
    text = """\
 python 7/8 [001] 10.000001: raw_syscalls:sys_enter: NR 0 (3, 7f00, 4, 0, 0, 0)
 python 7/9 [000] 10.000001: raw_syscalls:sys_enter: NR 202 (7f00, 189, 4, 0, 0, 0)
 python 7/8 [001] 10.000001:  raw_syscalls:sys_exit: NR 0 = 4
 python 7/8 [001] 10.000001: raw_syscalls:sys_enter: NR 0 (3, 7f00, 4, 0, 0, 0)
 python 7/8 [001] 10.000005:  raw_syscalls:sys_exit: NR 0 = -11
 python 7/9 [000] 10.000006:  raw_syscalls:sys_exit: NR 202 = 0
 python 7/9 [000] 10.000007: syscalls:sys_enter_write: fd: 0x00000005, buf: 0x7f00, count: 0x00000004
 python 7/9 [000] 10.000008: syscalls:sys_exit_write: 0x10
 python 7/9 [000] 10.000009: syscalls:sys_enter_newfstatat: dfd: 0xffffff9c
 python 7/9 [000] 10.000010: syscalls:sys_exit_newfstatat: 0xfffffffffffffffe
 python 7/9 [000] 10.000011: syscalls:sys_enter_futex: uaddr: 0x7f00, op: 0x00000081
 python 7/9 [000] 10.000012: PERF_RECORD_EXIT(7:9):(7:7)
 python 7/8 [001] 10.000013: raw_syscalls:sys_enter: NR 400000 (
 python 7/8 [001] 10.000014: raw_syscalls:sys_enter: NR 34 ()
 python 7/8 [001] 10.000024: sched:sched_waking: comm=x pid=1
"""
    found = read_text(tmp_path, text)
    names = [found.name_of(i) for i in range(len(found.rows))]
    base = 10**10
    got = [
        (name, start - base, *rest)
        for name, (start, *rest) in zip(
            names, columns(found, "start_ns", "duration_ns", "pid", "tid", "cpu", "peer", "bytes", "subkind"), strict=True
        )
    ]
    assert sorted(got) == [
        ("futex", 1000, 5000, 7, 9, 0, 0, 0, Futex.WAIT),
        ("futex", 11000, 1000, 7, 9, 0, 0, 0, Futex.WAKE),
        ("newfstatat", 9000, 1000, 7, 9, 0, 0, 0, 0),
        ("read", 1000, 0, 7, 8, 1, 3, 4, 0),
        ("read", 1000, 4000, 7, 8, 1, 3, 0, 0),
        ("write", 7000, 1000, 7, 9, 0, 5, 16, 0),
    ]
    assert found.warnings == ["script.txt, line 13: 2 lines left out: their fields cannot be read"]
    lean = " 7 1.000001: NR 0 (3, 7f00)\n 7 1.000003: NR 0 = 9\n"
    assert columns(read_text(tmp_path, lean), "duration_ns", "bytes", "tid") == [(2000, 9, 7)]


def test_the_scheduler_in_both_ways_to_print_it(tmp_path: Path) -> None:
    text = """\
a b 8 [001] 1.000001: sched:sched_switch: prev_comm=a b prev_pid=8 prev_prio=120 prev_state=S ==> next_comm=c next_pid=9
c 9 [001] 1.000003: sched:sched_wakeup: comm=a b pid=8 prio=120 target_cpu=001
c 9 [001] 1.000004: sched:sched_switch: c:9 [120] D ==> a b:8 [120]
a b 8 [001] 1.000007: sched:sched_wakeup_new: c:9 [120] success=1 CPU:001
"""
    found = read_text(tmp_path, text)
    assert (found.rows.kind == Kind.SCHED).all()
    assert [(found.name_of(i), *row) for i, row in enumerate(columns(found, "start_ns", "duration_ns", "tid", "peer"))] == [
        ("sched_switch", 1_000_001_000, 3000, 8, 9),
        ("sched_wakeup", 1_000_003_000, 0, 9, 8),
        ("sched_switch", 1_000_004_000, 3000, 9, 8),
        ("sched_wakeup", 1_000_007_000, 0, 8, 9),
    ]


def test_threads_and_clock_from_what_stands_beside(tmp_path: Path) -> None:
    text = """\
# hostname : node7
# arch : aarch64
# reference time: 2023-07-22 06:13:20.500000 = 1690000000.500000 (TOD) = 100.000000000 (CLOCK_MONOTONIC)
python 5060 100.000001: PERF_RECORD_FORK(5060:5064):(5060:5060)
python 5064 100.000002: 1000 cpu-clock: \n\t 10 f+0x1 (/a)\n
python 5060 100.000003: PERF_RECORD_COMM exec: a b: c:4000/5060
python 5060 100.000004: 1000 cpu-clock: \n\t 10 f+0x1 (/a)\n
python 5060 [000] 100.000005: raw_syscalls:sys_enter: NR 63 (3, 1, 2)
python 5060 [000] 100.000006: raw_syscalls:sys_exit: NR 63 = 2
"""
    found = read_text(tmp_path, text)
    assert {(b.header.clock, b.header.host) for b in found.batches} == {("unix", "node7")}
    assert columns(found, "start_ns", "pid", "tid", "bytes") == [
        (1_690_000_000_500_002_000, 5060, 5064, 0),
        (1_690_000_000_500_004_000, 4000, 5060, 0),
        (1_690_000_000_500_005_000, 4000, 5060, 2),
    ]
    assert found.name_of(2) == "read", "number 63 of aarch64"


def test_disk_requests() -> None:
    found = read(PerfImporter(), DATA / "perf_block.txt.gz")
    rows = found.rows
    assert (rows.kind == Kind.DISK).all()
    text = gzip.decompress((DATA / "perf_block.txt.gz").read_bytes())
    assert len(rows) == text.count(b"rq_complete")
    assert columns(found, "start_ns", "duration_ns", "tid", "bytes", "subkind")[:2] == [
        (3194_395_224_000, 151_000, 5013, 4096, Direction.READ),
        (3194_397_527_000, 970_000, 5013, 1_040_384, Direction.WRITE),
    ]
    assert not found.warnings


def test_perf_trace() -> None:
    with ByteSource(DATA / "perf_trace.txt.gz") as source:
        assert isinstance(detect(source), PerfImporter)
    found = read(PerfImporter(), DATA / "perf_trace.txt.gz")
    text = gzip.decompress((DATA / "perf_trace.txt.gz").read_bytes()).decode()
    lines = text.splitlines()
    assert not found.warnings
    begun = sum(line.endswith("...") for line in lines)
    known = sum("?" not in line[:12] for line in lines if not line.endswith("..."))
    assert known <= len(found.rows) <= known + begun
    first = columns(found, "start_ns", "duration_ns", "tid", "peer", "bytes", "subkind")
    assert first[0] == (0, 704_000, 3794, 0, 0, 0)
    assert first[2] == (1_748_000, 17_000, 3794, 3, 4, 0)
    assert found.name_of(2) == "read"
    futex = [row for i, row in enumerate(first) if found.name_of(i) == "futex"]
    assert {row[5] for row in futex} == {Futex.WAIT, Futex.WAKE}


def test_perf_trace_joins_what_was_interrupted(tmp_path: Path) -> None:
    text = """\
         ? (         ): a/b/7  ... [continued]: execve())                       = 0
    54.948 (         ): a/b/7 futex(uaddr: 0x16ecf030, op: WAIT_BITSET|PRIVATE_FLAG, val3: MATCH_ANY)   ...
    55.100 ( 0.100 ms): 8 write(fd: 4<pipe:[1]>, count: 9)                      = 9
    54.948 (20.185 ms): a/b/7  ... [continued]: futex())                        = 0
    76.000 (         ): a/b/7 pause()                                           ...
"""
    found = read_text(tmp_path, text)
    got = [(found.name_of(i), *row) for i, row in enumerate(columns(found, "start_ns", "duration_ns", "tid", "subkind", "bytes"))]
    assert got == [
        ("futex", 54_948_000, 20_185_000, 7, Futex.WAIT, 0),
        ("write", 55_100_000, 100_000, 8, 0, 9),
        ("pause", 76_000_000, 0, 7, 0, 0),
    ]


def test_real_samples() -> None:
    for name, least in (("perf_train.txt.gz", 55), ("perf_python.txt.gz", 13)):
        with ByteSource(DATA / name) as source:
            assert isinstance(detect(source), PerfImporter)
        found = read(PerfImporter(), DATA / name)
        assert not found.warnings
        assert len(found.rows) >= least
        assert set(found.rows.duration_ns.tolist()) == {10_101_010}
    frames = {symbol for row in range(len(found.rows)) for symbol in stack(found, row)}
    assert Symbol("step", file="/srv/job/cap/busy.py") in frames
    assert not any("inlined" in symbol.module or symbol.function.startswith("py::") for symbol in frames)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\tffffffff815ffebc folio_remove\n\tffffffff815e349e do_wp_page\n\n", "no event with a time"),
        ("a 7 [000] 1.000001: probe:f: (1)\n", "there are probe:f"),
        (" Summary of events:\n\n python (7), 9 events, 80.4%\n", "only a summary"),
        ("hello\n", "no event with a time in 1 lines"),
    ],
)
def test_says_why_nothing_can_be_read(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_text(tmp_path, text, "odd.txt")
    assert "odd.txt, line 1" in str(error.value)


def test_what_is_whole_is_kept(tmp_path: Path) -> None:
    text = gzip.decompress((DATA / "perf_train.txt.gz").read_bytes())
    whole = read_text(tmp_path, text)
    broken = text.replace(b"\n\n", b"\nnoise of a shell\n\n", 3)
    found = read_text(tmp_path, broken)
    assert found.rows.start_ns.tolist() == whole.rows.start_ns.tolist()
    again = read_text(tmp_path, b"Warning:\n" + text + b"python 5060 999999999")
    assert len(again.rows) == len(whole.rows)
    assert again.warnings[0].startswith("script.txt, line 1: 2 lines left out: not perf's own")


@pytest.mark.parametrize("block", range(4))
def test_survives_damage(block: int, tmp_path: Path) -> None:
    texts = [
        gzip.decompress((DATA / f"perf_{name}.txt.gz").read_bytes())[:12_000] for name in ("block", "python", "train", "trace")
    ]
    rng = random.Random(block)
    calls = []
    for i in range(120):
        number, tid = rng.randrange(400), rng.randrange(5, 9)
        lead = f" python {tid} [00{tid % 2}] 10.{i * 31:06d}: "
        calls.append(f"{lead}raw_syscalls:sys_enter: NR {number} ({i:x}, {i * i:x}, 0)\n")
        calls.append(f"{lead}raw_syscalls:sys_exit: NR {number} = {rng.choice([-11, 0, i])}\n")
        calls.append(f"{lead}sched:sched_switch: prev_comm=a prev_pid={tid} prev_state=S ==> next_comm=c next_pid={tid + 1} x\n")
    texts.append("".join(calls).encode())
    kept = [
        survives(PerfImporter(), damage(texts[seed % len(texts)], seed), tmp_path, "script.txt")
        for seed in range(block * 500, (block + 1) * 500)
    ]
    assert sum(found is not None for found in kept) > 400
    assert sum(found is not None and bool(found.warnings) for found in kept) > 150
