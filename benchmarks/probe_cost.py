"""What the in-process probe costs a program: interleaved runs without and with it, as ratios with 95 % intervals.

    python benchmarks/probe_cost.py [--python PATH] [--pairs 10] [--seconds 4] [--only NAME]

Two programs, each with its own clock: steps of about 2 ms in numpy, and a loop of pure Python (the worst case for a sampler that
needs the interpreter lock). For each variant: step time ratios, CPU seconds ratio of the process, CPU of the probe's thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.collect.probe import ProbeCollector
from sofa_otel.exporters.collector import Target

PROGRAM = """
import json, resource, sys, time
kind, seconds = sys.argv[1], float(sys.argv[2])
if kind == 'numpy':
    import numpy
    a = numpy.random.default_rng(0).random((160, 160))
    def step():
        b = a
        for _ in range(6): b = numpy.tanh(b @ a)
        return b.sum()
else:
    def step():
        total = 0
        for i in range(40000): total += i
        return total
for _ in range(20): step()
time.sleep(.7)
times, end = [], time.perf_counter() + seconds
cpu = time.process_time()
while True:
    began = time.perf_counter()
    step()
    now = time.perf_counter()
    times.append(now - began)
    if now > end: break
used = time.process_time() - cpu
times.sort()
print(json.dumps({'mean': sum(times) / len(times), 'median': times[len(times) // 2], 'cpu': used / len(times), 'n': len(times)}))
"""

VARIANTS: dict[str, dict[str, str]] = {
    "default": {},
    "rate 20": {"SOFA_PROBE_RATE": "20"},
    "rate 250": {"SOFA_PROBE_RATE": "250", "SOFA_PROBE_BUDGET": "1"},
    "rate 1000": {"SOFA_PROBE_RATE": "1000", "SOFA_PROBE_BUDGET": "1"},
    "no loops": {"SOFA_PROBE_LOOPS": "off"},
    "no hooks": {"SOFA_PROBE_HOOKS": "off"},
}


class Drain:
    """A sink that forgets."""

    def __init__(self) -> None:
        self.tables, self.series = Tables(), SeriesTable()

    def events(self, batch: EventBatch) -> None:
        """Forget."""

    def resources(self, batch: ResourceBatch) -> None:
        """Forget."""

    def warn(self, message: str) -> None:
        print(message, file=sys.stderr)


def run(python: str, kind: str, seconds: float, variant: dict[str, str] | None) -> dict[str, float]:
    """One run; with ``variant`` None without the probe."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SOFA_", "PYTHON"))}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    collector = ProbeCollector()
    if variant is not None:
        collector.start(Target(pid=0, job="j", rank=0, host="h", run_dir="/tmp"), Drain())
        environment |= collector.environment() | variant
    process = subprocess.Popen([python, "-c", PROGRAM, kind, str(seconds)], stdout=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None:
        collector.poll(0)
        time.sleep(0.1)
    out, _ = process.communicate()
    collector.stop()
    found: dict[str, float] = json.loads(out)
    found["probe_cpu"] = collector.stats().target_cpu_s / (seconds + 0.7)
    found["events"] = collector.stats().events
    return found


def ratio(values: list[float]) -> str:
    """Mean and 95 % half-width (normal) of ratios."""
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.4f} ± {half:.4f}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    kinds = ["python"]
    if subprocess.run([options.python, "-c", "import numpy"], capture_output=True, check=False).returncode == 0:
        kinds.insert(0, "numpy")
    print(f"{'program':8} {'variant':10} {'step mean':>20} {'step median':>20} {'CPU seconds':>20}  probe CPU  events/s")
    for kind in kinds:
        for name, variant in VARIANTS.items():
            if options.only and options.only != name:
                continue
            pairs = []
            for at in range(options.pairs):
                order = (None, variant) if at % 2 else (variant, None)
                first, second = (run(options.python, kind, options.seconds, item) for item in order)
                pairs.append((first, second) if at % 2 else (second, first))
            columns = [ratio([on[key] / off[key] for off, on in pairs]) for key in ("mean", "median", "cpu")]
            probe = statistics.mean([on["probe_cpu"] for _, on in pairs])
            rate = statistics.mean([on["events"] for _, on in pairs]) / options.seconds
            print(f"{kind:8} {name:10} {columns[0]:>20} {columns[1]:>20} {columns[2]:>20}  {probe:8.3%}  {rate:8.0f}", flush=True)


if __name__ == "__main__":
    main()
