"""KinetoImporter: traces of the PyTorch profiler, and any other file in Chrome's trace event format.

The file is never held: a window of half a megabyte goes over it (:mod:`.kineto_document` finds the events,
:mod:`.kineto_events` takes them in chunks), events become columns (:mod:`.kineto_rows`), columns leave as batches
(:mod:`.kineto_delivery`).
"""

from __future__ import annotations

import gc
import re
from typing import Final

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.kineto_delivery import Delivery
from sofa_otel.exporters.read.kineto_document import Document
from sofa_otel.exporters.read.kineto_event import Event
from sofa_otel.exporters.read.kineto_events import Chunk, EventArray
from sofa_otel.exporters.read.kineto_names import Names
from sofa_otel.exporters.read.kineto_pairs import PAIRED, Pairs
from sofa_otel.exporters.read.kineto_rows import Rows
from sofa_otel.exporters.read.kineto_window import Window
from sofa_otel.exporters.read.source import ByteSource

_ROWS: Final = 1 << 14
_EVENTS: Final = 256
"""Events converted together at least: events come singly where a file is damaged."""
_MOST_NAMES: Final = 1 << 18
_WITH_ROW: Final = frozenset("XiI")
_PHASE: Final = re.compile(rb'"ph"\s*:\s*"[BEXiIMCsftbenPSTpFNODcR()]"')
_PROFILER: Final = re.compile(rb'"(?:schemaVersion|deviceProperties|distributedInfo|baseTimeNanoseconds)"\s*:')
_ANOTHERS: Final = re.compile(rb'"cat"\s*:\s*"py-spy"|"\$schema"\s*:\s*"[^"]*speedscope|"resourceSpans"\s*:')
_AGAIN: Final = "export the trace again"


class KinetoImporter:
    """PyTorch profiler (all versions since 1.5) and Chrome trace JSON, as an object or a bare array, compact or not.

    Kinds: see :mod:`.kineto_names`; a category that is not known gives ``SPAN`` rows. ``link`` is ``args.correlation``, which a
    launch and what it launched share, else the ``External id`` that an operator shares with its launches (another number space:
    compare the links of device, runtime and driver rows only with each other). Device rows have the stream as ``tid``. Flows,
    counters and metadata have no rows.
    """

    name = "kineto"

    def recognise(self, head: bytes, name: str) -> float:
        """By the members around the events, or by the fields of the first ones."""
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not text.startswith((b"{", b"[")):
            return 0.0
        events = _PHASE.search(text) is not None
        if _ANOTHERS.search(text):
            return 0.4 if events else 0.0
        if text.startswith(b"["):
            return 0.9 if events and text[1:].lstrip()[:1] == b"{" else 0.0
        if b'"traceEvents"' in text:
            return 0.97
        return 0.9 if len(_PROFILER.findall(text)) > 1 else 0.5 if events else 0.0

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """See :class:`~sofa_otel.exporters.read.importer.Importer`.

        Raises:
            InputError: No event with a time is in it.
            WorkFailedError: There is no room for the rows that wait for what the end of the file says.
        """
        reading = _Reading(source, sink)
        paused = gc.isenabled()
        gc.disable()  # Events make no cycles, but would set it off all the time: a third of the time.
        try:
            reading.run()
        finally:
            reading.delivery.close()
            if paused:
                gc.enable()


class _Reading:
    """One file being read."""

    def __init__(self, source: ByteSource, sink: ImportSink) -> None:
        self._source, self._sink = source, sink
        self._window = Window(source)
        self._document = Document(self._window)
        self._rows = Rows(Names(sink.tables.symbols))
        self._pairs = Pairs()
        self._events: list[Event] = []
        self._phases: set[str] = set()
        self._arrays: list[EventArray] = []
        self.delivery = Delivery(sink, KinetoImporter.name, self._document.known)

    def run(self) -> None:
        while self._document.enter():
            array = EventArray(self._window, bare=self._document.bare)
            self._arrays.append(array)
            for chunk in array.chunks():
                self._take(chunk)
        self._convert()
        self._deliver()
        open_ones = self._pairs.rest(self.delivery.last_ns)
        self._rows.add(open_ones)
        self._deliver()
        self.delivery.finish()
        self._report(len(open_ones))

    def _take(self, chunk: Chunk) -> None:
        self._events += chunk.events
        self._phases |= chunk.phases
        if len(self._events) >= _EVENTS:
            self._convert()

    def _convert(self) -> None:
        rows, events, phases = self._rows, self._events, self._phases
        if not phases.isdisjoint(_WITH_ROW):
            rows.add([event for event in events if event.ph in _WITH_ROW])
        if not phases.isdisjoint(PAIRED):
            rows.add(self._pairs.take([event for event in events if event.ph in PAIRED]))
        self._events, self._phases = [], set()
        if rows.size >= _ROWS:
            self._deliver()

    def _deliver(self) -> None:
        if self._rows.size:
            self.delivery.add(self._rows.take())
            self._rows.forget(_MOST_NAMES)

    def _report(self, open_ones: int) -> None:
        name, warn = self._source.name, self._sink.warn
        damage = f" ({self._source.damage})" if self._source.damage else ""
        window, document = self._window, self._document
        seen = sum(array.count for array in self._arrays)
        if not self.delivery.rows:
            what = f"{seen} events, none with a time" if seen else "no trace events"
            raise InputError(f"{name}, byte {window.at}: {what}{damage}", _AGAIN)
        if document.damaged >= 0:
            warn(f"{name}, byte {document.damaged}: what is written about the trace cannot be read; rank and clock may be lost")
        for array in self._arrays:
            if array.lost:
                number, byte = array.first_lost
                warn(f"{name}, event {number} (byte {byte}): {array.lost} damaged events left out")
            if array.cut is not None:
                number, byte = array.cut
                warn(f"{name}, byte {byte}: the file ends inside event {number}{damage}; the events before it were read")
        open_end = bool(damage) if document.bare else not document.closed and document.damaged < 0
        if open_end and all(array.cut is None for array in self._arrays):
            warn(f"{name}, byte {window.at}: the file ends early{damage}; the events before were read")
        if self._rows.untimed:
            warn(f"{name}: {self._rows.untimed} of {seen} events have no time that can be one, and are left out")
        if self._pairs.unmatched:
            warn(f"{name}: {self._pairs.unmatched} begin and end events have no partner, and are left out")
        if open_ones:
            warn(f"{name}: {open_ones} events began and did not end: they last to the end of the recording")
