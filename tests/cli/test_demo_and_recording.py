"""A recording is the exact input: replayed it gives the same records, and the bundled one is explained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.recording import RecordingWriter, read_recording
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables


def sofa(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofa_otel.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_demo_names_the_cause_and_the_page(tmp_path: Path) -> None:
    done = sofa("demo", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "waits for its data loader" in done.stdout
    assert (tmp_path / "run" / "report.html").is_file()
    report = json.loads(sofa("report", tmp_path / "run", "--format", "json").stdout)
    assert report["findings"][0]["id"] == "loader-bound"
    assert abs(report["iterations"]["count"] - 150) <= 3


def test_a_replay_gives_the_same_records_twice(tmp_path: Path) -> None:
    reports = []
    for name in "ab":
        sofa("demo", "-o", tmp_path / name)
        report = json.loads(sofa("report", tmp_path / name, "--format", "json").stdout)
        reports.append({key: report[key] for key in ("iterations", "swarms", "breakdown", "findings")})
    assert reports[0] == reports[1]


def recorded(path: Path) -> Path:
    tables, series = Tables(), SeriesTable()
    name = tables.symbols.intern("f", "m", 4, "f.py", 7)
    writer = RecordingWriter(path)
    writer.events(EventBatch.build(BatchHeader("j", 0, "h", "a"), tables, start_ns=[5, 9], name=name))
    one = series.intern("process.cpu.time", "s", "counter", process__pid="7")
    writer.resources(ResourceBatch(BatchHeader("j", 0, "h", "proc"), series, [6, 7], [one, one], [0.5, 0.75]))
    writer.close()
    return path


def test_batches_come_back_as_they_were(tmp_path: Path) -> None:
    tables, series = Tables(), SeriesTable()
    events, points = list(read_recording(recorded(tmp_path / "r"), tables, series))
    assert isinstance(events, EventBatch)
    assert isinstance(points, ResourceBatch)
    assert events.start_ns.tolist() == [5, 9]
    assert tables.symbols[int(events.name[0])].line == 7
    assert np.allclose(points.value, [0.5, 0.75])
    assert series[int(points.series[0])].attribute("process.pid") == "7"


def test_a_cut_recording_is_read_up_to_the_cut_and_damage_is_named(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r")
    data = path.read_bytes()
    path.write_bytes(data[:-3])
    assert len(list(read_recording(path, Tables(), SeriesTable()))) == 1
    path.write_bytes(data[:8] + b"X" + data[9:])
    with pytest.raises(InputError, match="byte 8"):
        list(read_recording(path, Tables(), SeriesTable()))
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="byte 0"):
        list(read_recording(path, Tables(), SeriesTable()))


def test_the_run_leaves_as_otlp_json(tmp_path: Path) -> None:
    sofa("demo", "-o", tmp_path / "run")
    lines = sofa("report", tmp_path / "run", "--format", "otlp").stdout.splitlines()
    spans = [s for line in lines for r in json.loads(line)["resourceSpans"] for c in r["scopeSpans"] for s in c["spans"]]
    report = json.loads(sofa("report", tmp_path / "run", "--format", "json").stdout)
    assert sum(span["name"] == "sofa.iteration" for span in spans) == len(report["iterations"]["items"])
