"""Runs small programs under the in-process probe, in every interpreter that can be found, and gives back what the collector saw.

``SOFA_TEST_PYTHONS`` (paths, colon separated) says which interpreters; without it ``python3.X`` on PATH and pyenv's versions
are used, one for each minor version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Call, Kind, Wait
from sofa_otel.core.records import CaptureRequest
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Symbol, Tables
from sofa_otel.exporters.collect.probe import ProbeCollector
from sofa_otel.exporters.collect.probe_stream import ProbeStream
from sofa_otel.exporters.collector import Target

OLDEST, NEWEST = 8, 14


def _version(path: str) -> tuple[int, int] | None:
    try:
        command = [path, "-c", "import sys; print('%d %d' % sys.version_info[:2])"]
        text = subprocess.check_output(command, text=True, timeout=20, stderr=subprocess.DEVNULL)
        major, minor = text.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def find_pythons() -> dict[tuple[int, int], str]:
    """One interpreter for each version, 2.7 and other old ones included."""
    listed = os.environ.get("SOFA_TEST_PYTHONS", "")
    if listed:
        candidates = listed.split(os.pathsep)
    else:
        candidates = [found for minor in range(6, NEWEST + 2) if (found := shutil.which(f"python3.{minor}"))]
        candidates += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/*/bin/python"))]
    found: dict[tuple[int, int], str] = {}
    for path in [*candidates, sys.executable]:
        version = _version(path)
        if version is not None:
            found.setdefault(version, path)
    return found


PYTHONS = find_pythons()
SUPPORTED = {version: path for version, path in PYTHONS.items() if (3, OLDEST) <= version <= (3, NEWEST)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``python``: every supported interpreter; ``monitoring_python``: from 3.12 on; ``old_python``: before 3.8."""
    for name, chosen in (
        ("python", SUPPORTED),
        ("monitoring_python", {v: p for v, p in SUPPORTED.items() if v >= (3, 12)}),
        ("old_python", {v: p for v, p in PYTHONS.items() if v < (3, OLDEST)}),
    ):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [pytest.param(p, id=f"{v[0]}.{v[1]}") for v, p in sorted(chosen.items())])


class MemorySink:
    """Keeps everything."""

    def __init__(self) -> None:
        self.tables, self.series = Tables(), SeriesTable()
        self.batches: list[EventBatch] = []
        self.points: list[ResourceBatch] = []
        self.warnings: list[str] = []

    def events(self, batch: EventBatch) -> None:
        self.batches.append(batch)

    def resources(self, batch: ResourceBatch) -> None:
        self.points.append(batch)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@dataclass
class Seen:
    """What a watched program did and what was seen of it."""

    code: int
    out: str
    err: str
    pid: int
    sink: MemorySink
    streams: list[ProbeStream] = field(default_factory=list)

    def rows(self, kind: Kind) -> Iterator[tuple[EventBatch, int]]:
        for batch in self.sink.batches:
            for row in range(len(batch)):
                if batch.kind[row] == kind:
                    yield batch, row

    def states(self, main: bool = True, pid: int = 0) -> Counter[Wait]:
        """Nanoseconds by thread state of main (or all other) threads of one process."""
        total: Counter[Wait] = Counter()
        for batch, row in self.rows(Kind.PYTHON_SAMPLE):
            if batch.pid[row] == (pid or self.pid) and bool(batch.tid[row] == batch.pid[row]) == main:
                total[Wait(int(batch.subkind[row]))] += int(batch.duration_ns[row])
        return total

    def symbols(self, kind: Kind) -> Counter[Symbol]:
        """Rows by symbol."""
        return Counter(self.sink.tables.symbols[int(batch.name[row])] for batch, row in self.rows(kind))

    def calls(self, subkind: Call) -> Counter[tuple[str, int]]:
        """PYTHON_CALL rows by function and line."""
        total: Counter[tuple[str, int]] = Counter()
        for batch, row in self.rows(Kind.PYTHON_CALL):
            if batch.subkind[row] == subkind:
                symbol = self.sink.tables.symbols[int(batch.name[row])]
                total[symbol.function, symbol.line] += 1
        return total

    def stack(self, batch: EventBatch, row: int) -> list[str]:
        """Functions of a row's call path, outermost first."""
        tables = self.sink.tables
        return [tables.symbols[symbol].function for symbol in tables.paths.frames(int(batch.path[row]))]


Watch = Callable[..., Seen]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Run a program under the probe: ``watch(python, source, *arguments, options=[...], env={...})``."""

    def run(
        python: str,
        source: str,
        *arguments: str,
        options: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        request: CaptureRequest | None = None,
        probe: bool = True,
        counters: bool = True,
    ) -> Seen:
        script = tmp_path / "program.py"
        script.write_text(source)
        sink = MemorySink()
        collector = ProbeCollector(counters=counters)
        collector.start(Target(pid=0, job="job", rank=3, host="here", run_dir=str(tmp_path)), sink)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SOFA_", "PYTHON"))}
        if probe:
            environment |= collector.environment() | {"SOFA_PROBE_DEBUG": "1"}
        environment |= env or {}
        out, err = tmp_path / "out.txt", tmp_path / "err.txt"
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [python, *options, str(script), *arguments], stdout=out_file, stderr=err_file, env=environment, cwd=tmp_path
            )
            streams: dict[int, ProbeStream] = {}
            deadline = time.monotonic() + 120
            asked = request is None
            while process.poll() is None and time.monotonic() < deadline:
                collector.poll(time.time_ns())
                streams |= {id(stream): stream for stream in collector.processes()}
                if request is not None and not asked and streams:
                    collector.request(request)
                    asked = True
                time.sleep(0.02)
            if process.poll() is None:
                process.kill()
                process.wait()
                pytest.fail("the watched program did not end")
        collector.poll(time.time_ns())
        streams |= {id(stream): stream for stream in collector.processes()}
        collector.stop()
        return Seen(process.returncode, out.read_text(), err.read_text(), process.pid, sink, list(streams.values()))

    return run


@pytest.fixture
def alone(watch: Watch) -> Watch:
    """The same program without the probe."""

    def run(python: str, source: str, *arguments: str, **more: object) -> Seen:
        return watch(python, source, *arguments, probe=False, **more)

    return run


@pytest.fixture
def sink() -> MemorySink:
    """An empty sink."""
    return MemorySink()
