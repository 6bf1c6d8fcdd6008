"""Perfetto's TrackEvent protobuf, written by hand: the few message kinds that a drawing of tracks needs.

Field numbers are those of perfetto/trace/{trace_packet,track_event/*}.proto; the test reads the result with a parser of its own.
Packets are written as they are made, so a trace of a long run is never held in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

from sofa_otel.core.otlp import wire

_SEQUENCE: Final = b"\x50\x01"
_STATE_CLEARED: Final = b"\x68\x01"
_NEEDS_STATE: Final = b"\x68\x02"
_DOUBLE_VALUE: Final = b"\xe1\x02"
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_EXPLICIT: Final = 3
_BOOTTIME, _REALTIME = 6, 1

Annotations = tuple[tuple[str, Any], ...]


class _Output(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Slice(NamedTuple):
    """An interval on a track; slices of a track nest or follow each other."""

    start_ns: int
    end_ns: int
    name: str
    annotations: Annotations = ()
    depth: int = 0
    """Of two slices with the same ends, the one of greater depth is inside."""


class TrackWriter:
    """Packets of one sequence, with interned event names."""

    def __init__(self, file: _Output) -> None:
        self._file = file
        self._names: dict[str, int] = {}
        self._next_track = 1
        self._first = True

    def clock(self, at_ns: int) -> None:
        """Say that the trace's clock is the wall clock, so that the UI shows times of day."""
        clocks = b"".join(wire.field(1, wire.number(1, clock) + wire.number(2, at_ns)) for clock in (_BOOTTIME, _REALTIME))
        self._packet(at_ns, wire.field(6, clocks))

    def process(self, pid: int, name: str) -> int:
        """A group of tracks."""
        uuid = self._uuid()
        process = wire.number(1, pid) + wire.text(6, name)
        self._packet(0, wire.field(60, wire.number(1, uuid) + wire.field(3, process) + wire.number(11, _EXPLICIT)))
        return uuid

    def track(self, parent: int, name: str, order: int = 0) -> int:
        """A track of slices below ``parent``."""
        uuid = self._uuid()
        self._packet(
            0, wire.field(60, wire.number(1, uuid) + wire.text(2, name) + wire.number(5, parent) + wire.number(12, order))
        )
        return uuid

    def counter(self, parent: int, name: str, unit: str, order: int = 0) -> int:
        """A track of values below ``parent``."""
        uuid = self._uuid()
        about = wire.number(1, uuid) + wire.text(2, name) + wire.number(5, parent)
        self._packet(0, wire.field(60, about + wire.field(8, wire.text(6, unit)) + wire.number(12, order)))
        return uuid

    def slices(self, track: int, slices: Iterable[Slice]) -> None:
        """Draw slices; one that would stick out of the slice it begins in is cut there."""
        open_ends: list[int] = []
        for item in sorted(slices, key=lambda s: (s.start_ns, -s.end_ns, s.depth)):
            while open_ends and open_ends[-1] <= item.start_ns:
                self._event(track, _END, open_ends.pop())
            end = min(item.end_ns, open_ends[-1]) if open_ends else item.end_ns
            self._event(track, _BEGIN, item.start_ns, item.name, item.annotations)
            open_ends.append(max(end, item.start_ns))
        while open_ends:
            self._event(track, _END, open_ends.pop())

    def instant(self, track: int, at_ns: int, name: str, annotations: Annotations = ()) -> None:
        """A point in time."""
        self._event(track, _INSTANT, at_ns, name, annotations)

    def values(self, track: int, time_ns: list[int], values: list[float]) -> None:
        """Points of a counter."""
        head = wire.number(9, _COUNTER) + wire.number(11, track) + _DOUBLE_VALUE
        for at_ns, value in zip(time_ns, values, strict=True):
            self._packet(at_ns, wire.field(11, head + struct.pack("<d", value)))

    def _event(self, track: int, kind: int, at_ns: int, name: str = "", annotations: Annotations = ()) -> None:
        interned = b""
        body = b"".join(wire.field(4, _annotation(key, value)) for key, value in annotations) + wire.number(9, kind)
        if name:
            iid = self._names.get(name)
            if iid is None:
                iid = self._names[name] = len(self._names) + 1
                interned = wire.field(12, wire.field(2, wire.number(1, iid) + wire.text(2, name)))
            body += wire.number(10, iid)
        self._packet(at_ns, wire.field(11, body + wire.number(11, track)) + interned)

    def _packet(self, at_ns: int, body: bytes) -> None:
        state = _STATE_CLEARED if self._first else _NEEDS_STATE
        self._first = False
        self._file.write(wire.field(1, wire.number(8, max(at_ns, 0)) + body + _SEQUENCE + state))

    def _uuid(self) -> int:
        self._next_track += 1
        return self._next_track


def _annotation(key: str, value: Any) -> bytes:
    match value:
        case bool():
            data = b"\x10\x01" if value else b"\x10\x00"
        case int():
            data = b"\x20" + wire.varint(value)
        case float():
            data = b"\x29" + struct.pack("<d", value)
        case _:
            data = wire.field(6, wire.encode_text(str(value)))
    return data + wire.text(10, key)
