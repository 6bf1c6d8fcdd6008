"""Lines: what each line of strace's output says, as columns.

A cursor per line moves over the optional parts in the order strace prints them: process, time, relative time, call number,
instruction pointer. Any mixture of options is read by the same steps; a line that lacks a part just does not move.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.exporters.read.strace_names import UNKNOWN, CallNames
from sofa_otel.exporters.read.strace_scan import Places, Scan, leading_number, power, text_word, trailing_number

LAST_TID: Final = 1 << 22
"""The kernel's PID_MAX_LIMIT."""

_DAY_S: Final = 86_400
_UNIX_FROM_S: Final = 100_000_000
_UNIX_UNTIL_S: Final = 9_000_000_000
_SPACE, _OPEN, _CLOSE, _DOT, _COLON, _LESS, _MORE, _EQUAL = b" ()." + b":<>="
_BRACKET, _BRACKET_END, _PLUS = b"[]+"
_FIVE, _FOUR, _THREE = np.uint64(0xFFFFFFFFFF), np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFF)
_CLOCK: Final = text_word(b"00:00:00")
_CLOCK_COLONS: Final = np.uint64(0x0000FF0000FF0000)
_ZEROS: Final = text_word(b"00000000")


class Time(IntEnum):
    """How a line tells its time."""

    NONE = 0
    UNIX = 1
    OF_DAY = 2
    SINCE_LAST = 3


class Line(IntEnum):
    """What a line is."""

    OTHER = 0
    WHOLE = 1
    """A call with its result."""
    BEGUN = 2
    """A call whose result comes later."""
    RESUMED = 3
    """The rest of a call."""
    SIGNAL = 4
    EXIT = 5
    STACK = 6
    """A frame, or another remark that belongs to strace's output and says nothing about calls."""
    CUT = 7
    """A call without an end."""


