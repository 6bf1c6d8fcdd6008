"""Where the spans are in a serialised trace request, without making objects of them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage

from sofa_otel.core.errors import InputError
from sofa_otel.core.otlp.decode import attributes_of
from sofa_otel.core.telemetry import Value

_WIRE: Final = {0: "varint", 1: "fixed64", 2: "bytes", 5: "fixed32"}


class Broken(ValueError):
    """Not protobuf; ``at`` is the byte of the field that is not."""

    def __init__(self, at: int) -> None:
        super().__init__(f"byte {at} begins no field")
        self.at = at


class FoundSpans(NamedTuple):
    """Spans of a request: ``begin`` and ``end`` of each message, the place in ``origins`` (attributes of the resource, name of
    the scope) of each, and the number of its resource for each origin."""

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    origin: NDArray[np.int64]
    origins: list[tuple[dict[str, Value], str]]
    resource: list[int]
    resources: int


def varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A varint and where it ends.

    Raises:
        Broken: It does not end before ``stop``, or after ten bytes.
    """
    if at < stop and (first := data[at]) < 128:
        return first, at + 1
    value = shift = 0
    for place in range(at, min(stop, at + 10)):
        byte = data[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place + 1
        shift += 7
    raise Broken(at)


def field(data: bytes, at: int, stop: int) -> tuple[int, int, int]:
    """``(tag, begin, end)`` of the field at ``at``: of its bytes, or of its number.

    Raises:
        Broken: There is none, or it does not end before ``stop``.
    """
    tag, body = varint(data, at, stop)
    wire = tag & 7
    if tag < 8 or wire not in _WIRE:
        raise Broken(at)
    if wire == 2:
        size, body = varint(data, body, stop)
        end = body + size
    elif wire == 0:
        end = varint(data, body, stop)[1]
    else:
        end = body + (8 if wire == 1 else 4)
    if end > stop:
        raise Broken(at)
    return tag, body, end


def spans_of(body: bytes) -> FoundSpans:
    """Spans of an ``ExportTraceServiceRequest``.

    Raises:
        InputError: It is none.
    """
    begin: list[int] = []
    end: list[int] = []
    origin: list[int] = []
    origins: list[tuple[dict[str, Value], str]] = []
    resource: list[int] = []
    resources = 0
    try:
        for at, stop in _fields(body, 0, len(body), 0x0A):
            about: dict[str, Value] = {}
            for part, part_stop in _fields(body, at, stop, 0x0A):
                about |= resource_attributes(body[part:part_stop])
            for part, part_stop in _fields(body, at, stop, 0x12):
                before = len(begin)
                named = items(body, part, part_stop, begin, end)
                scope = scope_name(body[named[0] : named[1]])
                origin += [len(origins)] * (len(begin) - before)
                origins.append((about, scope))
                resource.append(resources)
            resources += 1
    except Broken as error:
        raise InputError(f"{len(body)} bytes are not an OTLP trace request: {error}", "send protobuf, uncompressed") from error
    columns = [np.array(values, np.int64) for values in (begin, end, origin)]
    return FoundSpans(columns[0], columns[1], columns[2], origins, resource, resources)


def items(data: bytes, at: int, stop: int, begin: list[int], end: list[int]) -> tuple[int, int]:
    """Append where each item (span, metric, log record) of a scope is; returns where the scope's own description is.

    Raises:
        Broken: A field is none.
    """
    scope = (at, at)
    while at < stop:
        # Spans follow each other by the thousand, each some hundred bytes: the usual form is read in place.
        if data[at] == 0x12 and at + 3 < stop:
            size, body = data[at + 1], at + 2
            if size > 127:
                size, body = size & 127 | data[at + 2] << 7, at + 3
            if data[body - 1] < 128 and body + size <= stop:
                begin.append(body)
                at = body + size
                end.append(at)
                continue
        tag, body, at = field(data, at, stop)
        if tag == 0x12:
            begin.append(body)
            end.append(at)
        elif tag == 0x0A:
            scope = (body, at)
    return scope


def resource_attributes(data: bytes) -> dict[str, Value]:
    """Attributes of a serialised ``Resource``.

    Raises:
        Broken: It is none.
    """
    try:
        return dict(attributes_of(ResourceMessage.FromString(data).attributes))
    except DecodeError as error:
        raise Broken(0) from error


def scope_name(data: bytes) -> str:
    """Name of a serialised ``InstrumentationScope``.

    Raises:
        Broken: It is none.
    """
    try:
        return str(InstrumentationScope.FromString(data).name)
    except DecodeError as error:
        raise Broken(0) from error


def _fields(data: bytes, at: int, stop: int, wanted: int) -> list[tuple[int, int]]:
    """``(begin, end)`` of every field of this tag."""
    out = []
    while at < stop:
        tag, begin, at = field(data, at, stop)
        if tag == wanted:
            out.append((begin, at))
    return out
