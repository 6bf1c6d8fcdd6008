"""The row buffer: what attribution keeps of events until the iteration they belong to is known. Columns, bounded.

A sample says what its thread did since the sample before it, so it covers ``(start − duration, start]``; everything else covers
``[start, start + duration)``. When the bound is reached, old rows that say the same are merged in ever coarser time cells: sums
stay exact, only their position in time becomes less so.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind

COLUMNS: Final[dict[str, Any]] = {
    "lo": np.int64, "hi": np.int64, "at": np.int64, "node": np.int32, "kind": np.uint8, "subkind": np.uint8, "pid": np.uint32,
    "tid": np.uint32, "bytes": np.int64, "count": np.int32,
}  # fmt: skip
MAX_ROWS: Final = 65_536
FIRST_CELL_NS: Final = 10_000_000

Columns = dict[str, NDArray[Any]]


def is_sample(kind: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Rows that are samples."""
    return np.asarray((kind == Kind.PYTHON_SAMPLE) | (kind == Kind.CPU_SAMPLE))


class RowBuffer:
    """Rows in event time, held as a list of column chunks that is joined when it is read."""

    def __init__(self, bound: int = MAX_ROWS) -> None:
        self._bound = bound
        self._chunks: list[Columns] = []
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, batch: EventBatch, node: NDArray[np.int32]) -> None:
        """Take the rows in that belong to a swarm (``node`` ≥ 0)."""
        keep = np.flatnonzero(node >= 0)
        if not len(keep):
            return
        kind = batch.kind[keep]
        start, duration = batch.start_ns[keep], batch.duration_ns[keep]
        sample = is_sample(kind)
        chunk: Columns = {
            "lo": np.where(sample, start - duration, start),
            "hi": np.where(sample, start, start + duration),
            "at": start,
            "node": node[keep],
            "kind": kind,
            "subkind": batch.subkind[keep],
            "pid": batch.pid[keep],
            "tid": batch.tid[keep],
            "bytes": batch.bytes[keep],
            "count": np.ones(len(keep), np.int32),
        }
        self._chunks.append(chunk)
        self._rows += len(keep)

    def columns(self) -> Columns:
        """All rows, sorted by the instant they are counted at; ties keep the order of arrival."""
        if not self._chunks:
            return {key: np.empty(0, dtype) for key, dtype in COLUMNS.items()}
        if len(self._chunks) > 1:
            joined = {key: np.concatenate([chunk[key] for chunk in self._chunks]) for key in COLUMNS}
            if (np.diff(joined["at"]) < 0).any():
                joined = take(joined, np.argsort(joined["at"], kind="stable"))
            self._chunks = [joined]
        elif (np.diff(self._chunks[0]["at"]) < 0).any():
            self._chunks = [take(self._chunks[0], np.argsort(self._chunks[0]["at"], kind="stable"))]
        return self._chunks[0]

    def drop_before(self, time_ns: int) -> None:
        """Forget rows that end, and are counted, before ``time_ns``."""
        columns = self.columns()
        keep = (columns["hi"] > time_ns) | (columns["at"] >= time_ns)
        if not keep.all():
            self._chunks = [take(columns, keep)]
            self._rows = int(keep.sum())

    def compact(self) -> bool:
        """Merge equal old rows if the bound is exceeded.

        Returns:
            Whether it is still exceeded: then the caller has to give up the oldest rows.
        """
        cell = FIRST_CELL_NS
        while self._rows > self._bound and cell <= 100 * FIRST_CELL_NS:
            self._chunks = [_merge(self.columns(), cell)]
            self._rows = len(self._chunks[0]["at"])
            cell *= 10
        return self._rows > self._bound


def _pack(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """One integer for each distinct row of several columns (ranked again whenever the product would not fit)."""
    packed = np.zeros(len(columns[0]), np.int64)
    size = 1
    for column in columns:
        low, high = int(column.min()), int(column.max())
        width = high - low + 1
        if size * width >= 1 << 62:
            _, packed = np.unique(packed, return_inverse=True)
            size = len(packed)
        packed = packed * width + (column.astype(np.int64) - low)
        size *= width
    return packed


def take(columns: Columns, index: NDArray[Any] | slice) -> Columns:
    """Rows of a set of columns."""
    if not isinstance(index, slice) and index.dtype == bool:
        index = np.flatnonzero(index)
    return {key: column[index] for key, column in columns.items()}


def _merge(columns: Columns, cell: int) -> Columns:
    half = len(columns["at"]) // 2
    old, new = take(columns, slice(0, half)), take(columns, slice(half, None))
    code = _pack(old["at"] // cell, old["node"], old["kind"].astype(np.int64) << 8 | old["subkind"], old["pid"], old["tid"])
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    groups = len(first)
    merged = take(old, first)
    length = np.zeros(groups, np.int64)
    np.add.at(length, inverse, old["hi"] - old["lo"])
    count = np.zeros(groups, np.int32)
    np.add.at(count, inverse, old["count"])
    moved = np.zeros(groups, np.int64)
    np.add.at(moved, inverse, old["bytes"])
    sample = is_sample(merged["kind"])
    merged["lo"] = np.where(sample, merged["hi"] - length, merged["lo"])
    merged["hi"] = np.where(sample, merged["hi"], merged["lo"] + length)
    merged["count"], merged["bytes"] = count, moved
    order = np.argsort(merged["at"], kind="stable")
    merged = take(merged, order)
    return {key: np.concatenate([merged[key], new[key]]) for key in columns}
