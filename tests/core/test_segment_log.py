"""What was synced is there after any crash, in order and once; nothing half-written or damaged is ever handed out."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sofa_otel.core.errors import InputError, UsageError
from sofa_otel.core.segments import MAX_RECORD, LogFullError, LogWriteError, SegmentLog


def everything(log: SegmentLog, start: int | None = None) -> list[tuple[int, bytes]]:
    return [(record.number, record.data) for record in log.read(start)]


def test_records_come_back_in_order_and_over_many_segments(tmp_path: Path) -> None:
    with SegmentLog(tmp_path, segment_bytes=200) as log:
        for i in range(100):
            assert log.append(b"%d" % i * 5) == i
        log.sync()
        wanted = [(i, b"%d" % i * 5) for i in range(100)]
        assert everything(log) == wanted
        assert everything(log, 70) == wanted[70:]
        log.acknowledge(60)
        assert everything(log) == wanted[60:]
        assert len(log) == 40
    with SegmentLog(tmp_path, segment_bytes=200) as log:
        assert everything(log) == wanted[60:]
        assert log.append(b"next") == 100
        log.acknowledge(101)
        assert everything(log) == []
    assert len(list(tmp_path.glob("*.seg"))) == 1


def test_a_reader_follows_the_writer(tmp_path: Path) -> None:
    with SegmentLog(tmp_path, segment_bytes=64) as log:
        reader = log.read()
        for i in range(20):
            log.append(bytes([i]) * 10)
            assert next(reader).number == i
        assert next(reader, None) is None


def test_the_bound_pushes_back_and_reading_makes_room(tmp_path: Path) -> None:
    with SegmentLog(tmp_path, max_bytes=1000, segment_bytes=10_000) as log:
        for _ in range(10):
            log.append(bytes(92))
        with pytest.raises(LogFullError, match="1000 bytes"):
            log.append(bytes(92))
        assert log.size <= 1000
        before = everything(log)
        assert len(before) == 10
        log.acknowledge(5)
        log.append(bytes(92))
        log.acknowledge(log.next_number)
        log.append(bytes(900))  # all read: even a record of almost the whole bound fits
        with pytest.raises(LogFullError):
            log.append(bytes(1001))
        assert [number for number, _ in everything(log)] == [11]
    with pytest.raises(ValueError, match="limit"):
        SegmentLog(tmp_path).append(bytes(MAX_RECORD + 1))


def test_several_records_go_in_together_or_not_at_all(tmp_path: Path) -> None:
    with SegmentLog(tmp_path, max_bytes=100) as log:
        with pytest.raises(LogFullError):
            log.append_many([bytes(40), bytes(40), bytes(40)])
        assert len(log) == 0
        assert log.append_many([b"a", b"b"]) == 0
        assert everything(log) == [(0, b"a"), (1, b"b")]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_a_torn_end_is_cut_off_and_the_rest_kept(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    with SegmentLog(folder) as log:
        log.append_many(records)
    file = next(folder.glob("*.seg"))
    length = cut % (file.stat().st_size + 1)
    os.truncate(file, length)
    whole, used = 0, 0
    while whole < len(records) and used + 8 + len(records[whole]) <= length:
        used += 8 + len(records[whole])
        whole += 1
    with SegmentLog(folder) as log:
        assert everything(log) == list(enumerate(records[:whole]))
        assert log.torn_bytes == length - used
        assert log.append(b"more") == whole
        assert everything(log)[-1] == (whole, b"more")


@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_damage_is_never_handed_out(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    records = [bytes([i]) * 20 for i in range(40)]
    with SegmentLog(folder, segment_bytes=150) as log:
        for record in records:
            log.append(record)
    files = sorted(folder.glob("*.seg"))
    file = files[position % len(files)]
    data = bytearray(file.read_bytes())
    data[position % len(data)] ^= flip
    file.write_bytes(data)
    with SegmentLog(folder, segment_bytes=150) as log:
        found = everything(log)
        assert all(records[number] == data for number, data in found)
        missing = len(records) - len(found)
        per_segment = max(len(range(0, 150, 28)), 1)
        assert 1 <= missing <= per_segment
        assert log.skipped + len(found) == log.next_number


class LogMachine(RuleBasedStateMachine):
    """Any sequence of appends, reads, acknowledgements and re-openings agrees with a plain list."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.mkdtemp()
        self.model: list[bytes] = []
        self.cursor = 0
        self.log = SegmentLog(self.folder, segment_bytes=100)

    @rule(data=st.binary(max_size=50))
    def append(self, data: bytes) -> None:
        assert self.log.append(data) == len(self.model)
        self.model.append(data)

    @rule(part=st.floats(0, 1))
    def acknowledge(self, part: float) -> None:
        self.cursor += int((len(self.model) - self.cursor) * part)
        self.log.acknowledge(self.cursor)

    @rule(sync=st.booleans())
    def reopen(self, sync: bool) -> None:
        if sync:
            self.log.sync()
        self.log.close()
        self.log = SegmentLog(self.folder, segment_bytes=100)

    @rule(count=st.integers(0, 5))
    def read_some(self, count: int) -> None:
        for record, _ in zip(self.log.read(), range(count), strict=False):
            assert self.model[record.number] == record.data

    @invariant()
    def agrees(self) -> None:
        assert everything(self.log) == list(enumerate(self.model))[self.cursor :]
        assert len(self.log) == len(self.model) - self.cursor

    def teardown(self) -> None:
        self.log.close()


LogMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestLogMachine = LogMachine.TestCase


APPENDER = """
import sys
from sofa_otel.core.segments import SegmentLog
log = SegmentLog(sys.argv[1], segment_bytes=5000)
while True:
    n = log.append_many([b"%d" % (log.next_number + k) for k in range(7)])
    log.sync()
    print(n + 7, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    with subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.01, 0.2))
        process.send_signal(signal.SIGKILL)
        acknowledged = int(process.stdout.read().split()[-1])
        process.wait()
    with SegmentLog(tmp_path) as log:
        found = everything(log)
        assert len(found) >= acknowledged
        assert found == [(i, b"%d" % i) for i in range(len(found))]


def test_one_writer_only(tmp_path: Path) -> None:
    with SegmentLog(tmp_path), pytest.raises(UsageError, match="in use"):
        SegmentLog(tmp_path)
    SegmentLog(tmp_path).close()


def test_a_damaged_cursor_is_a_typed_error(tmp_path: Path) -> None:
    SegmentLog(tmp_path).close()
    (tmp_path / "cursor.json").write_text("{]")
    with pytest.raises(InputError, match=r"cursor\.json"):
        SegmentLog(tmp_path)
    (tmp_path / "cursor.json").unlink()
    SegmentLog(tmp_path).close()  # the failed opening released its lock


def test_a_cursor_beyond_a_lost_end_does_not_hide_what_comes(tmp_path: Path) -> None:
    with SegmentLog(tmp_path) as log:
        log.append_many([b"a"] * 10)
        log.acknowledge(10)
    os.truncate(next(tmp_path.glob("*.seg")), 0)
    with SegmentLog(tmp_path) as log:
        number = log.append(b"new")
        assert everything(log) == [(number, b"new")]


def fill_up(log: SegmentLog) -> int:
    """Append until the disk refuses; how many it took."""
    for i in range(1000):
        try:
            log.append(bytes([i % 256]) * 3000)
        except LogWriteError as error:
            assert "No space" in str(error)  # noqa: PT017
            return i
    raise AssertionError("the disk never filled")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_and_back(tmp_path: Path) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False, capture_output=True
    ).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with SegmentLog(tmp_path, segment_bytes=5000) as log:
            kept = fill_up(log)
            assert len(everything(log)) == kept > 5
            with pytest.raises(LogWriteError):
                log.append(bytes(9000))
            subprocess.run(["mount", "-o", "remount,size=1m", str(tmp_path)], check=True)
            assert log.append(b"again") == kept
            log.sync()
            assert everything(log)[-1] == (kept, b"again")
            assert len(everything(log)) == kept + 1
        with SegmentLog(tmp_path) as log:
            assert len(everything(log)) == kept + 1
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=False)


def test_a_failed_sync_is_never_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SegmentLog(tmp_path) as log:
        log.append(b"a")

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(LogWriteError, match="Input/output"):
                log.sync()
        with pytest.raises(LogWriteError, match="Input/output"):
            log.sync()
