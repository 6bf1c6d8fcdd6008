"""Speed of the columns that everything rests on, in events per CPU second, each beside a plain way to do the same.

    python benchmarks/core_columns.py [--rows N] [--format text|json]

The baselines run in the same process on the same rows: a list of tuples for batches, ``pickle`` + zlib for the wire, one SQLite
row a point for resources, and a dict of tuples for interning.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch, concat
from sofa_otel.core.codec import decode_batch, encode_batch
from sofa_otel.core.records import SwarmWindow
from sofa_otel.core.run import RunMeta, RunWriter, open_run
from sofa_otel.core.segments import SegmentLog
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.core.testing.synthetic import LoopSpec, generate

HEADER = BatchHeader("job", 0, "host", "bench")


def rate(count: int, function: Callable[[], object], least_s: float = 0.3) -> float:
    """Things per CPU second: the best of at least three runs."""
    best, spent, runs = 0.0, 0.0, 0
    while runs < 3 or spent < least_s:
        began = time.process_time()
        function()
        took = max(time.process_time() - began, 1e-9)
        best, spent, runs = max(best, count / took), spent + took, runs + 1
    return best


def batches(rows: int, out: dict[str, tuple[float, float | None]]) -> None:
    made = generate(
        LoopSpec(streams=("cpu_op", "sample"), iterations=max(rows // 60, 10), sample_hz=250, noise=0.1, other_threads=2)
    )
    batch = made.merged().take(slice(0, rows))
    n = len(batch)
    columns = {key: column.astype(np.int64) for key, column in batch.columns.items()}
    as_rows = list(zip(*(column.tolist() for column in columns.values()), strict=True))
    names = list(columns)

    out["build"] = (
        rate(n, lambda: EventBatch.build(HEADER, made.tables, **columns)),
        rate(n, lambda: [dict(zip(names, row, strict=True)) for row in as_rows]),
    )
    mask = batch.kind == batch.kind[0]
    flags = mask.tolist()
    out["take (mask)"] = (
        rate(n, lambda: batch.take(mask)),
        rate(n, lambda: [r for r, f in zip(as_rows, flags, strict=True) if f]),
    )
    parts = [batch.take(slice(a, a + 1000)) for a in range(0, n, 1000)]
    out["concat (1,000 row parts)"] = (rate(n, lambda: concat(HEADER, made.tables, parts)), None)
    out["path table as columns, 50 new paths a time"] = (rate(200, growing_paths), rate(200, lambda: growing_paths(plain=True)))
    out["rebase to other tables"] = (rate(n, lambda: batch.rebased(Tables())), None)

    data = encode_batch(batch)
    plain = zlib.compress(pickle.dumps(as_rows), 1)
    out["encode"] = (rate(n, lambda: encode_batch(batch)), rate(n, lambda: zlib.compress(pickle.dumps(as_rows), 1)))
    out["decode"] = (rate(n, lambda: decode_batch(data, Tables())), rate(n, lambda: pickle.loads(zlib.decompress(plain))))
    live = batch.take(slice(0, min(2000, n)))
    small = encode_batch(live)
    out["encode (2,000 rows, live size)"] = (rate(len(live), lambda: encode_batch(live)), None)
    out["decode (2,000 rows, live size)"] = (rate(len(live), lambda: decode_batch(small, Tables())), None)
    print(f"{n} rows: {len(data) / n:.1f} bytes an event on the wire ({len(plain) / n:.1f} pickled and deflated)")


def growing_paths(*, plain: bool = False) -> None:
    """200 batches, each with 50 new paths, each asking for the table's columns."""
    paths = Tables().paths
    parents: list[int] = []
    for i in range(200):
        for k in range(50):
            paths.intern(0, i * 50 + k + 1)
        if plain:
            parents += [0] * 50
            np.asarray(parents, np.uint32), np.asarray(parents, np.uint32)
        else:
            paths.arrays()


