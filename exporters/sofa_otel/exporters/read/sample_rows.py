"""Rows of Python samples on their way into batches, for the formats of sampling profilers."""

from __future__ import annotations

from typing import Final

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.exporters.read.importer import ImportSink

ROWS: Final = 65_536
_COLUMNS: Final = ("start_ns", "duration_ns", "path", "name", "pid", "tid", "kind", "subkind", "bytes")
LATEST_NS: Final = 1 << 62


class SampleRows:
    """Collects rows and delivers them 65,536 at a time, on the file's own clock.

    Args:
        sink: Where batches go.
        source: Source name of the batches.
    """

    def __init__(self, sink: ImportSink, source: str) -> None:
        self._sink, self._source = sink, source
        self._waiting: list[tuple[int, ...]] = []
        self._seq = 0
        self.rows = 0

    def add(
        self,
        start: int,
        duration: int,
        path: int,
        pid: int,
        tid: int,
        *,
        kind: int = Kind.PYTHON_SAMPLE,
        wait: int = Wait.UNKNOWN,
        size: int = 0,
    ) -> None:
        """Take a row. Times that no clock can show are left out."""
        if not 0 <= start < LATEST_NS or not 0 <= duration < LATEST_NS:
            return
        leaf = self._sink.tables.paths.leaf(path)
        self._waiting.append((start, duration, path, leaf, fold(pid), fold(tid), kind, wait, size))
        self.rows += 1
        if len(self._waiting) >= ROWS:
            self.flush()

    def flush(self) -> None:
        """Deliver what is collected."""
        if not self._waiting:
            return
        sink = self._sink
        columns = dict(zip(_COLUMNS, np.array(self._waiting, np.int64).T, strict=True))
        self._waiting.clear()
        header = BatchHeader(job=sink.job, rank=sink.rank, host=sink.host, source=self._source, clock="own", seq=self._seq)
        self._seq += 1
        sink.events(EventBatch.build(header, sink.tables, **columns))


def fold(number: int) -> int:
    """A process or thread id as 32 bits; a ``pthread_t`` loses its upper half in a way that keeps threads apart."""
    number &= 0xFFFFFFFFFFFFFFFF
    return number if number < 1 << 32 else (number ^ number >> 32) & 0xFFFFFFFF
