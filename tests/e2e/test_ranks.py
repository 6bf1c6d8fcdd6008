"""Several ranks: one ``sofa run`` around a launcher, or one each side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.bars import reaches
from harness.jobs import EXAMPLE_JOBS, STYLE_JOBS, select
from harness.live import job_command
from harness.truth import compare, read_truth

pytestmark = pytest.mark.e2e


@pytest.mark.torch
@pytest.mark.parametrize("start", ["spawn", "torchrun"])
def test_two_ranks_in_one_run(sofa, torch_python, start, request):
    job = select("ddp", EXAMPLE_JOBS)[0]
    prefix: list[str] = []
    if start == "torchrun":
        job = replace(job, launcher=("torch.distributed.run", "--standalone", "--nproc-per-node", "2"))
        prefix = request.getfixturevalue("network_namespace")
    truth, run = sofa.folder / "truth.json", sofa.folder / "run"
    command = sofa.command("run", "-o", run, "--port", "0", "--", *job_command(job, torch_python, truth))
    done = sofa.plain(*prefix, *command, GLOO_SOCKET_IFNAME="lo")
    assert done.returncode == 0, done.stderr
    report = sofa.report(run)
    assert sorted(r["rank"] for r in report["iterations"]["by_rank"]) == [0, 1]
    assert report["run"]["ranks"] == [0, 1]
    assert report["run"]["world_size"] == 2
    for rank, path in ((0, truth), (1, sofa.folder / "truth.r1.json")):
        c = compare(report, read_truth(path), rank)
        assert c.found, c.reason
        assert abs(c.count_error) <= 0.02, c
        assert abs(c.median_error) <= 0.03, c


def test_two_runs_side_by_side(sofa, demo_python):
    job = select("trainer-callbacks", STYLE_JOBS)[0]
    run = sofa.folder / "run"
    started = []
    for rank in (0, 1):
        truth = sofa.folder / f"truth{rank}.json"
        command = job_command(job, demo_python, truth)
        started.append(sofa.start("run", "-o", run, "--", *command, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"))
    for process in started:
        _, stderr = process.communicate(timeout=180)
        assert process.returncode == 0, stderr
    names = sorted(p.name for p in sofa.folder.iterdir() if p.name.startswith("run"))
    assert len(names) == 2, names
    assert names[0] == "run"
    assert names[1] in ("run-r0", "run-r1"), names
    report = sofa.report(*(sofa.folder / name for name in names))
    by_rank = report["iterations"]["by_rank"]
    assert sorted(r["rank"] for r in by_rank) == [0, 1]
    for rank in (0, 1):
        c = compare(report, read_truth(sofa.folder / f"truth{rank}.json"), rank)
        assert reaches(job, c, exact=False), c
