"""System calls by perf tracepoints: how fast rings become rows, and what a record costs the target.

    python benchmarks/perf_syscalls_cost.py [--records 1000000]

The second part needs root; where tracefs is not mounted it runs itself in a mount namespace of its own. The baseline is the
same loop of ``getppid`` without a collector, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.records import CaptureRequest
from sofa_otel.core.series import SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.collect.perf_decode import ENTER, EXIT, decode
from sofa_otel.exporters.collect.perf_pairing import Pairing, entries
from sofa_otel.exporters.collect.perf_syscalls import PerfSyscallsCollector
from sofa_otel.exporters.collect.tracefs import tracefs_problem
from sofa_otel.exporters.collector import Target

LOOP = """
import ctypes, sys, time
call = ctypes.PyDLL(None).getppid
print('ready', flush=True)
for line in sys.stdin:
    began = time.process_time()
    for _ in range(int(line)):
        call()
    print(time.process_time() - began, flush=True)
"""


class Sink:
    def __init__(self) -> None:
        self.tables, self.series, self.rows, self.said = Tables(), SeriesTable(), 0, list[str]()

    def events(self, batch: EventBatch) -> None:
        self.rows += len(batch)

    def resources(self, batch: object) -> None: ...

    def warn(self, message: str) -> None:
        self.said.append(message)


def offline(records: int) -> None:
    """Decode and join ``records`` records (half entries, half exits) of eight threads on two CPUs, 40,000 at a time."""
    rng = np.random.default_rng(1)
    chunk = 20_000
    rounds = max(1, records // (2 * chunk))
    time_ns = np.arange(chunk) * 10_000
    enter, leave = np.zeros(chunk, ENTER), np.zeros(chunk, EXIT)
    tid = np.arange(chunk) % 8 + 1000
    for rows, late in ((enter, 0), (leave, 5_000)):
        rows["type"], rows["size"] = 9, rows.itemsize
        rows["tid"], rows["pid"], rows["time"], rows["id"] = tid, 1000, time_ns + late, rng.integers(0, 300, chunk)
    leave["id"] = enter["id"]
    halves = [(enter[cpu::2].tobytes(), leave[cpu::2].tobytes()) for cpu in (0, 1)]
    pairing, decode_s, join_s, rows_out = Pairing(frozenset()), 0.0, 0.0, 0
    for round_ in range(rounds):
        began = time.thread_time()
        entered = np.concatenate([decode(half[0], ENTER).samples for half in halves])
        left = np.concatenate([decode(half[1], EXIT).samples for half in halves])
        middle = time.thread_time()
        shift = round_ * chunk * 10_000
        entered["time"] += shift
        left["time"] += shift
        calls = pairing.join(entries(entered), left, shift + chunk * 10_000)
        decode_s += middle - began
        join_s += time.thread_time() - middle
        rows_out += len(calls.start)
    total = rounds * 2 * chunk
    print(f"decode         {total / decode_s / 1e6:6.2f} M records/s")
    print(f"join           {total / join_s / 1e6:6.2f} M records/s")
    print(f"both           {total / (decode_s + join_s) / 1e6:6.2f} M records/s ({rows_out:,} calls)")


def live(calls: int) -> None:
    """Cost in the target of a call that is seen, with and without its exit, against one that is not."""
    child = subprocess.Popen([sys.executable, "-c", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.readline()

    def loop() -> float:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{calls}\n")
        child.stdin.flush()
        os.set_blocking(child.stdout.fileno(), False)
        while not (line := child.stdout.readline()):
            collector.poll(time.time_ns())
            time.sleep(0.02)
        return float(line)

    result: dict[str, list[float]] = {"off": [], "wide": [], "entries": [], "filtered": []}
    agent: list[float] = []
    sink = Sink()
    collector = PerfSyscallsCollector(max_rate_hz=1e9)
    collector.start(Target(pid=child.pid, job="b", rank=0, host="h", run_dir="/tmp"), sink)
    everything = [("getppid", "", "", 0)]
    for _ in range(7):
        for mode, seconds in result.items():
            if mode == "off":
                request = CaptureRequest(source="perf_syscalls", mode="off")
            elif mode == "wide":
                request = CaptureRequest(source="perf_syscalls", mode="wide")
            else:
                names = everything if mode == "entries" else [("fsync", "", "", 0)]
                request = CaptureRequest(source="perf_syscalls", mode="narrow", names=names)
            collector.request(request)
            before = collector.stats().cpu_s
            seconds.append(loop())
            if mode == "wide":
                agent.append((collector.stats().cpu_s - before) / calls)
    print(f"lost {collector.stats().dropped:,}, warnings {sink.said}")
    collector.stop()
    child.stdin.close()
    child.wait()
    base = statistics.median(result["off"]) / calls
    for mode, seconds in result.items():
        cost = statistics.median(seconds) / calls
        print(f"{mode:14} {cost * 1e9:6.0f} ns a call, {(cost - base) * 1e9:+6.0f} ns ({cost / base:.2f}x of off)")
    print(f"agent          {statistics.median(agent) * 1e9:6.0f} ns a call (wide: two records)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--live-only", action="store_true")
    args = parser.parse_args()
    if not args.live_only:
        offline(args.records)
    if os.geteuid():
        print("live part not run: needs root")
    elif tracefs_problem()[0]:
        command = 'mount -t tracefs nodev /sys/kernel/tracing && exec "$0" "$@"'
        subprocess.run(["unshare", "-m", "sh", "-c", command, sys.executable, __file__, "--live-only"], check=True)
    else:
        live(60_000)


if __name__ == "__main__":
    main()
