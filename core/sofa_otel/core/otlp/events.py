"""EventBatch → OTLP spans: a row a span, without an object a span.

Rows repeat: the same function, thread and stack thousands of times. Each distinct symbol, stack, and combination of the small
columns is serialised once; ids and times are laid out by numpy; a span is a few pieces of bytes joined.
Measured by ``benchmarks/emit_spans.py``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core import names
from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp import wire
from sofa_otel.core.otlp.encode import wrap_spans
from sofa_otel.core.symbols import Symbol, Tables, content_hash
from sofa_otel.core.telemetry import KIND_INTERNAL, Attributes, Resource, Scope

SCOPE: Final = Scope("sofa_otel.events")
_SMALL: Final = ("kind", "subkind", "pid", "tid", "cpu", "device", "peer")
_MAX_TIME: Final = (1 << 63) - 1
_HEAD: Final = 38
_MAX_EXTRA: Final = 4096
_MAX_KNOWN: Final = 65_536
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})
KIND_NAMES: Final = [{int(kind): kind.name.lower() for kind in Kind}.get(code, str(code)) for code in range(256)]
"""How a kind is written on a span; codes that this version does not know stay numbers."""
KIND_CODES: Final = {name: code for code, name in enumerate(KIND_NAMES)}


def encode_events(batch: EventBatch, resource: Resource | None = None) -> bytes:
    """One batch; whoever sends many of the same tables keeps an :class:`EventEncoder`."""
    return EventEncoder().encode(batch, resource)


class EventEncoder:
    """Encodes batches and remembers the serialised symbols and stacks of their tables, which are append-only."""

    def __init__(self) -> None:
        self._tables: Tables | None = None
        self._symbols: dict[int, tuple[bytes, bytes]] = {}
        self._stacks: dict[int, bytes] = {}

    def encode(self, batch: EventBatch, resource: Resource | None = None) -> bytes:
        """An ``ExportTraceServiceRequest`` of the rows of ``batch``; ``decode_events`` gives them back exactly.

        Rows without ids get some from (job, rank, source, seq, row): sending a batch twice gives the same spans twice.

        Args:
            batch: Rows; times are taken as they are, also where the clock is the source's own.
            resource: Attributes beside those of the batch's header.
        """
        about = _resource(batch, resource or Resource())
        if not len(batch):
            return wrap_spans(b"", about, SCOPE)
        self._learn(batch)
        first, place = _distinct(batch)
        places = [_place(batch, int(row)) for row in first]
        symbols, stacks = self._symbols, self._stacks
        extra = {0: b""}
        heads, ends = _heads(batch)
        times = _times(batch)
        out: list[bytes] = []
        columns = (place, batch.name, batch.path, batch.bytes, batch.optional("link"))
        for row, (at, name, path, moved, link) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            title, symbol = symbols[name]
            more = extra.get(moved)
            if more is None:
                more = wire.attributes(9, ((names.IO_BYTES, moved),))
                if len(extra) < _MAX_EXTRA:
                    extra[moved] = more
            if link:
                more += wire.attributes(9, ((names.EVENT_LINK, f"{link:016x}"),))
            head = heads[row * _HEAD : row * _HEAD + ends[row]]
            body = b"".join((head, title, times[row * 18 : row * 18 + 18], places[at], symbol, stacks[path], more))
            out.append(b"\x12" + wire.varint(len(body)))
            out.append(body)
        return wrap_spans(b"".join(out), about, SCOPE)

    def _learn(self, batch: EventBatch) -> None:
        """Serialise the symbols and stacks that are new."""
        tables = batch.tables
        if tables is not self._tables or len(self._symbols) + len(self._stacks) > _MAX_KNOWN:
            self._tables, self._symbols, self._stacks = tables, {}, {0: b""}
        for symbol_id in np.unique(batch.name).tolist():
            if symbol_id not in self._symbols:
                self._symbols[symbol_id] = _symbol(tables.symbols[symbol_id])
        for path in np.unique(batch.path).tolist():
            if path not in self._stacks:
                self._stacks[path] = wire.attributes(9, ((names.CODE_STACK, _stack(tables, path)),))


def _resource(batch: EventBatch, resource: Resource) -> Resource:
    head = batch.header
    header: Attributes = (
        (names.JOB_ID, head.job),
        (names.RANK, head.rank),
        (names.HOST_NAME, head.host),
        (names.SOURCE, head.source),
        (names.SOURCE_SEQ, head.seq),
        (names.CLOCK, head.clock),
    )
    return Resource((*((key, value) for key, value in resource.attributes if key not in _HEADER_KEYS), *header))


_HEADER_KEYS: Final = frozenset((names.JOB_ID, names.RANK, names.HOST_NAME, names.SOURCE, names.SOURCE_SEQ, names.CLOCK))


def _distinct(batch: EventBatch) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First row of each distinct combination of the small columns, and which combination each row has."""
    mixed = np.zeros(len(batch), np.uint64)
    for key in _SMALL:
        mixed = (mixed ^ batch.columns[key].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    if all(np.array_equal(batch.columns[key][first[inverse]], batch.columns[key]) for key in _SMALL):
        return first, inverse
    # Two combinations with one hash: every row for itself, which is slow and right.
    rows = np.arange(len(batch))
    return rows, rows


def _place(batch: EventBatch, row: int) -> bytes:
    """Attributes that say what kind of event it is and where it ran."""
    at = {key: int(batch.columns[key][row]) for key in _SMALL}
    pairs: list[tuple[str, Any]] = [
        (names.EVENT_KIND, KIND_NAMES[at["kind"]]),
        (names.PROCESS_PID, at["pid"]),
        (names.THREAD_ID, at["tid"]),
    ]
    optional = (
        (names.EVENT_SUBKIND, at["subkind"], 0),
        (names.CPU_LOGICAL_NUMBER, at["cpu"], -1),
        (names.EVENT_DEVICE, at["device"], -1),
        (names.EVENT_PEER, at["peer"], 0),
    )
    pairs += [(key, value) for key, value, default in optional if value != default]
    return wire.attributes(9, pairs)


def _symbol(symbol: Symbol) -> tuple[bytes, bytes]:
    """Name and kind of the span, which precede the times on the wire, and the attributes of the symbol."""
    optional: tuple[tuple[str, Any, Any], ...] = (
        (names.SYMBOL_MODULE, symbol.module, ""),
        (names.SYMBOL_OFFSET, symbol.offset, 0),
        (names.CODE_FILE, symbol.file, ""),
        (names.CODE_LINE, symbol.line, 0),
    )
    title = wire.text(5, symbol.function) + wire.number(6, KIND_INTERNAL)
    return title, wire.attributes(9, [(key, value) for key, value, default in optional if value != default])


def _heads(batch: EventBatch) -> tuple[bytes, list[int]]:
    """Ids of all rows as fields 1, 2 and 4, 38 bytes each; a row without a parent ends after 28."""
    n = len(batch)
    high, low = batch.optional("trace_hi"), batch.optional("trace_lo")
    span, parent = batch.optional("span_id"), batch.optional("parent_id")
    origin = (batch.header.job, batch.header.rank, batch.header.source)
    unknown = (high | low) == 0
    high = np.where(unknown, np.uint64(content_hash("trace", *origin)), high)
    low = np.where(unknown, np.uint64(content_hash("trace", batch.header.host, *origin) | 1), low)
    made = _mix(np.arange(n, dtype=np.uint64) + np.uint64(content_hash("span", batch.header.seq, *origin)))
    span = np.where(span == 0, made | np.uint64(1 << 63), span)
    out = np.zeros((n, _HEAD), np.uint8)
    out[:, 0:2] = (0x0A, 0x10)
    out[:, 18:20] = (0x12, 0x08)
    out[:, 28:30] = (0x22, 0x08)
    for column, values in ((2, high), (10, low), (20, span), (30, parent)):
        out[:, column : column + 8] = values.astype(">u8")[:, None].view(np.uint8)
    return out.tobytes(), np.where(parent != 0, 38, 28).tolist()


def _times(batch: EventBatch) -> bytes:
    out = np.zeros((len(batch), 18), np.uint8)
    out[:, 0], out[:, 9] = 0x39, 0x41
    out[:, 1:9] = batch.start_ns.astype("<i8")[:, None].view(np.uint8)
    out[:, 10:18] = batch.end_ns.astype("<i8")[:, None].view(np.uint8)
    return out.tobytes()


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: distinct inputs stay distinct."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _stack(tables: Tables, path: int) -> str:
    """A frame a line, outermost first: function, module, offset, file and line between tabs."""
    return "\n".join(
        "\t".join(str(part).translate(_ESCAPES) for part in tables.symbols[symbol]) for symbol in tables.paths.frames(path)
    )
