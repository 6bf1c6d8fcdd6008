"""Joining what begins and what ends in a thread (system calls, absence from the CPU) over records that come CPU by CPU.

Like ``collect.perf_pairing``, but for whole files: a call that stays open for minutes is one row, not slices of a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

ANY: Final = -1
"""Number of an end that ends whatever is open: a thread that is gone, ``rt_sigreturn``."""


class Marks(NamedTuple):
    """Begins and ends, in any order. ``number`` says of what; ``a``, ``b`` go with a begin, ``a`` also with an end."""

    time: NDArray[np.int64]
    pid: NDArray[np.uint32]
    tid: NDArray[np.uint32]
    cpu: NDArray[np.int16]
    number: NDArray[np.int32]
    a: NDArray[np.uint64]
    b: NDArray[np.uint32]
    ends: NDArray[np.bool_]

    def take(self, index: Any) -> Marks:
        """Rows by mask or index."""
        return _marks(column[index] for column in self)


def _marks(columns: Iterable[Any]) -> Marks:
    return Marks(*columns)


_TYPES: Final = (np.int64, np.uint32, np.uint32, np.int16, np.int32, np.uint64, np.uint32, np.bool_)
NONE: Final = _marks(np.empty(0, kind) for kind in _TYPES)


class Spans(NamedTuple):
    """What was joined: the begins, how long each lasted, and ``a`` of its end (0 where the end was not seen)."""

    begin: Marks
    duration: NDArray[np.int64]
    result: NDArray[np.int64]


def marks(ends: bool, **columns: Any) -> Marks:
    """Marks of one kind; columns that are left out are 0, ``number`` may be a plain value."""
    n = len(columns["time"])
    out: list[NDArray[Any]] = []
    for name, kind in zip(Marks._fields[:-1], _TYPES, strict=False):
        given = columns.get(name, 0)
        out.append(np.full(n, given, kind) if np.ndim(given) == 0 else np.asarray(given).astype(kind, copy=False))
    return _marks([*out, np.full(n, ends)])


class Pairs:
    """Marks in, spans out; holds what is open and what is too young to be joined."""

    def __init__(self) -> None:
        self._new: list[Marks] = []
        self._kept = NONE
        self._open = NONE
        self.size = 0
        """Marks that wait."""

    def add(self, found: Marks) -> None:
        """Take marks."""
        self._new.append(found)
        self.size += len(found.time)

    def join(self, cut: int) -> Spans:
        """Spans that ended before ``cut``, and begins whose end was lost (duration 0). Younger marks wait."""
        found = _marks(np.concatenate(columns) for columns in zip(self._kept, *self._new, strict=True))
        self._new = []
        late = found.time >= cut
        if late.any():
            self._kept, found = found.take(late), found.take(~late)
        else:
            self._kept = NONE
        self.size = len(self._kept.time)
        if not len(found.time):
            return Spans(NONE, np.empty(0, np.int64), np.empty(0, np.int64))
        base = int(found.time.min())
        found = _marks(np.concatenate(columns) for columns in zip(*[self._open, found], strict=True))
        time = np.clip(found.time - base, 0, (1 << 41) - 1).astype(np.uint64)
        # One sort key: 22 bits of thread, 41 of time (36 minutes a round), a begin before an end of the same instant.
        key = found.tid.astype(np.uint64) << np.uint64(42) | time << np.uint64(1) | found.ends
        order = np.argsort(key)
        tid, number, ends = found.tid[order], found.number[order], found.ends[order]
        same = tid[:-1] == tid[1:]
        follows = ~ends[:-1] & ends[1:] & same & ((number[:-1] == number[1:]) | (number[1:] == ANY))
        begins = np.flatnonzero(~ends)
        paired = np.append(follows, False)[begins]
        last = np.append(~same, True)[begins]
        self._open = found.take(order[begins[last & ~paired]])
        begins, paired = begins[~last | paired], paired[~last | paired]
        mine = order[begins]
        other = order[np.minimum(begins + 1, len(order) - 1)]
        begin = found.take(mine)
        duration = np.where(paired, found.time[other] - begin.time, 0)
        return Spans(begin, np.maximum(duration, 0), np.where(paired, found.a[other].view(np.int64), 0))

    def finish(self, end: int) -> Spans:
        """What is still open, as lasting up to ``end``."""
        rest, self._open = self._open, NONE
        none = np.zeros(len(rest.time), np.int64)
        return Spans(rest, np.maximum(end - rest.time, 0), none)
