"""TimeOrder: rows of a file in the order in which they completed, with memory that does not grow with the file.

Trace files are sorted by thread, by kind or not at all; the processors want time to go forward. Rows are collected up to a bound,
sorted and written to disk as one run of plain columns; runs are then merged by slices of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import COLUMNS, OPTIONAL_COLUMNS, BatchHeader, EventBatch
from sofa_otel.core.symbols import Tables

RUN_ROWS: Final = 1 << 19
"""Rows kept in memory: about 40 MB."""
SLICE_ROWS: Final = 1 << 16
_STREAM: Final = "stream"
_DONE: Final = "done"
_TYPES: Final[dict[str, np.dtype[Any]]] = {
    **COLUMNS, **OPTIONAL_COLUMNS, _STREAM: np.dtype(np.uint16), _DONE: np.dtype(np.int64),
}  # fmt: skip
_MOST_STREAMS: Final = 65_536

Rows = dict[str, NDArray[Any]]


class TimeOrder:
    """Sorts batches of any order and several streams.

    Args:
        folder: Where runs are spilled; it must exist. What is made in it is removed by :meth:`close`.
        tables: Tables of all batches.
        run_rows: Rows kept in memory.
    """

    def __init__(self, folder: Path, tables: Tables, run_rows: int = RUN_ROWS) -> None:
        self._folder = folder
        self._tables = tables
        self._run_rows = run_rows
        self._headers: list[BatchHeader] = []
        self._numbers: dict[BatchHeader, int] = {}
        self._held: list[Rows] = []
        self._held_rows = 0
        self._runs: list[Rows] = []
        self._files: list[Path] = []
        self.rows = 0

    def add(self, batch: EventBatch) -> None:
        """Take a batch; its ``seq`` is given anew."""
        if not len(batch):
            return
        header = BatchHeader(batch.header.job, batch.header.rank, batch.header.host, batch.header.source, batch.header.clock)
        number = self._numbers.get(header)
        if number is None:
            number = self._numbers[header] = len(self._headers) % _MOST_STREAMS
            self._headers.append(header)
        self._held.append(
            {**batch.columns, _STREAM: np.full(len(batch), number, np.uint16), _DONE: batch.completed_ns}
        )  # fmt: skip
        self._held_rows += len(batch)
        self.rows += len(batch)
        if self._held_rows >= self._run_rows:
            self._spill()

    def batches(self) -> Iterator[EventBatch]:
        """All rows, by completion; batches of one header with ascending ``seq`` for each source. Call once."""
        if self._held:
            self._runs.append(self._sorted())
        seqs: dict[str, int] = {}
        for rows in self._merged():
            for stream in np.unique(rows[_STREAM]).tolist():
                header = self._headers[stream]
                mine = rows[_STREAM] == stream
                columns = {key: column[mine] for key, column in rows.items() if key not in (_STREAM, _DONE)}
                seq = seqs.get(header.source, 0)
                seqs[header.source] = seq + 1
                yield EventBatch(
                    BatchHeader(header.job, header.rank, header.host, header.source, header.clock, seq), self._tables, columns
                )

    def close(self) -> None:
        """Remove what was spilled."""
        self._runs.clear()
        for path in self._files:
            path.unlink(missing_ok=True)
        self._files.clear()

    def __enter__(self) -> TimeOrder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- runs ------------------------------------------------------------------------------------------------------------------
    def _sorted(self) -> Rows:
        """What is held, in order; optional columns only where a batch has them."""
        keys = [key for key in _TYPES if any(key in rows for rows in self._held)]
        sizes = [len(rows[_DONE]) for rows in self._held]
        joined = {
            key: np.concatenate(
                [
                    rows.get(key, np.broadcast_to(np.zeros(1, _TYPES[key]), size))
                    for rows, size in zip(self._held, sizes, strict=True)
                ]
            )
            for key in keys
        }
        self._held, self._held_rows = [], 0
        done = joined[_DONE]
        if np.any(np.diff(done) < 0):
            order = np.argsort(done, kind="stable")
            joined = {key: column[order] for key, column in joined.items()}
        return joined

    def _spill(self) -> None:
        rows = self._sorted()
        mapped: Rows = {}
        for key, column in rows.items():
            if len(column) and (column == column[0]).all():
                mapped[key] = np.broadcast_to(column[:1].copy(), column.shape)
                continue
            path = self._folder / f"{len(self._runs)}.{key}"
            self._files.append(path)
            column.tofile(path)
            mapped[key] = np.memmap(path, column.dtype, "r")
        self._runs.append(mapped)

    def _merged(self) -> Iterator[Rows]:
        """Slices of time through all runs, each a few ten thousand rows."""
        places = [0] * len(self._runs)
        while True:
            open_runs = [i for i, run in enumerate(self._runs) if places[i] < len(run[_DONE])]
            if not open_runs:
                return
            step = max(SLICE_ROWS // len(open_runs), 1024)
            until = min(int(self._runs[i][_DONE][min(places[i] + step, len(self._runs[i][_DONE])) - 1]) for i in open_runs)
            parts: list[Rows] = []
            for i in open_runs:
                run, start = self._runs[i], places[i]
                end = start + int(np.searchsorted(run[_DONE][start:], until, side="right"))
                places[i] = end
                if end > start:
                    parts.append({key: np.asarray(column[start:end]) for key, column in run.items()})
            yield from _slices(_joined(parts))


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    keys = [key for key in _TYPES if any(key in part for part in parts)]
    joined = {key: np.concatenate([part.get(key, np.zeros(len(part[_DONE]), _TYPES[key])) for part in parts]) for key in keys}
    order = np.argsort(joined[_DONE], kind="stable")
    return {key: column[order] for key, column in joined.items()}


def _slices(rows: Rows) -> Iterator[Rows]:
    """Pieces of bounded size: many rows may complete at one instant."""
    for start in range(0, len(rows[_DONE]), 2 * SLICE_ROWS):
        yield {key: column[start : start + 2 * SLICE_ROWS] for key, column in rows.items()}
