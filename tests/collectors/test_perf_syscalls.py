"""System calls of real processes: counted exactly, through fork, threads and exec, wide and narrow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from collector_sink import KeepingSink, target

from sofa_otel.core.errors import RequirementError
from sofa_otel.exporters.collect.perf_syscalls import PerfSyscallsCollector
from sofa_otel.exporters.collect.tracefs import tracefs_problem

SCRIPT = Path(__file__).with_name("perf_live.py")


def live(*args: str) -> dict[str, Any]:
    """Result of perf_live.py. Where tracefs is not mounted it is mounted in a namespace that dies with the script."""
    command = [sys.executable, str(SCRIPT), *args]
    if tracefs_problem()[0]:
        command = ["unshare", "-m", "sh", "-c", 'mount -t tracefs nodev /sys/kernel/tracing && exec "$@"', "sh", *command]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: run `sudo make test`, or give CAP_PERFMON and CAP_SYS_ADMIN"
)
pytestmark = pytest.mark.root


@needs_root
def test_a_gated_child_is_seen_whole() -> None:
    found = live("gate")
    assert found["execve"] >= 1, "attached before the exec"
    assert found["getppid"] == 500
    assert (found["getppid_tids"], found["getppid_pids"]) == (2, 2)
    assert (found["writes"], found["write_fds"]) == (1000, 1)
    assert 250e6 <= found["sleep_ns"] < 2e9
    assert found["in_time"]
    assert set(found["ranks"]) <= {3, 5}
    assert 5 in found["ranks"], "the rank is the process's own"
    assert found["seqs_ok"]
    assert found["dropped"] == 0
    assert found["cpu_s"] > 0
    assert found["warnings"] == []


@needs_root
def test_a_running_tree_wide_narrow_off_and_shed() -> None:
    found = live("running")
    assert found["wide_tids"] == 4
    assert {"getppid", "getpgid"} <= set(found["wide"])
    assert found["narrow"] == ["getppid"]
    assert found["narrow_durations"] == 0
    assert {"getppid", "getpgid"} <= set(found["again"])
    assert found["off"] == 0
    assert "getppid" not in found["shed"] or "getpgid" not in found["shed"]
    assert any("durations" in text and "limit 100" in text for text in found["warnings"])
    assert found["perf_fds"] == 0


@needs_root
def test_a_plain_user_is_told_exactly_what_is_missing() -> None:
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    found = live("capability", "--drop")
    assert not found["usable"]
    if paranoid > 1:
        assert f"perf_event_paranoid is {paranoid}" in found["missing"]
        assert "CAP_PERFMON" in found["remedy"]
    assert "cannot read it" in found["missing"] or "tracefs is not mounted" in found["missing"]
    assert "-1" not in found["remedy"]


@needs_root
def test_root_with_tracefs_can() -> None:
    assert live("capability") == {"usable": True, "missing": "", "remedy": ""}


def test_without_tracefs_it_says_so_and_mounts_nothing(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/sys/kernel/perf_event_paranoid").write_text("2\n")
    (tmp_path / "proc/self/status").write_text("CapEff:\t0000000000000000\n")
    (tmp_path / "proc/self/mountinfo").write_text("")
    mounts = Path("/proc/self/mountinfo").read_text()
    collector = PerfSyscallsCollector(root=str(tmp_path))
    capability = collector.probe()
    assert "tracefs is not mounted" in capability.missing
    assert "mount -t tracefs nodev /sys/kernel/tracing" in capability.remedy
    with pytest.raises(RequirementError, match="tracefs"):
        collector.start(target(os.getpid()), KeepingSink())
    collector.poll(1)
    collector.stop()
    assert Path("/proc/self/mountinfo").read_text() == mounts


@needs_root
def test_ids_are_read_where_tracefs_is_not_mounted_and_nothing_stays_behind() -> None:
    script = (
        "import os, threading\n"
        "from sofa_otel.exporters.collect.tracefs import find_tracefs, tracepoint_id\n"
        "before = os.path.exists('/sys/kernel/tracing/events')\n"
        "found = tracepoint_id('raw_syscalls', 'sys_enter')\n"
        "print(found, before, os.path.exists('/sys/kernel/tracing/events'), threading.active_count())"
    )
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        'umount /sys/kernel/tracing 2>/dev/null; exec "$@"',
        "sh",
        sys.executable,
        "-c",
        script,
    ]
    number, before, after, threads = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(number) > 0
    assert (before, after, threads) == ("False", "False", "1")
