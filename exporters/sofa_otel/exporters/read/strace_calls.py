"""Calls: rows of system calls out of lines, with the calls that strace had to tell in two parts joined again."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Futex
from sofa_otel.exporters.read.strace_lines import Line, Lines
from sofa_otel.exporters.read.strace_names import CallNames, Trait
from sofa_otel.exporters.read.strace_scan import Places, leading_number, text_word, trailing_number

ROW: Final[np.dtype[Any]] = np.dtype(
    [
        ("start", "<i8"), ("duration", "<i8"), ("bytes", "<i8"), ("tid", "<i8"),
        ("call", "<i4"), ("peer", "<u4"), ("line", "<i8"), ("subkind", "u1"),
    ],
    align=True,
)  # fmt: skip
"""A call; ``line`` is the row of its first line in the block, -1 when it began in an earlier one."""

_COMMA, _EQUAL, _SPACE, _MINUS = b",= -"
_FUTEX: Final = text_word(b"FUTEX_")
_SIX, _FOUR = np.uint64(0xFFFFFFFFFFFF), np.uint64(0xFFFFFFFF)
_WAIT, _LOCK = text_word(b"WAIT"), text_word(b"LOCK")
_WAITING_OPS: Final = frozenset({0, 6, 9, 11, 13})
_NUMBER: Final = re.compile(rb"0x[0-9a-f]+|\d+")


class CallReader:
    """Lines in, rows out; holds the calls that have not returned (at most one a thread)."""

    def __init__(self, names: CallNames) -> None:
        self._names = names
        self.open: NDArray[Any] = np.empty(0, ROW)

    def read(self, lines: Lines, times: Places, timed: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows of the calls that ended in these lines.

        Returns:
            ``(rows, ends)``; ``ends`` has for each row the line in which it ended (its result stands there).
        """
        whole = np.flatnonzero((lines.kind == Line.WHOLE) & timed)
        rows = self._rows(lines, times, whole)
        rows["duration"] = np.maximum(lines.duration[whole], 0)
        self._results(lines, whole, rows)
        joined, ends = self._join(lines, times, timed)
        return np.concatenate([rows, joined]), np.concatenate([whole, ends])

    def rest(self) -> NDArray[Any]:
        """Calls that never returned, without a duration."""
        left, self.open = self.open, np.empty(0, ROW)
        return left

    def _rows(self, lines: Lines, times: Places, at: Places) -> NDArray[Any]:
        rows = np.zeros(len(at), ROW)
        rows["start"], rows["tid"], rows["call"], rows["line"] = times[at], lines.tid[at], lines.call[at], at
        traits = self._names.trait[rows["call"]]
        scan, place = lines.scan, lines.arguments[at]
        on_fd = np.flatnonzero(traits & Trait.ON_FD)
        if len(on_fd):
            word = scan.word(place[on_fd])
            fd, count = leading_number(word)
            minus_one = (word & np.uint64(0xFFFF)) == text_word(b"-1")
            rows["peer"][on_fd] = np.where(minus_one, 0xFFFFFFFF, np.where((count > 0) & (count < 8), fd, 0))
        futex = np.flatnonzero(traits & Trait.FUTEX)
        if len(futex):
            rows["subkind"][futex] = self._futex(lines, place[futex])
        rows["subkind"][traits & Trait.WAITS > 0] = Futex.WAIT
        rows["subkind"][traits & Trait.WAKES > 0] = Futex.WAKE
        return rows

    @staticmethod
    def _next_argument(lines: Lines, place: Places) -> Places:
        """Behind the next comma; 0 (a place of newlines) where there is none."""
        comma = lines.scan.find(place, _COMMA, 48)
        return np.where(comma < 0, 0, comma + 2)

    def _futex(self, lines: Lines, place: Places) -> NDArray[np.uint8]:
        scan = lines.scan
        behind = self._next_argument(lines, place)
        word = scan.word(behind)
        kind = scan.word(behind + 6) & _FOUR
        out = np.where((kind == _WAIT) | (kind == _LOCK), Futex.WAIT, Futex.WAKE).astype(np.uint8)
        plain = np.flatnonzero((word & _SIX) != _FUTEX)
        if len(plain):
            # "-X raw" and "-X verbose" give the operation as a number.
            unique, inverse = np.unique(word[plain], return_inverse=True)
            ops = [_number(int(one).to_bytes(8, "little")) for one in unique]
            kinds = [Futex.UNKNOWN if op < 0 else Futex.WAIT if op & 127 in _WAITING_OPS else Futex.WAKE for op in ops]
            out[plain] = np.array(kinds, np.uint8)[inverse]
        return out

    def _results(self, lines: Lines, ends: Places, rows: NDArray[Any]) -> None:
        moves = np.flatnonzero((self._names.trait[rows["call"]] & Trait.MOVES > 0) & (lines.kind[ends] != Line.EXIT))
        if len(moves):
            rows["bytes"][moves] = np.maximum(returned(lines, ends[moves]), 0)

    def _join(self, lines: Lines, times: Places, timed: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        kind = lines.kind
        begun = np.flatnonzero((kind == Line.BEGUN) & timed)
        resumed = np.flatnonzero((kind == Line.RESUMED) & timed)
        gone = np.flatnonzero((kind == Line.EXIT) & timed)
        old = self.open
        opened = np.concatenate([old, self._rows(lines, times, begun)])
        later = np.concatenate([resumed, gone])
        if not len(opened) and not len(resumed):
            return np.empty(0, ROW), np.empty(0, np.int64)
        n = len(opened)
        tid = np.concatenate([opened["tid"], lines.tid[later]])
        line = np.concatenate([np.full(len(old), -1, np.int64), begun, later]) + 1
        call = np.concatenate([opened["call"], lines.call[resumed], np.full(len(gone), -1, np.int32)])
        sort = np.argsort(tid * (len(kind) + 1) + line)
        begins = sort < n
        tid, call = tid[sort], call[sort]
        next_is_end = np.zeros(len(sort), bool)
        next_is_end[:-1] = begins[:-1] & ~begins[1:] & (tid[:-1] == tid[1:]) & ((call[:-1] == call[1:]) | (call[1:] < 0))
        last = np.ones(len(sort), bool)
        last[:-1] = tid[:-1] != tid[1:]
        pair = np.flatnonzero(next_is_end)
        mine, end = sort[pair], later[sort[pair + 1] - n]
        taken = np.zeros(len(sort), bool)
        taken[pair + 1] = True
        lost = sort[begins & ~next_is_end & ~last]
        alone = later[sort[~begins & ~taken] - n]
        alone = alone[kind[alone] == Line.RESUMED]
        self.open = opened[sort[begins & ~next_is_end & last]]
        self.open["line"] = -1

        rows = opened[mine]
        told = np.where(kind[end] == Line.RESUMED, lines.duration[end], -1)
        rows["duration"] = np.where(told >= 0, told, np.maximum(times[end] - rows["start"], 0))
        self._results(lines, end, rows)
        orphans = np.zeros(len(alone), ROW)
        orphans["tid"], orphans["call"], orphans["line"] = lines.tid[alone], lines.call[alone], alone
        orphans["duration"] = np.maximum(lines.duration[alone], 0)
        orphans["start"] = times[alone] - orphans["duration"]
        self._results(lines, alone, orphans)
        without_end = opened[lost]
        return np.concatenate([rows, orphans, without_end]), np.concatenate([end, alone, np.full(len(lost), -1, np.int64)])


def returned(lines: Lines, at: Places) -> Places:
    """Results of lines as numbers, -1 for errors and for what is no decimal number."""
    scan, tail = lines.scan, lines.tail[at]
    value, count = trailing_number(scan.word(tail - 8))
    long_ = np.flatnonzero(count == 8)
    if len(long_):
        more, digits = trailing_number(scan.word(tail[long_] - 16))
        value[long_] += more * 100_000_000
        count[long_] += digits
    good = (count > 0) & (scan.byte(tail - count - 1) == _SPACE) & (scan.byte(tail - count - 2) == _EQUAL)
    other = np.flatnonzero(~good)
    value[other] = -1
    if len(other):
        equal = scan.last_assignment(lines.arguments[at[other]] - 1, tail[other])
        number, count = leading_number(scan.word(equal + 2))
        end = scan.byte(equal + 2 + count)
        plain = (equal >= 0) & (count > 0) & (count < 8) & (end != ord("x"))
        value[other] = np.where(plain, number, -1)
    return value


def _number(text: bytes) -> int:
    """The number (decimal or ``0x…``) at the start of ``text``, -1 when there is none; at most 2**62."""
    found = _NUMBER.match(text)
    return -1 if found is None else min(int(found[0], 16 if b"x" in found[0] else 10), 1 << 62)
