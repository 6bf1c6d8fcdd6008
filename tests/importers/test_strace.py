"""strace text: every option gives the rows that the plain reading gives, and damage costs only what it hits."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from reading import DATA, Gathered, damage, read, survives
from strace_reference import Row, Writer, reference

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Futex, Kind
from sofa_otel.exporters.read import strace
from sofa_otel.exporters.read.importer import detect
from sofa_otel.exporters.read.source import ByteSource
from sofa_otel.exporters.read.strace import StraceImporter


def rows_of(found: Gathered) -> list[Row]:
    out = []
    for batch in found.batches:
        c = batch.columns
        assert (batch.kind == Kind.SYSCALL).all()
        names = [found.tables.symbols[int(i)] for i in batch.name]
        assert all(symbol.module == "syscall" for symbol in names)
        out += [
            Row(symbol.function, *values)
            for symbol, *values in zip(
                names, *(c[key].tolist() for key in ("start_ns", "duration_ns", "pid", "tid", "bytes", "subkind", "peer")),
                strict=True,
            )
        ]  # fmt: skip
    return sorted(out)


def read_text(folder: Path, text: str | bytes, name: str = "trace.txt") -> Gathered:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(StraceImporter(), path)


@pytest.mark.parametrize("seed", range(150))
def test_reads_what_the_plain_reading_reads(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small blocks: calls, clocks and processes go on from block to block.
    monkeypatch.setattr(strace, "BLOCK", 700 if seed % 3 == 0 else 2 << 20)
    writer = Writer(seed)
    text = writer.text(300)
    found = read_text(tmp_path, text)
    expected = reference(text)
    got = rows_of(found)
    assert len(expected) > 80
    assert found.rows.header.clock == ("unix" if writer.options.clock == "unix" else "own")
    assert [row._replace(pid=0) for row in got] == [row._replace(pid=0) for row in expected], writer.options
    if seed % 3:
        assert got == expected
    assert not found.warnings


@pytest.mark.parametrize("name", ["strace_train.txt.gz", "strace_yy.txt.gz"])
def test_reads_real_recordings_as_the_plain_reading_does(name: str) -> None:
    text = gzip.decompress((DATA / name).read_bytes()).decode()
    with ByteSource(DATA / name) as source:
        assert isinstance(detect(source, None), StraceImporter)
    found = read(StraceImporter(), DATA / name)
    # Not the process: here it is learnt from getpid too.
    assert [row._replace(pid=0) for row in rows_of(found)] == [row._replace(pid=0) for row in reference(text)]
    assert not found.warnings


def test_a_terminal_shows_remarks_and_output_inside_lines() -> None:
    found = read(StraceImporter(), DATA / "strace_terminal.txt.gz")
    rows = rows_of(found)
    writes = [row for row in rows if row.name == "write" and row.bytes == 10]
    assert len(writes) == 6
    assert all(row.duration > 0 for row in writes)
    births = [row for row in rows if row.name in {"clone", "clone3"}]
    assert len(births) == 3
    assert all(row.duration > 0 for row in births)
    threads = {row.tid for row in rows}
    # One line of the sample ends before the first id is told; two threads, their process and its child.
    assert len(threads) == 4
    assert len({row.pid for row in rows}) == 2
    assert len(found.warnings) == 1
    assert "strace_terminal.txt.gz, line" in found.warnings[0]
    assert "6 lines left out: not strace's own" in found.warnings[0]


def test_threads_are_given_to_their_process(tmp_path: Path) -> None:
    text = """\
