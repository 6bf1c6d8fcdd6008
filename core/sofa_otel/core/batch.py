"""EventBatch: the one form in which every source's events travel, a row an event, a column a numpy array.

Times are integer nanoseconds of the UNIX epoch. Nothing is a rounded float. A batch is immutable; transformations return new
batches that share columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Tables

SCHEMA_VERSION: Final = 1

COLUMNS: Final[dict[str, np.dtype[Any]]] = {
    "start_ns": np.dtype(np.int64),
    "duration_ns": np.dtype(np.int64),
    "kind": np.dtype(np.uint8),
    "subkind": np.dtype(np.uint8),
    "name": np.dtype(np.uint32),
    "path": np.dtype(np.uint32),
    "pid": np.dtype(np.uint32),
    "tid": np.dtype(np.uint32),
    "cpu": np.dtype(np.int16),
    "device": np.dtype(np.int16),
    "peer": np.dtype(np.uint32),
    "bytes": np.dtype(np.int64),
}
"""Columns that every batch has."""

OPTIONAL_COLUMNS: Final[dict[str, np.dtype[Any]]] = {
    "link": np.dtype(np.uint64),
    "span_id": np.dtype(np.uint64),
    "parent_id": np.dtype(np.uint64),
    "trace_hi": np.dtype(np.uint64),
    "trace_lo": np.dtype(np.uint64),
}
"""Columns that a batch may have; absent means "all zero"."""

_DEFAULT: Final[dict[str, int]] = {"cpu": -1, "device": -1}


class BatchHeader(msgspec.Struct, frozen=True):
    """What all rows of a batch share.

    Attributes:
        job: Job id (``sofa.job.id``).
        rank: Global rank, 0 when the job has none.
        host: Host name.
        source: The stream the rows come from, one per connection or file (``probe/4711``, ``perf_syscalls``, ``kineto``).
        clock: ``unix`` after alignment to the epoch, ``own`` where the input carries no epoch.
        seq: Position of this batch in its source's stream; (source, seq) identifies it for de-duplication.
        schema_version: Version of the column set.
    """

    job: str
    rank: int
    host: str
    source: str
    clock: str = "unix"
    seq: int = 0
    schema_version: int = SCHEMA_VERSION


class EventBatch:
    """Columns of events with a common header and common symbol tables.

    Attributes:
        start_ns, duration_ns: ``i64``; a sample's duration is its period.
        kind, subkind: ``u8``, see :mod:`sofa_otel.core.kinds`.
        name: ``u32`` symbol id.
        path: ``u32`` call-path id, 0 when there is no stack.
        pid, tid: ``u32``; for device events ``tid`` is the stream.
        cpu, device: ``i16``, -1 when not known.
        peer: ``u32`` other device, flow or woken thread.
        bytes: ``i64``.
    """

    __slots__ = ("columns", "header", "tables")

    def __init__(self, header: BatchHeader, tables: Tables, columns: dict[str, NDArray[Any]]) -> None:
        self.header = header
        self.tables = tables
        self.columns = columns

    @classmethod
    def build(cls, header: BatchHeader, tables: Tables, **columns: Any) -> EventBatch:
        """Make a batch from any sequences; missing columns get their default, scalars are broadcast.

        Raises:
            ValueError: ``start_ns`` is missing, a column is unknown, or lengths differ.
        """
        if "start_ns" not in columns:
            raise ValueError("an EventBatch needs the column start_ns")
        start = np.ascontiguousarray(columns["start_ns"], np.int64)
        n = len(start)
        out: dict[str, NDArray[Any]] = {}
        for key, dtype in (COLUMNS | OPTIONAL_COLUMNS).items():
            given = columns.pop(key, None)
            if given is None:
                if key in COLUMNS:
                    out[key] = np.full(n, _DEFAULT.get(key, 0), dtype)
                continue
            array = np.asarray(given, dtype)
            out[key] = np.full(n, array, dtype) if array.ndim == 0 else np.ascontiguousarray(array)
            if len(out[key]) != n:
                raise ValueError(f"column {key} has {len(out[key])} rows, start_ns has {n}")
        if columns:
            raise ValueError(f"unknown columns: {', '.join(sorted(columns))}")
        return cls(header, tables, out)

    @classmethod
    def empty(cls, header: BatchHeader, tables: Tables) -> EventBatch:
        """A batch without rows."""
        return cls.build(header, tables, start_ns=np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.columns["start_ns"])

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("an EventBatch is read by columns, not by rows")

    @property
    def start_ns(self) -> NDArray[np.int64]:
        return self.columns["start_ns"]

    @property
    def duration_ns(self) -> NDArray[np.int64]:
        return self.columns["duration_ns"]

    @property
    def end_ns(self) -> NDArray[np.int64]:
        return self.start_ns + self.duration_ns

    @property
    def completed_ns(self) -> NDArray[np.int64]:
        """When each row was over: its end; for samples the instant they were taken."""
        sampled = (self.kind == Kind.PYTHON_SAMPLE) | (self.kind == Kind.CPU_SAMPLE)
        return np.where(sampled, self.start_ns, self.end_ns)

    @property
    def kind(self) -> NDArray[np.uint8]:
        return self.columns["kind"]

    @property
    def subkind(self) -> NDArray[np.uint8]:
        return self.columns["subkind"]

    @property
    def name(self) -> NDArray[np.uint32]:
        return self.columns["name"]

    @property
    def path(self) -> NDArray[np.uint32]:
        return self.columns["path"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.columns["pid"]

    @property
    def tid(self) -> NDArray[np.uint32]:
        return self.columns["tid"]

    @property
    def cpu(self) -> NDArray[np.int16]:
        return self.columns["cpu"]

    @property
    def device(self) -> NDArray[np.int16]:
        return self.columns["device"]

    @property
    def peer(self) -> NDArray[np.uint32]:
        return self.columns["peer"]

    @property
    def bytes(self) -> NDArray[np.int64]:
        return self.columns["bytes"]

    def optional(self, key: str) -> NDArray[np.uint64]:
        """An optional column; zeros where the batch has none."""
        found = self.columns.get(key)
        return np.zeros(len(self), np.uint64) if found is None else found

    def take(self, index: NDArray[Any] | slice) -> EventBatch:
        """Rows by boolean mask, integer index or slice."""
        return EventBatch(self.header, self.tables, {key: column[index] for key, column in self.columns.items()})

    def rebased(self, tables: Tables) -> EventBatch:
        """The same rows with ids of ``tables``."""
        if tables is self.tables:
            return self
        name, path = tables.rebase(self.tables, self.name, self.path)
        return EventBatch(self.header, tables, {**self.columns, "name": name, "path": path})

    def with_header(self, header: BatchHeader) -> EventBatch:
        """The same rows under another header."""
        return EventBatch(header, self.tables, self.columns)


def concat(header: BatchHeader, tables: Tables, batches: Sequence[EventBatch]) -> EventBatch:
    """One batch of all rows, in the order given; all batches are rebased on ``tables``."""
    rebased = [batch.rebased(tables) for batch in batches]
    optional = [key for key in OPTIONAL_COLUMNS if any(key in batch.columns for batch in rebased)]
    if not rebased:
        return EventBatch.empty(header, tables)
    columns: dict[str, NDArray[Any]] = {key: np.concatenate([b.columns[key] for b in rebased]) for key in COLUMNS}
    for key in optional:
        columns[key] = np.concatenate([b.optional(key) for b in rebased])
    return EventBatch(header, tables, columns)
