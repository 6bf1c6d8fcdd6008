"""Starts a job under ``sofa run``, waits for both, and reads the report as a script would.

A run as another user needs a machine where that user can reach the interpreters. Where they lie in root's home, a private mount
namespace shows just the folders that are needed; nothing outside it changes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.jobs import Job
from harness.trainers import ROOT
from harness.truth import Truth, read_truth

NOBODY = 65534
SOFA = Path(os.environ.get("SOFA_COMMAND") or Path(sys.executable).with_name("sofa"))

# Arguments: home, uid, command. Everything it mounts is gone with the process.
_AS_USER = """
set -e; home=$1; uid=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=700 tmpfs /mnt; mkdir /mnt/home; mount --rbind "$home" /mnt/home
mount -t tmpfs -o mode=755 tmpfs "$home"
for name in .pyenv .cache .local; do
  if [ -d "/mnt/home/$name" ]; then mkdir "$home/$name"; mount --rbind "/mnt/home/$name" "$home/$name"; fi
done
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs -- "$@"
"""


@dataclass(frozen=True)
class Options:
    """How SOFA is run: flags of ``sofa run``, and the user (``root`` stands for the present one)."""

    hooks: str = "on"
    collect: str = "auto"
    user: str = "root"
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a live run left.

    Attributes:
        code: Exit code of ``sofa run``.
        report: ``sofa/report/v1``; empty where it could not be made.
        truths: The job's own times by rank.
        stdout: The job's output.
        stderr: The job's and ours together.
        wall_s, cpu_s: Of the whole process tree.
    """

    code: int
    report: dict[str, Any]
    truths: dict[int, Truth]
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float
    errors: list[str] = field(default_factory=list)


def job_command(job: Job, python: Path, truth: Path | None) -> list[str]:
    """The command of a job, without SOFA."""
    command = [str(python), *job.prefix, str(python)] if job.prefix else [str(python)]
    if job.launcher:
        command += ["-m", *job.launcher]
    command += [str(job.script), *job.arguments]
    if job.steps is not None:
        command += ["--steps", str(job.steps)]
    if truth is not None:
        command += ["--truth", str(truth)]
    return command


def job_environment(job: Job) -> dict[str, str]:
    """A plain environment with one compute thread, so that results repeat."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("SOFA_", "OTEL_", "COVERAGE", "PYTEST"))}
    return {**keep, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **dict(job.environment)}


def can_change_user() -> bool:
    """Whether runs as another user are possible here."""
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in ("unshare", "setpriv"))


def as_user(command: list[str], user: str) -> list[str]:
    """``command`` as it is started for ``user``."""
    if user == "root":
        return command
    return ["unshare", "--mount", "bash", "-c", _AS_USER, "as-user", str(Path.home()), str(NOBODY), *command]


def run_plain(job: Job, python: Path) -> Outcome:
    """Run a job without SOFA."""
    return _run(job, python, None)


def run_live(job: Job, python: Path, options: Options = Options(), keep: Path | None = None) -> Outcome:
    """Run a job under ``sofa run`` and read its report.

    Args:
        keep: Where the run directory goes; a temporary folder by default.
    """
    return _run(job, python, options, keep)


def _run(job: Job, python: Path, options: Options | None, keep: Path | None = None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="sofa-job-") as name:
        folder = Path(name)
        user = options.user if options else "root"
        if user != "root":
            os.chown(folder, NOBODY, NOBODY)
        run = keep or folder / "run"
        command = job_command(job, python, folder / "truth.json")
        if options is not None:
            flags = ["-o", str(run), "--hooks", options.hooks, "--collect", options.collect, "--port", "0", *options.extra]
            command = [str(SOFA), "run", *flags, "--", *command]
        environment = job_environment(job)
        if user != "root":
            environment |= {"HOME": str(folder), "TMPDIR": str(folder)}
        before, began = _children_cpu(), time.monotonic()
        done = subprocess.run(
            as_user(command, user), env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=600
        )
        wall, cpu = time.monotonic() - began, _children_cpu() - before
        truths, errors = {}, []
        for rank in range(job.ranks):
            path = folder / ("truth.json" if rank == 0 else f"truth.r{rank}.json")
            if path.exists():
                truths[rank] = read_truth(path)
            else:
                errors.append(f"no truth of rank {rank}: the job ended with {done.returncode}")
        report: dict[str, Any] = {}
        if options is not None:
            try:
                report = read_report(run)
            except RuntimeError as error:
                errors.append(str(error))
        return Outcome(done.returncode, report, truths, done.stdout, done.stderr, wall, cpu, errors)


def read_report(run: Path) -> dict[str, Any]:
    """``sofa report RUN --format json``.

    Raises:
        RuntimeError: The command failed; its message is in the error.
    """
    command = [str(SOFA), "report", str(run), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"sofa report ended with {done.returncode}: {done.stderr.strip()}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
