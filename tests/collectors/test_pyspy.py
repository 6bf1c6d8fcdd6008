"""Python stacks from outside: a real process, real times, nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collector_sink import KeepingSink, target
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collect import pyspy
from sofa_otel.exporters.collect.pyspy import PySpyCollector
from sofa_otel.exporters.collect.pyspy_trace import parse_trace

WORK = """
import time
def compute():
    end = time.perf_counter() + .15
    while time.perf_counter() < end: pass
def rest():
    time.sleep(.15)
def main():
    while True:
        compute(); rest()
main()
"""


@pytest.fixture
def job():
    if not PySpyCollector().probe().usable:
        pytest.skip(PySpyCollector().probe().missing)
    child = subprocess.Popen([sys.executable, "-I", "-c", WORK])
    yield child
    child.kill()
    child.wait()


def pyspies_of(pid: int) -> list[int]:
    out = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"record" in command and str(pid).encode() in command and b"py-spy" in command[0]:
                out.append(int(name))
    return out


def until(collector: PySpyCollector, done: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:  # type: ignore[operator]
        collector.poll(time.time_ns())
        time.sleep(0.05)
    assert done()  # type: ignore[operator]


def test_samples_of_a_process_without_probe(job: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "_GRACE_NS", 0)
    sink, collector = KeepingSink(), PySpyCollector()
    began = time.time_ns()
    collector.start(target(job.pid), sink)
    until(collector, lambda: sink.batches)
    collector.poll(time.time_ns())
    assert pyspies_of(job.pid), "the next chunk runs"
    collector.stop()
    assert pyspies_of(job.pid) == [], "and is ended at once"
    collector.stop()
    batch = sink.batches[0]
    assert (batch.kind == Kind.PYTHON_SAMPLE).all()
    assert set(batch.tid.tolist()) == {job.pid}
    assert (batch.start_ns[1:] > batch.start_ns[:-1]).all()
    assert began < batch.start_ns[0]
    assert batch.start_ns[-1] < time.time_ns()
    names = [sink.tables.symbols[name].function for name in batch.name.tolist()]
    assert names.count("compute") > len(names) * 0.2
    assert names.count("rest") > len(names) * 0.2
    functions = [sink.tables.symbols[frame].function for frame in sink.tables.paths.frames(int(batch.path[0]))]
    assert functions[:2] == ["<module>", "main"]
    covered = int(batch.duration_ns.sum())
    assert covered == pytest.approx(int(batch.start_ns[-1] - batch.start_ns[0]) + int(batch.duration_ns[0]), rel=0.01)
    assert batch.header.source == f"pyspy/{job.pid}"
    assert collector.stats().cpu_s > 0
    assert collector.stats().events == len(batch)


def test_a_process_with_a_probe_is_left_alone(job: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "_GRACE_NS", 0)
    sink, collector = KeepingSink(), PySpyCollector()
    collector.has_probe = lambda pid: pid == job.pid
    collector.start(target(job.pid), sink)
    collector.poll(time.time_ns())
    assert pyspies_of(job.pid) == []
    collector.has_probe = lambda pid: False
    collector.poll(time.time_ns())
    assert len(pyspies_of(job.pid)) == 1
    collector.request(CaptureRequest(source="pyspy", mode="off"))
    assert pyspies_of(job.pid) == [], "off ends it at once"
    collector.poll(time.time_ns())
    assert pyspies_of(job.pid) == []
    collector.stop()
    assert job.poll() is None, "the target lives"


def test_it_dies_with_us(job: subprocess.Popen[bytes]) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from collector_sink import KeepingSink, target
from sofa_otel.exporters.collect import pyspy
pyspy._GRACE_NS = 0
c = pyspy.PySpyCollector(); c.start(target({job.pid}), KeepingSink()); c.poll(time.time_ns())
print('up', flush=True); time.sleep(60)
"""
    agent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"up\n"
    assert pyspies_of(job.pid)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    deadline = time.monotonic() + 10
    while pyspies_of(job.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pyspies_of(job.pid) == []
    assert job.poll() is None


@pytest.mark.parametrize(("scope", "usable"), [("0", True), ("1", False), ("2", False), ("3", False)])
def test_probe_reads_yama(tmp_path: Path, scope: str, usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc/sys/kernel/yama").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/status").write_text("CapEff:\t0000000000000000\n")
    (tmp_path / "proc/sys/kernel/yama/ptrace_scope").write_text(f"{scope}\n")
    monkeypatch.setattr(pyspy, "find_pyspy", lambda: "/usr/bin/py-spy")
    capability = PySpyCollector(root=str(tmp_path)).probe()
    assert capability.usable is usable
    assert usable or (f"ptrace_scope is {scope}" in capability.missing and capability.remedy)


def test_probe_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "find_pyspy", lambda: "")
    capability = PySpyCollector().probe()
    assert not capability.usable
    assert "sofa-otel[run]" in capability.remedy


def begin(name: str, ts: int, line: int = 1, file: str = "/a/b.py") -> dict[str, object]:
    return {"args": {"filename": file, "line": line}, "name": name, "ph": "B", "pid": 1, "tid": 7, "ts": ts}


def end(name: str, ts: int) -> dict[str, object]:
    return {"name": name, "ph": "E", "pid": 1, "tid": 7, "ts": ts}


def test_a_change_below_the_top_keeps_the_outer_frames() -> None:
    events = [begin("thread (42): Main", 5, 0, ""), begin("f", 5), begin("g", 5, 9), end("g", 25), begin("h", 25), end("h", 30)]
    runs = parse_trace(json.dumps([*events, end("f", 30), end("thread (42): Main", 30)]).encode())
    assert [(run.tid, run.start_us, run.end_us, [frame.function for frame in run.frames]) for run in runs] == [
        (42, 5, 25, ["f", "g"]),
        (42, 25, 30, ["f", "h"]),
    ]
    assert runs[0].frames[1].line == 9
    assert runs[0].frames[1].module == "b"


@given(
    st.one_of(st.binary(max_size=200), st.recursive(st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
)
def test_any_bytes_give_runs_or_an_input_error(data: bytes) -> None:
    try:
        parse_trace(data)
    except InputError:
        pass


def test_an_end_without_its_begin_is_named() -> None:
    with pytest.raises(InputError, match="event 1"):
        parse_trace(json.dumps([begin("f", 1), end("g", 2)]).encode())
