"""Scores the detector on recordings of real jobs: python benchmarks/iterations/score.py DIR [--only GLOB] [--drop
loop,hook,sample].

Per job: lock (steps ended in event time), count error, median error against the script's own step times, and boundary F1 at
10 and 25 % of a step, with one constant offset (the script's clock starts elsewhere in its loop body).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from recordings import load, slices

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Call, Kind
from sofa_otel.processors.iterate.detector import DetectorOutput, IterationDetector


def without(batch: EventBatch, families: set[str]) -> EventBatch:
    keep = np.ones(len(batch), bool)
    if "loop" in families:
        keep &= ~((batch.kind == Kind.PYTHON_CALL) & (batch.subkind == Call.LOOP))
    if "hook" in families:
        keep &= ~((batch.kind == Kind.PYTHON_CALL) & (batch.subkind == Call.HOOK))
    if "sample" in families:
        keep &= batch.kind != Kind.PYTHON_SAMPLE
    return batch.take(keep)


def run(batch: EventBatch) -> tuple[DetectorOutput, IterationDetector, float]:
    detector = IterationDetector("job", 0, batch.tables)
    total = DetectorOutput()
    begun = time.process_time()
    outs = [detector.feed(piece, until) for piece, until in slices(batch)]
    outs.append(detector.finish(int(batch.end_ns.max())))
    cost = time.process_time() - begun
    for out in outs:
        total.iterations += out.iterations
        total.detections += out.detections
        total.anomalies += out.anomalies
        total.requests += out.requests
    return total, detector, cost


def f1(found: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    """Best F1 over constant offsets, greedy one-to-one."""
    if not len(found) or not len(truth):
        return 0.0
    near = np.searchsorted((truth[1:] + truth[:-1]) / 2, found)
    offsets = np.quantile(found - truth[near], [0.1, 0.25, 0.5, 0.75, 0.9])
    best = 0.0
    for offset in offsets:
        moved = found - offset
        pick = np.searchsorted((truth[1:] + truth[:-1]) / 2, moved)
        hit = len(set(pick[np.abs(truth[pick] - moved) <= tolerance].tolist()))
        best = max(best, 2 * hit / (len(found) + len(truth)))
    return best


def autocorrelation(batch: EventBatch, bin_ns: int = 2_000_000) -> float:
    """Baseline: period (ns) at the highest peak of the autocorrelation of events per 2 ms, lags to 2 s; 0 without one."""
    counts = np.bincount(((batch.start_ns - batch.start_ns.min()) // bin_ns).astype(np.int64)).astype(np.float64)
    counts -= counts.mean()
    spectrum = np.fft.rfft(counts, 2 * len(counts))
    curve = np.fft.irfft(np.abs(spectrum) ** 2)[: min(1000, len(counts) // 2)]
    peaks = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    peaks = peaks[peaks >= 2]
    return float(peaks[np.argmax(curve[peaks])] * bin_ns) if len(peaks) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--drop", default="")
    parser.add_argument("-v", action="store_true")
    args = parser.parse_args()
    print(
        f"{'job':16} {'rows':>7} {'truth':>6} {'count':>6} {'err%':>6} {'med ms':>8} {'err%':>6} {'F1@10':>6} {'F1@25':>6} "
        f"{'lock':>5} {'conf':>5} {'kev/s':>6} source"
    )
    for path in sorted(args.dir.glob(args.only + ".json.gz")):
        name = path.name[: -len(".json.gz")]
        truth_file = args.dir / f"{name}.truth.json"
        truth = json.loads(truth_file.read_text()) if truth_file.exists() else []
        steps = [(start, end) for start, end, kind in truth if kind == "train"]
        batch = without(load(path), set(args.drop.split(",")))
        if not len(batch):
            continue
        out, detector, cost = run(batch)
        last = out.detections[-1]
        mine = [i for i in out.iterations if i.kind in ("train", "warmup")]
        if not steps:
            verdict = "ok" if not last.found else "FALSE DETECTION"
            print(
                f"{name:16} {len(batch):7} {'-':>6} {len(mine):6} {verdict} {last.reason[:110]} "
                f"{last.source} conf {last.confidence}"
            )
            continue
        ends = np.array([e for _, e in steps])
        med = float(np.median([e - s for s, e in steps]))
        if not last.found:
            print(f"{name:16} {len(batch):7} {len(steps):6}      0 NOT FOUND (true {med / 1e6:.1f} ms): {last.reason[:120]}")
            continue
        spans = [i.end_ns - i.start_ns for i in mine if i.kind == "train"]
        mid = float(np.median(spans)) if spans else 0.0
        found = np.array([i.end_ns for i in mine])
        locked = int((ends <= last.locked_ns).sum())
        kinds = {str(k): sum(i.kind == k for i in out.iterations) for k in ("validation", "checkpoint", "other", "warmup")}
        print(
            f"{name:16} {len(batch):7} {len(steps):6} {len(mine):6} {100 * (len(mine) / len(steps) - 1):6.1f} {mid / 1e6:8.2f} "
            f"{100 * (mid / med - 1):6.1f} {f1(found, ends, 0.1 * med):6.2f} {f1(found, ends, 0.25 * med):6.2f} {locked:5} "
            f"{last.confidence:5.2f} {len(batch) / max(cost, 1e-9) / 1e3:6.0f} {last.source} {kinds} "
            f"baseline period {100 * (autocorrelation(batch) / med - 1):+.0f} %"
        )
        if args.v and detector.plan:
            at = detector._wraps.codes(detector.plan.beat)[-1] if detector.plan.mode == "wrap" else detector.plan.beat
            print("    ", detector._keys.rows[at], detector.plan)


if __name__ == "__main__":
    main()
