"""The process tree: who belongs to it, and totals to which nothing is added twice and from which nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collector_sink import DATA, KeepingSink, target
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core import names
from sofa_otel.exporters.collect.proc import EXITED, ProcCollector
from sofa_otel.exporters.collect.process_table import parse_io, parse_stat, parse_switches

S = 1_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(DATA / "proc_v2", tmp_path / "root")
    return tmp_path / "root"


def started(root: Path | str, pid: int) -> tuple[ProcCollector, KeepingSink]:
    sink = KeepingSink()
    collector = ProcCollector()
    collector.start(target(pid, root), sink)
    return collector, sink


def tree_cpu(sink: KeepingSink) -> float:
    """CPU time over all series, each with its last value: what a reader of the run computes."""
    latest: dict[int, float] = {}
    for batch in sink.points:
        latest.update(zip(batch.series.tolist(), batch.value.tolist(), strict=True))
    return sum(value for series, value in latest.items() if sink.series[series].metric == names.PROCESS_CPU_TIME.name)


def edit_stat(root: Path, pid: int, **changes: int) -> None:
    path = root / f"proc/{pid}/stat"
    head, _, rest = path.read_text().rpartition(")")
    fields = rest.split()
    positions = {"ppid": 1, "utime": 11, "stime": 12, "cutime": 13, "cstime": 14, "threads": 17}
    for key, value in changes.items():
        fields[positions[key]] = str(value)
    path.write_text(f"{head}) {' '.join(fields)}\n")


def vanish(root: Path, pid: int) -> None:
    """End a recorded process: a descriptor on its files then reads nothing, as in a live /proc."""
    for file in (root / f"proc/{pid}").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    shutil.rmtree(root / f"proc/{pid}")


def test_children_reparented_daemons_and_wrapped_pids_belong(root: Path) -> None:
    collector, _ = started(root, 4100)
    collector.poll(S)
    assert sorted(collector.pids()) == [90, 4100, 4200, 4300]


def test_points_of_one_process(root: Path) -> None:
    collector, sink = started(root, 4100)
    collector.poll(S)
    pid = {"process__pid": "4100"}
    assert sink.value(names.PROCESS_CPU_TIME, cpu__mode="user", **pid) == 5.0
    assert sink.value(names.PROCESS_MEMORY_USAGE, **pid) == 25600 * os.sysconf("SC_PAGE_SIZE")
    assert sink.value(names.PROCESS_THREAD_COUNT, **pid) == 2
    assert sink.value(names.PROCESS_DISK_IO, disk__io__direction="read", **pid) == 1 << 20
    assert sink.value(names.PROCESS_RUN_DELAY, **pid) == pytest.approx(0.3), "of both threads"
    assert sink.value(names.PROCESS_CONTEXT_SWITCHES, process__context_switch__type="voluntary", **pid) == 340
    assert sink.value(names.PROCESS_CPU_TIME, cpu__mode="user", process__pid=EXITED) == 0.3
    assert sink.points[0].header.rank == 3
    assert set(sink.points[0].time_ns.tolist()) == {S}


def test_runnable_is_the_mean_number_of_threads_that_wanted_a_cpu(root: Path) -> None:
    collector, sink = started(root, 4100)
    collector.poll(S)
    assert sink.value(names.PROCESS_RUNNABLE, process__pid="4100") is None, "one reading has no rate"
    (root / "proc/4100/task/4100/schedstat").write_text(f"{6 * S} {int(1.25 * S)} 11\n")
    (root / "proc/4100/task/4101/schedstat").write_text(f"{int(1.5 * S)} 50000000 11\n")
    collector.poll(2 * S)
    assert sink.value(names.PROCESS_RUNNABLE, process__pid="4100") == pytest.approx(2.5)


def test_a_waited_for_child_is_counted_once(root: Path) -> None:
    collector, sink = started(root, 4100)
    collector.poll(S)
    before = tree_cpu(sink)
    vanish(root, 4200)
    edit_stat(root, 90, ppid=1)
    collector.poll(2 * S)  # gone, the parent has not waited yet
    assert tree_cpu(sink) == pytest.approx(before)
    edit_stat(root, 4100, cutime=30 + 195, cstime=10 + 12)  # it had used 70 ms more than we had seen
    collector.poll(3 * S)
    assert tree_cpu(sink) == pytest.approx(before + 0.07)
    assert 90 in collector.pids()


def test_a_parent_that_ignores_its_children_loses_none(root: Path) -> None:
    status = root / "proc/4100/status"
    status.write_text(status.read_text().replace("SigIgn:\t0000000001001000", "SigIgn:\t0000000000010000"))
    collector, sink = started(root, 4100)
    collector.poll(S)
    before = tree_cpu(sink)
    vanish(root, 4200)
    collector.poll(2 * S)
    edit_stat(root, 4100, cutime=31)
    collector.poll(3 * S)
    assert tree_cpu(sink) == pytest.approx(before + 0.01)


def test_the_root_may_go_first(root: Path) -> None:
    collector, sink = started(root, 4100)
    collector.poll(S)
    before = tree_cpu(sink)
    vanish(root, 4100)
    edit_stat(root, 4200, ppid=1, utime=200)
    collector.poll(2 * S)
    collector.poll(3 * S)
    assert tree_cpu(sink) == pytest.approx(before + 0.10)
    assert sorted(collector.pids()) == [90, 4200, 4300]


def test_disk_bytes_of_a_waited_for_child_are_counted_once(root: Path) -> None:
    def disk(sink: KeepingSink) -> float:
        latest: dict[int, float] = {}
        for batch in sink.points:
            latest.update(zip(batch.series.tolist(), batch.value.tolist(), strict=True))
        return sum(v for s, v in latest.items() if sink.series[s].metric == names.PROCESS_DISK_IO.name)

    collector, sink = started(root, 4100)
    collector.poll(S)
    before = disk(sink)
    vanish(root, 4200)
    io = root / "proc/4100/io"
    io.write_text(io.read_text().replace("read_bytes: 1048576", f"read_bytes: {1048576 + 8192 + 100}"))
    collector.poll(2 * S)
    assert disk(sink) == pytest.approx(before + 100)


def test_a_target_that_never_existed_is_harmless(tmp_path: Path) -> None:
    collector, sink = started(tmp_path, 123)
    collector.poll(S)
    collector.stop()
    collector.poll(2 * S)
    assert sink.points == []


def test_live_tree_with_short_lived_grandchildren() -> None:
    """Busy children that live shorter than a poll: their CPU time is in the total."""
    burn = "import time\nend = time.process_time() + .3\nwhile time.process_time() < end: pass"
    script = f"""
