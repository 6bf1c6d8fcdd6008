"""RankOperator: one rank's stream in, records out; engine-free, so that any runner can host it.

``align → iterate → group → attribute`` in that order, each a function of canonical slices. The operator itself only moves data
between them, keeps the raw events of a few iterations for close inspection, and says what it wants captured next.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import msgspec
import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch, concat
from sofa_otel.core.names import IterationKind
from sofa_otel.core.records import AnyRecord, CaptureRequest, Iteration
from sofa_otel.core.series import ResourceBatch
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.align.aligner import Aligner, Slice
from sofa_otel.processors.attribute.attributor import Attributor
from sofa_otel.processors.group.grouper import Grouper
from sofa_otel.processors.iterate.detector import DetectorOutput, IterationDetector
from sofa_otel.processors.iterate.marked import MarkCounter
from sofa_otel.processors.watermark import LATENESS_NS, Watermark

_RECENT_ROWS: Final = 200_000
_KEEP_EVERY_NS: Final = 60_000_000_000
_KEPT_ROWS: Final = 50_000
_VERDICT_EVERY_NS: Final = 5_000_000_000


class Kept(NamedTuple):
    """Raw events of one iteration that are worth keeping."""

    iteration: int
    batch: EventBatch


class Output(msgspec.Struct):
    """What one call of the operator concluded."""

    records: list[AnyRecord] = []
    requests: list[CaptureRequest] = []
    kept: list[Kept] = []

    def extend(self, other: Output) -> None:
        """Append ``other``'s conclusions."""
        self.records += other.records
        self.requests += other.requests
        self.kept += other.kept


class RankOperator:
    """Keyed operator for (job, rank).

    Args:
        job, rank, host: The key, and where the rank runs.
        tables: Symbol and path tables; batches that use others are rebased.
        lateness_ns: How far behind its source's newest event an event may come.
        trust_marks: Take the program's own step marks for the iterations, at the end.
    """

    def __init__(
        self,
        job: str,
        rank: int,
        host: str,
        tables: Tables,
        lateness_ns: int = LATENESS_NS,
        *,
        trust_marks: bool = False,
    ) -> None:
        self._header = BatchHeader(job, rank, host, "*")
        self._tables = tables
        self._aligner = Aligner(self._header, tables)
        self._watermark = Watermark(lateness_ns)
        self._detector = IterationDetector(job, rank, tables)
        self._marks = MarkCounter(job, rank)
        self._trust_marks = trust_marks
        self._attributor = Attributor(job, rank, tables, Grouper(job, rank, tables))
        self._recent: deque[EventBatch] = deque()
        self._recent_rows = 0
        self._next_keep_ns = 0
        self._newest_ns = 0
        self._told_to_rest = False
        self._next_verdict_ns = 0
        self.events = 0

    @property
    def late(self) -> int:
        """Events that came behind the watermark and were left out."""
        return self._aligner.late

    def on_events(self, batch: EventBatch) -> Output:
        """Take a batch of this rank's events."""
        self.events += len(batch)
        newest = self._aligner.push(batch)
        self._newest_ns = max(self._newest_ns, newest)
        self._watermark.observe(batch.header.source, newest)
        return self._advance()

    def on_resources(self, batch: ResourceBatch) -> None:
        """Take counters and gauges of this rank's processes."""
        self._attributor.feed_resources(batch)

    def on_timer(self, now_ns: int) -> Output:
        """The wall clock is at ``now_ns``: silent sources stop holding the others back, stalls are noticed."""
        self._watermark.tick(now_ns)
        out = self._advance()
        out.extend(self._conclude(self._detector.on_timer(now_ns), self._watermark.value))
        if now_ns >= self._next_verdict_ns and self._detector.leader is None:
            # A run that is cut off must say what was known by then.
            self._next_verdict_ns = now_ns + _VERDICT_EVERY_NS
            out.records.append(self._detector.verdict())
        return out

    def finish(self, end_ns: int) -> Output:
        """The stream has ended at ``end_ns``."""
        out = Output()
        for piece in self._aligner.flush():
            out.extend(self._take(piece))
        end_ns = max(end_ns, self._newest_ns)
        found = self._detector.finish(end_ns)
        out.extend(self._conclude(self._marks.iterations() if self._trust_marks else found, end_ns))
        marks = self._marks.record()
        if marks is not None:
            out.records.append(marks)
        out.records += self._attributor.finish(end_ns)
        return out

    def _advance(self) -> Output:
        out = Output()
        for piece in self._aligner.release(self._watermark.value):
            out.extend(self._take(piece))
        return out

    def _take(self, piece: Slice) -> Output:
        if len(piece.batch):
            self._remember(piece.batch)
        self._attributor.feed(piece.batch, piece.until_ns)
        self._marks.feed(piece.batch)
        found = self._detector.feed(piece.batch, piece.until_ns)
        return Output() if self._trust_marks else self._conclude(found, piece.until_ns)

    def _conclude(self, found: DetectorOutput, until_ns: int) -> Output:
        out = Output(records=[*found.detections, *found.iterations, *found.anomalies], requests=list(found.requests))
        if not self._told_to_rest and any(one.found and one.source.startswith("probe") for one in found.detections):
            # The probe tells the iterations and what each thread waits for: system calls add nothing that is worth their cost.
            self._told_to_rest = True
            out.requests.append(CaptureRequest(source="perf_syscalls", mode="off", reason="iterations are followed by the probe"))
        out.records += self._attributor.close(found.iterations, self._detector.leader, until_ns)
        out.kept += self._keep(found.iterations)
        return out

    def _remember(self, batch: EventBatch) -> None:
        self._recent.append(batch)
        self._recent_rows += len(batch)
        while self._recent_rows > _RECENT_ROWS and len(self._recent) > 1:
            self._recent_rows -= len(self._recent.popleft())

    def _keep(self, iterations: list[Iteration]) -> list[Kept]:
        """Aggregates are kept for every iteration; raw events for one a minute and for anomalous ones."""
        kept = []
        for iteration in iterations:
            due = iteration.kind == IterationKind.TRAIN and iteration.end_ns >= self._next_keep_ns
            if not (due or iteration.anomalous):
                continue
            rows = [
                batch.take(mask)
                for batch in self._recent
                if (mask := (batch.start_ns < iteration.end_ns) & (batch.end_ns > iteration.start_ns)).any()
            ]
            if not rows:
                continue
            if due:
                self._next_keep_ns = iteration.end_ns + _KEEP_EVERY_NS
            merged = concat(self._header, self._tables, rows)
            if len(merged) > _KEPT_ROWS:
                merged = merged.take(np.arange(_KEPT_ROWS))
            kept.append(Kept(iteration.index, merged))
        return kept
