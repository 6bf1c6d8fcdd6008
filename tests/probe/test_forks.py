"""Forks, pools and children: each process has its own probe, and nobody notices."""

from __future__ import annotations

from typing import Any

import pytest

HEAD = """
import multiprocessing, os, subprocess, sys, threading, time
def work(seconds):
    end = time.time() + seconds
    while time.time() < end: time.sleep(.002)
def double(number):
    work(.1)
    return 2 * number
"""


def test_fork_gives_the_child_a_probe_and_no_warning(watch: Any, python: str) -> None:
    source = HEAD + (
        "work(.8)\nchild = os.fork()\nif child == 0:\n    work(1.5)\n    os._exit(7)\n"
        "print(os.waitpid(child, 0)[1] >> 8, threading.active_count(), len(threading.enumerate()))\nwork(.6)\n"
    )
    seen = watch(python, source, options=("-W", "error"))
    assert (seen.code, seen.out, seen.err) == (0, "7 1 1\n", "")
    greeted = {stream.pid: stream for stream in seen.streams}
    assert len(greeted) == 2
    child = next(stream for pid, stream in greeted.items() if pid != seen.pid)
    assert child.hello.ppid == seen.pid
    assert seen.states(pid=child.pid).total() > 500_000_000
    # The parent's probe came back after the fork.
    last = max(int(batch.start_ns[-1]) for batch in seen.sink.batches if batch.pid[0] == seen.pid)
    first = min(int(batch.start_ns[0]) for batch in seen.sink.batches if batch.pid[0] == child.pid)
    assert last > first


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pool_results_are_the_same(watch: Any, python: str, method: str) -> None:
    source = HEAD + (
        "if __name__ == '__main__':\n    work(.7)\n"
        f"    with multiprocessing.get_context('{method}').Pool(2) as pool: print(pool.map(double, range(10)))\n"
    )
    seen = watch(python, source, options=("-W", "error"))
    assert (seen.code, seen.out, seen.err) == (0, "[0, 2, 4, 6, 8, 10, 12, 14, 16, 18]\n", "")


def test_short_helpers_stay_untouched(watch: Any, python: str) -> None:
    source = HEAD + (
        "for _ in range(3): print(subprocess.run([sys.executable, '-c', 'print(1)'], stdout=-1).stdout)\n"
        "print(subprocess.run([sys.executable, '-c', 'pass'], preexec_fn=lambda: None).returncode)\nwork(1.2)\n"
    )
    seen = watch(python, source)
    assert (seen.code, seen.out, seen.err) == (0, "b'1\\n'\n" * 3 + "0\n", "")
    assert [stream.pid for stream in seen.streams] == [seen.pid]


def test_exec_starts_anew_under_the_same_pid(watch: Any, python: str) -> None:
    source = HEAD + (
        "work(1)\nif len(sys.argv) == 1: os.execv(sys.executable, [sys.executable, __file__, 'again'])\nprint(sys.argv[1])\n"
    )
    seen = watch(python, source)
    assert (seen.code, seen.out) == (0, "again\n")
    assert [stream.pid for stream in seen.streams] == [seen.pid, seen.pid]
    assert [stream.said_bye for stream in seen.streams] == [False, True]
    sequence = [batch.header.seq for batch in seen.sink.batches]
    assert sorted(set(sequence)) == sorted(sequence)


def test_rank_variables_set_after_the_start_are_told(watch: Any, python: str) -> None:
    source = HEAD + "work(1.2)\nos.environ['RANK'] = '5'\nos.environ['WORLD_SIZE'] = '8'\nwork(2.5)\n"
    seen = watch(python, source)
    ranks = [batch.header.rank for batch in seen.sink.batches]
    assert ranks[0] == 3, "the target's own before"
    assert ranks[-1] == 5


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise ValueError('x')", "os.kill(os.getpid(), 9)", "os._exit(4)"])
def test_crash_and_exit_codes_are_the_programs_own(watch: Any, alone: Any, python: str, end: str) -> None:
    source = HEAD + "work(.8)\n" + end
    with_probe, without = watch(python, source), alone(python, source)
    assert (with_probe.code, with_probe.out, with_probe.err) == (without.code, without.out, without.err)
    assert with_probe.states().total() > 0
