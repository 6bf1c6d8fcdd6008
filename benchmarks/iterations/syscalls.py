"""Scores the detector on system calls of real jobs with truth: strace -f -ttt -o X.strace.gz, perf script X.perf.gz, X.json.

python benchmarks/iterations/syscalls.py DIR
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
from harsh import scored
from recordings import HEADER

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.names import IterationKind
from sofa_otel.core.symbols import Tables
from sofa_otel.core.testing.truth import Truth
from sofa_otel.exporters.collect.syscall_names import table_for

STRACE = re.compile(rb"^(\d+)\s+(\d+)\.(\d{6}) (?:<\.\.\. (\w+) resumed|(\w+)\()(.*)")
PERF = re.compile(rb"^\s*(\d+)/(\d+)\s+(\d+)\.(\d+):\s+raw_syscalls:sys_enter:\s+NR (\d+)")


def load(path: Path) -> EventBatch:
    """Rows of a capture: the time is the call's begin."""
    tables, rows = Tables(), []
    with gzip.open(path, "rb") as source:
        for line in source:
            if ".strace" in path.name:
                match = STRACE.match(line)
                if match is None or match[4] is not None:
                    continue
                sub = 0
                if match[5] == b"futex":
                    sub = 1 if b"WAIT" in match[6] else 2 if b"WAKE" in match[6] else 0
                name = tables.symbols.intern(match[5].decode(), "syscall")
                rows.append((int(match[2]) * 10**9 + int(match[3]) * 1000, name, int(match[1]), sub))
            else:
                match = PERF.match(line)
                if match is None:
                    continue
                name = tables.symbols.intern((table_for() or {}).get(int(match[5]), match[5].decode()), "syscall")
                rows.append((int(match[3]) * 10**9 + int(match[4].ljust(9, b"0")), name, int(match[2]), 0))
    table = np.array(rows, np.int64).reshape(-1, 4)
    table = table[np.argsort(table[:, 0], kind="stable")]
    main = int(table[0, 2])
    return EventBatch.build(
        HEADER, tables, start_ns=table[:, 0], kind=Kind.SYSCALL, subkind=table[:, 3], name=table[:, 1], pid=main, tid=table[:, 2]
    )


def main() -> None:
    for path in sorted(Path(sys.argv[1]).glob("*.gz")):
        raw = json.loads((path.parent / f"{path.name.split('.')[0]}.json").read_text())
        steps = [(row["start_ns"], row["end_ns"]) for row in raw["steps"] if row["kind"] == "train"]
        batch = load(path)
        start, end = (np.array([row[k] for row in steps], np.int64) for k in (0, 1))
        if ".perf" in path.name:  # perf counts from boot: score on the machine that recorded
            shift = time.monotonic_ns() - time.time_ns()
            start, end = start + shift, end + shift
        truth = Truth(start_ns=start.tolist(), end_ns=end.tolist(), kind=[IterationKind.TRAIN] * len(start))
        s = scored(path.name, batch, truth)
        print(
            f"{path.name:18} rows {s.events:7} steps {s.true_count} count {s.count} ratio {s.ratio:.3f} "
            f"F1@10 {s.f1_10:.2f} F1@25 {s.f1:.2f} "
            f"conf {s.confidence:.2f} lock {s.locked} {s.source} {s.events / s.cost / 1e6:.2f} M/s"
        )


if __name__ == "__main__":
    main()
