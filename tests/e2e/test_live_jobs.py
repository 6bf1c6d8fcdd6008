"""Iterations of jobs in many styles are found while they run: hooks on and off, as root and as a plain user."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.bars import has_exact_source, reaches
from harness.jobs import EXAMPLE_JOBS, STYLE_JOBS, Job, select
from harness.live import Options, can_change_user, run_live
from harness.truth import compare

pytestmark = pytest.mark.e2e

STYLES = [job for job in STYLE_JOBS if job.trainer == "demo" and job.iterates]


def check(job: Job, python: Path, options: Options) -> None:
    """Run and hold the result against the job's truth; print the figures when they are off."""
    outcome = run_live(job, python, options)
    assert outcome.code == 0, outcome.stderr
    exact = has_exact_source(job, python, options)
    for rank, truth in outcome.truths.items():
        c = compare(outcome.report, truth, rank)
        assert reaches(job, c, exact), (exact, c)


@pytest.mark.matrix
@pytest.mark.parametrize("job", STYLES, ids=lambda job: job.name)
def test_styles(job, demo_python):
    check(job, demo_python, Options())


@pytest.mark.torch
@pytest.mark.parametrize("name", ["cnn", "gpt"])
def test_torch_with_hooks(name, torch_python):
    check(select(name, EXAMPLE_JOBS)[0], torch_python, Options(hooks="on"))


@pytest.mark.matrix
@pytest.mark.torch
@pytest.mark.parametrize("hooks", ["on", "off"])
@pytest.mark.parametrize("name", ["cnn", "gpt", "torch-closure", "torch-gan"])
def test_torch(name, hooks, torch_python):
    check(select(name, EXAMPLE_JOBS + STYLE_JOBS)[0], torch_python, Options(hooks=hooks))


@pytest.mark.matrix
@pytest.mark.root
@pytest.mark.parametrize("version", ["3.11", "3.13"])
@pytest.mark.parametrize("name", ["digits", "trainer-callbacks"])
def test_plain_user_with_only_the_probe(name, version, trainer):
    if not can_change_user():
        pytest.skip("needs root, unshare and setpriv to change the user")
    check(select(name, EXAMPLE_JOBS + STYLE_JOBS)[0], trainer("demo", version), Options(collect="probe", user="nobody"))


@pytest.mark.matrix
@pytest.mark.root
def test_plain_user_with_every_collector(demo_python):
    if not can_change_user():
        pytest.skip("needs root, unshare and setpriv to change the user")
    check(select("numpy-inline", STYLE_JOBS)[0], demo_python, Options(user="nobody"))
