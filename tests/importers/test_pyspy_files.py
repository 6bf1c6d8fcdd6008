"""py-spy's files: shares from folded stacks, order from speedscope, times from the Chrome trace."""

from __future__ import annotations

import gzip
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from reading import DATA, Gathered, damage, survives
from reading import read as read_with

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Symbol
from sofa_otel.exporters.read.pyspy import PySpyImporter

MS = 1_000_000


def read(path: Path) -> Gathered:
    return read_with(PySpyImporter(), path)


@pytest.fixture
def made(tmp_path: Path):
    def make(text: str | bytes) -> Gathered:
        path = tmp_path / "made.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path)

    return make


def frames(found: Gathered, row: int) -> list[Symbol]:
    return [found.tables.symbols[frame] for frame in found.tables.paths.frames(int(found.rows.path[row]))]


def functions(found: Gathered) -> list[str]:
    """``a;b;c`` of every row."""
    return [";".join(symbol.function for symbol in frames(found, row)) for row in range(len(found.rows))]


def shares(found: Gathered) -> dict[tuple[int, int, str], int]:
    """Nanoseconds by process, thread and stack."""
    rows = found.rows
    out: dict[tuple[int, int, str], int] = {}
    for pid, tid, stack, length in zip(rows.pid, rows.tid, functions(found), rows.duration_ns, strict=True):
        out[int(pid), int(tid), stack] = out.get((int(pid), int(tid), stack), 0) + int(length)
    return out


# -- folded stacks ---------------------------------------------------------------------------------------------------------
def test_shares_are_the_counts() -> None:
    found = read(DATA / "pyspy_threads.raw")
    lines = (DATA / "pyspy_threads.raw").read_text().splitlines()
    with_frames = [line for line in lines if line.rpartition(" ")[0].endswith(")")]
    assert found.rows.duration_ns.sum() == 10 * MS * sum(int(line.rpartition(" ")[2]) for line in with_frames)
    by_stack = shares(found)
    pid = next(iter(by_stack))[0]
    assert {(p, t) for p, t, _ in by_stack} >= {(pid, pid)}
    assert len({t for _, t, _ in by_stack}) == 2  # the thread's name holds a semicolon
    forward = sum(int(line.rpartition(" ")[2]) for line in lines if ";forward (loop.py:" in line)
    assert by_stack[pid, pid, "<module>;forward"] == 10 * MS * forward
    assert (found.rows.kind == Kind.PYTHON_SAMPLE).all()
    assert found.rows.header.clock == "own"


def test_it_says_that_no_iteration_can_be_told() -> None:
    assert any("iterations cannot" in warning for warning in read(DATA / "pyspy_native.raw").warnings)


def test_rows_of_folded_stacks_never_run_round_a_loop(made) -> None:
    """Whatever is compared, line or offset: from one row of a thread to the next a program only moves forward."""
    rng = random.Random(0)
    lines = set()
    for _ in range(3000):
        stack = [f"f{rng.randrange(4)} (job.py:{rng.randrange(40)})" for _ in range(rng.randrange(1, 6))]
        lines.add(f'process {rng.randrange(1, 3)}:"python a;b.py";thread ({rng.randrange(1, 4)}): odd; (name);' + ";".join(stack))
    shuffled = list(lines)
    rng.shuffle(shuffled)
    found = made("".join(f"{line} {rng.randrange(1, 9)}\n" for line in shuffled))
    rows = found.rows
    compared = 0
    for thread in {(int(p), int(t)) for p, t in zip(rows.pid, rows.tid, strict=True)}:
        mine = [row for row in range(len(rows)) if (int(rows.pid[row]), int(rows.tid[row])) == thread]
        assert len({int(rows.path[row]) for row in mine}) == len(mine)
        end = 0
        for before, after in pairwise(mine):
            assert rows.start_ns[before] == end
            end = int(rows.end_ns[before])
            for old, new in zip(frames(found, before), frames(found, after), strict=False):
                if (old.function, old.line) != (new.function, new.line):
                    if old.function == new.function:
                        assert new.line > old.line
                        compared += 1
                    break
    assert compared > 200


def test_native_frames_have_their_object() -> None:
    found = read(DATA / "pyspy_native.raw")
    symbols = {symbol for row in range(len(found.rows)) for symbol in frames(found, row)}
    assert Symbol("forward", "loop", 0, "loop.py", 11) in symbols
    assert Symbol("[unknown]", "libc.so.6") in symbols  # only an address, which means nothing outside its process


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("java;Main.run;Main.work 12", "java;Main.run;Main.work"),
        ("swapper;do_idle_[k];default_idle_[k] 3", "swapper;do_idle;default_idle"),
        ("a;b 1.5", "a;b"),
        ("a;b 7 9", "a;b"),
        ("main;operator new (unsigned long) 4", "main;operator new"),
        ('process 5:"python -c import a; b()";thread (6): x;f (a.py:1) 2', "f"),
    ],
)
def test_stacks_of_other_tools(made, line: str, expected: str) -> None:
    assert functions(made(line + "\n")) == [expected]


