"""Session: one observed execution, wired together.

Collectors are polled, their batches go through the operator, records go to the run directory and to whoever listens. One worker
thread does all of it, so nothing here needs a lock; the main thread only waits for the target.
"""

from __future__ import annotations

import heapq
import resource
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from sofa_otel.cli.ranks import NOBODY, Ranks
from sofa_otel.core import names
from sofa_otel.core.batch import EventBatch
from sofa_otel.core.recording import RecordingWriter
from sofa_otel.core.records import AnyRecord, CaptureRequest, Detection, Iteration
from sofa_otel.core.report import CollectorSummary, RunCost
from sofa_otel.core.run import RunWriter
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.core.totals import Totals
from sofa_otel.exporters.collector import Collector, Target
from sofa_otel.exporters.governor import Governor
from sofa_otel.processors.rank_operator import Output
from sofa_otel.processors.run.local import LocalRunner

TICK_S: Final = 1.0
_LEAST_SLEEP_S: Final = 0.02
_ATTEMPTS: Final = 5
SAMPLES: Final = "probe:sample"


class Listener(Protocol):
    """Somebody who wants records as they come (an exporter, a status line)."""

    def records(self, records: Sequence[AnyRecord]) -> None:
        """Take records; must not block."""


class Session:
    """Collectors → operator → run directory.

    Also the collectors' :class:`~sofa_otel.exporters.collector.Sink`.

    Args:
        writer: The open run.
        collectors: What to poll.
        target: What is watched.
        ranks: Resolves process ids.
        totals: Counters behind ``/metrics`` and OTLP.
        listeners: Who else gets the records.
        governor: Keeps the collectors inside their budget.
        lateness_ns: Allowed lateness of events.
    """

    def __init__(
        self,
        writer: RunWriter,
        collectors: Sequence[Collector],
        target: Target,
        ranks: Ranks,
        totals: Totals,
        listeners: Iterable[Listener] = (),
        *,
        governor: Governor | None = None,
        lateness_ns: int = 2_000_000_000,
    ) -> None:
        self.tables = Tables()
        self.series = SeriesTable()
        self.writer = writer
        self.totals = totals
        self._target = target
        self._ranks = ranks
        self._listeners = list(listeners)
        self._runner = LocalRunner(self.tables, lateness_ns)
        self._collectors = {collector.name: collector for collector in collectors}
        self._failures: dict[str, int] = {}
        self._recording: RecordingWriter | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._governor = governor
        self._locked = False
        self._target_cpu: dict[int, float] = {}

    # -- the collectors' sink ------------------------------------------------------------------------------------------------

    def events(self, batch: EventBatch) -> None:
        """Take a batch of events."""
        if self._recording is not None:
            self._recording.events(batch)
        if batch.header.source.startswith("probe/"):
            if batch.header.rank >= 0 and len(batch):
                self._ranks.tell(int(batch.pid[0]), batch.header.rank)
            self._handle(self._runner.on_events(batch))
            return
        for part in self._ranks.route_events(batch):
            self._handle(self._runner.on_events(part))

    def resources(self, batch: ResourceBatch) -> None:
        """Take a batch of resource points."""
        if self._recording is not None:
            self._recording.resources(batch)
        self._note_cpu(batch)
        for part in self._ranks.route_resources(batch):
            if part.header.rank == NOBODY:
                continue
            self.writer.write_resources(part)
            self.totals.add_resources(part)
            self._runner.on_resources(part)

    def warn(self, message: str) -> None:
        """Keep a warning with the run."""
        self.writer.warn(one_line(message))

    # -- life ----------------------------------------------------------------------------------------------------------------

    def start_collectors(self) -> None:
        """Start every collector; one that fails is left out with a warning."""
        for name, collector in list(self._collectors.items()):
            try:
                collector.start(self._target, self)
            except Exception as error:  # noqa: BLE001 - a collector must never cost the user the run
                self.warn(f"collector {name} could not start and is left out: {error}")
                del self._collectors[name]

    def record(self, path: Path) -> None:
        """Keep everything that collectors deliver in ``path``, for replay."""
        self._recording = RecordingWriter(path)

    def start(self) -> None:
        """Begin polling in the worker thread."""
        self._thread = threading.Thread(target=self._work, name="sofa-session", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, take what collectors still hold, end the operators' streams and commit."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for name, collector in self._collectors.items():
            self._guarded(name, collector.stop)
        if self._recording is not None:
            self._recording.close()
        self._handle(self._runner.finish(self._end_ns()))
        self._account()
        for words in self._governor.shed() if self._governor is not None else ():
            self.warn(f"given up to keep the cost low: {words}")
        self.writer.update(ranks=self._runner.ranks, world_size=max(self._ranks.world_size, len(self._runner.ranks), 1))
        self.writer.commit()

    def _note_cpu(self, batch: ResourceBatch) -> None:
        """Remember the newest CPU time of every process of the tree: the budget is a share of it."""
        for series, value in zip(batch.series.tolist(), batch.value.tolist(), strict=True):
            if batch.table[series].metric == names.PROCESS_CPU_TIME.name:
                self._target_cpu[series] = max(value, self._target_cpu.get(series, 0.0))

    def _end_ns(self) -> int:
        """Now, where something was watched; in a replay the operators know their last event."""
        return time.time_ns() if self._collectors else 0

    def summaries(self) -> list[CollectorSummary]:
        """Each collector's own account."""
        out = []
        for name, collector in self._collectors.items():
            stats = collector.stats()
            out.append(
                CollectorSummary(name=name, events=stats.events, dropped=stats.dropped, cpu_s=stats.cpu_s + stats.target_cpu_s)
            )
        return out

    # -- the worker ----------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        now = time.monotonic()
        due = [(now, order, name) for order, name in enumerate(self._collectors)]
        heapq.heapify(due)
        tick = now + TICK_S
        while not self._stop.is_set():
            now = time.monotonic()
            while due and due[0][0] <= now:
                _, order, name = heapq.heappop(due)
                collector = self._collectors.get(name)
                if collector is None:
                    continue
                self._guarded(name, lambda c=collector: c.poll(time.time_ns()))  # type: ignore[misc]
                if self._failures.get(name, 0) < _ATTEMPTS:
                    heapq.heappush(due, (time.monotonic() + collector.interval_s, order, name))
            if now >= tick:
                tick = now + TICK_S
                self._tick()
            wait = min(due[0][0] if due else tick, tick) - time.monotonic()
            self._stop.wait(max(wait, _LEAST_SLEEP_S))

    def _tick(self) -> None:
        try:
            self._handle(self._runner.on_timer(time.time_ns()))
            self._govern()
            self._account()
            self.writer.commit()
        except Exception as error:  # noqa: BLE001 - the run goes on without this second's work
            self.warn(f"internal error, please report it: {type(error).__name__}: {error}")

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a collector must never cost the user the run
            self._failures[name] = self._failures.get(name, 0) + 1
            if self._failures[name] == _ATTEMPTS:
                self.warn(f"collector {name} failed {_ATTEMPTS} times and is left out: {type(error).__name__}: {error}")

    def _handle(self, out: Output) -> None:
        if out.records:
            self.writer.write(out.records)
            self.totals.add(out.records)
            for record in out.records:
                if isinstance(record, Detection):
                    self._locked = record.found and record.source != SAMPLES
            for listener in self._listeners:
                listener.records(out.records)
        for kept in out.kept:
            self.writer.write_raw(kept.batch, kept.iteration)
        self._route(out.requests)

    def _govern(self) -> None:
        if self._governor is None:
            return
        # Until the iterations are found, and where samples are all that tells them, the probe is not shed: it keeps a budget of
        # its own, and the detector asks for no more samples than it needs.
        stats = {name: c.stats() for name, c in self._collectors.items() if self._locked or name != "probe"}
        self._hand(self._governor.observe(time.time_ns(), sum(self._target_cpu.values()), stats))

    def _route(self, requests: Iterable[CaptureRequest]) -> None:
        """The operators' requests, limited to what the governor allows."""
        governor = self._governor
        self._hand(request if governor is None or request.source == "*" else governor.note(request) for request in requests)

    def _hand(self, requests: Iterable[CaptureRequest]) -> None:
        for request in requests:
            for name, collector in self._collectors.items():
                if request.source in ("*", name):
                    self._guarded(name, lambda c=collector, r=request: c.request(r))  # type: ignore[misc]

    def _account(self) -> None:
        """Publish what observing costs."""
        job, rank = self._target.job, self._target.rank
        summaries = self.summaries()
        for one in summaries:
            label = (names.COLLECTOR, one.name)
            self.totals.set(names.COLLECTOR_CPU_TIME, one.cpu_s, job, rank, label)
            self.totals.set(names.COLLECTOR_DROPPED, one.dropped, job, rank, label)
        self.totals.set(names.PROCESSOR_EVENTS, self._runner.events, job, rank)
        self.totals.set(names.PROCESSOR_LATE, self._runner.late, job, rank)
        self.totals.set(names.PROCESSOR_CPU_TIME, self._runner.cpu_s, job, rank)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cost = RunCost(cpu_s=usage.ru_utime + usage.ru_stime, rss_bytes=usage.ru_maxrss * 1024)
        self.writer.update(collectors=summaries, cost=cost)


def one_line(message: str) -> str:
    """A message with its remedy, as one line."""
    return " ".join(message.split())


class StatusLine:
    """A listener that keeps what one line on the terminal needs."""

    def __init__(self) -> None:
        self.iterations = 0
        self._durations: list[float] = []

    def records(self, records: Sequence[AnyRecord]) -> None:
        """Count iterations and remember the last durations."""
        for record in records:
            if isinstance(record, Iteration):
                self.iterations += 1
                self._durations = [*self._durations[-49:], (record.end_ns - record.start_ns) / 1e9]

    def text(self) -> str:
        """The line."""
        if not self._durations:
            return "sofa: looking for iterations …"
        middle = sorted(self._durations)[len(self._durations) // 2]
        return f"sofa: {self.iterations} iterations, {1000 * middle:.1f} ms each"
