"""SpanRows: what the readers of OTLP files have in common once they have spans: whose they are, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp.event_rows import EventRows, Origin, origin_of
from sofa_otel.core.otlp.span_columns import Spans
from sofa_otel.core.telemetry import Value
from sofa_otel.exporters.read.importer import ImportSink

MOST_ROWS: Final = 65_536
_NO_SEQ: Final = -1
_MOST_ORIGINS: Final = 8192
_MOST_HELD: Final = 1 << 18
"""Records kept back until the end, in case that there is nothing else: 30 MB."""


class Losses:
    """Counts losses by kind; each kind becomes one warning with the first place."""

    def __init__(self) -> None:
        self._found: dict[str, list[Any]] = {}

    def add(self, what: str, place: str, count: int = 1) -> None:
        """``what`` reads well after a number; ``place`` is ``byte 7`` or ``line 3``."""
        self._found.setdefault(what, [place, 0])[1] += count

    def tell(self, sink: ImportSink, name: str) -> None:
        """One warning a kind."""
        for what, (place, count) in self._found.items():
            sink.warn(f"{name}, {place}: {count:,} {what}")

    def __bool__(self) -> bool:
        return bool(self._found)


class SpanRows:
    """Takes blocks of spans and delivers batches, one for each resource in a block.

    Args:
        sink: Where they go; its job, rank and host stand in for what a resource does not say.
        losses: Told about what is left out.

    Attributes:
        rows: Rows delivered. records: spans that are our own records (iterations and swarms), which are no events.
    """

    def __init__(self, sink: ImportSink, losses: Losses) -> None:
        self._sink = sink
        self._losses = losses
        self._default = BatchHeader(sink.job, sink.rank, sink.host, "", seq=_NO_SEQ)
        self._rows = EventRows(sink.tables)
        self._origins: list[Origin] = []
        self._places: dict[tuple[bytes, bytes], int] = {}
        self._held: list[EventBatch] = []
        self._seqs: dict[str, int] = {}
        self.rows = 0
        self.records = 0

    def origin(
        self,
        resource: bytes,
        scope: bytes,
        attributes: Callable[[bytes], dict[str, Value]],
        name: Callable[[bytes], str],
        place: str,
    ) -> int:
        """Number of a resource and scope, for :meth:`take`; good until :meth:`settle`.

        Args:
            resource, scope: As they stand in the file.
            attributes, name: Read them.
            place: Where that is, for messages.
        """
        key = (resource, scope)
        found = self._places.get(key)
        if found is None:
            about, title = self._read(resource, attributes, {}, place), self._read(scope, name, "", place)
            found = self._places[key] = len(self._origins)
            self._origins.append(origin_of(about, title, self._default))
        return found

    def _read(self, data: bytes, read: Callable[[bytes], Any], default: Any, place: str) -> Any:
        try:
            return read(data)
        except (InputError, ValueError, RecursionError):
            self._losses.add("descriptions of a resource or scope are damaged", place)
            return default

    def header(self, origin: int) -> BatchHeader:
        """Header of points of an origin."""
        return msgspec.structs.replace(self._origins[origin].header, seq=0)

    def header_of(self, about: dict[str, Value]) -> BatchHeader:
        """Header of what is about a resource."""
        return msgspec.structs.replace(origin_of(about, "", self._default).header, seq=0)

    def take(self, spans: Spans, origin: NDArray[np.int64]) -> int:
        """Deliver n spans of the origins given; returns the first that is none, or -1."""
        columns = self._rows.columns(spans, origin, self._origins)
        kind, duration = columns["kind"], columns["duration_ns"]
        np.maximum(duration, 0, out=duration)
        whole = ~spans.broken
        records = np.zeros(len(whole), bool)
        if self._rows.records:
            records = np.isin(columns["name"], list(self._rows.records)) & (kind == Kind.SPAN) & whole
        self._deliver(columns, whole & ~records, origin)
        if records.any():
            self._hold(columns, records, origin)
        return -1 if whole.all() else int(spans.broken.argmax())

    def settle(self) -> None:
        """Nobody holds a number of an origin: there may be too many of them by now."""
        if len(self._origins) > _MOST_ORIGINS:
            self._origins, self._places = [], {}

    def finish(self) -> bool:
        """Records become rows when there was nothing else; returns whether they did."""
        if self.rows or not self.records:
            return False
        for batch in self._held:
            self._emit(batch)
        return True

    # -- delivery --------------------------------------------------------------------------------------------------------------
    def _batches(self, columns: dict[str, NDArray[Any]], rows: NDArray[np.bool_], origin: NDArray[np.int64]) -> list[EventBatch]:
        numbers: dict[BatchHeader, int] = {}
        headers = np.array([numbers.setdefault(one.header, len(numbers)) for one in self._origins] or [0], np.int64)[origin]
        out = []
        for header, number in numbers.items():
            mine = np.flatnonzero(rows & (headers == number)) if len(numbers) > 1 else np.flatnonzero(rows)
            for begin in range(0, len(mine), MOST_ROWS):
                part = mine[begin : begin + MOST_ROWS]
                out.append(EventBatch(header, self._sink.tables, {key: column[part] for key, column in columns.items()}))
        return out

    def _deliver(self, columns: dict[str, NDArray[Any]], rows: NDArray[np.bool_], origin: NDArray[np.int64]) -> None:
        if rows.any():
            self._held = []
            for batch in self._batches(columns, rows, origin):
                self._emit(batch)

    def _emit(self, batch: EventBatch) -> None:
        self.rows += len(batch)
        if batch.header.seq == _NO_SEQ:
            seq = self._seqs.get(batch.header.source, 0)
            self._seqs[batch.header.source] = seq + 1
            batch = batch.with_header(msgspec.structs.replace(batch.header, seq=seq))
        self._sink.events(batch)

    def _hold(self, columns: dict[str, NDArray[Any]], rows: NDArray[np.bool_], origin: NDArray[np.int64]) -> None:
        if not self.rows and self.records < _MOST_HELD:
            self._held += self._batches(columns, rows, origin)
        self.records += int(rows.sum())
