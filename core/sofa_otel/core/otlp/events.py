"""EventBatch ↔ OTLP spans: a row a span, without an object a span on the way out.

Rows repeat: the same function, thread and stack thousands of times. What a row shares with others (name, kind, attributes) is
serialised once for each distinct combination; ids and times are laid out by numpy; a span is five pieces of bytes joined.
Measured by ``benchmarks/emit_spans.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp import wire
from sofa_otel.core.otlp.decode import id_of, parse_spans, value_of
from sofa_otel.core.otlp.encode import wrap_spans
from sofa_otel.core.symbols import Symbol, Tables, content_hash
from sofa_otel.core.telemetry import KIND_INTERNAL, Attributes, Resource, Scope

SCOPE: Final = Scope("sofa_otel.events")
_SHARED: Final = ("kind", "subkind", "name", "path", "pid", "tid", "cpu", "device", "peer")
_MAX_TIME: Final = (1 << 63) - 1
_HEAD: Final = 38
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})


def encode_events(batch: EventBatch, resource: Resource | None = None) -> bytes:
    """An ``ExportTraceServiceRequest`` of the rows of ``batch``; :func:`decode_events` gives them back exactly.

    Rows that bring no ids get ids from (job, rank, source, seq, row), so that sending a batch twice gives the same spans twice.

    Args:
        batch: Rows; times are taken as they are, also where the clock is the source's own.
        resource: Attributes beside those of the batch's header.
    """
    head = batch.header
    attributes: Attributes = (
        *((key, value) for key, value in (resource or Resource()).attributes if key not in _HEADER_KEYS),
        (names.JOB_ID, head.job),
        (names.RANK, head.rank),
        (names.HOST_NAME, head.host),
        (names.SOURCE, head.source),
        (names.SOURCE_SEQ, head.seq),
        (names.CLOCK, head.clock),
    )
    if not len(batch):
        return wrap_spans(b"", Resource(attributes), SCOPE)
    first, inverse = _distinct(batch)
    templates = [_template(batch, int(row)) for row in first]
    heads, ends = _heads(batch)
    times = _times(batch)
    extra: dict[int, bytes] = {0: b""}
    moved, links = batch.bytes.tolist(), batch.optional("link").tolist()
    out: list[bytes] = []
    for row, template in enumerate(inverse.tolist()):
        name, rest = templates[template]
        more = b""
        if moved[row]:
            more = extra.get(moved[row]) or extra.setdefault(moved[row], wire.attributes(9, ((names.IO_BYTES, moved[row]),)))
        if links[row]:
            more += wire.attributes(9, ((names.EVENT_LINK, f"{links[row]:016x}"),))
        body = b"".join((heads[row * _HEAD : row * _HEAD + ends[row]], name, times[row * 18 : row * 18 + 18], rest, more))
        out.append(b"\x12" + wire.varint(len(body)))
        out.append(body)
    return wrap_spans(b"".join(out), Resource(attributes), SCOPE)


def decode_events(body: bytes, tables: Tables, seq: int = 0) -> list[EventBatch]:
    """Spans of any source as batches, one for each resource.

    A span becomes a row of kind ``SPAN`` named by the span and its scope; spans that :func:`encode_events` wrote become what they
    were. Job, rank, host and source come from the resource (``sofa.job.id`` or ``service.name``; ``otlp/<instance>``).

    Args:
        body: Protobuf, uncompressed.
        tables: Where names and stacks are interned.
        seq: Sequence number of batches whose resource has none.

    Raises:
        InputError: Not an OTLP trace request.
    """
    return [
        batch for resource_spans in parse_spans(body).resource_spans if (batch := _batch(resource_spans, tables, seq)) is not None
    ]


_HEADER_KEYS: Final = frozenset((names.JOB_ID, names.RANK, names.HOST_NAME, names.SOURCE, names.SOURCE_SEQ, names.CLOCK))


def _distinct(batch: EventBatch) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First row of each distinct combination of the shared columns, and which combination each row has."""
    mixed = np.zeros(len(batch), np.uint64)
    for key in _SHARED:
        mixed = (mixed ^ batch.columns[key].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    if all(np.array_equal(batch.columns[key][first[inverse]], batch.columns[key]) for key in _SHARED):
        return first, inverse
    # Two combinations with one hash: every row for itself, which is slow and right.
    rows = np.arange(len(batch))
    return rows, rows


def _template(batch: EventBatch, row: int) -> tuple[bytes, bytes]:
    """What rows of one combination share: name and kind, which precede the times on the wire, and the attributes."""
    at = {key: int(batch.columns[key][row]) for key in _SHARED}
    symbol = batch.tables.symbols[at["name"]]
    pairs: list[tuple[str, Any]] = [
        (names.EVENT_KIND, _KIND_NAMES[at["kind"]]),
        (names.PROCESS_PID, at["pid"]),
        (names.THREAD_ID, at["tid"]),
    ]
    optional: tuple[tuple[str, Any, Any], ...] = (
        (names.EVENT_SUBKIND, at["subkind"], 0),
        (names.CPU_LOGICAL_NUMBER, at["cpu"], -1),
        (names.EVENT_DEVICE, at["device"], -1),
        (names.EVENT_PEER, at["peer"], 0),
        (names.SYMBOL_MODULE, symbol.module, ""),
        (names.SYMBOL_OFFSET, symbol.offset, 0),
        (names.CODE_FILE, symbol.file, ""),
        (names.CODE_LINE, symbol.line, 0),
        (names.CODE_STACK, _stack(batch.tables, at["path"]), ""),
    )
    pairs += [(key, value) for key, value, default in optional if value != default]
    return wire.text(5, symbol.function) + wire.number(6, KIND_INTERNAL), wire.attributes(9, pairs)


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


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\t", "\t").replace("\\n", "\n") for part in text.split("\\\\"))


def _path(tables: Tables, stack: str) -> int:
    """Path of a stack that :func:`_stack` wrote; other stack traces are foreign text and give no path."""
    frames: list[int] = []
    for line in stack.split("\n"):
        parts = line.split("\t")
        if len(parts) != 5 or not parts[2].isdecimal() or not parts[4].isdecimal():
            return 0
        function, module, offset, file, number = parts
        frames.append(tables.symbols.intern(_unescape(function), _unescape(module), int(offset), _unescape(file), int(number)))
    return tables.paths.intern_frames(frames)


def _batch(resource_spans: Any, tables: Tables, seq: int) -> EventBatch | None:
    about = {pair.key: value_of(pair.value) for pair in resource_spans.resource.attributes}
    columns: dict[str, list[int]] = {key: [] for key in _READ}
    row = _Rows(columns, tables, _int(about.get(names.PROCESS_PID)))
    for scope_spans in resource_spans.scope_spans:
        row.scope = scope_spans.scope.name
        for span in scope_spans.spans:
            row.add(span)
    if not columns["start_ns"]:
        return None
    service = str(about.get(names.SERVICE_NAME, "") or "")
    instance = str(about.get(names.SERVICE_INSTANCE_ID, "") or service or "unknown")
    header = BatchHeader(
        str(about.get(names.JOB_ID, "") or service or "unknown"),
        _int(about.get(names.RANK)),
        str(about.get(names.HOST_NAME, "") or ""),
        str(about.get(names.SOURCE, "") or f"otlp/{instance}"),
        str(about.get(names.CLOCK, "") or "unix"),
        _int(about.get(names.SOURCE_SEQ), seq),
    )
    return EventBatch.build(header, tables, **columns)


_READ: Final = (
    "start_ns", "duration_ns", "kind", "subkind", "name", "path", "pid", "tid", "cpu", "device", "peer", "bytes", "link",
    "span_id", "parent_id", "trace_hi", "trace_lo",
)  # fmt: skip
_KIND_NAMES: Final = [{int(kind): kind.name.lower() for kind in Kind}.get(number, str(number)) for number in range(256)]
_KINDS: Final = {name: number for number, name in enumerate(_KIND_NAMES)}


class _Rows:
    """Appends spans to columns; lives for one resource."""

    def __init__(self, columns: dict[str, list[int]], tables: Tables, pid: int) -> None:
        self._append: list[Callable[[int], None]] = [columns[key].append for key in _READ]
        self._tables = tables
        self._pid = pid
        self._paths: dict[str, int] = {"": 0}
        self.scope = ""

    def add(self, span: Any) -> None:
        """One row."""
        a = {pair.key: value_of(pair.value) for pair in span.attributes}
        start = min(span.start_time_unix_nano, _MAX_TIME)
        duration = min(span.end_time_unix_nano, _MAX_TIME) - start
        kind = _KINDS.get(str(a.get(names.EVENT_KIND, "")), int(Kind.SPAN))
        ours = names.EVENT_KIND in a
        symbol = Symbol(
            span.name,
            str(a.get(names.SYMBOL_MODULE, "") if ours else self.scope),
            _offset(a.get(names.SYMBOL_OFFSET)),
            str(a.get(names.CODE_FILE, "") or ""),
            _int(a.get(names.CODE_LINE)),
        )
        stack = str(a.get(names.CODE_STACK, "") or "")
        path = self._paths.get(stack)
        if path is None:
            path = self._paths[stack] = _path(self._tables, stack)
        trace = id_of(span.trace_id, 16)
        row = (
            start,
            max(duration, 0) if not ours else duration,
            kind,
            _int(a.get(names.EVENT_SUBKIND)) & 0xFF,
            self._tables.symbols.intern_symbol(symbol),
            path,
            _int(a.get(names.PROCESS_PID), self._pid) & 0xFFFFFFFF,
            _int(a.get(names.THREAD_ID)) & 0xFFFFFFFF,
            _small(a.get(names.CPU_LOGICAL_NUMBER)),
            _small(a.get(names.EVENT_DEVICE)),
            _int(a.get(names.EVENT_PEER)) & 0xFFFFFFFF,
            _int(a.get(names.IO_BYTES)),
            _hexadecimal(a.get(names.EVENT_LINK)),
            id_of(span.span_id, 8),
            id_of(span.parent_span_id, 8),
            trace >> 64,
            trace & ((1 << 64) - 1),
        )
        for append, value in zip(self._append, row, strict=True):
            append(value)


def _int(value: object, default: int = 0) -> int:
    """An attribute as an int64; ``default`` where it is absent or something else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 21:
        value = int(value)
    return value if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else default


def _offset(value: object) -> int:
    """Addresses are unsigned: those above 2⁶³ came as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 21 else _int(value)


def _small(value: object) -> int:
    number = _int(value, -1)
    return number if -1 <= number < 1 << 15 else -1


def _hexadecimal(value: object) -> int:
    try:
        return int(str(value), 16) & ((1 << 64) - 1) if value else 0
    except ValueError:
        return 0
