"""When does a live run reach the bar?

Where a source gives exact events (Python 3.12's monitoring, torch hooks, system calls) the bar is strict. Where there are only
samples, a step of few samples cannot be resolved: then "too short" is a right answer, and a wrong one must not be sure of itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.jobs import Job
from harness.live import Options
from harness.truth import Comparison

COUNT, MEDIAN, LOCK = 0.02, 0.03, 12
SURE = 0.5
SAMPLED_STEP_S = 0.040
"""20 samples at the 500 Hz that the sampler may rise to."""

TRACEFS = Path("/sys/kernel/tracing")


def has_exact_source(job: Job, python: Path, options: Options) -> bool:
    """Whether anything but samples can be had for this run."""
    probe = [str(python), "-I", "-c", "import sys; sys.exit(sys.version_info < (3, 12))"]
    if subprocess.run(probe, check=False).returncode == 0 or (job.trainer == "torch" and options.hooks == "on"):
        return True
    return options.collect == "auto" and options.user == "root" and (TRACEFS / "events").exists()


def reaches(job: Job, c: Comparison, exact: bool) -> bool:
    """The bar of live iterations for one rank."""
    if not job.iterates:
        return not c.found or c.confidence <= SURE
    right = (
        c.found
        and c.locked_after <= LOCK
        and abs(c.count_error) <= max(COUNT, 1 / c.truth_count)
        and abs(c.median_error) <= MEDIAN
    )
    if right or exact or c.truth_median_s >= SAMPLED_STEP_S:
        return right
    return c.confidence <= SURE if c.found else bool(c.reason)
