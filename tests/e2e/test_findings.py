"""A cause that is injected into a training job leads the report; a healthy job has no finding."""

from __future__ import annotations

import pytest
from harness.jobs import CAUSE_JOBS
from harness.live import run_live

pytestmark = pytest.mark.e2e


CERTAIN = {"healthy", "quota-40", "threads-processes"}
"""Causes that need no iterations to be told: right also where only samples are there."""


@pytest.mark.parametrize(
    "job",
    [pytest.param(job, marks=() if job.name in CERTAIN else pytest.mark.matrix) for job in CAUSE_JOBS if job.name != "digits"],
    ids=lambda job: job.name,
)
def test_first_finding(job, demo_python):
    outcome = run_live(job, demo_python)
    if outcome.code == 77:
        pytest.skip(outcome.stderr.strip().splitlines()[-1])
    assert outcome.code == 0, outcome.stderr
    serious = [f["id"] for f in outcome.report["findings"] if f["severity"] != "info"]
    if job.cause:
        assert serious[:1] == [job.cause], outcome.report["breakdown"]
    else:
        assert serious == [], outcome.report["findings"]
