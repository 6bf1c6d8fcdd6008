"""Aligner: canonical slices of event time.

The law of this suite is that records depend only on the set of events and the watermark, never on batch borders or order of
arrival. It is kept here, once, for every later stage: events wait until the watermark has passed the end of a fixed slice of
event time (a multiple of 250 ms of the UNIX epoch) and leave as one batch in one order. Later stages are functions of slices.

A row belongs to the slice in which it *completes* (its end; for a sample, the instant it was taken): a 30 s checkpoint is
reported when it is over and would otherwise always be late. Inside a slice rows are ordered by (start, source, seq, position).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch, concat
from sofa_otel.core.symbols import Tables

SLICE_NS: Final = 250_000_000
_MOST_GAPS: Final = 4096


class Slice(NamedTuple):
    """All rows that completed before ``until_ns`` and not in an earlier slice."""

    batch: EventBatch
    until_ns: int


class _Seen:
    """Sequence numbers already taken from one source: all below ``low`` and those in ``above``."""

    __slots__ = ("above", "low")

    def __init__(self) -> None:
        self.low = 0
        self.above: set[int] = set()

    def add(self, seq: int) -> bool:
        """Whether ``seq`` is new."""
        if seq < self.low or seq in self.above:
            return False
        self.above.add(seq)
        while self.low in self.above:
            self.above.remove(self.low)
            self.low += 1
        if len(self.above) > _MOST_GAPS:  # a lost batch would otherwise make this set grow for ever
            self.low = min(self.above)
        return True


class Aligner:
    """Buffers batches of one rank and releases canonical slices.

    Args:
        header: Header of released batches.
        tables: Tables released batches refer to; others are rebased.
        slice_ns: Length of a slice, ns.
    """

    def __init__(self, header: BatchHeader, tables: Tables, slice_ns: int = SLICE_NS) -> None:
        self._header = header
        self._tables = tables
        self._slice_ns = slice_ns
        self._pending: list[tuple[str, int, EventBatch, NDArray[np.int64]]] = []
        self._seen: dict[str, _Seen] = {}
        self._released_ns = 0
        self.late = 0
        self.duplicates = 0

    @property
    def pending_rows(self) -> int:
        """Rows that wait for the watermark."""
        return sum(len(batch) for _, _, batch, _ in self._pending)

    def push(self, batch: EventBatch) -> int:
        """Take a batch in.

        Returns:
            The newest completion time in it, UNIX ns, 0 when it was a duplicate or empty.
        """
        source, seq = batch.header.source, batch.header.seq
        if not self._seen.setdefault(source, _Seen()).add(seq):
            self.duplicates += len(batch)
            return 0
        if not len(batch):
            return 0
        done = batch.completed_ns
        newest = int(done.max())
        if self._released_ns:
            fresh = done >= self._released_ns
            if not fresh.all():
                self.late += int(len(fresh) - fresh.sum())
                batch, done = batch.take(fresh), done[fresh]
        if len(batch):
            self._pending.append((source, seq, batch.rebased(self._tables), done))
        return newest

    def release(self, watermark_ns: int) -> list[Slice]:
        """Every non-empty slice that ends by the watermark, in order, then an empty one that carries the watermark on."""
        border = watermark_ns // self._slice_ns * self._slice_ns
        if border <= self._released_ns:
            return []
        slices = self._cut(border)
        self._released_ns = border
        if not slices or slices[-1].until_ns < border:
            slices.append(Slice(EventBatch.empty(self._header, self._tables), border))
        return slices

    def flush(self) -> list[Slice]:
        """Everything that still waits; the stream has ended."""
        if not self._pending:
            return []
        newest = max(int(done.max()) for _, _, _, done in self._pending)
        return self.release((newest // self._slice_ns + 1) * self._slice_ns)

    def _cut(self, border: int) -> list[Slice]:
        ready: list[tuple[str, int, EventBatch]] = []
        keys: list[NDArray[np.int64]] = []
        waiting = []
        for source, seq, batch, done in sorted(self._pending, key=lambda item: item[:2]):
            before = done < border
            if before.all():
                ready.append((source, seq, batch))
                keys.append(done)
                continue
            if before.any():
                ready.append((source, seq, batch.take(before)))
                keys.append(done[before])
                batch, done = batch.take(~before), done[~before]
            waiting.append((source, seq, batch, done))
        self._pending = waiting
        if not ready:
            return []
        merged = concat(self._header, self._tables, [batch for _, _, batch in ready])
        number = np.concatenate(keys) // self._slice_ns
        order = np.lexsort((merged.start_ns, number))
        merged, number = merged.take(order), number[order]
        borders = np.flatnonzero(np.diff(number)) + 1
        starts, ends = [0, *borders.tolist()], [*borders.tolist(), len(number)]
        return [Slice(merged.take(slice(a, b)), int(number[a] + 1) * self._slice_ns) for a, b in zip(starts, ends, strict=True)]
