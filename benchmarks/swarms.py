"""Speed of grouping and attribution on one core: events/s from columns to records, against the floor that numpy sets.

    python benchmarks/swarms.py [--events 2000000]

The baseline, measured in the same run, is what any per-event accounting must do at least: one integer look-up and one weighted
bincount over the same columns. Prints CPU time, not wall time.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Futex, Kind, Wait
from sofa_otel.core.records import Iteration
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.attribute.attributor import Attributor
from sofa_otel.processors.group.grouper import Grouper

MS = 1_000_000
START = 1_700_000_000_000_000_000
SLICE = 250 * MS
HEADER = BatchHeader("job", 0, "host", "bench")


def stacks(tables: Tables, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` distinct call paths of a made-up program, 6–30 frames deep, with lines and offsets as the probe sends them."""
    out = np.empty(count, np.uint32)
    for i in range(count):
        depth = int(rng.integers(6, 30))
        frames = [tables.symbols.intern("main", "train", 10, "/x/train.py", 5)]
        for level in range(depth):
            which = int(rng.zipf(1.6)) % 40
            line = int(rng.integers(1, 40))
            frames.append(
                tables.symbols.intern(f"f{level}_{which}", f"pkg.mod{which % 12}", 2 * line, f"/x/mod{which % 12}.py", line)
            )
        out[i] = tables.paths.intern_frames(frames)
    return out


def stream(tables: Tables, events: int, seconds: float, distinct: int) -> EventBatch:
    """Samples of four threads and system calls of two, mixed, sorted by time."""
    rng = np.random.default_rng(1)
    paths = stacks(tables, distinct, rng)
    calls = np.array(
        [tables.symbols.intern(name, "syscall") for name in ("futex", "read", "write", "mmap", "epoll_wait")], np.uint32
    )
    start = np.sort(rng.integers(START, START + int(seconds * 1e9), events))
    is_call = rng.random(events) < 0.5
    path = np.where(is_call, 0, paths[rng.integers(0, distinct, events)]).astype(np.uint32)
    return EventBatch.build(
        HEADER,
        tables,
        start_ns=start,
        duration_ns=np.where(is_call, rng.integers(1_000, 50_000, events), int(seconds * 1e9 / events * 8)),
        kind=np.where(is_call, Kind.SYSCALL, Kind.PYTHON_SAMPLE),
        subkind=np.where(is_call, Futex.UNKNOWN, rng.choice([Wait.ON_CPU, Wait.LOCK, Wait.IPC], events, p=[0.7, 0.2, 0.1])),
        name=np.where(is_call, calls[rng.integers(0, 5, events)], 1),
        path=path,
        pid=100,
        tid=100 + rng.integers(0, 4, events),
    )


def measure(events: int, step_ms: float, distinct: int) -> None:
    """One configuration: stream, baseline, stages; one line of output."""
    tables = Tables()
    seconds = events / 100_000  # 100 k events/s, what a wide capture makes
    batch = stream(tables, events, seconds, distinct)
    steps = int(seconds * 1000 / step_ms)
    iterations = [
        Iteration(
            job="j", rank=0, level="step", index=i, start_ns=START + round(i * step_ms * MS),
            end_ns=START + round((i + 1) * step_ms * MS), confidence=1.0, source="bench",
        )
        for i in range(steps)
    ]  # fmt: skip
    began = time.process_time()
    lookup = np.zeros(len(tables.paths), np.int32)
    np.bincount(lookup[batch.path], batch.duration_ns, 1)
    baseline = time.process_time() - began

    grouper = Grouper("j", 0, tables)
    attributor = Attributor("j", 0, tables, grouper)
    records = 0
    done = 0
    grouping = 0.0
    began = time.process_time()
    for piece in range(int(seconds * 1e9) // SLICE + 1):
        until = START + (piece + 1) * SLICE
        a, b = np.searchsorted(batch.start_ns, [until - SLICE, until])
        attributor.feed(batch.take(slice(int(a), int(b))), until)
        ready = done
        while ready < steps and iterations[ready].end_ns <= until:
            ready += 1
        records += len(attributor.close(iterations[done:ready], (100, 100), until))
        done = ready
    records += len(attributor.finish(START + int(seconds * 1e9)))
    both = time.process_time() - began

    fresh = Grouper("j", 0, tables)
    began = time.process_time()
    for piece in range(int(seconds * 1e9) // SLICE + 1):
        until = START + (piece + 1) * SLICE
        a, b = np.searchsorted(batch.start_ns, [until - SLICE, until])
        fresh.feed(batch.take(slice(int(a), int(b))))
    grouping = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{events:>9} events  {distinct:>6} paths  step {step_ms:>5g} ms: group {events / grouping / 1e6:5.2f} M/s, "
        f"group+attribute {events / both / 1e6:5.2f} M/s ({both / baseline:5.1f}x the look-up floor), "
        f"{len(grouper.swarm_ids)} swarms, {records} records, "
        f"{len(grouper.catalogue.to_bytes()) / 1024:.0f} KB catalogue, peak {peak:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=2_000_000)
    arguments = parser.parse_args()
    for step_ms in (5.0, 100.0, 2_000.0):
        measure(arguments.events, step_ms, 5_000)
    measure(200_000, 100.0, 100_000)


if __name__ == "__main__":
    main()
