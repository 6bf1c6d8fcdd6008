"""Reads small traces, and makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kineto_reference import Row
from reading import Gathered, read

from sofa_otel.exporters.read.kineto import KinetoImporter


def rows_of(found: Gathered) -> list[Row]:
    out = []
    for batch in found.batches:
        names = [found.tables.symbols[i].function for i in batch.name.tolist()]
        columns = (batch.columns[key].tolist() for key in ("start_ns", "duration_ns", "pid", "tid", "device"))
        out += map(Row, names, *columns, batch.optional("link").tolist(), batch.bytes.tolist())
    return sorted(out)


def read_text(folder: Path, text: str | bytes, name: str = "trace.json") -> Gathered:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read(KinetoImporter(), path)


def trace(*events: dict[str, Any], **members: Any) -> str:
    return json.dumps({**members, "traceEvents": list(events)})


def event(name: str, cat: str = "cpu_op", ts: Any = 5, dur: Any = 1, **more: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 10, "tid": 11, "ts": ts, "dur": dur, **more}


def only(found: Gathered) -> dict[str, Any]:
    """The columns of the only row, with its symbol."""
    (batch,) = found.batches
    assert len(batch) == 1
    return {key: column[0].item() for key, column in batch.columns.items()} | {"symbol": found.tables.symbols[int(batch.name[0])]}
