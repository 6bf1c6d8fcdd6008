"""What does watching cost the trainer? Interleaved pairs with and without ``sofa run``, until the interval is narrow enough.

Each pair gives a ratio of median step times (taken by the job itself) and of CPU seconds (of everything that ran, post-processing
included). Printed are geometric means with 95 % intervals (Student's t on the logarithms).

    python benchmarks/step_cost.py --job numpy-inline --pairs 200
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.jobs import EXAMPLE_JOBS, STYLE_JOBS, select
from harness.live import Options, Outcome, run_live, run_plain
from harness.output import table, write_json
from harness.trainers import HINT, find_trainer

HALF_WIDTH = 0.005
LEAST_PAIRS = 5


def step_ms(outcome: Outcome) -> float:
    """Median step after the first tenth, milliseconds; of all ranks together."""
    steps = [t.end_ns - t.start_ns for t in outcome.truths.values()]
    if not steps:
        raise SystemExit(f"the job failed with {outcome.code}:\n{outcome.stderr[-2000:]}")
    return float(np.median(np.concatenate([s[len(s) // 10 :] for s in steps]))) / 1e6


def interval(ratios: list[float]) -> tuple[float, float]:
    """Geometric mean and half-width of its 95 % interval."""
    logs = np.log(ratios)
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return float(np.exp(logs.mean())), float(half)


def main() -> int:
    """Run, print, and return 1 if the step-time ratio is above 1.02."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", default="numpy-inline,cnn", help="comma-separated")
    parser.add_argument("--steps", type=int, help="steps of each run (bars: at least 200, and 5 s)")
    parser.add_argument("--pairs", type=int, default=200, help="at most")
    parser.add_argument("--hooks", default="on")
    parser.add_argument("--collect", default="auto")
    parser.add_argument("--python", default="")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, documents, worst = [], [], 0.0
    for job in select(arguments.job, EXAMPLE_JOBS + STYLE_JOBS):
        python = find_trainer(job.trainer, arguments.python)
        if python is None:
            print(job.name, "not run:", HINT[job.trainer], file=sys.stderr)
            continue
        if arguments.steps:
            job = replace(job, steps=arguments.steps)
        options = Options(arguments.hooks, arguments.collect)
        steps: list[float] = []
        cpus: list[float] = []
        rng = np.random.default_rng(7)
        while len(steps) < arguments.pairs:
            plain_first = bool(rng.integers(2))
            plain = run_plain(job, python) if plain_first else None
            watched = run_live(job, python, options)
            plain = plain or run_plain(job, python)
            steps.append(step_ms(watched) / step_ms(plain))
            cpus.append(watched.cpu_s / plain.cpu_s)
            ratio, half = interval(steps)
            print(f"{job.name} pair {len(steps)}: {steps[-1]:.4f}, mean {ratio:.4f} ± {half:.4f}", file=sys.stderr)
            if len(steps) >= LEAST_PAIRS and half <= HALF_WIDTH:
                break
        (ratio, half), (cpu, cpu_half) = interval(steps), interval(cpus)
        worst = max(worst, ratio - half)
        rows.append((job.name, len(steps), f"{ratio:.4f}", f"±{half:.4f}", f"{cpu:.4f}", f"±{cpu_half:.4f}"))
        documents.append(
            {
                "job": job.name,
                "pairs": len(steps),
                "step_ratios": steps,
                "cpu_ratios": cpus,
                "step_ratio": ratio,
                "step_half_width": half,
                "cpu_ratio": cpu,
                "cpu_half_width": cpu_half,
            }
        )
    print(table(("job", "pairs", "step ratio", "95 %", "CPU ratio", "95 %"), rows))
    write_json(arguments.json, "step_cost", documents, hooks=arguments.hooks, collect=arguments.collect)
    return int(worst > 1.02)


if __name__ == "__main__":
    sys.exit(main())
