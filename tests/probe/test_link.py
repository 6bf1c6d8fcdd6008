"""The agent may be absent, late, stalled or killed: the program neither notices nor waits."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sofa_otel.core.kinds import Kind
from sofa_otel.exporters.collect.probe import ProbeCollector, probe_folder
from sofa_otel.exporters.collector import Target

PROGRAM = """
import time
end, turns = time.time() + {seconds}, 0
while time.time() < end:
    sum(range(1000))
    time.sleep(.001)
print('done')
"""


def launch(python: str, socket_path: Path, seconds: float, **more: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SOFA_", "PYTHON"))}
    environment |= {"PYTHONPATH": str(probe_folder()), "SOFA_PROBE_SOCKET": str(socket_path), **more}
    command = [python, "-c", PROGRAM.format(seconds=seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("s") / "p"
    assert len(os.fsencode(path)) <= 100
    return path


@pytest.mark.parametrize("listening", [False, True], ids=["nobody", "never reads"])
def test_program_ends_well_without_a_reader(python: str, short_path: Path, listening: bool) -> None:
    listener = socket.socket(socket.AF_UNIX)
    if listening:
        listener.bind(str(short_path))
        listener.listen(1)
    with listener:
        process = launch(python, short_path, 2.0, SOFA_PROBE_RATE="1000", SOFA_PROBE_BUDGET="1")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "done\n", "")


def test_late_reader_gets_what_was_first(sink: Any, python: str, short_path: Path) -> None:
    process = launch(python, short_path, 4.0)
    time.sleep(1.6)
    collector = ProbeCollector(str(short_path))
    collector.start(Target(pid=0, job="j", rank=0, host="h", run_dir="/tmp"), sink)
    try:
        while process.poll() is None:
            collector.poll(time.time_ns())
            time.sleep(0.02)
        collector.poll(time.time_ns())
    finally:
        collector.stop()
    assert process.communicate()[0] == "done\n"
    times = [int(t) for batch in sink.batches for t in batch.start_ns[batch.kind == Kind.PYTHON_SAMPLE]]
    assert times[-1] - times[0] > 2_500_000_000, "samples from before the connection are there"


def test_second_reader_takes_over_from_a_dead_one(sink: Any, python: str, short_path: Path) -> None:
    process = launch(python, short_path, 5.0)
    target = Target(pid=0, job="j", rank=0, host="h", run_dir="/tmp")
    first = ProbeCollector(str(short_path))
    first.start(target, sink)
    deadline = time.monotonic() + 20
    while not sink.batches and time.monotonic() < deadline:
        first.poll(time.time_ns())
        time.sleep(0.02)
    first.stop()
    before = len(sink.batches)
    assert before
    second = ProbeCollector(str(short_path))
    second.start(target, sink)
    try:
        while process.poll() is None:
            second.poll(time.time_ns())
            time.sleep(0.02)
        second.poll(time.time_ns())
    finally:
        second.stop()
    assert process.communicate() == ("done\n", "")
    assert len(sink.batches) > before
    assert sink.warnings == []


def test_something_else_on_the_socket_is_turned_away(sink: Any, short_path: Path) -> None:
    collector = ProbeCollector(str(short_path))
    collector.start(Target(pid=0, job="j", rank=0, host="h", run_dir="/tmp"), sink)
    try:
        assert short_path.stat().st_mode & 0o777 == 0o666
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(short_path))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            collector.poll(0)
            collector.poll(0)
            assert stranger.recv(1) == b""
        assert len(sink.warnings) == 1
    finally:
        collector.stop()
    assert not short_path.exists()
