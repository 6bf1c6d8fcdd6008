"""Public GPU traces (Kineto JSON, marks stripped) as development data: streams alone and together, against their ProfilerStep
marks.

python benchmarks/iterations/kineto.py DIR
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
from recordings import HEADER
from score import f1, run

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Symbol, Tables

KINDS = {
    "cpu_op": Kind.CPU_OP, "user_annotation": Kind.SPAN, "cuda_runtime": Kind.GPU_RUNTIME, "kernel": Kind.GPU_KERNEL,
    "gpu_memcpy": Kind.GPU_COPY, "gpu_memset": Kind.GPU_COPY, "cuda_driver": Kind.GPU_RUNTIME, "Runtime": Kind.GPU_RUNTIME,
    "Kernel": Kind.GPU_KERNEL, "Memcpy": Kind.GPU_COPY, "Memset": Kind.GPU_COPY, "Operator": Kind.CPU_OP, "operator": Kind.CPU_OP,
}  # fmt: skip
FAMILIES = {
    "ops": {Kind.CPU_OP, Kind.SPAN},
    "runtime": {Kind.GPU_RUNTIME},
    "kernels": {Kind.GPU_KERNEL, Kind.GPU_COPY},
    "all": set(Kind),
}
MARK = re.compile(r"ProfilerStep\s*#\s*\d+")


def load(path: Path) -> tuple[EventBatch, list[tuple[int, int]]]:
    with gzip.open(path, "rt") as source:
        raw = json.load(source)
    tables, marks, rows = Tables(), [], []
    for event in raw["traceEvents"]:
        if event.get("ph") != "X":
            continue
        name, start, length = event["name"], int(float(event["ts"]) * 1e3), int(float(event.get("dur", 0)) * 1e3)
        if MARK.match(name):
            if event.get("cat") != "gpu_user_annotation":
                marks.append((start, start + length))
            continue
        kind = KINDS.get(event.get("cat", ""))
        if kind is None:
            continue
        try:
            pid, tid = int(event["pid"]), int(str(event["tid"]).split()[-1])
        except ValueError:
            continue
        rows.append(
            (start, length, int(kind), tables.symbols.intern_symbol(Symbol(name, str(event.get("cat")))), pid, tid & 0x3FFFFFFF)
        )
    table = np.array(rows, np.int64).reshape(-1, 6)
    table = table[np.argsort(table[:, 0] + table[:, 1], kind="stable")]
    batch = EventBatch.build(
        HEADER,
        tables,
        start_ns=table[:, 0],
        duration_ns=table[:, 1],
        kind=table[:, 2],
        name=table[:, 3],
        pid=table[:, 4],
        tid=table[:, 5],
    )
    return batch, sorted(set(marks))


def main() -> None:
    for path in sorted(Path(sys.argv[1]).glob("*.json.gz")):
        batch, marks = load(path)
        med = float(np.median([end - start for start, end in marks])) if marks else 0.0
        ends = np.array([end for _, end in marks])
        print(f"{path.name[:44]:44} rows {len(batch)} marks {len(marks)} {med / 1e6:.2f} ms")
        for name, kinds in FAMILIES.items():
            part = batch.take(np.isin(batch.kind, [int(kind) for kind in kinds]))
            if not len(part):
                continue
            out, _, cost = run(part)
            last = out.detections[-1]
            spans = [i.end_ns - i.start_ns for i in out.iterations if i.kind in ("train", "warmup")]
            mid = float(np.median(spans)) if spans else 0.0
            found = np.array([i.end_ns for i in out.iterations])
            print(
                f"   {name:8} {len(part):7} found {last.found!s:5} n {len(spans):4} {mid / 1e6:8.2f} ms "
                f"conf {last.confidence:.2f} F1@25 {f1(found, ends, 0.25 * med) if len(ends) > 2 and len(found) else 0:.2f} "
                f"{len(part) / cost / 1e3:.0f} kev/s {last.reason[:90]}"
            )


if __name__ == "__main__":
    main()