10 1690000000.000001 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0} <unfinished ...>
11 1690000000.000002 set_robust_list(0x7f, 24) = 0
11 1690000000.000003 clone(child_stack=0x7f, flags=CLONE_THREAD|CLONE_VM) = 12
12 1690000000.000004 read(3, "", 4) = 0
10 1690000000.000005 <... clone3 resumed> => {parent_tid=[11]}, 88) = 11
10 1690000000.000006 vfork( <unfinished ...>
13 1690000000.000007 execve("/bin/true", ["true"], 0x7f /* 3 vars */) = 0
10 1690000000.000008 <... vfork resumed>) = 13
13 1690000000.000009 clone(0x3d0f00, 0x7f, 0x7f, 0x7f, 0x7f) = 14
14 1690000000.000010 getpid() = 13
15 1690000000.000011 getpid() = 10
15 1690000000.000012 fork() = 16 /* 17 in strace's PID NS */
17 1690000000.000013 getpid() = 16
"""
    found = {row.tid: row.pid for row in rows_of(read_text(tmp_path, text))}
    assert found == {10: 10, 11: 10, 12: 10, 13: 13, 14: 13, 15: 10, 17: 17}


def test_a_thread_without_id_is_found_by_its_answers_or_by_the_file_name(tmp_path: Path) -> None:
    line = '1690000000.000001 read(3, "", 4) = 0 <0.000009>\n'
    assert rows_of(read_text(tmp_path, line, "out.4711"))[0].tid == 4711
    found = read_text(tmp_path, line + "1690000000.000002 set_tid_address(0x7f) = 42\n" + line)
    assert {row.tid for row in rows_of(found)} == {42}
    assert {row.pid for row in rows_of(found)} == {42}
    two = line + "[pid    43] 1690000000.000002 close(3) = 0\n[pid    42] 1690000000.000003 close(3) = 0\n"
    two = two.replace("1690000000.000001", "1690000000.000000") + "[pid 43] 1690000000.000004 +++ exited with 0 +++\n" + line
    two = "1690000000.000000 clone(flags=SIGCHLDstrace: Process 43 attached\n, child_tidptr=0x7f) = 43\n" + two
    assert [row.tid for row in rows_of(read_text(tmp_path, two)) if row.name == "read"] == [42, 42]


def test_times_of_day_go_on_over_midnight(tmp_path: Path) -> None:
    text = '1 23:59:59.999999 read(3, "", 4) = 0\n1 00:00:00.000001 close(3 <unfinished ...>\n'
    text += "1 00:00:02.5 <... close resumed>) = 0\n"
    rows = rows_of(read_text(tmp_path, text))
    assert [row.duration for row in rows if row.name == "close"] == [2_499_999_000]
    assert sorted(row.start for row in rows) == [86_399_999_999_000, 86_400_000_001_000]
    odd = "1 10:00:00 close(3) = 0\n1 23:00:00 close(3) = 0\n1 10:00:01 close(3) = 0\n"
    starts = [row.start for row in rows_of(read_text(tmp_path, odd))]
    assert max(starts) - min(starts) < 86_400 * 10**9, "one wrong line makes no day"


def test_calls_without_a_beginning_or_an_end(tmp_path: Path) -> None:
    text = """\