def interning(rows: int, out: dict[str, tuple[float, float | None]]) -> None:
    rng = np.random.default_rng(0)
    words = [(f"function_{i}", "module", int(i), "/src/file.py", int(i)) for i in rng.zipf(1.3, rows) % 2000]
    stacks = [tuple(rng.integers(0, 300, 12).tolist()) for _ in range(200)]
    picks = rng.integers(0, 200, max(rows // 12, 1)).tolist()

    def symbols() -> None:
        intern = Tables().symbols.intern
        for word in words:
            intern(*word)

    def plain() -> None:
        known: dict[tuple[object, ...], int] = {}
        for word in words:
            known.setdefault(word, len(known))

    def paths() -> None:
        intern = Tables().paths.intern_frames
        for pick in picks:
            intern(stacks[pick])

    out["intern symbols"] = (rate(len(words), symbols), rate(len(words), plain))
    out["intern frames of stacks"] = (rate(12 * len(picks), paths), None)


def run_directory(rows: int, out: dict[str, tuple[float, float | None]]) -> None:
    rows = min(rows, 50_000)
    windows = [SwarmWindow(job="job", rank=0, iteration=i // 50, swarm=f"{i % 50:016x}", time_ns=i) for i in range(rows)]
    table = SeriesTable()
    ids = [table.intern("system.cpu.time", "s", "counter", cpu=str(i)) for i in range(100)]
    rng = np.random.default_rng(0)
    value = np.cumsum(rng.integers(0, 100, (600, 100)) / 100, 0)
    times = 1_700_000_000_000_000_000 + np.arange(600)[:, None] * 10**9 + rng.integers(0, 10**6, (600, 100))
    with tempfile.TemporaryDirectory() as folder:
        number = iter(range(10**6))

        def write_records() -> None:
            with RunWriter.create(
                Path(folder) / str(next(number)), RunMeta(command=[], started_ns=0, job="job", rank=0)
            ) as writer:
                writer.write(windows)

        def write_resources() -> None:
            with RunWriter.create(
                Path(folder) / str(next(number)), RunMeta(command=[], started_ns=0, job="job", rank=0)
            ) as writer:
                for second in range(600):
                    writer.write_resources(ResourceBatch(HEADER, table, times[second], ids, value[second]))
                    writer.commit()

        def row_a_point() -> None:
            database = sqlite3.connect(Path(folder) / f"{next(number)}.sqlite", isolation_level=None)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute("CREATE TABLE p (series INTEGER, t INTEGER, v REAL)")
            for second in range(600):
                database.execute("BEGIN")
                database.executemany(
                    "INSERT INTO p VALUES (?, ?, ?)", zip(ids, times[second].tolist(), value[second].tolist(), strict=True)
                )
                database.execute("COMMIT")
            database.close()

        out["store records (swarm windows)"] = (rate(rows, write_records), None)
        last = open_run(Path(folder) / str(next(number) - 1))
        out["read records"] = (rate(rows, lambda: last.records(SwarmWindow)), None)
        out["store resource points (a commit a second)"] = (rate(60_000, write_resources), rate(60_000, row_a_point))
        kept = Path(folder) / str(next(number))
        with RunWriter.create(kept, RunMeta(command=[], started_ns=0, job="job", rank=0)) as writer:
            for second in range(600):
                writer.write_resources(ResourceBatch(HEADER, table, times[second], ids, value[second]))
                writer.commit()
        print(f"100 series at 1 Hz: {(kept / 'run.sqlite').stat().st_size * 6 / 1e6:.1f} MB an hour")


def segments(rows: int, out: dict[str, tuple[float, float | None]]) -> None:
    record = bytes(20_000)
    count = 2_000
    with tempfile.TemporaryDirectory() as folder, SegmentLog(folder) as log:

        def write() -> None:
            for _ in range(count // 10):
                log.append_many([record] * 10)
                log.sync()
            log.acknowledge(log.next_number)

        out["append and sync 20 kB records, ten a group"] = (rate(count, write), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    out: dict[str, tuple[float, float | None]] = {}
    for part in (batches, interning, run_directory, segments):
        part(arguments.rows, out)
    if arguments.format == "json":
        print(json.dumps({name: {"per_cpu_s": ours, "baseline_per_cpu_s": base} for name, (ours, base) in out.items()}))
        return
    print(f"{'':44}{'M/CPU s':>10}{'baseline':>10}{'ratio':>8}")
    for name, (ours, base) in out.items():
        print(f"{name:44}{ours / 1e6:10.3f}" + (f"{base / 1e6:10.3f}{ours / base:7.1f}x" if base else ""))


if __name__ == "__main__":
    main()