class Lines:
    """The columns, a row a line.

    Attributes:
        scan: The text.
        kind: ``u8`` :class:`Line`.
        clock: ``u8`` :class:`Time`.
        time: ``i64`` ns; its meaning depends on ``clock``.
        tid: ``i64``, 0 when the line names none.
        call: ``i32`` number in :class:`CallNames`.
        arguments: ``i64`` place behind the opening bracket (behind ``resumed`` for resumed calls).
        tail: ``i64`` place where the result ends.
        duration: ``i64`` ns from ``-T``, -1 when the line has none.
    """

    def __init__(self, scan: Scan, names: CallNames) -> None:
        self.scan = scan
        n = len(scan)
        self.kind = np.zeros(n, np.uint8)
        self.clock = np.zeros(n, np.uint8)
        self.time = np.zeros(n, np.int64)
        self.tid = np.zeros(n, np.int64)
        self.tail = scan.end.copy()
        self.duration = np.full(n, -1, np.int64)
        at = self._read_time(scan.skip_spaces(self._read_tid()))
        self._read_call(self._skip_details(at), names)
        self._read_end()

    def _read_tid(self) -> Places:
        """``1234 ``, ``1234<comm> ``, ``[pid  1234] `` or nothing."""
        scan = self.scan
        at, word = scan.start, scan.first
        value, count = leading_number(word)
        after = (word >> (count.astype(np.uint64) << np.uint64(3))) & np.uint64(0xFF)
        good = (count > 0) & (count < 8) & (value <= LAST_TID) & ((after == _SPACE) | (after == _LESS))
        out = np.where(good, at + count, at)
        self.tid = np.where(good, value, 0)
        bracket = np.flatnonzero((word & _FOUR) == text_word(b"[pid"))
        if len(bracket):
            inner = scan.skip_spaces(at[bracket] + 4)
            value, count = leading_number(scan.word(inner))
            inner = inner + count
            after8 = scan.byte(inner)
            good = (count > 0) & (count < 8) & (value <= LAST_TID) & ((after8 == _BRACKET_END) | (after8 == _LESS))
            bracket, inner = bracket[good], inner[good]
            self.tid[bracket] = value[good]
            out[bracket] = inner + (scan.byte(inner) == _BRACKET_END)
        named = np.flatnonzero((scan.byte(out) == _LESS) & (self.tid > 0))
        if len(named):
            close = scan.find(out[named], _MORE, 72)
            out[named] = np.where(close < 0, out[named], close + 1)
            out[named] += scan.byte(out[named]) == _BRACKET_END
        return out

    def _read_time(self, at: Places) -> Places:
        scan = self.scan
        word = scan.word(at)
        value, count = leading_number(word)
        long_ = np.flatnonzero(count == 8)
        if len(long_):
            more, digits = leading_number(scan.word(at[long_] + 8))
            value[long_] = np.where(digits < 4, value[long_] * power(digits) + more, _UNIX_UNTIL_S)
            count[long_] += digits
        after = at + count
        byte = scan.byte(after)
        of_day = np.flatnonzero((count == 2) & (byte == _COLON))
        if len(of_day):
            self._read_clock(of_day, word[of_day], value, at, after)
            byte = scan.byte(after)
        has_fraction = byte == _DOT
        fraction, digits = leading_number(scan.word(after + 1))
        nine = np.flatnonzero(has_fraction & (digits == 8))
        if len(nine):
            ninth = scan.byte(after[nine] + 9).astype(np.int64) - 48
            is_digit = (ninth >= 0) & (ninth <= 9)
            fraction[nine] = np.where(is_digit, fraction[nine] * 10 + ninth, fraction[nine])
            digits[nine] += is_digit
        after = np.where(has_fraction, after + 1 + digits, after)
        good = (count > 0) & (~has_fraction | (digits > 0)) & (scan.byte(after) == _SPACE) & (value < _UNIX_UNTIL_S)
        self.time = np.where(good, value * 1_000_000_000 + np.where(has_fraction, fraction * power(9 - digits), 0), 0)
        clock = np.where(value >= _UNIX_FROM_S, Time.UNIX, Time.SINCE_LAST)
        clock[of_day] = Time.OF_DAY
        self.clock = np.where(good, clock, Time.NONE).astype(np.uint8)
        return np.where(good, after + 1, at)

    def _read_clock(self, rows: Places, word: NDArray[np.uint64], value: Places, at: Places, after: Places) -> None:
        """``HH:MM:SS``: without its colons it is an eight-digit number."""
        shifted = word ^ _CLOCK
        number, count = leading_number(shifted ^ _ZEROS)
        hour, minute, second = number // 1_000_000, number // 1000 % 1000, number % 1000
        good = (shifted & _CLOCK_COLONS == 0) & (count == 8) & (hour < 24) & (minute < 60) & (second < 61)
        rows, number = rows[good], (hour * 3600 + minute * 60 + second)[good]
        value[rows] = number
        after[rows] = at[rows] + 8

    def _skip_details(self, at: Places) -> Places:
        """Over ``(+     0.000123) ``, ``[  12] `` and ``[00007f711eb40c47] ``."""
        scan = self.scan
        first = scan.byte(at)
        relative = np.flatnonzero((first == _OPEN) & (scan.byte(at + 1) == _PLUS))
        if len(relative):
            close = scan.find(at[relative], _CLOSE, 40)
            at[relative] = np.where(close < 0, at[relative], close + 2)
            first = scan.byte(at)
        for _ in range(2):
            bracket = np.flatnonzero((first == _BRACKET) & (self.clock != Time.NONE))
            if not len(bracket):
                break
            close = scan.find(at[bracket], _BRACKET_END, 40)
            at[bracket] = np.where(close < 0, at[bracket], close + 2)
            first = scan.byte(at)
        return at

    def _read_call(self, at: Places, names: CallNames) -> None:
        scan = self.scan
        word = scan.word(at)
        kind = self.kind
        self.call, after = names.read(scan, at, _OPEN)
        kind[(self.call != UNKNOWN) & (after < scan.end)] = Line.WHOLE
        self.arguments = after + 1
        resumed = np.flatnonzero((word & _FIVE) == text_word(b"<... "))
        if len(resumed):
            call, after = names.read(scan, at[resumed] + 5, _SPACE)
            good = (call != UNKNOWN) & (scan.word(after) == text_word(b" resumed")) & (scan.byte(after + 8) == _MORE)
            resumed = resumed[good]
            self.call[resumed] = call[good]
            self.arguments[resumed] = after[good] + 9
            kind[resumed] = Line.RESUMED
        four = word & _FOUR
        kind[four == text_word(b"--- ")] = Line.SIGNAL
        kind[four == text_word(b"+++ ")] = Line.EXIT
        kind[(scan.first & _THREE) == text_word(b" > ")] = Line.STACK
        kind[four == text_word(b"????")] = Line.STACK
        kind[scan.start == scan.end] = Line.STACK

    def _read_end(self) -> None:
        scan = self.scan
        rows = np.flatnonzero((self.kind == Line.WHOLE) | (self.kind == Line.RESUMED))
        end = scan.end[rows]
        last = scan.word(end - 8)
        begun = last == text_word(b"hed ...>")
        if begun.any():
            some = np.flatnonzero(begun)
            begun[some] = (scan.word(end[some] - 16) == text_word(b"<unfinis")) | (
                scan.word(end[some] - 14) == text_word(b"<detache")
            )
            unfinished = rows[begun & (self.kind[rows] == Line.WHOLE)]
            self.kind[unfinished] = Line.BEGUN
            # A call that is resumed and at once interrupted again: still the same call.
            self.kind[rows[begun & (self.kind[rows] == Line.RESUMED)]] = Line.STACK
        told = np.flatnonzero(~begun & (last >> np.uint64(56) == _MORE))
        if len(told):
            self._read_duration(rows[told], end[told])
        open_ = rows[~begun & (self.duration[rows] < 0)]
        if len(open_):
            equal = scan.last_assignment(self.arguments[open_] - 1, scan.end[open_])
            before = scan.byte(equal - 2)
            whole = (equal >= 0) & ((before == _CLOSE) | (before == _SPACE))
            self.kind[open_[~whole]] = Line.CUT

    def _read_duration(self, rows: Places, end: Places) -> None:
        """`` <0.000123>`` with 0, 3, 6 or 9 digits behind the point."""
        scan = self.scan
        word = scan.word(end - 9)
        fraction, digits = trailing_number(word)
        dot = end - 2 - digits
        eight = np.flatnonzero(digits == 8)
        if len(eight):
            ninth = scan.byte(end[eight] - 10).astype(np.int64) - 48
            nine = (ninth >= 0) & (ninth <= 9) & (scan.byte(end[eight] - 11) == _DOT)
            fraction[eight] = np.where(nine, fraction[eight] + ninth * 100_000_000, fraction[eight])
            digits[eight] += nine
            dot[eight] -= nine
        pointed = (scan.byte(dot) == _DOT) & (digits > 0)
        seconds, count = trailing_number(scan.word(np.where(pointed, dot, end - 1) - 8))
        open_ = np.where(pointed, dot, end - 1) - count - 1
        good = (count > 0) & (scan.byte(open_) == _LESS) & (scan.byte(open_ - 1) == _SPACE)
        good &= open_ > self.arguments[rows] - 1
        part = np.where(pointed, fraction * power(np.maximum(9 - digits, 0)), 0)
        self.duration[rows[good]] = (seconds * 1_000_000_000 + part)[good]
        self.tail[rows[good]] = open_[good] - 1
