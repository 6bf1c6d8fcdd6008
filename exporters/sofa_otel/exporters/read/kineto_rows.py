"""Events into columns: what costs a little for each event is done here, the rest by the column.

Measured on one core: decoding 2.0 CPU s/GB of white-spaced trace, columns about as much.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.symbols import content_hash
from sofa_otel.exporters.read.kineto_event import Args, Event, Scalar
from sofa_otel.exporters.read.kineto_names import DEVICE, ELEMENT_BYTES, MEMORY, MESSAGE, PERHAPS, Names
from sofa_otel.exporters.read.kineto_numbers import all_nanoseconds

ROW: Final = np.dtype(
    [
        ("start_ns", np.int64), ("duration_ns", np.int64), ("link", np.uint64), ("bytes", np.int64), ("name", np.uint32),
        ("pid", np.uint32), ("tid", np.uint32), ("device", np.int16), ("kind", np.uint8), ("subkind", np.uint8),
    ]
)  # fmt: skip

_NOTHING: Final = Args()
_LEGACY: Final = {"CPU functions": "cpu_op", "CUDA functions": "kernel"}
_ONE_NUMBER: Final = re.compile(r"\D*?(-?[0-9]+)\D*")
_MOST_DEVICE: Final = (1 << 15) - 1
_HASHED: Final = 1 << 29


class _Seen(NamedTuple):
    """What arguments say: row numbers and columns; None leaves a column as it is."""

    rows: NDArray[np.int64]
    device: NDArray[np.int64] | None
    stream: NDArray[np.int64] | None
    bytes: NDArray[np.int64]


class Places(dict[tuple[Any, Any], int]):
    """Number of each (pid, tid) of the file; :attr:`table` has them as ``u32``."""

    def __init__(self) -> None:
        super().__init__()
        self._table = np.zeros((64, 2), np.uint32)

    @property
    def table(self) -> NDArray[np.uint32]:
        """``(pid, tid)`` by number."""
        return self._table[: len(self)]

    def __missing__(self, key: tuple[Any, Any]) -> int:
        number = len(self)
        if number == len(self._table):
            self._table = np.concatenate([self._table, np.zeros((number, 2), np.uint32)])
        self._table[number] = identifier(key[0]), identifier(key[1])
        self[key] = number
        return number


def identifier(value: Scalar) -> int:
    """A pid or tid of a trace as ``u32``: numbers as they are, ``stream 7`` and ``python 123`` as their number; other texts and
    what is too large by a hash that no real pid has."""
    if isinstance(value, str):
        found = _ONE_NUMBER.fullmatch(value)
        value = int(found[1]) if found and len(found[1]) < 19 else value
    elif isinstance(value, float):
        value = int(value) if abs(value) < 1e18 else repr(value)
    if isinstance(value, int) and -(1 << 31) <= value < 1 << 32:
        return value & 0xFFFFFFFF
    return 0 if value is None else _HASHED | content_hash(str(value)) & (_HASHED - 1)


class Rows:
    """Gathers events and turns many at once into rows.

    Args:
        names: Numbers of names.

    Attributes:
        size: Events gathered.
        untimed: Events that had no time that can be one; they have no row.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._places = Places()
        self.untimed = 0
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self._name: list[NDArray[np.int64]] = []
        self._place: list[NDArray[np.int64]] = []
        self._link: list[NDArray[np.uint64]] = []
        self._times: list[bytes] = []
        self._spans: list[bytes] = []
        self._seen: list[_Seen] = []

    def forget(self, most: int) -> None:
        """Numbers of names and threads begin anew where there are many: memory must not grow with what never comes again."""
        if len(self._names) > most:
            self._names.clear()
        if len(self._places) > most:
            self._places.clear()

    def add(self, events: list[Event]) -> None:
        """Take events that have a row (complete or instant)."""
        if not events:
            return
        if not events[0].cat:
            for event in events:
                if not event.cat:
                    event.cat = _LEGACY.get(event.pid, "") if isinstance(event.pid, str) else ""
        numbers, places = self._names, self._places
        names = np.array([numbers[event.cat, event.name] for event in events], np.int64)
        self._name.append(names)
        self._place.append(np.array([places[event.pid, event.tid] for event in events], np.int64))
        self._times.append(_joined([event.ts for event in events]))
        self._spans.append(_joined([event.dur for event in events]))
        args = cast("list[Args]", [event.args or _NOTHING for event in events])
        if {*map(type, args)} != {Args}:
            args = [one if isinstance(one, Args) else _NOTHING for one in args]
        self._link.append(_links([one.correlation or one.external or one.old_external for one in args]))
        self._look(numbers.table["look"][names], args, events)
        self.size += len(events)

    def _look(self, looks: NDArray[np.uint8], args: list[Args], events: list[Event]) -> None:
        """What arguments say about events that are not plain work on a thread."""
        rows = np.flatnonzero(looks & (DEVICE | PERHAPS))
        if len(rows):
            some = [args[row] for row in rows.tolist()]
            device, stream = _numbers([one.device for one in some]), _numbers([one.stream for one in some])
            nowhere = ((looks[rows] & PERHAPS) > 0) & ((device < 0) | (stream < 0))
            device[nowhere] = stream[nowhere] = -1
            for at in np.flatnonzero((device < 0) & ~nowhere).tolist():
                event = events[rows[at]]
                device[at] = max(_number(event.pid), _number(event.tid) if isinstance(event.pid, str) else -1)
            self._seen.append(_Seen(self.size + rows, device, stream, np.maximum(_numbers([one.bytes for one in some]), 0)))
        rows = np.flatnonzero(looks & MESSAGE)
        if len(rows):
            size = np.array([_message(args[row]) for row in rows.tolist()], np.int64)
            rows, size = rows[size > 0], size[size > 0]
            self._seen.append(_Seen(self.size + rows, None, None, size))
        rows = np.flatnonzero(looks & MEMORY)
        if len(rows):
            some = [args[row] for row in rows.tolist()]
            size = _numbers([one.memory for one in some], 0)
            self._seen.append(_Seen(self.size + rows, _numbers([one.memory_device for one in some]), None, size))

    def take(self) -> NDArray[Any]:
        """Rows of what was gathered, ``ROW``; begins anew."""
        times = all_nanoseconds(b"".join(self._times))
        spans = all_nanoseconds(b"".join(self._spans))
        looks = self._names.table[np.concatenate(self._name)]
        places = self._places.table[np.concatenate(self._place)]
        rows = np.zeros(self.size, ROW)
        rows["start_ns"], rows["duration_ns"] = times.value, np.maximum(spans.value, 0)
        rows["kind"], rows["subkind"], rows["name"] = looks["kind"], looks["subkind"], looks["symbol"]
        rows["pid"], rows["tid"], rows["device"] = places[:, 0], places[:, 1], -1
        rows["link"] = np.concatenate(self._link)
        for seen in self._seen:
            rows["bytes"][seen.rows] = seen.bytes
            if seen.device is not None:
                rows["device"][seen.rows] = np.where(seen.device <= _MOST_DEVICE, seen.device, -1)
            if seen.stream is not None:
                known = (seen.stream >= 0) & (seen.stream < 1 << 32)
                rows["tid"][seen.rows[known]] = seen.stream[known]
        if not times.good.all():
            self.untimed += int((~times.good).sum())
            rows = rows[times.good]
        self._clear()
        return rows


