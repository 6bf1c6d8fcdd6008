"""OTLP spans → EventBatch: whatever sends spans is a source of events like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.otlp.decode import id_of, parse_spans, value_of
from sofa_otel.core.otlp.events import KIND_CODES
from sofa_otel.core.symbols import Symbol, Tables

_MAX_TIME: Final = (1 << 63) - 1


def decode_events(body: bytes, tables: Tables, seq: int = 0) -> list[EventBatch]:
    """Spans of any source as batches, one for each resource.

    A span becomes a row of kind ``SPAN`` named by the span and its scope; spans that ``encode_events`` wrote become what they
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
_READ_KEYS: Final = frozenset((
    names.EVENT_KIND, names.EVENT_SUBKIND, names.EVENT_DEVICE, names.EVENT_PEER, names.EVENT_LINK, names.IO_BYTES,
    names.PROCESS_PID, names.THREAD_ID, names.CPU_LOGICAL_NUMBER, names.SYMBOL_MODULE, names.SYMBOL_OFFSET, names.CODE_FILE,
    names.CODE_LINE, names.CODE_STACK,
))  # fmt: skip


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
        a = {pair.key: value_of(pair.value) for pair in span.attributes if pair.key in _READ_KEYS}
        start = min(span.start_time_unix_nano, _MAX_TIME)
        duration = min(span.end_time_unix_nano, _MAX_TIME) - start
        kind = KIND_CODES.get(str(a.get(names.EVENT_KIND, "")), int(Kind.SPAN))
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
