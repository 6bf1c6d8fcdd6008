"""The target is the user's: output, exit code, signals and the loss curve are what they would be without us."""

from __future__ import annotations

import os
import pty
import select as polling
import signal
import sys
import time
from dataclasses import replace

import pytest
from harness.jobs import EXAMPLE_JOBS, STYLE_JOBS, select
from harness.live import job_command
from harness.process import wait_for

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(7)", 7),
        ("raise ValueError('x')", 1),
        ("import os; os._exit(9)", 9),
        ("import os; os.abort()", 128 + signal.SIGABRT),
        ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL),
        ("import ctypes; ctypes.string_at(0)", 128 + signal.SIGSEGV),
    ],
)
def test_exit_code_of_a_crash(sofa, code, expected):
    run = sofa.folder / "run"
    done = sofa("run", "-o", run, "--port", "0", "--", sys.executable, "-c", f"print('before', flush=True); {code}")
    assert done.returncode == expected
    assert done.stdout == "before\n"
    assert sofa.report(run)["run"]["exit_code"] == expected


def test_stdin_and_stdout_are_not_touched(sofa):
    program = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data[::-1]); sys.stderr.write('err')"
    import subprocess

    payload = bytes(range(256)) * 100
    done = subprocess.run(
        sofa.command("run", "-o", sofa.folder / "run", "--quiet", "--port", "0", "--", sys.executable, "-c", program),
        input=payload,
        capture_output=True,
        env=sofa.environment,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, payload[::-1])
    assert b"err" in done.stderr


def test_a_command_that_does_not_exist_is_a_usage_error(sofa):
    done = sofa("run", "-o", sofa.folder / "run", "--", "no-such-program-here")
    assert done.returncode == 2
    assert "no-such-program-here" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_target(sofa, number):
    program = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: (print('got it', flush=True), sys.exit(5)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = sofa.start("run", "-o", sofa.folder / "run", "--port", "0", "--", sys.executable, "-c", program)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=60)
    assert stdout == "got it\n"
    assert process.returncode == 5


FIRST_STEP = b"    0 "
"""What the job prints after its first step."""


def select_ready(descriptor: int) -> bool:
    """Whether a read would return within a second."""
    return bool(polling.select([descriptor], [], [], 1.0)[0])


def test_ctrl_c_at_a_terminal_still_writes_the_report(sofa, demo_python):
    run = sofa.folder / "run"
    job = replace(select("numpy-inline", STYLE_JOBS)[0], steps=5000, arguments=("--batch", "2048"))
    command = sofa.command("run", "-o", run, "--port", "0", "--", *job_command(job, demo_python, None))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, sofa.environment)
    output = b""
    deadline = time.monotonic() + 120
    pressed, running_since = False, 0.0
    while time.monotonic() < deadline:
        if running_since and not pressed and time.monotonic() - running_since > 2:
            os.write(terminal, b"\x03")
            pressed = True
        if not select_ready(terminal):
            continue
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        output += part
        if not running_since and FIRST_STEP in output.replace(b"\r", b""):
            running_since = time.monotonic()
    if not pressed:
        os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    text = output.decode(errors="replace")
    assert pressed, text
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT, text
    assert text.count("KeyboardInterrupt") == 1, text
    assert (run / "report.html").exists()
    assert sofa.report(run)["swarms"]


@pytest.mark.parametrize("name", ["numpy-inline", "sklearn-fit", "threadpool-loader", "short-epochs"])
def test_losses_are_bit_identical(sofa, demo_python, name):
    job = select(name, STYLE_JOBS)[0].scaled(0.25)
    command = job_command(job, demo_python, None)
    plain = sofa.plain(*command)
    watched = sofa("run", "-o", sofa.folder / "run", "--port", "0", "--", *command)
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    assert "final loss" in plain.stdout


@pytest.mark.torch
@pytest.mark.parametrize("hooks", ["on", "off"])
@pytest.mark.parametrize("name", ["cnn", "gpt", "ddp"])
def test_torch_losses_are_bit_identical(sofa, torch_python, name, hooks):
    job = replace(select(name, EXAMPLE_JOBS)[0], steps=30)
    command = job_command(job, torch_python, None)
    plain = sofa.plain(*command)
    watched = sofa("run", "-o", sofa.folder / "run", "--hooks", hooks, "--port", "0", "--", *command)
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    assert "final loss" in plain.stdout


def test_fork_exec_and_a_shell_in_between(sofa, demo_python):
    job = select("numpy-inline", STYLE_JOBS)[0].scaled(0.5)
    inner = job_command(job, demo_python, sofa.folder / "truth.json")
    starter = (
        "import os, sys\n"
        "pid = os.fork()\n"
        f"if pid == 0: os.execv('/bin/sh', ['sh', '-c', 'exec \"$@\"', 'sh'] + {inner!r})\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    run = sofa.folder / "run"
    done = sofa("run", "-o", run, "--port", "0", "--", sys.executable, "-W", "error", "-c", starter)
    assert done.returncode == 0, done.stderr
    assert done.stdout == sofa.plain(*inner).stdout
    members = {m["function"] for s in sofa.report(run)["swarms"] for m in s["members"]}
    assert any("<module>" in m for m in members), members


def test_nothing_of_ours_is_left_in_a_child_that_outlives_the_target(sofa):
    """A daemon that the target leaves behind is the user's business: it goes on, and we end."""
    program = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(4)'], start_new_session=True)"
    )
    started = time.monotonic()
    done = sofa("run", "-o", sofa.folder / "run", "--quiet", "--port", "0", "--", sys.executable, "-c", program, timeout=60)
    assert done.returncode == 0, (done.stderr, time.monotonic() - started)
    wait_for(lambda: not sofa.alive(), "the daemon's own end", seconds=20)
