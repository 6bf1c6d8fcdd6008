"""LocalRunner: hosts the keyed operators of one process; the embedded default.

Single-threaded on purpose: the caller's worker thread feeds it, so there is no queue to bound and no lock to hold.
"""

from __future__ import annotations

import time

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.series import ResourceBatch
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.rank_operator import Output, RankOperator
from sofa_otel.processors.watermark import LATENESS_NS


class LocalRunner:
    """Routes batches to one operator per (job, rank). Rank < 0 is nobody's (launchers) and is left out."""

    def __init__(self, tables: Tables, lateness_ns: int = LATENESS_NS, *, trust_marks: bool = False) -> None:
        self._tables = tables
        self._trust_marks = trust_marks
        self._lateness_ns = lateness_ns
        self._operators: dict[tuple[str, int], RankOperator] = {}
        self.cpu_s = 0.0

    @property
    def ranks(self) -> list[int]:
        """Ranks seen so far."""
        return sorted({rank for _, rank in self._operators})

    @property
    def events(self) -> int:
        """Events taken in."""
        return sum(operator.events for operator in self._operators.values())

    @property
    def late(self) -> int:
        """Events left out because they came behind the watermark."""
        return sum(operator.late for operator in self._operators.values())

    def on_events(self, batch: EventBatch) -> Output:
        """Hand a batch to its rank's operator."""
        header = batch.header
        if header.rank < 0:
            return Output()
        key = (header.job, header.rank)
        operator = self._operators.get(key)
        if operator is None:
            operator = self._operators[key] = RankOperator(
                header.job, header.rank, header.host, self._tables, self._lateness_ns, trust_marks=self._trust_marks
            )
        started = time.thread_time()
        out = operator.on_events(batch)
        self.cpu_s += time.thread_time() - started
        return out

    def on_resources(self, batch: ResourceBatch) -> None:
        """Hand resource points to their rank's operator, if it has one by now."""
        operator = self._operators.get((batch.header.job, batch.header.rank))
        if operator is not None:
            operator.on_resources(batch)

    def on_timer(self, now_ns: int) -> Output:
        """Let every operator look at the clock."""
        started = time.thread_time()
        out = Output()
        for operator in self._operators.values():
            out.extend(operator.on_timer(now_ns))
        self.cpu_s += time.thread_time() - started
        return out

    def finish(self, end_ns: int) -> Output:
        """End every operator's stream."""
        out = Output()
        for operator in self._operators.values():
            out.extend(operator.finish(end_ns))
        return out