def test_damaged_lines_are_left_out_by_number(made) -> None:
    found = made("a (x.py:1);b (x.py:2) 3\nnonsense\na (x.py:1) 2\n\xff\xfe\n")
    assert len(found.rows) == 2
    assert any("made.txt, line 2: 2 lines" in warning for warning in found.warnings)


# -- speedscope ------------------------------------------------------------------------------------------------------------
def test_speedscope_rows_follow_each_other() -> None:
    found = read(DATA / "pyspy_threads.speedscope.gz")
    document = json.loads(gzip.decompress((DATA / "pyspy_threads.speedscope.gz").read_bytes()))
    main, side = document["profiles"][:2]
    names = document["shared"]["frames"]
    pid = int(main["name"].split()[1])
    rows = found.rows.take(found.rows.tid == pid)
    expected = [";".join(names[frame]["name"] for frame in stack if names[frame]["file"]) for stack in main["samples"]]
    mine = [stack for stack, tid in zip(functions(found), found.rows.tid, strict=True) if tid == pid]
    assert mine == [stack for stack in expected if stack]
    assert (rows.pid == pid).all()
    assert set(rows.duration_ns.tolist()) == {5 * MS}
    assert rows.end_ns.max() == 5 * MS * len(expected)
    assert (found.rows.tid != pid).sum() == len(side["samples"])


def document(**profile: Any) -> str:
    shared = {"frames": [{"name": name, "file": "job.py", "line": 3} for name in "abc"]}
    return json.dumps({"$schema": "https://www.speedscope.app/file-format-schema.json", "profiles": [profile], "shared": shared})


def test_speedscope_of_other_tools(made) -> None:
    sampled = made(
        document(
            type="sampled", name="main", unit="milliseconds", startValue=2, endValue=9, samples=[[0], [0, 1]], weights=[3, 4]
        )
    )
    assert (functions(sampled), sampled.rows.start_ns.tolist()) == (["a", "a;b"], [2 * MS, 5 * MS])
    events = [
        {"type": "O", "at": 1, "frame": 0}, {"type": "O", "at": 3, "frame": 2}, {"type": "C", "at": 4, "frame": 2},
        {"type": "C", "at": 9, "frame": 0},
    ]  # fmt: skip
    evented = made(document(type="evented", name="main", unit="microseconds", startValue=1, endValue=9, events=events))
    assert functions(evented) == ["a", "a;c", "a"]
    assert evented.rows.start_ns.tolist() == [1000, 3000, 4000]
    assert evented.rows.duration_ns.tolist() == [2000, 1000, 5000]
    with pytest.raises(InputError, match=r"made\.txt.*no profile of time"):
        made(document(type="sampled", name="heap", unit="bytes", startValue=0, endValue=9, samples=[[0]], weights=[3]))


def test_speedscope_keys_in_any_order_and_with_spaces(made) -> None:
    plain = made(
        document(
            type="sampled", name='Thread 8 "x"', unit="seconds", startValue=0, endValue=1, samples=[[0], [1]], weights=[1, 2]
        )
    )
    other = json.loads(
        document(
            type="sampled", name='Thread 8 "x"', unit="seconds", startValue=0, endValue=1, samples=[[0], [1]], weights=[1, 2]
        )
    )
    other["profiles"][0] = dict(reversed(other["profiles"][0].items()))
    swapped = made("﻿" + json.dumps(dict(reversed(other.items())), indent=3))
    assert functions(swapped) == functions(plain)
    assert swapped.rows.duration_ns.tolist() == plain.rows.duration_ns.tolist() == [10**9, 2 * 10**9]
    assert swapped.rows.tid.tolist() == [8, 8]


