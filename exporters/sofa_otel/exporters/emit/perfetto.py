"""A RUN as a Perfetto trace: one process a rank, with its iterations, phases, swarms, counters, kept raw events and findings.

https://ui.perfetto.dev opens it from disk, in the browser; nothing is sent anywhere.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np

from sofa_otel.core import names
from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.names import Phase
from sofa_otel.core.records import Anomaly, Finding, Iteration, PhaseBreakdown, SwarmInfo, SwarmWindow
from sofa_otel.core.run import ResourceSeries, RunReader
from sofa_otel.core.telemetry import SpanPoint, iteration_spans
from sofa_otel.exporters.emit.perfetto_wire import Annotations, Slice, TrackWriter

MAX_RAW_EVENTS: Final = 2_000_000
"""Raw events drawn in all; the UI gets slow beyond, and the run directory has them anyway."""

_FIRST_PID: Final = 1 << 23
"""Process ids for the UI, one a rank, above any that Linux gives: a rank is more than one process."""
_SAMPLES: Final = (Kind.PYTHON_SAMPLE, Kind.CPU_SAMPLE)


def write_perfetto(reader: RunReader, path: Path) -> None:
    """Write ``reader``'s run to ``path`` (gzip where the name ends in ``.gz``).

    Raises:
        InputError: The run is damaged.
        OSError: As from the file system.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with gzip.open(temporary, "wb", compresslevel=5) if path.suffix == ".gz" else temporary.open("wb") as file:
            _Run(reader, TrackWriter(file)).draw()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Run:
    def __init__(self, reader: RunReader, writer: TrackWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._budget = MAX_RAW_EVENTS

    def draw(self) -> None:
        meta = self._reader.meta
        self._writer.clock(max(meta.started_ns, 1))
        for rank in sorted(meta.ranks or [meta.rank]):
            group = self._writer.process(_FIRST_PID + rank, f"{meta.job} rank {rank}")
            self._draw_rank(group, rank)

    def _draw_rank(self, group: int, rank: int) -> None:
        reader, writer = self._reader, self._writer
        iterations = reader.records(Iteration, rank)
        infos = {info.swarm: info for info in reader.records(SwarmInfo, rank)}
        writer.slices(writer.track(group, "iterations", 1), map(_iteration_slice, iterations))
        writer.slices(writer.track(group, "phases", 2), _phase_slices(reader.records(PhaseBreakdown, rank)))
        self._draw_swarms(group, iterations, reader.records(SwarmWindow, rank), infos)
        self._draw_findings(group, rank, iterations)
        for order, series in enumerate(reader.resources(rank=rank)):
            self._draw_counter(group, series, 100 + order)
        self._draw_raw(group, rank)

    def _draw_swarms(
        self, group: int, iterations: list[Iteration], windows: list[SwarmWindow], infos: dict[str, SwarmInfo]
    ) -> None:
        writer = self._writer
        leading = writer.track(group, "swarms (time in each iteration)", 3)
        beside = 0
        covering = _by_iteration(windows)
        for iteration in iterations:
            spans = iteration_spans(iteration, covering.get(iteration.index, ()), infos)[1:]
            writer.slices(leading, [_swarm_slice(span) for span in spans if not span.attribute(names.SWARM_CONCURRENT)])
            parallel = [
                _swarm_slice(span)._replace(end_ns=min(span.end_ns, iteration.end_ns))
                for span in spans
                if span.attribute(names.SWARM_CONCURRENT)
            ]
            if parallel:
                beside = beside or writer.track(group, "swarms beside the leading thread", 4)
                writer.slices(beside, parallel)

    def _draw_findings(self, group: int, rank: int, iterations: list[Iteration]) -> None:
        writer = self._writer
        findings, anomalies = self._reader.records(Finding, rank), self._reader.records(Anomaly, rank)
        if not findings and not anomalies:
            return
        track = writer.track(group, "findings", 5)
        end = self._reader.meta.ended_ns or (iterations[-1].end_ns if iterations else self._reader.meta.started_ns)
        for anomaly in anomalies:
            about: Annotations = (
                ("value_s", anomaly.value_s),
                ("reference_s", anomaly.reference_s),
                ("iteration", anomaly.iteration),
            )
            writer.instant(track, anomaly.time_ns, f"anomaly: {anomaly.kind}", about)
        for finding in findings:
            about = (
                ("severity", finding.severity.value),
                (finding.metric or "value", finding.value),
                ("reference", finding.reference),
                ("evidence", "; ".join(finding.evidence)),
                ("suggestion", finding.suggestion),
            )
            writer.instant(track, end, f"{finding.id.value}: {finding.title}", about)

    def _draw_counter(self, group: int, found: ResourceSeries, order: int) -> None:
        series = found.series
        time_ns, value = found.time_ns, found.value
        unit = series.unit.strip("{}")
        if series.kind == "counter":
            step = np.diff(time_ns)
            keep = step > 0
            value = np.maximum(np.diff(value)[keep], 0) / (step[keep] / 1e9)
            time_ns = time_ns[:-1][keep]
            unit = "share" if series.unit == "s" else f"{unit}/s"
        if len(value):
            about = ", ".join(text for _, text in series.attributes)
            track = self._writer.counter(group, f"{series.metric} ({about})" if about else series.metric, unit, order)
            finite = np.isfinite(value)
            self._writer.values(track, time_ns[finite].tolist(), value[finite].tolist())

    def _draw_raw(self, group: int, rank: int) -> None:
        tracks: dict[tuple[int, int, str], int] = {}
        for ref in self._reader.raw():
            if ref.rank != rank or self._budget <= 0:
                continue
            batch = self._reader.load_raw(ref)
            batch = batch.take(np.lexsort((batch.start_ns, batch.tid, batch.pid)))
            self._budget -= len(batch)
            for kind in np.unique(batch.kind).tolist():
                for pid, tid, part in _threads(batch.take(batch.kind == kind)):
                    label = Kind(kind).name.lower() if kind in set(Kind) else f"kind {kind}"
                    key = (pid, tid, label)
                    if key not in tracks:
                        tracks[key] = self._writer.track(group, f"{pid}/{tid} {label}", 1000 + len(tracks))
                    self._draw_thread(tracks[key], part, kind in _SAMPLES)

    def _draw_thread(self, track: int, part: EventBatch, sampled: bool) -> None:
        if sampled:
            self._writer.slices(track, _stack_slices(part))
            return
        symbols = part.tables.symbols
        slices: list[Slice] = []
        rows = zip(part.start_ns.tolist(), part.duration_ns.tolist(), part.name.tolist(), part.bytes.tolist(), strict=True)
        for start, duration, name, moved in rows:
            label = symbols[name].function or "?"
            about = (("bytes", moved),) if moved else ()
            if duration > 0:
                slices.append(Slice(start, start + duration, label, about))
            else:
                self._writer.instant(track, start, label, about)
        self._writer.slices(track, slices)


def _iteration_slice(iteration: Iteration) -> Slice:
    kind = "" if iteration.kind is names.IterationKind.TRAIN else f" {iteration.kind.value}"
    mark = " ⚠" if iteration.anomalous else ""
    about = (
        ("level", iteration.level),
        ("confidence", iteration.confidence),
        ("source", iteration.source),
        ("score", iteration.score),
    )
    return Slice(iteration.start_ns, iteration.end_ns, f"{iteration.level} {iteration.index}{kind}{mark}", about)


def _phase_slices(breakdowns: Iterable[PhaseBreakdown]) -> Iterable[Slice]:
    """Phases of a window laid end to end in the order of the loop, filling it."""
    for breakdown in breakdowns:
        total = sum(breakdown.phase_ns.values())
        start, room = breakdown.start_ns, breakdown.end_ns - breakdown.start_ns
        done = 0
        for phase in Phase:
            time_ns = breakdown.phase_ns.get(phase, 0)
            if time_ns > 0 and room > 0:
                begin = start + room * done // total
                done += time_ns
                yield Slice(begin, start + room * done // total, phase.value, (("time_ms", time_ns / 1e6),))


def _swarm_slice(span: SpanPoint) -> Slice:
    name = span.attribute(names.SWARM_CAPTION) or span.attribute(names.SWARM_ID)
    keys = (names.SWARM_ID, names.PHASE, names.CALLS, names.IO_BYTES)
    return Slice(span.start_ns, span.end_ns, str(name), tuple((key, span.attribute(key)) for key in keys))


def _by_iteration(windows: Iterable[SwarmWindow]) -> dict[int, list[SwarmWindow]]:
    found: dict[int, list[SwarmWindow]] = {}
    for window in windows:
        if window.iteration >= 0:
            for index in range(window.iteration, window.iteration + window.iterations):
                found.setdefault(index, []).append(window)
    return found


def _threads(batch: EventBatch) -> Iterable[tuple[int, int, EventBatch]]:
    """Rows of each thread; ``batch`` is sorted by process, thread and start."""
    pairs = zip(batch.pid.tolist(), batch.tid.tolist(), strict=True)
    for (pid, tid), rows in groupby(enumerate(pairs), key=lambda item: item[1]):
        index = [row for row, _ in rows]
        yield pid, tid, batch.take(slice(index[0], index[-1] + 1))


def _stack_slices(part: EventBatch) -> Iterable[Slice]:
    """Samples as a stack over time: a frame that neighbouring samples share is one slice.

    A sample stands for the time before it: its start is the instant, its duration the time since the one before.
    """
    tables = part.tables
    frames: dict[int, list[str]] = {}
    open_frames: list[tuple[str, int]] = []
    last = 0
    rows = zip(part.start_ns.tolist(), part.duration_ns.tolist(), part.path.tolist(), part.name.tolist(), strict=True)
    for at, weight, path, name in rows:
        begin = max(at - weight, last)
        stack = frames.get(path)
        if stack is None:
            stack = frames[path] = [tables.symbols[symbol].function or "?" for symbol in tables.paths.frames(path)]
        shown = stack or [tables.symbols[name].function or "?"]
        # A pause of more than the sample's own weight is a hole in what we know: nothing is drawn across it.
        shared = 0
        if begin - last <= 0:
            while shared < min(len(shown), len(open_frames)) and shown[shared] == open_frames[shared][0]:
                shared += 1
        while len(open_frames) > shared:
            closed, since = open_frames.pop()
            yield Slice(since, last, closed, depth=len(open_frames))
        open_frames += [(frame, begin) for frame in shown[shared:]]
        last = at
    while open_frames:
        closed, since = open_frames.pop()
        yield Slice(since, last, closed, depth=len(open_frames))
