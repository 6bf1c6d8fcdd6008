"""Scores the detector on generated harsh streams and on aperiodic ones, with autocorrelation beside it.

    python benchmarks/iterations/harsh.py [--first 0] [--count 200] [--aperiodic 300] [-v]

A seed decides everything: the source (system calls, ops, kernels), 5 to 5,000 iterations, noise up to .2 (foreign and confused
names, inserted and substituted), loss up to .2 (single events and stretches), jitter up to .3, accumulation 1 to 16, steps of
varying length, warm-up, validation, checkpoints and unrelated threads. Names say nothing in half of the streams.
Seeds below 10,000 are for development.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import msgspec
import numpy as np
from recordings import slices

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Symbol
from sofa_otel.core.testing.aperiodic import KINDS, aperiodic
from sofa_otel.core.testing.synthetic import LoopSpec, generate
from sofa_otel.core.testing.truth import Truth, score_boundaries
from sofa_otel.processors.iterate.detector import IterationDetector
from sofa_otel.processors.iterate.settings import DetectorSettings

MOST_EVENTS = 300_000


class Score(NamedTuple):
    """One stream: what was found, and how good that is."""

    what: str
    found: bool
    confidence: float
    count: int
    true_count: int
    ratio: float
    f1: float
    f1_10: float
    locked: int
    events: int
    cost: float
    evidence: list[float]
    baseline: float
    source: str

    @property
    def right(self) -> bool:
        """Period within 5 %, boundaries where they belong."""
        return self.found and abs(self.ratio - 1) <= 0.05 and self.f1 >= 0.8


def spec_of(seed: int) -> tuple[LoopSpec, dict[str, float]]:
    """The stream of a seed."""
    rng = np.random.default_rng([seed, 77])
    stream = str(rng.choice(["syscall", "cpu_op", "gpu_kernel"]))
    iterations = int(np.exp(rng.uniform(np.log(5), np.log(5000))))
    accumulation = int(rng.choice([1, 1, 1, 2, 3, 4, 6, 8, 12, 16]))
    layers = int(np.exp(rng.uniform(np.log(2), np.log(40))))
    body = (2 * layers + 3) * accumulation * (3 if stream == "syscall" else 1)
    iterations = max(5, min(iterations, MOST_EVENTS // body))
    validate = int(rng.choice([0, 0, 10, 20, 50, 100]))
    spec = LoopSpec(
        streams=(stream,), iterations=iterations, period_s=float(np.exp(rng.uniform(np.log(0.02), np.log(1.0)))),
        jitter=float(rng.uniform(0, 0.3)), noise=float(rng.uniform(0, 0.2)), loss=float(rng.choice([0, rng.uniform(0, 0.2)])),
        drift=float(rng.choice([0, 0.3])), variable=float(rng.choice([0, rng.uniform(0, 0.4)])), accumulation=accumulation,
        layers=layers, warmup=int(rng.integers(0, 4)) if iterations > 20 else 0, validate_every=validate,
        validation_passes=int(rng.integers(1, 8)), checkpoint_every=int(rng.choice([0, 0, 25, 100])),
        setup_s=float(rng.uniform(0, 3)), other_threads=int(rng.integers(0, 4)), aperiodic_threads=int(rng.integers(0, 3)),
        seed=seed,
    )  # fmt: skip
    more = {
        "confused": float(rng.choice([0, spec.noise])),
        "stretches": float(rng.choice([0, 0, rng.integers(1, 6)])),
        "nameless": float(rng.random() < 0.5),
    }
    return spec, more


def harsher(batch: EventBatch, more: dict[str, float], seed: int) -> EventBatch:
    """Confused names, lost stretches, names that say nothing."""
    rng = np.random.default_rng([seed, 78])
    columns = dict(batch.columns)
    name = columns["name"].copy()
    hit = rng.random(len(name)) < more["confused"] / 2
    name[hit] = rng.choice(name, int(hit.sum()))
    if more["nameless"] and batch.kind[0] != Kind.SYSCALL:
        symbols = batch.tables.symbols
        for number in np.unique(name).tolist():
            alias = symbols.intern_symbol(Symbol(f"op{int(rng.integers(1 << 30)):x}_{number}", "lib"))
            name[columns["name"] == number] = alias if number else name[columns["name"] == number]
            name[name == number] = alias
    columns["name"] = name
    keep = np.ones(len(name), bool)
    span = int(batch.start_ns[-1] - batch.start_ns[0])
    for _ in range(int(more["stretches"])):
        begin = int(batch.start_ns[0]) + int(rng.uniform(0, 1) * span)
        keep &= (batch.start_ns < begin) | (batch.start_ns > begin + 0.01 * span)
    out = EventBatch(batch.header, batch.tables, columns).take(keep)
    return out.take(np.argsort(out.end_ns, kind="stable"))


def autocorrelation(batch: EventBatch) -> float:
    """Baseline: period (ns) at the highest peak of the autocorrelation of event counts."""
    span = int(batch.start_ns.max() - batch.start_ns.min())
    width = max(2_000_000, span // 100_000)
    counts = np.bincount(((batch.start_ns - batch.start_ns.min()) // width).astype(np.int64)).astype(np.float64)
    counts -= counts.mean()
    curve = np.fft.irfft(np.abs(np.fft.rfft(counts, 2 * len(counts))) ** 2)[: len(counts) // 2]
    peaks = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    peaks = peaks[peaks >= 2]
    return float(peaks[np.argmax(curve[peaks])] * width) if len(peaks) else 0.0


def scored(what: str, batch: EventBatch, truth: Truth, threshold: float = -1.0) -> Score:
    """Run the detector on a stream."""
    settings = DetectorSettings() if threshold < 0 else DetectorSettings(min_confidence=threshold)
    detector = IterationDetector("job", 0, batch.tables, settings)
    begun = time.process_time()
    outs = [detector.feed(piece, until) for piece, until in slices(batch)]
    outs.append(detector.finish(int(batch.end_ns.max())))
    cost = time.process_time() - begun
    iterations = [i for out in outs for i in out.iterations if i.kind in ("train", "warmup")]
    last = outs[-1].detections[-1]
    ends, period = truth.ends(), truth.period_s() * 1e9
    # Without a warm-up the first step counts, too: the records call it one because its start may be an estimate.
    slow = sum(kind == "warmup" for kind in truth.kind)
    spans = [i.end_ns - i.start_ns for n, i in enumerate(iterations) if i.kind == "train" or (n == 0 and not slow)]
    mine = np.array([i.end_ns for i in iterations], np.int64)
    f1 = score_boundaries(ends, mine, 0.25 * period).f1 if len(ends) and last.found else 0.0
    strict = score_boundaries(ends, mine, 0.1 * period).f1 if len(ends) and last.found else 0.0
    ratio = float(np.median(spans)) / period if spans and period else 0.0
    locked = int((ends <= last.locked_ns).sum()) if last.found and len(ends) else -1
    plan = detector.plan
    chosen = detector._voted.seen.get(plan.confidence) if plan is not None else None
    seen = chosen.features() if chosen is not None else []
    base = autocorrelation(batch) / period if period else 0.0
    return Score(
        what,
        last.found,
        last.confidence,
        len(mine),
        len(ends),
        ratio,
        f1,
        strict,
        locked,
        len(batch),
        cost,
        seen,
        base,
        last.source,
    )


def harsh(seed: int, threshold: float = -1.0) -> Score:
    """One generated stream."""
    spec, more = spec_of(seed)
    made = generate(spec)
    what = (
        f"{seed} {spec.streams[0]} n{spec.iterations} acc{spec.accumulation} L{spec.layers} p{spec.period_s:.2f} "
        f"j{spec.jitter:.2f} "
        f"noise{spec.noise:.2f} loss{spec.loss:.2f} var{spec.variable:.2f} val{spec.validate_every}x{spec.validation_passes} "
        f"ck{spec.checkpoint_every} thr{spec.other_threads}+{spec.aperiodic_threads} {more}"
    )
    return scored(what, harsher(made.batches[0], more, seed), made.truth, threshold)


def silent(seed: int, threshold: float = -1.0) -> Score:
    """One aperiodic stream."""
    rng = np.random.default_rng([seed, 79])
    kind = KINDS[seed % len(KINDS)]
    family = [Kind.SYSCALL, Kind.CPU_OP, Kind.GPU_KERNEL][int(rng.integers(3))]
    events, seconds = int(np.exp(rng.uniform(np.log(300), np.log(40_000)))), float(np.exp(rng.uniform(np.log(1), np.log(120))))
    made = aperiodic(kind, seed, events=events, seconds=seconds, event_kind=family)
    return scored(f"{seed} {kind} {family.name} {events} in {seconds:.0f} s", made.batches[0], made.truth, threshold)


def calibration(scores: list[Score]) -> float:
    """Expected calibration error over ten bins of the confidence, streams in which something was found."""
    found = [s for s in scores if s.found]
    if not found:
        return 0.0
    confidence = np.array([s.confidence for s in found])
    right = np.array([s.right for s in found], float)
    bins = np.minimum((confidence * 10).astype(int), 9)
    return float(sum(abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--aperiodic", type=int, default=300)
    parser.add_argument("--save")
    parser.add_argument("-v", action="store_true")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.count)
    with ProcessPoolExecutor(2) as pool:
        scores = list(pool.map(harsh, seeds, chunksize=4))
        none = list(pool.map(silent, range(args.first, args.first + args.aperiodic), chunksize=8))
    for s in scores:
        if args.v and not s.right:
            print(f"F1 {s.f1:.2f} ratio {s.ratio:.3f} count {s.count}/{s.true_count} conf {s.confidence:.2f} {s.what}")
    for s in none:
        if s.found:
            print(f"FALSE conf {s.confidence:.2f} {s.count} {s.what}")
    f1 = np.array([s.f1 for s in scores])
    off = np.array([abs(s.ratio - 1) > 0.05 for s in scores])
    base = np.array([abs(s.baseline - 1) > 0.05 for s in scores])
    locks = np.array([s.locked for s in scores if s.right])
    print(
        f"{len(scores)} harsh streams: F1@25 mean {f1.mean():.3f}; period off by > 5 % in {off.mean():.1%} (autocorrelation "
        f"{base.mean():.1%}); found {np.mean([s.found for s in scores]):.1%}; ECE {calibration(scores):.3f}; wrong with "
        f"confidence > .5: {np.mean([s.found and not s.right and s.confidence > 0.5 for s in scores]):.1%}; lock at step median "
        f"{np.median(locks) if len(locks) else 0:.0f}, 90 % {np.quantile(locks, 0.9) if len(locks) else 0:.0f}; "
        f"{sum(s.events for s in scores) / sum(s.cost for s in scores) / 1e6:.2f} M events/s"
    )
    for source in ("perf:syscall", "op", "kernel"):
        some = [s for s in scores if {"perf:syscall": "syscall", "op": "cpu_op", "kernel": "gpu_kernel"}[source] in s.what]
        wrong = np.mean([abs(s.ratio - 1) > 0.05 for s in some])
        print(f"   {source:13} {len(some)} F1 {np.mean([s.f1 for s in some]):.3f} off {wrong:.1%}")
    print(f"{len(none)} aperiodic streams of {len(KINDS)} kinds: {sum(s.found for s in none)} false detections")
    if args.save:
        with open(args.save, "wb") as out:
            out.write(
                msgspec.json.encode(
                    [[s._asdict() | {"right": bool(s.right)} for s in part] for part in (scores, none)], enc_hook=float
                )
            )


if __name__ == "__main__":
    main()