7 1690000000.000100 <... futex resumed>) = 0 <0.000090>
8 1690000000.000200 <... read resumed>"abc", 9) = 3
7 1690000000.000300 read(3, <unfinished ...>
7 1690000000.000400 write(1, "a", 1 <unfinished ...>
7 1690000000.000450 <... write resumed>) = ?
8 1690000000.000500 futex(0x7f, FUTEX_WAIT, 0, NULL <unfinished ...>
9 1690000000.000600 pause( <unfinished ...>
9 1690000000.000700 +++ killed by SIGKILL +++
10 1690000000.000700 syscall_0x200(0, 1) = -1 ENOSYS (Function not implemented)
10 1690000000.000700 exit_group(0)       = ?
10 1690000000.000800 ????( <unfinished ...>
"""
    found = read_text(tmp_path, text)
    base = 1_690_000_000_000_000_000
    assert [(r.name, r.start - base, r.duration, r.tid, r.bytes, r.subkind) for r in rows_of(found)] == [
        ("exit_group", 700_000, 0, 10, 0, 0),
        ("futex", 10_000, 90_000, 7, 0, 0),
        ("futex", 500_000, 0, 8, 0, Futex.WAIT),
        ("pause", 600_000, 100_000, 9, 0, 0),
        ("read", 200_000, 0, 8, 3, 0),
        ("read", 300_000, 0, 7, 0, 0),
        ("syscall_512", 700_000, 0, 10, 0, 0),
        ("write", 400_000, 50_000, 7, 0, 0),
    ]


def test_numbers_instead_of_names(tmp_path: Path) -> None:
    text = """\
5 1690000000.1 futex(0x7f60a8b4e6f0, 0x89, 0, 0) = 0
5 1690000000.2 futex(0x7f60a8b4e6f0, 0x81 /* FUTEX_WAKE_PRIVATE */, 1) = 0
5 1690000000.3 mmap(0, 0x2000, 0x3, 0x22, 0xffffffff, 0) = 0x7f
5 1690000000.4 mremap(0x7f, 4096, 8192, MREMAP_MAYMOVE) = 0x7f
5 1690000000.5 read(3</a,b (c) = 9>, ") = 5", 100000000000) = 99999999999 (INJECTED)
"""
    rows = sorted(rows_of(read_text(tmp_path, text)), key=lambda row: row.start)
    assert [row.subkind for row in rows] == [Futex.WAIT, Futex.WAKE, 0, 0, 0]
    assert [row.bytes for row in rows[2:4]] == [0, 0]  # memory is not moved by mapping it
    assert rows[4].peer == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("% time     seconds  usecs/call     calls    errors syscall\n------ -----------\n", "summary"),
        ('read(3, "", 4) = 0\nclose(3) = 0\n', "without a time"),
        ("hello\nworld\n", "no line of 2"),
        ("", "no line of 1"),
    ],
)
def test_says_why_nothing_can_be_read(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_text(tmp_path, text, "odd.txt")
    assert "odd.txt, line 1" in str(error.value)
    assert "strace -f -ttt -T" in str(error.value) or not text


def test_a_cut_line_is_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = '9 1690000000.000001 read(3, "abc", 4) = 3 <0.000009>\n'
    for cut in (line[:30], line[:-8], line[:-10]):
        found = read_text(tmp_path, line + line.replace(" read", " close") + cut)
        assert [row.name for row in rows_of(found)] == ["close", "read"], cut
        assert found.warnings == ["trace.txt, line 3: 1 lines left out: calls that are cut off"]
    found = read_text(tmp_path, line + line.strip())
    assert len(rows_of(found)) == 2, "only the last newline is missing"
    assert not found.warnings
    monkeypatch.setattr(strace, "BLOCK", 1 << 12)
    packed = gzip.compress(Writer(3).text(2000).encode())
    found = read_text(tmp_path, packed[:-20], "cut.gz")
    assert len(found.rows) > 100
    assert "ends early" in found.warnings[-1]


def test_a_summary_after_the_calls_is_no_loss(tmp_path: Path) -> None:
    text = '9 1690000000.000001 read(3, "abc", 4) = 3\n% time     seconds  usecs/call     calls    errors syscall\n'
    text += "100 1 2 3 read\n"
    found = read_text(tmp_path, text)
    assert len(rows_of(found)) == 1
    assert not found.warnings


def test_long_strings_and_dos_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strace, "BLOCK", 1 << 16)
    text = f'9 1690000000.000001 write(1, "{"x" * 300_000}", 300000) = 300000 <0.000002>\n' * 3
    assert [row.bytes for row in rows_of(read_text(tmp_path, text))] == [300_000] * 3
    assert [row.duration for row in rows_of(read_text(tmp_path, text.replace("\n", "\r\n")))] == [2000] * 3


@pytest.mark.parametrize("block", range(4))
def test_survives_damage(block: int, tmp_path: Path) -> None:
    seeds = range(block * 500, (block + 1) * 500)
    kept = [survives(StraceImporter(), damage(Writer(seed).text(40).encode(), seed), tmp_path, "trace.txt") for seed in seeds]
    assert sum(found is not None for found in kept) > 400
    assert sum(found is not None and bool(found.warnings) for found in kept) > 200


def test_threads_that_were_there_before_are_known_by_who_wakes_whom(tmp_path: Path) -> None:
    sleep = "{tid} 1690000000.{start:06d} futex(0x7f00, FUTEX_WAIT_PRIVATE, 0, NULL) = 0 <0.{spent:06d}>\n"
    wake = "{tid} 1690000000.{start:06d} futex(0x7f00, FUTEX_WAKE_PRIVATE, 1) = 1 <0.000010>\n"
    text = sleep.format(tid=11, start=100, spent=400) + sleep.format(tid=21, start=100, spent=90_000)
    text += wake.format(tid=10, start=480) + wake.format(tid=20, start=90_050)
    found = {row.tid: row.pid for row in rows_of(read_text(tmp_path, text))}
    assert found == {10: 10, 11: 10, 20: 20, 21: 20}, "forked processes have their futexes at the same addresses"
    born = "9 1690000000.000001 fork() = 11\n9 1690000000.000001 fork() = 10\n" + text
    assert {row.tid: row.pid for row in rows_of(read_text(tmp_path, born))}[11] == 11
    for name, main in (("strace_train.txt.gz", 5060), ("strace_yy.txt.gz", 3794)):
        rows = rows_of(read(StraceImporter(), DATA / name))
        assert {row.pid for row in rows} == {main}
        assert len({row.tid for row in rows}) == 3
