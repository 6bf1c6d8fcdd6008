"""Run by test_perf_syscalls in a process (without tracefs: in a mount namespace) of its own; prints one JSON line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

from collector_sink import KeepingSink, target

from sofa_otel.core.records import CaptureRequest
from sofa_otel.exporters.collect.perf_syscalls import PerfSyscallsCollector

WORK = """
import os, sys, threading, time
null = os.open('/dev/null', os.O_WRONLY)
def calls(n):
    for _ in range(n):
        os.getppid()
if os.fork() == 0:
    calls(200)
    os._exit(0)
os.wait()
thread = threading.Thread(target=calls, args=(300,))
thread.start(); thread.join()
for _ in range(1000):
    os.write(null, b'x' * 123)
time.sleep(.25)
"""


def open_files() -> list[str]:
    out = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            out.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass  # the directory's own descriptor
    return out


def gated() -> tuple[int, int]:
    """A child that waits before its exec: (pid, descriptor to open the gate)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os.environ["RANK"] = "5"
        os.execv(sys.executable, [sys.executable, "-S", "-c", WORK])
    os.close(read)
    return pid, write


def rows(sink: KeepingSink) -> list[dict[str, int | str]]:
    out = []
    for batch in sink.batches:
        columns = {key: column.tolist() for key, column in batch.columns.items()}
        for index in range(len(batch)):
            row = {key: column[index] for key, column in columns.items()}
            row["call"] = sink.tables.symbols[row["name"]].function
            row["rank"] = batch.header.rank
            out.append(row)
    return out


def wait_polling(collector: PerfSyscallsCollector, pid: int) -> None:
    while True:
        collector.poll(time.time_ns())
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(0.02)


def gate() -> dict[str, object]:
    sink, collector = KeepingSink(), PerfSyscallsCollector(max_rate_hz=1e9)
    pid, go = gated()
    began = time.time_ns()
    collector.start(target(pid), sink)
    os.write(go, b"g")
    wait_polling(collector, pid)
    collector.stop()
    ended = time.time_ns()
    found = rows(sink)
    calls = Counter(row["call"] for row in found)
    writes = [row for row in found if row["call"] == "write" and row["bytes"] == 123]
    sleeps = [
        row["duration_ns"] for row in found if row["call"] in ("clock_nanosleep", "pselect6", "select") and row["pid"] == pid
    ]
    seqs = [batch.header.seq for batch in sink.batches]
    return {
        "getppid": calls["getppid"],
        "getppid_tids": len({row["tid"] for row in found if row["call"] == "getppid"}),
        "getppid_pids": len({row["pid"] for row in found if row["call"] == "getppid"}),
        "writes": len(writes),
        "write_fds": len({row["peer"] for row in writes}),
        "execve": calls["execve"],
        "sleep_ns": max(sleeps, default=0),
        "in_time": all(began - 10**8 <= row["start_ns"] <= ended for row in found),
        "ranks": sorted({row["rank"] for row in found}),
        "seqs_ok": seqs == list(range(len(seqs))),
        "dropped": collector.stats().dropped,
        "cpu_s": collector.stats().cpu_s,
        "warnings": sink.warnings,
    }


BUSY = """
import os, threading, time
print(os.getpid(), flush=True)
def work():
    while True:
        os.getppid(); os.getpgid(0); time.sleep(.002)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
work()
"""


def running() -> dict[str, object]:
    """Attach to a tree that runs already; narrow, wide again, off; then the rate guard."""
    child = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.1)
    sink, collector = KeepingSink(), PerfSyscallsCollector(max_rate_hz=1e9)
    try:
        collector.start(target(child.pid), sink)

        def during(seconds: float) -> list[dict[str, int | str]]:
            collector.poll(time.time_ns())
            sink.batches.clear()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.02)
                collector.poll(time.time_ns())
            return rows(sink)

        wide = during(0.3)
        names = [("getppid", "syscall", "", 0)]
        collector.request(CaptureRequest(source="perf_syscalls", mode="narrow", names=names))
        time.sleep(0.05)
        narrow = during(0.3)
        collector.request(CaptureRequest(source="perf_syscalls", mode="wide"))
        again = during(0.3)
        collector.request(CaptureRequest(source="perf_syscalls", mode="off"))
        time.sleep(0.05)
        since = time.time_ns()
        off = [row for row in during(0.2) if row["start_ns"] > since]
        collector.request(CaptureRequest(source="perf_syscalls", mode="wide", rate_hz=100))
        during(1.3)
        shed = during(0.2)
    finally:
        collector.stop()
        child.send_signal(signal.SIGKILL)
        child.wait()
    return {
        "wide_tids": len({row["tid"] for row in wide}),
        "wide": sorted({row["call"] for row in wide}),
        "narrow": sorted({row["call"] for row in narrow}),
        "narrow_durations": sum(row["duration_ns"] > 0 for row in narrow),
        "again": sorted({row["call"] for row in again}),
        "off": len(off),
        "shed": sorted({row["call"] for row in shed}),
        "warnings": sink.warnings,
        "perf_fds": sum("perf_event" in link for link in open_files()),
    }


def capability() -> dict[str, object]:
    if "--drop" in sys.argv:
        os.setgid(65534)
        os.setuid(65534)
    found = PerfSyscallsCollector().probe()
    return {"usable": found.usable, "missing": found.missing, "remedy": found.remedy}


if __name__ == "__main__":
    print(json.dumps({"gate": gate, "running": running, "capability": capability}[sys.argv[1]]()))
