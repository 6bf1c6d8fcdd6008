"""Bad usage and missing things: exit code, what was wrong, what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def sofa(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofa_otel.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "--", "no-such-program"], 2, "no program 'no-such-program'"),
        (["run"], 2, "Missing argument"),
        (["run", "--collect", "nonsense", "-o", "{tmp}/r", "--", "true"], 2, "no collector is called 'nonsense'"),
        (["run", "--collect", "nvml", "-o", "{tmp}/r", "--", "true"], 3, "nvml"),
        (["run", "--gpu-trace", "5", "--", "true"], 3, "--gpu-trace"),
        (["report", "{tmp}/nothing"], 2, "not a run"),
        (["report", "{tmp}/nothing", "--format", "pprof"], 2, "not a run"),
        (["attach", "999999999"], 2, "no process 999999999"),
        (["attach"], 2, "name one of PID"),
        (["top", "{tmp}/nothing"], 2, "not a run"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_says_what_was_wrong(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = sofa(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "attach", "top", "report", "runs", "demo", "doctor"])
def test_every_command_has_help(command: str) -> None:
    done = sofa(command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_doctor_is_one_json_document() -> None:
    document = json.loads(sofa("doctor", "--format", "json").stdout)
    assert document["schema"] == "sofa/doctor/v1"
    collectors = {one["name"]: one for one in document["collectors"]}
    assert collectors["probe"]["usable"]
    assert all(one["usable"] or (one["missing"] and one["remedy"]) for one in collectors.values())


def test_a_cut_off_run_directory_is_listed_and_pruned_safely(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for name in ("a", "b"):
        assert sofa("demo", "-o", folder / name).returncode == 0
    (folder / "not-a-run").mkdir()
    rows = json.loads(sofa("runs", "list", "--folder", folder, "--format", "json").stdout)["runs"]
    assert len(rows) == 2
    assert sofa("runs", "prune", "--folder", folder, "--keep", "1").returncode == 0
    assert sorted(path.name for path in folder.iterdir())[-1] == "not-a-run"
    assert len(list(folder.iterdir())) == 2