# -- Chrome trace ----------------------------------------------------------------------------------------------------------
def test_chrome_rows_cover_the_time_between_changes() -> None:
    found = read(DATA / "pyspy_threads.chrometrace.gz")
    assert found.warnings == []
    events = json.loads(gzip.decompress((DATA / "pyspy_threads.chrometrace.gz").read_bytes()))
    rows = found.rows
    threads = {(int(p), int(t)) for p, t in zip(rows.pid, rows.tid, strict=True)}
    assert len(threads) == 2
    pid = events[0]["pid"]
    assert (pid, pid) in threads  # the main thread has the process's number
    mine = rows.take(rows.tid == pid)
    tid = events[0]["tid"]
    times = [event["ts"] * 1000 for event in events if event["tid"] == tid]
    assert mine.start_ns.min() >= min(times)
    assert mine.end_ns.max() <= max(times)
    assert (mine.start_ns[1:] >= mine.end_ns[:-1]).all()
    assert mine.duration_ns.sum() > 0.9 * (max(times) - min(times))
    assert mine.duration_ns.max() < 15 * MS  # samples that saw no change are put back


def chrome(*events: tuple[str, str, int, int, int]) -> str:
    return json.dumps(
        [
            {"args": {"filename": "job.py" if " " not in name else "", "line": 1}, "cat": "py-spy", "name": name, "ph": ph,
             "pid": pid, "tid": tid, "ts": ts}
            for name, ph, pid, tid, ts in events
        ]
    )  # fmt: skip


def test_threads_that_share_a_number_are_kept_apart(made) -> None:
    """A forked child's main thread has its parent's pthread_t: py-spy writes their changes as if they were one thread's."""
    events, previous = [], []
    for sample in range(40):
        for late, pid in enumerate((5, 6)):
            now = sample * 10_000 + late * 1000
            stack = [f"process {pid}", "main", "work" if sample % 4 else "rest"]
            events += [(name, "E", pid, 99, now) for name in reversed(previous)]
            events += [(name, "B", pid, 99, now) for name in stack]
            previous = stack
    found = made(chrome(*events))
    assert found.warnings == []
    for pid in (5, 6):
        rows = found.rows.take(found.rows.pid == pid)
        assert 370 * MS < rows.duration_ns.sum() < 400 * MS
        assert (rows.tid == pid).all()
    assert {stack for _, _, stack in shares(found)} == {"main;work", "main;rest"}


def test_a_trace_that_is_cut_off_or_damaged_keeps_the_rest(made) -> None:
    events = [("a", "B", 5, 9, 0)]
    for turn in range(200):
        events += [("b", "B", 5, 9, turn * 10_000 + 5000), ("b", "E", 5, 9, turn * 10_000 + 10_000)]
    text = chrome(*events, ("a", "E", 5, 9, 2_010_000))
    whole = made(text)
    cut = made(text[: len(text) // 2])
    assert 0.45 < len(cut.rows) / len(whole.rows) < 0.55
    assert any("cut off" in warning for warning in cut.warnings)
    hurt = made(text[:5000] + "\0\0!" + text[5040:])
    assert len(hurt.rows) > 0.97 * len(whole.rows)
    assert any("damaged events" in warning for warning in hurt.warnings)


# -- all -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("head", "least", "most"),
    [
        (b"f (a.py:1);g (b.py:2) 3\n" * 9, 0.85, 1),
        (b"f (a.py:1) 3\n", 0.85, 1),
        (b"a;b;c 3\n" * 9, 0.3, 0.6),
        (b"P12;T34;job.py:f:1 200\n" * 9, 0, 0.1),
        (b"12 1700000000.1 read(3, 0, 8) = 8 <0.000012>\n" * 9, 0, 0.1),
        (b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "a", "ts": 1}]}', 0, 0.1),
        (b"PERFILE2" + bytes(96), 0, 0),
        (b"some text\nand more\n", 0, 0),
        (b"", 0, 0),
    ],
)
def test_it_knows_its_own(head: bytes, least: float, most: float) -> None:
    assert least <= PySpyImporter().recognise(head, "x") <= most


def test_its_samples_are_recognised() -> None:
    for name in ("pyspy_threads.raw", "pyspy_native.raw"):
        assert PySpyImporter().recognise((DATA / name).read_bytes(), name) >= 0.9
    for name in ("pyspy_threads.speedscope.gz", "pyspy_threads.chrometrace.gz"):
        assert PySpyImporter().recognise(gzip.decompress((DATA / name).read_bytes()), name) >= 0.9


def test_damaged_files_end_in_rows_or_a_typed_error(tmp_path: Path) -> None:
    sources = [
        (DATA / "pyspy_threads.raw").read_bytes(),
        (DATA / "pyspy_native.raw").read_bytes(),
        gzip.decompress((DATA / "pyspy_threads.speedscope.gz").read_bytes()),
        gzip.decompress((DATA / "pyspy_threads.chrometrace.gz").read_bytes()),
    ]
    read_any = 0
    for seed in range(2000):
        data = damage(sources[seed % len(sources)], seed)
        read_any += survives(PySpyImporter(), data, tmp_path, "damaged") is not None
    assert read_any > 1000
