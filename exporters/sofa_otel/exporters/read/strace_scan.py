"""Scan: a block of text as 8-byte words, so that thousands of lines are read by a few column operations.

A word at any byte offset of each line is one gather; inside a word digits are counted and added up by arithmetic on all of its
bytes at once (SIMD within a register; Mula, "Parsing series of integers with SIMD"). Nothing here is a Python object a line.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Places = NDArray[np.int64]

PAD: Final = 128
"""Bytes around the text that may be read without harm: no search goes further beyond its line."""

PADDING: Final = b"\n" * PAD

_ONES: Final = np.uint64(0x0101010101010101)
_HIGH: Final = np.uint64(0x8080808080808080)
_LOW: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_ZEROS: Final = np.uint64(0x3030303030303030)
_OVER_NINE: Final = np.uint64(0x7676767676767676)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE: Final = np.uint64(1)
_POWERS: Final = 10 ** np.arange(19, dtype=np.int64)


def text_word(text: bytes) -> np.uint64:
    """Up to eight bytes as a word."""
    return np.uint64(int.from_bytes(text, "little"))


def below(count: Any) -> Words:
    """Mask of the first ``count`` (0..8) bytes."""
    return np.asarray(~(_ALL << (np.asarray(count, np.uint64) << np.uint64(3))), np.uint64)


def _first(flags: Words) -> NDArray[np.uint64]:
    lowest = flags & (~flags + _ONE)
    return np.bitwise_count(lowest - _ONE).astype(np.uint64) >> np.uint64(3)


def _last(flags: Words) -> Places:
    return np.frexp(flags.astype(np.float64))[1].astype(np.int64) - 1 >> 3


def _not_digit(words: Words) -> Words:
    x = words ^ _ZEROS
    return (((x & _LOW) + _OVER_NINE) | x) & _HIGH


def _not_byte(words: Words, byte: int) -> Words:
    x = words ^ (_ONES * np.uint64(byte))
    return (((x & _LOW) + _LOW) | x) & _HIGH


def _number(digits: Words) -> Places:
    x = (digits * np.uint64(2561)) >> np.uint64(8) & np.uint64(0x00FF00FF00FF00FF)
    x = (x * np.uint64(6553601)) >> np.uint64(16) & np.uint64(0x0000FFFF0000FFFF)
    return ((x * np.uint64(42949672960001)) >> np.uint64(32)).astype(np.int64)


def leading_number(words: Words) -> tuple[Places, Places]:
    """``(value, count)`` of the digits at the start of each word (count 0..8)."""
    count = _first(_not_digit(words))
    return _number((words ^ _ZEROS) << ((np.uint64(8) - count) << np.uint64(3))), count.astype(np.int64)


def trailing_number(words: Words) -> tuple[Places, Places]:
    """``(value, count)`` of the digits at the end of each word (count 0..8)."""
    flags = _not_digit(words)
    flags |= flags >> np.uint64(8)
    flags |= flags >> np.uint64(16)
    flags |= flags >> np.uint64(32)
    upto = np.bitwise_count(flags).astype(np.uint64)
    return _number((words ^ _ZEROS) & ~below(upto)), (np.uint64(8) - upto).astype(np.int64)


def count_until(words: Words, byte: int) -> Places:
    """Bytes before the first ``byte`` of each word, 8 when it is not in it."""
    return _first(~_not_byte(words, byte) & _HIGH).astype(np.int64)


def power(exponent: Places) -> Places:
    """Ten to the power of 0..18."""
    return _POWERS[exponent]


class Scan:
    """Whole lines of text.

    Args:
        data: Lines, each ended by a newline, between two times :data:`PADDING`.

    Attributes:
        data, bytes: The same; all places are offsets into it.
        start, end: ``i64`` by line; the end is where the newline (or the carriage return before it) stands.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        self._words: NDArray[Any] = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        ends = np.flatnonzero(self.bytes[PAD:-PAD] == 10) + PAD
        self.start: Places = np.empty(len(ends), np.int64)
        self.start[:1] = PAD
        self.start[1:] = ends[:-1] + 1
        self.end: Places = ends.astype(np.int64)
        if len(ends) and self.bytes[ends[0] - 1] == 13:
            self.end -= (self.bytes[self.end - 1] == 13) & (self.end > self.start)

    def __len__(self) -> int:
        return len(self.start)

    def word(self, at: Places) -> Words:
        """The eight bytes from each place on."""
        return np.asarray(self._words[at], np.uint64)

    def byte(self, at: Places) -> NDArray[np.uint8]:
        """The byte at each place."""
        return self.bytes[at]

    def skip_spaces(self, at: Places) -> Places:
        """Places of the first byte that is no space (at most 16 further on)."""
        count = _first(_not_byte(self.word(at), 32)).astype(np.int64)
        at = at + count
        more = np.flatnonzero(count == 8)
        if len(more):
            at[more] += _first(_not_byte(self.word(at[more]), 32)).astype(np.int64)
        return at

    def find(self, at: Places, byte: int, limit: int) -> Places:
        """Places of the next ``byte`` within ``limit``, -1 where there is none; the line's end is not looked at."""
        out = np.full(len(at), -1, np.int64)
        open_ = np.arange(len(at))
        for step in range(0, limit, 8):
            if not len(open_):
                break
            count = count_until(self.word(at[open_] + step), byte)
            found = count < 8
            out[open_[found]] = at[open_[found]] + step + count[found]
            open_ = open_[~found]
        return out

    @cached_property
    def first(self) -> Words:
        """The first word of each line."""
        return self.word(self.start)

    @cached_property
    def _assignments(self) -> Places:
        b = self.bytes
        found = (b[1:-1] == 61) & (b[:-2] == 32) & (b[2:] == 32)
        return np.flatnonzero(found) + 1

    def last_assignment(self, start: Places, end: Places) -> Places:
        """Places of the ``=`` of the last `` = `` between each ``start`` and ``end``, -1 where there is none."""
        place = self._last_equal(end)
        good = (place >= start) & (self.byte(place - 1) == 32) & (self.byte(place + 1) == 32)
        far = np.flatnonzero(~good)
        if len(far):
            all_ = self._assignments
            index = np.searchsorted(all_, end[far]) - 1
            found = all_[np.maximum(index, 0)] if len(all_) else np.full(len(far), -1, np.int64)
            place[far] = np.where((index >= 0) & (found >= start[far]), found, -1)
        return place

    def _last_equal(self, end: Places) -> Places:
        """Places of the last ``=`` in the 64 bytes before each ``end``, -1 where there is none."""
        out = np.full(len(end), -1, np.int64)
        open_ = np.arange(len(end))
        for step in range(8, 72, 8):
            begin = end[open_] - step
            flags = ~_not_byte(self.word(begin), 61) & _HIGH
            found = flags > 0
            out[open_[found]] = begin[found] + _last(flags[found])
            open_ = open_[~found]
            if not len(open_):
                break
        return out