import subprocess, sys
for _ in range(2):
    subprocess.run([sys.executable, '-c', {burn!r}])
print('done', flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        collector, sink = started("/", child.pid)
        collector.poll(time.time_ns())
        assert child.stdout is not None
        child.stdout.readline()
        collector.poll(time.time_ns())
        total = tree_cpu(sink)
        assert 0.6 <= total < 2.0
        assert sink.value(names.PROCESS_CPU_TIME, cpu__mode="user", process__pid=EXITED) is not None
        assert collector.stats().dropped == 0
        assert collector.stats().cpu_s > 0
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    collector.poll(time.time_ns())
    assert tree_cpu(sink) >= total
    assert collector.pids() == []
    collector.stop()


def test_a_process_reports_under_its_own_rank(root: Path) -> None:
    (root / "proc/4200/environ").write_bytes(b"SLURM_PROCID=9\0RANK=1\0HOME=/\0")
    (root / "proc/4300/environ").write_bytes(b"RANK=\0PMI_RANK=x\0")
    collector, sink = started(root, 4100)
    collector.poll(S)
    pids: dict[int, set[str]] = {}
    for batch in sink.points:
        pids.setdefault(batch.header.rank, set()).update(
            sink.series[series].attribute(names.PROCESS_PID) for series in batch.series.tolist()
        )
    assert pids[1] == {"4200"}, "torchrun's own variable comes before Slurm's"
    assert pids[3] == {"90", "4100", "4300", EXITED}
    assert [batch.header.seq for batch in sink.points] == list(range(len(sink.points)))


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    collector, _ = started(root, 4100)
    for tick in range(1, 4):
        collector.poll(tick * S)
    assert len(os.listdir("/proc/self/fd")) > before
    collector.stop()
    assert len(os.listdir("/proc/self/fd")) == before


@given(st.binary(max_size=300))
def test_parsers_take_any_bytes(data: bytes) -> None:
    for parse in (parse_stat, parse_io, parse_switches):
        try:
            parse(data)
        except (ValueError, IndexError):
            pass  # the collector counts these as a lost reading


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=15), st.integers(1, 1 << 22))
def test_any_process_name_is_read(name: str, ppid: int) -> None:
    fields = " ".join(str(number) for number in range(100, 146))
    stat = parse_stat(f"42 ({name}) S {ppid} {fields}\n".encode())
    assert stat is not None
    assert (stat.comm, stat.ppid) == (name, ppid)
