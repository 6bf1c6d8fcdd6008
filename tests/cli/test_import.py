"""``sofa import``: from another program's file to a report, and what it says when there is nothing to read."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STEPS = 60
START_US = 1_700_000_000_000_000.0


def sofa(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sofa_otel.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, input=stdin)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def trace(rank: int = 0, steps: int = STEPS, kernels: int = 30) -> dict[str, Any]:
    """A GPU training trace: layers forth and back, an optimiser at the end, a mark around each step of about 20 ms."""
    events: list[dict[str, Any]] = []
    at = START_US

    def kernel(name: str, length: float) -> None:
        nonlocal at
        events.append(
            {"ph": "X", "cat": "kernel", "name": name, "pid": 0, "tid": 7, "ts": round(at, 3), "dur": length,
             "args": {"device": 0, "stream": 7, "correlation": len(events)}}
        )  # fmt: skip
        at += length + 5.25

    for step in range(steps):
        began = at
        for layer in range(kernels):
            kernel(f"gemm_{layer % 5}", 180.5 + 7 * (layer % 5) + (step * 31 + layer * 17) % 11)
        for layer in range(kernels):
            kernel(f"gemm_backward_{layer % 5}", 340.25 + 7 * (layer % 5) + (step * 13 + layer * 7) % 11)
        for _ in range(4):
            kernel("multi_tensor_apply_kernel<adam>", 95.125)
        mark = {"ph": "X", "cat": "user_annotation", "name": f"ProfilerStep#{step}", "pid": 100, "tid": 100}
        events.append(mark | {"ts": round(began, 3), "dur": round(at - began, 3)})
    return {"schemaVersion": 1, "distributedInfo": {"rank": rank, "world_size": 2}, "traceEvents": events}


def report(run: Path) -> dict[str, Any]:
    done = sofa("report", run, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    for rank in (0, 1):
        (folder / f"rank{rank}.json").write_text(json.dumps(trace(rank)))
    (folder / "rank0.json.gz").write_bytes(gzip.compress((folder / "rank0.json").read_bytes()))
    return folder


def test_iterations_are_found_and_marks_only_compared(folder: Path, tmp_path: Path) -> None:
    done = sofa("import", folder / "rank0.json.gz", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = report(tmp_path / "run")
    iterations = found["iterations"]
    assert iterations["found"], iterations["reason"]
    assert abs(iterations["count"] - STEPS) <= 1
    assert iterations["source"] != "marks"
    assert found["marks"]["count"] == STEPS
    assert abs(iterations["duration_s"]["median"] / found["marks"]["period_s"] - 1) < 0.02
    assert found["swarms"]
    assert found["run"]["job"] == "rank0"
    assert not list((tmp_path / "run").glob(".import-*"))


def test_trusted_marks_are_the_iterations(folder: Path, tmp_path: Path) -> None:
    done = sofa("import", folder / "rank0.json", "--trust-marks", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    iterations = report(tmp_path / "run")["iterations"]
    assert (iterations["source"], iterations["count"]) == ("marks", STEPS)
    assert iterations["items"][0]["start_ns"] == int(START_US) * 1000


def test_ranks_in_several_files_are_one_job(folder: Path, tmp_path: Path) -> None:
    done = sofa("import", folder / "rank0.json", folder / "rank1.json", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = report(tmp_path / "run")
    assert found["run"]["ranks"] == [0, 1]
    assert sorted(row["rank"] for row in found["iterations"]["by_rank"]) == [0, 1]


def test_standard_input_is_read(folder: Path, tmp_path: Path) -> None:
    done = sofa("import", "-", "-o", tmp_path / "run", stdin=(folder / "rank0.json.gz").read_bytes())
    assert done.returncode == 0, done.stderr
    assert report(tmp_path / "run")["iterations"]["found"]


def test_a_cut_file_keeps_what_is_whole_and_says_what_is_lost(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "rank0.json").read_bytes()
    (tmp_path / "cut.json").write_bytes(whole[: len(whole) // 2])
    done = sofa("import", tmp_path / "cut.json", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = report(tmp_path / "run")
    assert abs(found["iterations"]["count"] - STEPS / 2) <= 2
    assert any("cut.json" in warning for warning in found["run"]["warnings"]), found["run"]["warnings"]


@pytest.mark.parametrize(
    ("content", "arguments", "code", "said"),
    [
        (b"", [], 2, "x.bin, byte 0: the file is empty"),
        (b"\x00\x01\x02nothing that anybody knows", [], 2, "x.bin, byte 0: no importer knows"),
        (b"\x1f\x8b\x08garbage", [], 2, "x.bin"),
        (b"{}", ["--from", "kineto"], 2, "x.bin"),
        (b"{}", ["--from", "nonsense"], 2, "no importer is called 'nonsense'"),
        (b"{}", ["--from", "nsys"], 3, "nsys is not part of this version"),
    ],
)
def test_says_what_was_wrong(tmp_path: Path, content: bytes, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    done = sofa("import", tmp_path / "x.bin", *arguments, "-o", tmp_path / "run")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = sofa("import", tmp_path / "none.json", "-o", tmp_path / "run")
    assert done.returncode == 2
    assert "none.json does not exist" in done.stderr


@pytest.mark.parametrize("form", ["folder", "link"])
def test_a_failed_import_leaves_the_users_folder_as_it_was(tmp_path: Path, form: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "x.bin").write_bytes(b"nothing that anybody knows")
    done = sofa("import", tmp_path / "x.bin", "-o", tmp_path / ("mine" if form == "folder" else "link"))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "mine").iterdir())


def test_a_file_named_twice_is_read_once(folder: Path, tmp_path: Path) -> None:
    name = folder / "rank0.json"
    assert sofa("import", name, name, "-o", tmp_path / "run").returncode == 0
    assert report(tmp_path / "run")["run"]["collectors"][0]["events"] == len(trace()["traceEvents"])