def _joined(numbers: list[Any]) -> bytes:
    text = b",".join(numbers) + b","
    if text.count(b",") != len(numbers):
        text = b",".join([b"" if b"," in bytes(one) else one for one in numbers]) + b","
    return text


def _message(args: Args) -> int:
    """Bytes of a collective, 0 when not said."""
    elements = max(_number(args.sent), 0) or max(_number(args.received), 0)
    size = elements * ELEMENT_BYTES.get(str(args.dtype).lower(), 0)
    return size if size < 1 << 62 else 0


def _links(values: list[Scalar]) -> NDArray[np.uint64]:
    if {*map(type, values)} == {int}:
        try:
            return np.array(values, np.uint64)
        except OverflowError:
            pass
    whole = (_whole(value) or 0 for value in values)
    return np.fromiter((value if 0 < value < 1 << 64 else 0 for value in whole), np.uint64, len(values))


def _numbers(values: list[Scalar], missing: int = -1) -> NDArray[np.int64]:
    if {*map(type, values)} == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            pass
    return np.array([_number(value, missing) for value in values], np.int64)


def _number(value: Scalar, missing: int = -1) -> int:
    whole = _whole(value)
    return missing if whole is None or abs(whole) >= 1 << 62 else int(whole)


def _whole(value: Scalar) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 21 else None
    if isinstance(value, float):
        return int(value) if abs(value) < 1e18 else None
    return value
