"""Whatever breaks, the target goes on, the run can be read, the message is clear and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from harness.jobs import JOBS, STYLE_JOBS, select
from harness.live import job_command
from harness.process import wait_for

pytestmark = pytest.mark.e2e


def test_kill_9_leaves_the_trainer_unharmed_and_the_run_readable(sofa, demo_python):
    run, truth = sofa.folder / "run", sofa.folder / "truth.json"
    job = replace(select("numpy-inline", STYLE_JOBS)[0], steps=130, arguments=("--batch", "2048"))
    with (sofa.folder / "out").open("w") as out:
        process = subprocess.Popen(
            sofa.command("run", "-o", run, "--port", "0", "--", *job_command(job, demo_python, truth)),
            env=sofa.environment, stdout=out, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: "  100 " in (sofa.folder / "out").read_text(), "step 100")
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(truth.exists, "the trainer's own end", seconds=120)
    wait_for(lambda: not sofa.alive(), "the trainer's exit")
    plain = sofa.plain(*job_command(job, demo_python, None))
    assert (sofa.folder / "out").read_text() == plain.stdout
    report = sofa.report(run)
    assert report["swarms"] or report["iterations"]["reason"]
    iterations = report["iterations"]
    assert iterations["count"] >= 50 if iterations["found"] else iterations["reason"]


def test_a_tenth_of_a_second(sofa):
    run = sofa.folder / "run"
    done = sofa("run", "-o", run, "--port", "0", "--", sys.executable, "-c", "print('hello')")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    iterations = sofa.report(run)["iterations"]
    assert not iterations["found"]
    assert re.search(r"\d", iterations["reason"]), iterations["reason"]
    assert "Traceback" not in done.stderr


def test_a_program_that_is_not_python(sofa):
    run = sofa.folder / "run"
    done = sofa("run", "-o", run, "--port", "0", "--", "sh", "-c", "echo hi; exit 4")
    assert (done.returncode, done.stdout) == (4, "hi\n")
    assert not sofa.report(run)["iterations"]["found"]


def test_a_script_that_never_iterates(sofa, demo_python):
    run = sofa.folder / "run"
    script = [demo_python, JOBS / "never_iterates.py"]
    done = sofa("run", "-o", run, "--port", "0", "--", *script)
    assert done.returncode == 0
    assert done.stdout == sofa.plain(*script).stdout
    iterations = sofa.report(run)["iterations"]
    assert not iterations["found"] or iterations["confidence"] <= 0.5, iterations


def test_the_port_is_taken(sofa):
    run = sofa.folder / "run"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = sofa("run", "-o", run, "--port", port, "--", sys.executable, "-c", "print('fine')")
    assert (done.returncode, done.stdout) == (0, "fine\n")
    assert str(port) in done.stderr
    sofa.report(run)


@pytest.mark.root
def test_a_full_disk(sofa, demo_python, root):
    small = sofa.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", small], check=True)
    try:
        job = select("numpy-inline", STYLE_JOBS)[0].scaled(0.5)
        command = job_command(job, demo_python, None)
        done = sofa("run", "-o", small / "run", "--port", "0", "--", *command)
        assert done.returncode == 0, done.stderr
        assert done.stdout == sofa.plain(*command).stdout
        assert "Traceback" not in done.stderr
        report = sofa("report", small / "run", "--format", "json")
        assert report.returncode == 0, report.stderr
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_run_directory_that_cannot_be_made(sofa):
    (sofa.folder / "file").write_text("")
    done = sofa("run", "-o", sofa.folder / "file" / "run", "--", sys.executable, "-c", "print('x')")
    assert done.returncode == 2
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_named_collector_that_cannot_run_ends_before_the_target(sofa):
    done = sofa("run", "-o", sofa.folder / "run", "--collect", "no_such_collector", "--", sys.executable, "-c", "print('x')")
    assert done.returncode in (2, 3)
    assert done.stdout == ""
    assert "no_such_collector" in done.stderr


def test_the_trainer_is_killed_for_memory(sofa, demo_python):
    """The kernel's out-of-memory killer sends SIGKILL; a limit on the address space raises MemoryError before that."""
    run = sofa.folder / "run"
    script = (
        "import os, signal, sys\n"
        "x = 0\n"
        "for i in range(60):\n"
        "    for j in range(200000): x += j\n"
        "    print(i, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = sofa("run", "-o", run, "--port", "0", "--", demo_python, "-c", script)
    assert done.returncode == 128 + signal.SIGKILL
    assert done.stdout.splitlines()[-1] == "59"
    assert sofa.report(run)["run"]["exit_code"] == 128 + signal.SIGKILL


def test_helpers_end_with_us(sofa, demo_python):
    """After ``kill -9`` of sofa alone, only the target may still run."""
    job = select("numpy-inline", STYLE_JOBS)[0]
    process = sofa.start("run", "-o", sofa.folder / "run", "--port", "0", "--", *job_command(job, demo_python, None))
    assert process.stdout.readline()
    process.kill()
    process.wait()

    def only_the_target() -> bool:
        return all(
            job.script.name in line and "sofa" not in os.path.basename(line.split()[0]) for _, line in sofa.alive() if line
        )

    wait_for(only_the_target, f"the end of helpers: {sofa.alive()}", seconds=10)
    wait_for(lambda: not sofa.alive(), "the target's end", seconds=120)
    process.stdout.close()
    process.stderr.close()
