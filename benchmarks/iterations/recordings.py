"""Reads what recorder.py wrote into batches, and cuts them into the slices that the detector is fed with."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Symbol, Tables

SLICE_NS = 250_000_000
HEADER = BatchHeader("job", 0, "host", "recorder")


def load(path: Path) -> EventBatch:
    """All rows of a recording, sorted by completion."""
    with gzip.open(path, "rt") as source:
        raw = json.load(source)
    tables = Tables()
    symbols = np.array([tables.symbols.intern_symbol(Symbol(*row)) for row in raw["symbols"]], np.uint32)
    paths = np.zeros(len(raw["paths"]), np.uint32)
    for i, (parent, symbol) in enumerate(raw["paths"]):
        if i and symbol < len(symbols):
            paths[i] = tables.paths.intern(int(paths[parent]), int(symbols[symbol]))
    rows = np.array(raw["rows"], np.int64).reshape(-1, 7)
    rows = rows[(rows[:, 4] < len(symbols)) & (rows[:, 5] < len(paths))]  # the sampler runs on while the file is written
    ends = rows[:, 0] + np.where(rows[:, 2] == Kind.PYTHON_SAMPLE, 0, rows[:, 1])
    rows = rows[np.argsort(ends, kind="stable")]
    return EventBatch.build(
        HEADER, tables, start_ns=rows[:, 0], duration_ns=rows[:, 1], kind=rows[:, 2], subkind=rows[:, 3],
        name=symbols[rows[:, 4]], path=paths[rows[:, 5]], pid=np.full(len(rows), raw["pid"]), tid=rows[:, 6],
    )  # fmt: skip


def slices(batch: EventBatch) -> Iterator[tuple[EventBatch, int]]:
    """Canonical slices (rows that completed before ``until_ns``), empty ones too."""
    sampled = batch.kind == Kind.PYTHON_SAMPLE
    ends = np.where(sampled, batch.start_ns, batch.end_ns)
    slot = ends // SLICE_NS
    edges = np.arange(slot[0], slot[-1] + 2)
    cuts = np.searchsorted(slot, edges)
    for i in range(len(edges) - 1):
        yield batch.take(slice(cuts[i], cuts[i + 1])), int((edges[i] + 1) * SLICE_NS)
