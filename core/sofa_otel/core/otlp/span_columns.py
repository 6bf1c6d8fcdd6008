"""Serialised spans → columns, all spans of a block in lockstep.

The generated classes make an object of every span and every attribute, which is most of the cost of reading them. Here one step
of numpy reads the next field of every span at once, and only the attributes that mean something to us are looked at.
Measured by ``benchmarks/import/otlp.py``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core import names

Positions = NDArray[np.int64]
Words = NDArray[np.uint64]

KEYS: Final = (
    names.EVENT_KIND, names.EVENT_SUBKIND, names.EVENT_DEVICE, names.EVENT_PEER, names.EVENT_LINK, names.IO_BYTES,
    names.PROCESS_PID, names.THREAD_ID, names.CPU_LOGICAL_NUMBER, names.SYMBOL_MODULE, names.SYMBOL_OFFSET, names.CODE_FILE,
    names.CODE_LINE, names.CODE_STACK,
)  # fmt: skip
"""Attributes that a row of events has room for."""

_PAD: Final = 64
_FAR: Final = 1 << 40
_MOST_FIELDS: Final = 2048
"""What stands behind so many attributes, events and links of one span is not looked at: a few bytes must not cost seconds."""
_TRACE, _SPAN, _PARENT, _NAME, _START, _END, _ATTRIBUTE = 0x0A, 0x12, 0x22, 0x2A, 0x39, 0x41, 0x4A
_TEXT, _BOOL, _INT, _KEY, _VALUE = 0x0A, 0x10, 0x18, 0x0A, 0x12


class Found(NamedTuple):
    """One attribute wherever it occurs: integers (and booleans) as ``i64``, text as a list; rows may repeat, the last counts."""

    int_rows: Positions
    ints: NDArray[np.int64]
    text_rows: Positions
    texts: list[str]


class Spans(NamedTuple):
    """n spans. Times and ids are ``u64``; ``broken`` marks rows whose bytes are no span (their other columns mean nothing)."""

    start: Words
    end: Words
    trace_hi: Words
    trace_lo: Words
    span_id: Words
    parent_id: Words
    names: list[str]
    found: dict[str, Found]
    broken: NDArray[np.bool_]


class _Key(NamedTuple):
    text: str
    size: int
    first: np.uint64
    middle: np.uint64
    last: np.uint64


def _key(text: str) -> _Key:
    raw = text.encode()
    assert 8 <= len(raw) <= 24
    word = [np.uint64(int.from_bytes(part, "little")) for part in (raw[:8], raw[8:16].ljust(8, b"\0"), raw[-8:])]
    return _Key(text, len(raw), *word)


_KNOWN: Final = tuple(_key(text) for text in KEYS)
_SIZES: Final = np.isin(np.arange(256), [key.size for key in _KNOWN])


def decode_block(data: bytes, begin: Positions, end: Positions) -> Spans:
    """Read spans.

    Args:
        data: Bytes that hold them.
        begin, end: Where each span's message is in ``data``, n of each, ``0 <= begin <= end <= len(data)``.
    """
    block = _Block(data, begin, end)
    block.fields()
    return block.spans()


class _Block:
    def __init__(self, data: bytes, begin: Positions, end: Positions) -> None:
        self._data = data
        # A reader that looks a few bytes too far finds zeros, so that borders are checked once a field, not once a byte.
        self._bytes = np.zeros(len(data) + _PAD, np.uint8)
        self._bytes[: len(data)] = np.frombuffer(data, np.uint8)
        self._words: NDArray[Any] = np.ndarray((len(data) + _PAD - 8,), "<u8", self._bytes.data, 0, (1,))
        self._begin, self._stop = begin, end
        n = len(begin)
        self._at: dict[int, Positions] = {
            tag: np.full(n, len(data), np.int64) for tag in (_TRACE, _SPAN, _PARENT)
        }  # where the bytes are: of zeros, as long as there are none
        self._name_at, self._name_end = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._times = {tag: np.zeros(n, np.uint64) for tag in (_START, _END)}
        self._attributes: list[tuple[Positions, Positions, Positions]] = []
        self._broken = np.zeros(n, bool)

    def fields(self) -> None:
        """The n-th field of every span that has one, for n = 1, 2, …"""
        rows = np.flatnonzero(self._begin < self._stop)
        at, stop = self._begin[rows], self._stop[rows]
        for _ in range(_MOST_FIELDS):
            if not len(rows):
                break
            following = self._step(rows, at, stop)
            wrong = following > stop
            if wrong.any():
                self._broken[rows[wrong]] = True
            alive = following < stop
            if alive.all():
                at = following
            else:
                rows, at, stop = rows[alive], following[alive], stop[alive]

    def _step(self, rows: Positions, at: Positions, stop: Positions) -> Positions:
        """Where the next field begins; beyond ``stop`` where there is no field."""
        tags = self._bytes[at]
        present = np.flatnonzero(np.bincount(tags, minlength=256)).tolist()
        if len(present) == 1:
            return self._field(present[0], rows, at, stop)
        following = np.empty_like(at)
        for tag in present:
            mine = np.flatnonzero(tags == tag)
            following[mine] = self._field(tag, rows[mine], at[mine], stop[mine])
        return following

    def _field(self, tag: int, rows: Positions, at: Positions, stop: Positions) -> Positions:
        wire = tag & 7
        if tag < 8:  # field 0, which is no field
            return np.full_like(at, _FAR)
        body = at + 1 if tag < 128 else self._varint(at)[1]
        if wire == 2:
            size, body = self._varint(body)
            end = body + np.minimum(size, np.uint64(_FAR)).astype(np.int64)
            self._take(tag, rows, body, end, stop)
            return end
        if wire == 1:
            if tag in self._times:
                self._times[tag][rows] = self._words[np.minimum(body, len(self._words) - 1)]
            return body + 8
        if wire == 0:
            return self._varint(body)[1]
        return body + 4 if wire == 5 else np.full_like(at, _FAR)

    def _take(self, tag: int, rows: Positions, body: Positions, end: Positions, stop: Positions) -> None:
        """Note where a field of bytes is."""
        if tag not in (_TRACE, _SPAN, _PARENT, _NAME, _ATTRIBUTE):
            return
        whole = end <= stop
        if not whole.all():
            rows, body, end = rows[whole], body[whole], end[whole]
        if tag == _ATTRIBUTE:
            self._attributes.append((rows, body, end))
        elif tag == _NAME:
            self._name_at[rows], self._name_end[rows] = body, end
        else:
            # An id of the wrong length is the invalid id.
            right = (end - body) == (16 if tag == _TRACE else 8)
            self._at[tag][rows] = np.where(right, body, len(self._data))

    def _varint(self, at: Positions) -> tuple[Words, Positions]:
        """Values, and where they end; one that is too long ends far away."""
        first = self._bytes[at]
        value = first.astype(np.uint64)
        following = at + 1
        more = np.flatnonzero(first > 127)
        if len(more):
            value[more] &= np.uint64(127)
            for step in range(1, 10):
                byte = self._bytes[at[more] + step]
                value[more] |= (byte & np.uint8(127)).astype(np.uint64) << np.uint64(7 * step)
                following[more] += 1
                more = more[byte > 127]
                if not len(more):
                    break
            following[more] = _FAR
            following = np.minimum(following, len(self._data) + 8)
        return value, following

    def spans(self) -> Spans:
        """What the fields say."""
        data = self._data
        return Spans(
            self._times[_START],
            self._times[_END],
            self._id(self._at[_TRACE]),
            self._id(self._at[_TRACE] + 8),
            self._id(self._at[_SPAN]),
            self._id(self._at[_PARENT]),
            [
                str(data[begin:end], "utf-8", "replace")
                for begin, end in zip(self._name_at.tolist(), self._name_end.tolist(), strict=True)
            ],
            self._known(),
            self._broken,
        )

    def _id(self, at: Positions) -> Words:
        big_endian: Words = self._words[at].byteswap()
        return big_endian

    # -- attributes ------------------------------------------------------------------------------------------------------------
    def _known(self) -> dict[str, Found]:
        if not self._attributes:
            return {}
        rows, at, end = (np.concatenate(parts) for parts in zip(*self._attributes, strict=True))
        size = self._bytes[at + 1]
        likely = np.flatnonzero(_SIZES[size] & (self._bytes[at] == _KEY))
        rows, at, end, size = rows[likely], at[likely] + 2, end[likely], size[likely].astype(np.int64)
        value = at + size
        fits = value < end
        if not fits.all():
            rows, at, end, size, value = rows[fits], at[fits], end[fits], size[fits], value[fits]
        first, last = self._words[at], self._words[value - 8]
        out = {}
        for key in _KNOWN:
            mine = np.flatnonzero((first == key.first) & (last == key.last) & (size == key.size))
            if key.size > 16 and len(mine):
                mine = mine[self._words[at[mine] + 8] == key.middle]
            if len(mine):
                # Lockstep goes field by field: a span's later attribute stands behind its earlier one.
                out[key.text] = self._values(rows[mine], value[mine], end[mine])
        return out

    def _values(self, rows: Positions, at: Positions, end: Positions) -> Found:
        """``AnyValue`` after the key; kinds that no column takes are as good as absent."""
        size, body = self._varint(at + 1)
        stop = body + np.minimum(size, np.uint64(_FAR)).astype(np.int64)
        there = (self._bytes[at] == _VALUE) & (stop <= end) & (body < stop)
        if not there.all():
            rows, body, stop = rows[there], body[there], stop[there]
        kind = self._bytes[body]
        number = np.flatnonzero((kind == _INT) | (kind == _BOOL))
        ints, ended = self._varint(body[number] + 1)
        whole = ended <= stop[number]
        text = np.flatnonzero(kind == _TEXT)
        size, begin = self._varint(body[text] + 1)
        finish = begin + np.minimum(size, np.uint64(_FAR)).astype(np.int64)
        complete = finish <= stop[text]
        return Found(
            rows[number[whole]],
            ints[whole].view(np.int64),
            rows[text[complete]],
            [
                str(self._data[a:b], "utf-8", "replace")
                for a, b in zip(begin[complete].tolist(), finish[complete].tolist(), strict=True)
            ],
        )
