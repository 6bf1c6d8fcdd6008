"""What the system collectors cost: CPU seconds at their default intervals beside a tree of ten processes.

    python benchmarks/collectors_cost.py [--seconds 20] [--threads 8]

Prints each collector's share of one core; the baseline is the same loop without collectors (sleeping only).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.collect.cgroup import CgroupCollector
from sofa_otel.exporters.collect.disk import DiskCollector
from sofa_otel.exporters.collect.host import HostCollector
from sofa_otel.exporters.collect.network import NetworkCollector
from sofa_otel.exporters.collect.polled import PolledCollector
from sofa_otel.exporters.collect.proc import ProcCollector
from sofa_otel.exporters.collect.psi import PsiCollector
from sofa_otel.exporters.collector import Target

WORKER = """
import sys, threading, time
def work():
    while True:
        sum(range(2000)); time.sleep(.02)
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=work, daemon=True).start()
work()
"""
PARENT = f"""
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, '-c', {WORKER!r}, sys.argv[1]]) for _ in range(9)]
try:
    sys.stdin.read()
finally:
    [child.kill() for child in children]
    [child.wait() for child in children]
"""


class Counting:
    """A sink that only counts."""

    def __init__(self) -> None:
        self.tables, self.series, self.points = Tables(), SeriesTable(), 0

    def events(self, batch: object) -> None: ...

    def resources(self, batch: ResourceBatch) -> None:
        self.points += len(batch)

    def warn(self, message: str) -> None:
        print("warning:", message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threads", type=int, default=8)
    args = parser.parse_args()
    tree = subprocess.Popen([sys.executable, "-c", PARENT, str(args.threads)], stdin=subprocess.PIPE)
    try:
        time.sleep(2)
        sink = Counting()
        makes = (ProcCollector, HostCollector, PsiCollector, CgroupCollector, DiskCollector, NetworkCollector)
        collectors: list[PolledCollector] = [make() for make in makes]
        for collector in collectors:
            collector.start(Target(pid=tree.pid, job="b", rank=0, host="h", run_dir="/tmp"), sink)
            collector.poll(time.time_ns())  # series are made once
        first = [collector.stats().cpu_s for collector in collectors]
        began, slept = time.thread_time(), time.monotonic()
        for second in range(int(args.seconds)):
            for collector in collectors:
                if second % int(collector.interval_s) == 0:
                    collector.poll(time.time_ns())
            time.sleep(max(0.0, slept + second + 1 - time.monotonic()))
        wall, cpu = time.monotonic() - slept, time.thread_time() - began
        for collector, before in zip(collectors, first, strict=True):
            used = collector.stats().cpu_s - before
            print(f"{collector.name:10} {100 * used / wall:6.3f} % of one core, {collector.stats().events / wall:6.0f} points/s")
            collector.stop()
        print(f"{'total':10} {100 * cpu / wall:6.3f} % of one core (10 processes, {args.threads} threads each, {wall:.0f} s)")
    finally:
        assert tree.stdin is not None
        tree.stdin.close()
        tree.wait()


if __name__ == "__main__":
    main()
