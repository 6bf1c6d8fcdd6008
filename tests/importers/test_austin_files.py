"""austin's files: text of all versions and MOJO say the same, and time is the run's."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from reading import DATA, Gathered, damage, survives
from reading import read as read_with

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.symbols import Symbol
from sofa_otel.exporters.read.austin import AustinImporter

US = 1000
NAMES = ("wall", "f", "g", "b", "m", "native")


def read(path: Path) -> Gathered:
    return read_with(AustinImporter(), path)


@pytest.fixture
def made(tmp_path: Path):
    def make(data: bytes) -> Gathered:
        path = tmp_path / "made.austin"
        path.write_bytes(data)
        return read(path)

    return make


def frames(found: Gathered, row: int) -> list[Symbol]:
    return [found.tables.symbols[frame] for frame in found.tables.paths.frames(int(found.rows.path[row]))]


def told(found: Gathered) -> list[tuple[int, int, int, int, list[tuple[str, str, int]]]]:
    """Everything of every row."""
    rows = found.rows
    return [
        (int(rows.pid[row]), int(rows.tid[row]), int(rows.start_ns[row]), int(rows.duration_ns[row]),
         [(frame.file, frame.function, frame.line) for frame in frames(found, row)])
        for row in range(len(rows))
    ]  # fmt: skip


# -- time and threads ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["wall", "f", "g"])
def test_the_clock_goes_on_as_long_as_the_run(name: str) -> None:
    text = gzip.decompress((DATA / f"austin_{name}.out.gz").read_bytes()).decode()
    whole = next(int(line.split()[-1]) for line in text.splitlines() if line.startswith("# duration:"))
    found = read(DATA / f"austin_{name}.out.gz")
    # austin's own figure includes some milliseconds until it has found the interpreter and after it has gone.
    assert abs(found.rows.start_ns.max() / US - whole) < 20_000
    assert found.warnings == []
    lines = [line for line in text.splitlines() if line.startswith("P") and line.count(";") > 1]
    assert len(found.rows) == len(lines)
    assert found.rows.duration_ns.sum() == US * sum(int(line.rpartition(" ")[2].split(",")[0]) for line in lines)


def test_threads_and_processes_stand_beside_each_other(made) -> None:
    # Two threads, the second from the third round on; a second process that begins later.
    data = b"# mode: wall\n\n"
    data += b"P5;T0:5;a.py:f:1 100\nP5;T0:5;a.py:f:2 110\n"
    data += b"P5;T0:5;a.py:f:3 120\nP5;T0:6;a.py:g:9 120\n"
    data += b"P5;T0:5;a.py:f:3 120\nP5;T0:6;a.py:g:9 120\n"
    data += b"P7;T0:7;a.py:h:4 30\nP5;T0:5 100\nP5;T0:6;a.py:g:9 100\n"
    rows = [(tid, start // US, length // US) for _, tid, start, length, _ in told(made(data))]
    assert rows == [
        (5, 100, 100),
        (5, 210, 110),
        (5, 330, 120),
        (6, 330, 120),
        (5, 450, 120),
        (6, 450, 120),
        (7, 450, 30),
        (6, 550, 100),
    ]


def test_idle_and_memory_of_the_full_mode(made) -> None:
    found = made(b"# mode: full\n\nP5;T0:5;a.py:f:1 100,0,4096\nP5;T0:5;a.py:f:1 110,1,-8192\n")
    assert found.rows.subkind.tolist() == [Wait.ON_CPU, Wait.OTHER]
    assert found.rows.bytes.tolist() == [4096, -8192]


def test_what_a_mode_cannot_tell_is_said(made) -> None:
    cpu = made(b"# mode: cpu\n\nP5;T0:5;a.py:f:1 100\n")
    assert cpu.rows.subkind.tolist() == [Wait.ON_CPU]
    assert any("idle" in warning for warning in cpu.warnings)
    memory = read(DATA / "austin_m.out.gz")
    assert (memory.rows.kind == Kind.MEMORY).all()
    assert any("memory, not time" in warning for warning in memory.warnings)


# -- frames ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"P5;T0:5;/srv/my job/a.py:A.f:12 100", ("/srv/my job/a.py", "A.f", 12)),
        (b"P5;T0x7f3ac0de;<frozen os>:walk:3 100", ("<frozen os>", "walk", 3)),
        (b"P5;T7f3ac0de0740;a.py:f;L12 100", ("a.py", "f", 12)),
        (b"Process 5;Thread 140000;f (a.py);L12 100", ("a.py", "f", 12)),
        (b"P5;T5;f (a.py:12) 100 20 -30", ("a.py", "f", 12)),
        (b"P5;T0:5;C:\\job\\a.py:f:12 100\r", ("C:\\job\\a.py", "f", 12)),
    ],
)
def test_frames_of_all_versions(made, line: bytes, expected: tuple[str, str, int]) -> None:
    assert [frames for *_, frames in told(made(line + b"\n"))] == [[expected]]


def test_garbage_collection_and_broken_stacks(made) -> None:
    found = made(b"P5;T0:5;a.py:f:1;:GC: 100\nP5;T0:5;a.py:f:1;:INVALID: 90\n")
    assert [[frame.function for frame in frames(found, row)] for row in (0, 1)] == [["f", "[GC]"], ["f"]]


def test_native_frames_get_object_and_offset_from_the_mappings(made) -> None:
    found = made(
        b"# map: 7f0000001000-7f0000002000 /usr/lib/libc.so.6\n# map: 7f0000002000-7f0000009000 /usr/lib/libc.so.6\n"
        b"P5;T0:5;native@7f0000002010:poll:8;native@deadbeef:x:1;kernel:do_poll:0 100\n"
    )
    assert frames(found, 0) == [
        Symbol("poll", "libc.so.6", 0x1010),
        Symbol("x", "[native]"),
        Symbol("do_poll", "[kernel.kallsyms]"),
    ]
    real = read(DATA / "austin_native.out.gz")
    modules = {frame.module for row in range(len(real.rows)) for frame in frames(real, row)}
    assert {"libc.so.6", "[kernel.kallsyms]", "loop"} <= modules


# -- MOJO ------------------------------------------------------------------------------------------------------------------
def number(value: int) -> bytes:
    rest = abs(value) >> 6
    out = [(abs(value) & 0x3F) | (0x40 if value < 0 else 0) | (0x80 if rest else 0)]
    while rest:
        out.append((rest & 0x7F) | (0x80 if rest >> 7 else 0))
        rest >>= 7
    return bytes(out)


class Mojo:
    """Writes the binary format as its page describes it."""

    def __init__(self, version: int, mode: str = "wall") -> None:
        self.version = version
        self.data = b"MOJ" + number(version) + b"\1mode\0" + mode.encode() + b"\0"
        self.known: dict[object, int] = {}

    def _string(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = 1000 + len(self.known)
            self.data += b"\x0b" + number(self.known[text]) + text.encode() + b"\0"
        return self.known[text]

    def sample(self, pid: int, tid: str, stack: list[tuple[str, str, int]], time: int, **more: int) -> None:
        self.data += b"\2" + number(pid) + (number(0) if self.version > 2 else b"") + tid.encode() + b"\0"
        for frame in stack:
            if frame not in self.known:
                file, scope = self._string(frame[0]), self._string(frame[1])
                self.known[frame] = 5_000_000_000 + len(self.known)
                self.data += b"\3" + number(self.known[frame]) + number(file) + number(scope) + number(frame[2])
                self.data += number(0) * 3 if self.version > 1 else b""
            self.data += b"\5" + number(self.known[frame])
        self.end(time, **more)

    def end(self, time: int, *, memory: int | None = None, idle: int = 0, collecting: int = 0) -> None:
        self.data += b"\7" * collecting + b"\x09" + number(time) + b"\x08" * idle
        if memory is not None:
            self.data += b"\x0a" + number(memory)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_binary_says_the_same_as_text(made, version: int) -> None:
    main, side = [("a.py", "f", 1), ("b.py", "A.g", 300)], [("a.py", "s", 70_000)]
    mojo = Mojo(version, "full")
    text = b"# mode: full\n\n"
    for turn in range(50):
        mojo.sample(300_000, "493e0", main[: 1 + turn % 2], 100 + turn, memory=4096 * (turn - 25), idle=turn % 2)
        mojo.sample(300_000, "493e1", side, 100 + turn, memory=0, collecting=turn % 3 == 0)
        stack = ";".join("{}:{}:{}".format(*frame) for frame in main[: 1 + turn % 2])
        text += f"P300000;T0:300000;{stack} {100 + turn},{turn % 2},{4096 * (turn - 25)}\n".encode()
        text += f"P300000;T0:300001;a.py:s:70000{';:GC:' * (turn % 3 == 0)} {100 + turn},0,0\n".encode()
    one, two = made(mojo.data), made(text)
    assert told(one) == told(two)
    assert len(one.rows) == 100
    assert one.rows.bytes.tolist() == two.rows.bytes.tolist()
    assert one.rows.subkind.tolist() == two.rows.subkind.tolist()


def test_binary_version_four_repeats_stacks_and_shows_tasks(made) -> None:
    mojo = Mojo(4)
    mojo.sample(5, "5", [("a.py", "f", 1), ("a.py", "g", 2)], 100)
    mojo.data += b"\2" + number(5) + number(0) + b"5\0" + b"\x0d"
    mojo.end(110)
    mojo.sample(5, "5", [("a.py", "f", 1)], 120)
    mojo.data += (
        b"\x0e" + number(77) + number(1) + b"\5" + number(next(v for k, v in mojo.known.items() if k == ("a.py", "g", 2)))
    )
    mojo.data += b"\x0f" + number(77) + number(78)
    assert [[frame[1] for frame in stack] for *_, stack in told(made(mojo.data))] == [["f", "g"], ["f", "g"], ["f"]]


def test_a_recorded_binary_file() -> None:
    found = read(DATA / "austin_b.out.gz")
    assert found.warnings == []
    names = {frame.function for row in range(len(found.rows)) for frame in frames(found, row)}
    assert {"forward", "backward", "side", "<module>"} <= names
    assert len({int(tid) for tid in found.rows.tid}) == 2
    assert int(found.rows.pid[0]) in found.rows.tid.tolist()


def test_binary_reading_goes_on_behind_damage(made) -> None:
    mojo = Mojo(3)
    for turn in range(400):
        mojo.sample(300_000, "493e0", [("a.py", "f", 1 + turn % 3)], 100 + turn)
    data = bytearray(mojo.data)
    data[len(data) // 2 : len(data) // 2 + 6] = b"\xff" * 6
    found = made(bytes(data))
    assert len(found.rows) > 390
    assert any("made.austin, byte" in warning and "damaged" in warning for warning in found.warnings)
    assert len(made(mojo.data[: len(mojo.data) // 2]).rows) in range(180, 220)


def test_an_unknown_version_is_refused(made) -> None:
    with pytest.raises(InputError, match=r"made\.austin, byte 3: MOJO version 9"):
        made(b"MOJ\x09" + bytes(40))


# -- all -------------------------------------------------------------------------------------------------------------------
def test_damaged_lines_are_left_out_by_number(made) -> None:
    found = made(b"P5;T0:5;a.py:f:1 100\nP5;T0:5;a.py:f\nP5;T0:5;a.py:f:1 90\nP5;T0:5;a.p")
    assert len(found.rows) == 2
    assert any("made.austin, line 2: 2 lines" in warning for warning in found.warnings)


def test_it_knows_its_own() -> None:
    recognise = AustinImporter().recognise
    for name in NAMES:
        assert recognise(gzip.decompress((DATA / f"austin_{name}.out.gz").read_bytes())[: 1 << 16], name) >= 0.95
    assert recognise(b"P5;T0:5;a.py:f:1 100\n", "x") >= 0.9
    for other in (b"f (a.py:1);g (b.py:2) 3\n", b"a;b;c 3\n", b"MOJ", b"PERFILE2" + bytes(90), b"5 1.0 read(3) = 8\n", b""):
        assert recognise(other, "x") < 0.2


def test_damaged_files_end_in_rows_or_a_typed_error(tmp_path: Path) -> None:
    sources = [gzip.decompress((DATA / f"austin_{name}.out.gz").read_bytes())[:20_000] for name in NAMES]
    read_any = 0
    for seed in range(2000):
        data = damage(sources[seed % len(sources)], seed)
        read_any += survives(AustinImporter(), data, tmp_path, "damaged") is not None
    assert read_any > 1000
