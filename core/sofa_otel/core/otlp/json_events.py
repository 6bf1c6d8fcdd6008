"""OTLP's JSON form → columns of spans, for readers of many.

Only what a row of events has room for is decoded; the parser passes over the rest. Attributes stay JSON text until their key is
found to be one of ours. Measured by ``benchmarks/import/otlp.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.errors import InputError
from sofa_otel.core.otlp.json_form import id_of, read_pairs
from sofa_otel.core.otlp.json_types import Integer, JResource, JScope
from sofa_otel.core.otlp.span_columns import KEYS, Found, Spans
from sofa_otel.core.telemetry import Value

_KEYS: Final = frozenset(KEYS)


class _Message(msgspec.Struct, rename="camel", gc=False):
    """Base: nothing in these can be part of a cycle."""


class _Pair(_Message):
    key: str | None = None
    value: msgspec.Raw = msgspec.Raw()


class _AnyValue(_Message):
    string_value: str | None = None
    int_value: Integer = None
    bool_value: bool | None = None


class EventSpan(_Message):
    """A span, as far as a row holds it."""

    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    start_time_unix_nano: Integer = 0
    end_time_unix_nano: Integer = 0
    attributes: list[_Pair] | None = None


class EventScope(_Message):
    """Spans of a scope, which was called an instrumentation library before OTLP 0.15."""

    scope: msgspec.Raw = msgspec.Raw()
    instrumentation_library: msgspec.Raw = msgspec.Raw()
    spans: list[EventSpan] | None = None


class EventResource(_Message):
    """Scopes of a resource."""

    resource: msgspec.Raw = msgspec.Raw()
    scope_spans: list[EventScope] | None = None
    instrumentation_library_spans: list[EventScope] | None = None


class EventRequest(_Message):
    """A request of any signal; metrics and logs are only noted."""

    resource_spans: list[EventResource] | None = None
    resource_metrics: msgspec.Raw = msgspec.Raw()
    resource_logs: msgspec.Raw = msgspec.Raw()
    resource_profiles: msgspec.Raw = msgspec.Raw()


_REQUEST: Final = msgspec.json.Decoder(EventRequest)
_VALUE: Final = msgspec.json.Decoder(_AnyValue)
_RESOURCE: Final = msgspec.json.Decoder(JResource | None)
_SCOPE: Final = msgspec.json.Decoder(JScope | None)
ERRORS: Final = (msgspec.DecodeError, ValueError, RecursionError, TypeError, OverflowError, AttributeError)
"""What reading a damaged document may raise."""


def decode_request(body: bytes | bytearray | memoryview) -> EventRequest:
    """A JSON document.

    Raises:
        InputError: It is none, or not an object.
    """
    try:
        return _REQUEST.decode(body)
    except ERRORS as error:
        raise InputError(f"not an OTLP JSON request: {error}", "see the JSON encoding in the OTLP specification") from error


def resource_attributes(raw: bytes) -> dict[str, Value]:
    """Attributes of a resource, which is JSON text or nothing.

    Raises:
        InputError: It is none.
    """
    try:
        message = _RESOURCE.decode(raw) if raw else None
        return dict(read_pairs(message.attributes)) if message else {}
    except ERRORS as error:
        raise InputError(f"not an OTLP resource: {error}") from error


def scope_name(raw: bytes) -> str:
    """Name of a scope, which is JSON text or nothing.

    Raises:
        InputError: It is none.
    """
    try:
        message = _SCOPE.decode(raw) if raw else None
        return (message.name or "") if message else ""
    except ERRORS as error:
        raise InputError(f"not an OTLP scope: {error}") from error


def columns_of(spans: Sequence[EventSpan]) -> Spans:
    """The columns of n spans; those whose times are no times, or that have none, are ``broken``."""
    broken = np.array([not span.start_time_unix_nano for span in spans], bool)
    start = _times([span.start_time_unix_nano for span in spans], broken)
    end = _times([span.end_time_unix_nano for span in spans], broken)
    trace = _ids([span.trace_id for span in spans], 16).view(">u8").astype(np.uint64)
    return Spans(
        start,
        end,
        trace[:, 0],
        trace[:, 1],
        _ids([span.span_id for span in spans], 8).view(">u8").astype(np.uint64)[:, 0],
        _ids([span.parent_span_id for span in spans], 8).view(">u8").astype(np.uint64)[:, 0],
        [span.name or "" for span in spans],
        _found(spans),
        broken,
    )


def _times(values: list[Integer], broken: NDArray[np.bool_]) -> NDArray[np.uint64]:
    try:
        return np.array([int(value or 0) for value in values], np.uint64)
    except (ValueError, OverflowError):
        out = np.zeros(len(values), np.uint64)
        for row, value in enumerate(values):
            try:
                out[row] = int(value or 0)
            except (ValueError, OverflowError):
                broken[row] = True
        return out


def _ids(texts: list[str | None], size: int) -> NDArray[np.uint8]:
    """Rows of ``size`` bytes, big-endian; zeros for what is no id."""
    none = "0" * (2 * size)
    full = [text or none for text in texts]
    try:
        if set(map(len, full)) <= {2 * size}:
            data = bytes.fromhex("".join(full))
            if len(data) == size * len(full):
                return np.frombuffer(data, np.uint8).reshape(len(full), size)
    except ValueError:
        pass
    data = b"".join([_id(text, size).to_bytes(size, "big") for text in full])
    return np.frombuffer(data, np.uint8).reshape(len(full), size)


def _id(text: str, size: int) -> int:
    try:
        return id_of(text, size)
    except ValueError:
        return 0


def _found(spans: Sequence[EventSpan]) -> dict[str, Found]:
    numbers: dict[str, tuple[list[int], list[int]]] = {}
    texts: dict[str, tuple[list[int], list[str]]] = {}
    for row, span in enumerate(spans):
        for pair in span.attributes or ():
            key = pair.key
            if key not in _KEYS:
                continue
            value = _value(pair.value)
            if isinstance(value, str):
                place = texts.setdefault(key, ([], []))
                place[0].append(row)
                place[1].append(value)
            elif value is not None:
                line = numbers.setdefault(key, ([], []))
                line[0].append(row)
                line[1].append(value)
    out = {}
    for key in numbers.keys() | texts.keys():
        int_rows, ints = numbers.get(key, ([], []))
        text_rows, words = texts.get(key, ([], []))
        out[key] = Found(np.array(int_rows, np.int64), np.array(ints, np.int64), np.array(text_rows, np.int64), words)
    return out


def _value(raw: msgspec.Raw) -> int | str | None:
    """Integers of 64 bits and text; what no column takes is as good as absent."""
    try:
        value = _VALUE.decode(raw)
        if value.string_value is not None:
            return value.string_value
        number = value.bool_value if value.int_value is None else int(value.int_value)
    except ERRORS:
        return None
    return int(number) if number is not None and -(1 << 63) <= number < 1 << 63 else None
