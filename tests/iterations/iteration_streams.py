"""Real recordings and made streams for the tests of the iteration detector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.codec import decode_batch
from sofa_otel.core.kinds import Call, Kind
from sofa_otel.core.symbols import Symbol, Tables
from sofa_otel.processors.iterate.detector import DetectorOutput, IterationDetector

DATA = Path(__file__).resolve().parents[1] / "data" / "iterations"
SLICE_NS = 250_000_000
HEADER = BatchHeader("job", 0, "host", "test")
START = 1_700_000_000_000_000_000


def recording(name: str) -> tuple[EventBatch, np.ndarray]:
    """Rows of a recording of a real program, sorted by completion, and the ends of its own training steps."""
    batch = decode_batch((DATA / f"{name}.batch").read_bytes(), Tables())
    steps = np.array(json.loads((DATA / f"{name}.json").read_text())["train"], np.int64).reshape(-1, 2)
    return batch.take(np.argsort(completion(batch), kind="stable")), steps


def completion(batch: EventBatch) -> np.ndarray:
    return np.where(batch.kind == Kind.PYTHON_SAMPLE, batch.start_ns, batch.end_ns)


def slices(batch: EventBatch) -> Iterator[tuple[EventBatch, int]]:
    """Canonical slices of event time."""
    slot = completion(batch) // SLICE_NS
    edges = np.arange(slot[0], slot[-1] + 2)
    cuts = np.searchsorted(slot, edges)
    for i in range(len(edges) - 1):
        yield batch.take(slice(cuts[i], cuts[i + 1])), int((edges[i] + 1) * SLICE_NS)


def gather(outs: Iterable[DetectorOutput]) -> DetectorOutput:
    total = DetectorOutput()
    for out in outs:
        total.iterations += out.iterations
        total.detections += out.detections
        total.anomalies += out.anomalies
        total.requests += out.requests
    return total


def detect(batch: EventBatch) -> DetectorOutput:
    """Everything a detector says about a stream."""
    detector = IterationDetector("job", 0, batch.tables)
    outs = [detector.feed(piece, until) for piece, until in slices(batch)]
    return gather([*outs, detector.finish(int(completion(batch)[-1]))])


def loops(*trains: tuple[str, str, int, Iterable[float]]) -> EventBatch:
    """LOOP rows: (function, module, line, seconds since the start) a train, all of one main thread."""
    tables = Tables()
    rows = []
    for function, module, line, times in trains:
        file = "/job/train.py" if module == "__main__" else f"/usr/lib/python3/site-packages/{module.replace('.', '/')}.py"
        name = tables.symbols.intern_symbol(Symbol(function, module, line, file, line))
        rows += [(START + int(t * 1e9), name) for t in times]
    rows.sort()
    table = np.array(rows, np.int64).reshape(-1, 2)
    return EventBatch.build(
        HEADER, tables, start_ns=table[:, 0], kind=Kind.PYTHON_CALL, subkind=Call.LOOP, name=table[:, 1], pid=77, tid=77
    )
