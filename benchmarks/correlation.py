"""Precision and recall of the correlation stage on planted graphs and on nulls, and its speed.

    python benchmarks/correlation.py [--first 2000] [--seeds 20] [--speed]

The named baseline is Pearson's correlation at lag 0 on the same units with the same false discovery rate (5 %), as the original
SOFA did it. Seeds below 1000 were used for development; the figures in `docs/results/correlation.md` are of seeds from 2000 on,
scored once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "correlation"))

import planted_graphs as planted

from sofa_otel.core.names import CorrelationStatus
from sofa_otel.processors.correlate import correlate
from sofa_otel.processors.correlate.fold import edges_for, response, units_of
from sofa_otel.processors.correlate.lanes import lanes_of
from sofa_otel.processors.correlate.swarm_time import swarm_time

Edges = set[tuple[str, str]]


def pearson(case: planted.Case) -> Edges:
    """Edges by correlation at lag 0, Benjamini-Hochberg at 5 %."""
    used = swarm_time(case.iterations, case.windows)
    names, values = [], []
    for lane in lanes_of(case.series):
        start, end = edges_for(used, lane)
        units = units_of(used, start, end)
        y = response(lane, units)[units.valid]
        for k, swarm in enumerate(used.swarms):
            names.append((swarm, lane.metric))
            values.append(float(stats.pearsonr(units.seconds[units.valid, k], y).pvalue))
    adjusted = stats.false_discovery_control(np.nan_to_num(values, nan=1.0))
    return {name for name, q in zip(names, adjusted, strict=True) if q <= 0.05}


SETTINGS: dict[str, dict[str, Any]] = {
    "snr 1": {},
    "snr 2": {"snr": 2.0},
    "heavy noise (snr .5)": {"snr": 0.5},
    "shared load": {"load": 0.25},
    "boundary error 10 %": {"jitter": 0.1},
    "60 units": {"units": 60},
    "600 units, 24 swarms": {"units": 600, "swarms": 24},
}


def planted_rows(seeds: range) -> Iterator[str]:
    """One line for each setting and regime."""
    for fine in (True, False):
        for name, setting in SETTINGS.items():
            counts = np.zeros(9)
            late = []
            for seed in seeds:
                case = planted.make(seed, fine=fine, **setting)
                truth, edges = set(case.edges), correlate(case.iterations, case.windows, case.series)
                both = {(e.swarm, e.resource) for e in edges if e.status is CorrelationStatus.ASSOCIATED}
                every, naive = {(e.swarm, e.resource) for e in edges}, pearson(case)
                for i, found in enumerate((both, every, naive)):
                    counts[3 * i : 3 * i + 3] += len(found & truth), len(found), len(truth)
                late += [abs(e.lag_s - case.edges[k]) for e in edges if (k := (e.swarm, e.resource)) in truth]
            cells = "  ".join(
                f"{counts[3 * i] / max(counts[3 * i + 1], 1):6.3f} {counts[3 * i] / max(counts[3 * i + 2], 1):6.3f}"
                for i in range(3)
            )
            yield f"{'fine' if fine else 'coarse':7}{name:22}{cells}   lag error {np.mean(late) if late else 0:.2f} s"


def null_rows(seeds: range) -> Iterator[str]:
    """One line for each kind of null and regime: share of seeds without any edge."""
    for fine in (True, False):
        for null in planted.NULLS:
            for units in (60, 300):
                clean = np.zeros(3)
                for seed in seeds:
                    case = planted.make(seed, fine=fine, units=units, null=null)
                    edges = correlate(case.iterations, case.windows, case.series)
                    clean += (not [e for e in edges if e.status is CorrelationStatus.ASSOCIATED]), not edges, not pearson(case)
                cells = "  ".join(f"{x / len(seeds):13.3f}" for x in clean)
                yield f"{'fine' if fine else 'coarse':7}{null:8}{units:5} units   {cells}"


def speed() -> Iterator[str]:
    """CPU seconds at the size of the page's own bar: 5,000 iterations, 64 swarms, 40 series."""
    for fine, units in ((True, 5000), (False, 1000)):
        case = planted.make(1, fine=fine, units=units, swarms=64, resources=40)
        begin, wall = time.process_time(), time.perf_counter()
        edges = correlate(case.iterations, case.windows, case.series)
        took, wall = time.process_time() - begin, time.perf_counter() - wall
        begin = time.process_time()
        pearson(case)
        base = time.process_time() - begin
        yield (
            f"{'fine' if fine else 'coarse':7}{len(case.iterations)} iterations x 64 swarms x 40 series: {took:.2f} CPU s "
            f"({wall:.2f} s wall), {took / base:.1f} times the baseline, {len(edges)} edges"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=("planted", "nulls", "speed"))
    wanted = parser.parse_args()
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    if wanted.only in (None, "planted"):
        print(f"{'':29}{'associated':13}  {'+ candidates':13}  {'Pearson lag 0':13}\n{'':29}" + "  ".join([" prec. recall"] * 3))
        for row in planted_rows(seeds):
            print(row, flush=True)
    if wanted.only in (None, "nulls"):
        print(f"share of runs without an edge\n{'':29}{'associated':>10}  {'+ candidates':>13}  {'Pearson lag 0':>13}")
        for row in null_rows(seeds):
            print(row, flush=True)
    if wanted.only in (None, "speed"):
        for row in speed():
            print(row, flush=True)


if __name__ == "__main__":
    main()
