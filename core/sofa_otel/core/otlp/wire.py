"""The few protobuf wire forms that OTLP needs, written by hand.

Building a protobuf message object a span costs more than the span is worth; concatenating bytes does not. Field numbers are those
of opentelemetry-proto 1.x and fields are written in ascending order, so the bytes equal what the generated classes serialise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from sofa_otel.core.telemetry import Value

_DOUBLE: Final = struct.Struct("<d")
_SMALL: Final = [bytes((n,)) for n in range(128)]
_U64: Final = (1 << 64) - 1


def varint(number: int) -> bytes:
    """Base-128 varint; negative numbers take ten bytes, as int64 does."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= _U64
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field (bytes, string or message)."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def text(number: int, value: str) -> bytes:
    """A string field; nothing for the empty string. Lone surrogates, which protobuf forbids, become ``?``."""
    return field(number, encode_text(value)) if value else b""


def number(field_number: int, value: int) -> bytes:
    """A varint field; nothing for 0."""
    return varint(field_number << 3) + varint(value) if value else b""


def encode_text(value: str) -> bytes:
    """UTF-8 that every protobuf reader accepts."""
    return value.encode("utf-8", "replace")


def any_value(value: Value) -> bytes:
    """``AnyValue``. Integers beyond 64 bits become text: OTLP has no wider number, and a wrapped one would be a lie."""
    match value:
        case str():
            return field(1, encode_text(value))
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int():
            return b"\x18" + varint(value) if -(1 << 63) <= value < 1 << 63 else field(1, str(value).encode())
        case float():
            return b"\x21" + _DOUBLE.pack(value)
        case bytes():
            return field(7, value)
        case None:
            return b""
        case dict():
            return field(6, b"".join(field(1, _pair(key, item)) for key, item in value.items()))
        case _:
            return field(5, b"".join(field(1, any_value(item)) for item in value))


def attributes(number: int, pairs: Iterable[tuple[str, Value]]) -> bytes:
    """Repeated ``KeyValue`` in field ``number``."""
    return b"".join([_attribute(number, key, value, type(value).__name__) for key, value in pairs])


def _attribute(number: int, key: str, value: Value, type_name: str) -> bytes:
    if isinstance(value, str | int | float) and not (value == 0 and type_name == "float"):
        return _cached(number, key, value, type_name)
    return field(number, _pair(key, value))


@lru_cache(maxsize=8192)
def _cached(number: int, key: str, value: str | float, type_name: str) -> bytes:
    """``type_name`` keeps 1, 1.0 and True apart, which are one key to a dict (0.0 and -0.0 never come here); bounded, because
    ids and times are values too."""
    return field(number, _pair(key, value))


def _pair(key: str, value: Value) -> bytes:
    return text(1, key) + field(2, any_value(value))
