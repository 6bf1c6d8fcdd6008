"""OTLP spans → EventBatch: whatever sends spans is a source of events like any other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp.events import KIND_CODES
from sofa_otel.core.otlp.request_walk import spans_of
from sofa_otel.core.otlp.span_columns import Found, Spans, decode_block
from sofa_otel.core.symbols import Tables
from sofa_otel.core.telemetry import Value

_MAX_TIME: Final = np.uint64((1 << 63) - 1)
_MOST_STACKS: Final = 65_536
_MOST_SYMBOLS: Final = 262_144
_SymbolKey = tuple[str, str, int, str, int]
_EMPTY: Final = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), [])


class Origin(NamedTuple):
    """Whose spans: the header that their rows get, the process that the resource names (0: none), and the scope."""

    header: BatchHeader
    pid: int
    scope: str


def origin_of(about: dict[str, Value], scope: str, default: BatchHeader | None = None) -> Origin:
    """What a resource says: job, rank, host and source (``sofa.job.id`` or ``service.name``; ``otlp/<instance>``).

    Args:
        about: Attributes of the resource.
        scope: Name of the instrumentation scope.
        default: Takes the place of what the resource does not say; its job also that of ``service.name``.
    """
    fallback = default or BatchHeader("", 0, "", "")
    service = str(about.get(names.SERVICE_NAME) or "")
    instance = str(about.get(names.SERVICE_INSTANCE_ID) or service or "unknown")
    header = BatchHeader(
        str(about.get(names.JOB_ID) or fallback.job or service or "unknown"),
        integer(about.get(names.RANK), fallback.rank),
        str(about.get(names.HOST_NAME) or fallback.host),
        str(about.get(names.SOURCE) or f"otlp/{instance}"),
        str(about.get(names.CLOCK) or "unix"),
        integer(about.get(names.SOURCE_SEQ), fallback.seq),
    )
    return Origin(header, integer(about.get(names.PROCESS_PID)), scope)


def decode_events(body: bytes, tables: Tables, seq: int = 0, rows: EventRows | None = None) -> list[EventBatch]:
    """Spans of any source as batches, one for each resource.

    A span becomes a row of kind ``SPAN`` named by the span and its scope; spans that ``encode_events`` wrote become what they
    were. Job, rank, host and source come from the resource (:func:`origin_of`).

    Args:
        body: Protobuf, uncompressed.
        tables: Where names and stacks are interned.
        seq: Sequence number of batches whose resource has none.
        rows: Whoever reads many requests into the same tables keeps one.

    Raises:
        InputError: Not an OTLP trace request.
    """
    found = spans_of(body)
    spans = decode_block(body, found.begin, found.end)
    if spans.broken.any():
        at = int(found.begin[spans.broken.argmax()])
        raise InputError(f"{len(body)} bytes are not an OTLP trace request: byte {at} is no span", "send protobuf, uncompressed")
    default = BatchHeader("", 0, "", "", seq=seq)
    origins = [origin_of(about, scope, default) for about, scope in found.origins]
    columns = (rows or EventRows(tables)).columns(spans, found.origin, origins)
    out = []
    for resource in range(found.resources):
        mine = np.isin(found.origin, [i for i, of in enumerate(found.resource) if of == resource])
        if mine.any():
            header = origins[int(found.origin[mine.argmax()])].header
            part = columns if mine.all() else {key: column[mine] for key, column in columns.items()}
            out.append(EventBatch(header, tables, part))
    return out


class EventRows:
    """Turns spans into the columns of events and remembers the symbols and stacks it has met.

    Args:
        tables: Where names and stacks are interned.

    Attributes:
        records: Symbol ids of spans that are our own records (iterations, swarms), not events.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._stacks: dict[str, int] = {"": 0}
        self._symbols: dict[_SymbolKey, int] = {}
        self._frames: dict[str, int] = {}
        self.records: set[int] = set()

    def columns(self, spans: Spans, origin: NDArray[np.int64], origins: Sequence[Origin]) -> dict[str, NDArray[Any]]:
        """All columns of :class:`EventBatch`, required and optional, of n spans (broken ones too).

        Args:
            spans: n spans.
            origin: Place in ``origins`` of each, ``i64``.
            origins: Resources and scopes.
        """
        n = len(spans.names)
        found = spans.found
        kinds = found.get(names.EVENT_KIND, _EMPTY)
        kind = np.full(n, int(Kind.SPAN), np.uint8)
        kind[kinds.text_rows] = [KIND_CODES.get(text, int(Kind.SPAN)) for text in kinds.texts]
        ours = np.zeros(n, bool)
        ours[kinds.text_rows] = ours[kinds.int_rows] = True
        start = np.minimum(spans.start, _MAX_TIME).view(np.int64)
        duration = np.minimum(spans.end, _MAX_TIME).view(np.int64) - start
        pids = np.array([one.pid for one in origins] or [0], np.int64)
        return {
            "start_ns": start,
            "duration_ns": np.where(ours, duration, np.maximum(duration, 0)),
            "kind": kind,
            "subkind": self._integers(spans, names.EVENT_SUBKIND, 0).astype(np.uint8),
            "name": self._names(spans, ours, origin, origins, kind),
            "path": self._paths(spans),
            "pid": self._integers(spans, names.PROCESS_PID, pids[origin]).astype(np.uint32),
            "tid": self._integers(spans, names.THREAD_ID, 0).astype(np.uint32),
            "cpu": _small(self._integers(spans, names.CPU_LOGICAL_NUMBER, -1)),
            "device": _small(self._integers(spans, names.EVENT_DEVICE, -1)),
            "peer": self._integers(spans, names.EVENT_PEER, 0).astype(np.uint32),
            "bytes": self._integers(spans, names.IO_BYTES, 0),
            "link": _links(n, found.get(names.EVENT_LINK, _EMPTY)),
            "span_id": spans.span_id,
            "parent_id": spans.parent_id,
            "trace_hi": spans.trace_hi,
            "trace_lo": spans.trace_lo,
        }

    def _integers(self, spans: Spans, key: str, default: int | NDArray[np.int64]) -> NDArray[np.int64]:
        out = np.full(len(spans.names), default, np.int64)
        found = spans.found.get(key)
        if found is not None:
            out[found.int_rows] = found.ints
            for row, text in zip(found.text_rows.tolist(), found.texts, strict=True):
                out[row] = integer(text, int(out[row]))
        return out

    def _names(
        self,
        spans: Spans,
        ours: NDArray[np.bool_],
        origin: NDArray[np.int64],
        origins: Sequence[Origin],
        kind: NDArray[np.uint8],
    ) -> NDArray[np.uint32]:
        """Symbol ids: an event's own symbol, or the span's name in its scope."""
        scopes = [one.scope for one in origins]
        modules: list[str] = [scopes[i] for i in origin.tolist()]
        if ours.any():
            for row in np.flatnonzero(ours).tolist():
                modules[row] = ""
            module = spans.found.get(names.SYMBOL_MODULE, _EMPTY)
            mine = ours[module.text_rows].tolist()
            for row, text, own in zip(module.text_rows.tolist(), module.texts, mine, strict=True):
                if own:
                    modules[row] = text
        symbols = self._symbols
        keys = zip(
            spans.names,
            modules,
            self._offsets(spans),
            self._texts(spans, names.CODE_FILE),
            self._integers(spans, names.CODE_LINE, 0).tolist() if names.CODE_LINE in spans.found else repeat(0),
            strict=False,
        )
        out = np.empty(len(spans.names), np.uint32)
        for row, key in enumerate(keys):
            symbol = symbols.get(key)
            if symbol is None:
                symbol = self._tables.symbols.intern(*key)
                if key[0] in (names.SPAN_ITERATION, names.SPAN_SWARM) and kind[row] == Kind.SPAN:
                    self.records.add(symbol)
                if len(symbols) < _MOST_SYMBOLS:
                    symbols[key] = symbol
            out[row] = symbol
        return out

    def _offsets(self, spans: Spans) -> Any:
        found = spans.found.get(names.SYMBOL_OFFSET)
        if found is None:
            return repeat(0)
        out = [0] * len(spans.names)
        for row, value in zip(found.int_rows.tolist(), found.ints.tolist(), strict=True):
            out[row] = value
        for row, text in zip(found.text_rows.tolist(), found.texts, strict=True):
            # Addresses are unsigned: those above 2⁶³ came as text.
            out[row] = int(text) if text.isascii() and text.isdecimal() and len(text) < 21 else 0
        return out

    def _texts(self, spans: Spans, key: str) -> Any:
        found = spans.found.get(key)
        if found is None:
            return repeat("")
        out = [""] * len(spans.names)
        for row, text in zip(found.text_rows.tolist(), found.texts, strict=True):
            out[row] = text
        return out

    def _paths(self, spans: Spans) -> NDArray[np.uint32]:
        out = np.zeros(len(spans.names), np.uint32)
        found = spans.found.get(names.CODE_STACK, _EMPTY)
        for row, stack in zip(found.text_rows.tolist(), found.texts, strict=True):
            path = self._stacks.get(stack)
            if path is None:
                path = self._path(stack)
                if len(self._stacks) < _MOST_STACKS:
                    self._stacks[stack] = path
            out[row] = path
        return out

    def _path(self, stack: str) -> int:
        """Path of a stack that ``encode_events`` wrote; other stack traces are foreign text and give no path."""
        symbols: list[int] = []
        for line in stack.split("\n"):
            symbol = self._frames.get(line)
            if symbol is None:
                frame = _frame(line)
                if frame is None:
                    return 0
                symbol = self._tables.symbols.intern(*frame)
                if len(self._frames) < _MOST_SYMBOLS:
                    self._frames[line] = symbol
            symbols.append(symbol)
        return self._tables.paths.intern_frames(symbols)


def integer(value: object, default: int = 0) -> int:
    """An attribute as an int64; ``default`` where it is absent or something else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 21:
        value = int(value)
    return value if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else default


def _small(values: NDArray[np.int64]) -> NDArray[np.int16]:
    return np.where((values >= -1) & (values < 1 << 15), values, -1).astype(np.int16)


def _links(n: int, found: Found) -> NDArray[np.uint64]:
    out = np.zeros(n, np.uint64)
    for row, text in zip(found.text_rows.tolist(), found.texts, strict=True):
        out[row] = _hexadecimal(text)
    return out


def _hexadecimal(text: str) -> int:
    try:
        return int(text, 16) & ((1 << 64) - 1) if text else 0
    except ValueError:
        return 0


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\t", "\t").replace("\\n", "\n") for part in text.split("\\\\"))


def _frame(line: str) -> _SymbolKey | None:
    parts = line.split("\t")
    if len(parts) != 5 or not (_number(parts[2]) and _number(parts[4])):
        return None
    function, module, offset, file, number = parts
    return _unescape(function), _unescape(module), int(offset), _unescape(file), int(number)


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 21
