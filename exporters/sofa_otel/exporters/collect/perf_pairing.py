"""Joining the entry and the exit of each system call into one row with its duration, in bulk.

A thread is in at most one system call, so after sorting by (thread, time) a call is an entry that is followed by an exit.
Records of all CPUs are cut at one instant first; what is younger waits for the next round, so an entry is never missed because
its CPU's ring was read before that of the exit.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SLICE_NS: Final = 1_000_000_000
"""A call that stays open is delivered in slices of this length: events must not arrive later than the operator waits for them."""

_FIELDS: Final[np.dtype[Any]] = np.dtype(
    [("time", "<i8"), ("id", "<i8"), ("pid", "<u4"), ("tid", "<u4"), ("cpu", "<i2"), ("arg0", "<u8"), ("arg1", "<u8")]
)


class Calls(NamedTuple):
    """Rows of system calls; times on the clock of the records.

    ``arg0``, ``arg1`` are as the kernel got them; ``ret`` is 0 where the exit was not seen.
    """

    start: NDArray[np.int64]
    duration: NDArray[np.int64]
    id: NDArray[np.int64]
    pid: NDArray[np.uint32]
    tid: NDArray[np.uint32]
    cpu: NDArray[np.int16]
    arg0: NDArray[np.uint64]
    arg1: NDArray[np.uint64]
    ret: NDArray[np.int64]


def entries(samples: NDArray[Any]) -> NDArray[Any]:
    """The columns needed of ``sys_enter`` samples."""
    out = np.empty(len(samples), _FIELDS)
    for key in ("time", "id", "pid", "tid", "cpu"):
        out[key] = samples[key]
    out["arg0"] = samples["args"][:, 0]
    out["arg1"] = samples["args"][:, 1]
    return out


class Pairing:
    """Entries and exits in, calls out; holds what is not complete.

    Args:
        never_return: Call numbers without an exit (``exit``, ``exit_group``, ``rt_sigreturn``).
    """

    def __init__(self, never_return: frozenset[int]) -> None:
        self._never = np.array(sorted(never_return), np.int64)
        self._entries = np.empty(0, _FIELDS)
        self._exits: NDArray[Any] = np.empty(0, [("time", "<i8"), ("id", "<i8"), ("tid", "<u4"), ("ret", "<i8")])
        self._open = np.empty(0, _FIELDS)

    @property
    def open_calls(self) -> NDArray[Any]:
        """Entries whose exit has not been seen; their time moves on with each slice that was delivered."""
        return self._open

    def drop(self, tids: NDArray[np.uint32]) -> None:
        """Threads have gone: their open calls will not return."""
        self._open = self._open[~np.isin(self._open["tid"], tids)]

    def only_entries(self, entered: NDArray[Any], cut: int) -> Calls:
        """Calls as instants, for when exits are not recorded. When open calls of before end is not known any more."""
        ready = self._ready(entered, cut)
        closed, self._open = self._open, self._open[:0]
        self._exits = self._exits[:0]
        rows = np.concatenate([closed, ready])
        return _calls(rows, np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64))

    def join(self, entered: NDArray[Any], left: NDArray[Any], cut: int) -> Calls:
        """Calls that ended before ``cut``, slices of those that are open for long, and entries whose exit was lost (duration 0).

        Args:
            entered: New entries (:func:`entries`), any order.
            left: New ``sys_exit`` samples, any order.
            cut: Records from this time on wait for the next call.
        """
        enter = np.concatenate([self._open, self._ready(entered, cut)])
        exits = np.empty(len(left), self._exits.dtype)
        for key in ("time", "id", "tid", "ret"):
            exits[key] = left[key]
        exits = np.concatenate([self._exits, exits])
        late = exits["time"] >= cut
        self._exits, exits = exits[late], exits[~late]
        n = len(enter)
        if n == 0:
            return _calls(enter, np.empty(0, np.int64), np.empty(0, np.int64))
        tid = np.concatenate([enter["tid"], exits["tid"]]).astype(np.int64)
        time = np.concatenate([enter["time"], exits["time"]])
        # One sort key: 22 bits of thread, 41 of time (36 minutes; open calls move on every second).
        order = np.argsort((tid << 41) | np.clip(time - time.min(), 0, (1 << 41) - 1), kind="stable")
        tid, number = tid[order], np.concatenate([enter["id"], exits["id"]])[order]
        is_exit = order >= n
        follows = np.zeros(len(order), bool)
        follows[:-1] = ~is_exit[:-1] & is_exit[1:] & (tid[:-1] == tid[1:]) & (number[:-1] == number[1:])
        last = np.ones(len(order), bool)
        last[:-1] = tid[:-1] != tid[1:]
        at = np.flatnonzero(follows)
        mine, its_exit = order[at], order[at + 1] - n
        alone = order[~is_exit & ~follows & ~last]
        waiting = enter[order[~is_exit & ~follows & last]]
        returns = ~np.isin(waiting["id"], self._never)
        gone, waiting = waiting[~returns], waiting[returns]
        old = cut - waiting["time"] >= SLICE_NS
        sliced = waiting[old]
        rows = np.concatenate([enter[mine], enter[alone], gone, sliced])
        duration, ret = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        duration[: len(mine)] = exits["time"][its_exit] - enter["time"][mine]
        ret[: len(mine)] = exits["ret"][its_exit]
        begin = len(rows) - len(sliced)
        duration[begin:] = cut - sliced["time"]
        waiting["time"][old] = cut
        self._open = waiting
        return _calls(rows, duration, ret)

    def _ready(self, entered: NDArray[Any], cut: int) -> NDArray[Any]:
        rows = np.concatenate([self._entries, entered]) if len(self._entries) else entered
        late = rows["time"] >= cut
        if not late.any():
            self._entries = rows[:0]
            return rows
        self._entries = rows[late]
        return rows[~late]


def _calls(rows: NDArray[Any], duration: NDArray[np.int64], ret: NDArray[np.int64]) -> Calls:
    order = np.argsort(rows["time"], kind="stable")
    rows = rows[order]
    return Calls(
        start=np.ascontiguousarray(rows["time"]),
        duration=duration[order],
        id=np.ascontiguousarray(rows["id"]),
        pid=np.ascontiguousarray(rows["pid"]),
        tid=np.ascontiguousarray(rows["tid"]),
        cpu=np.ascontiguousarray(rows["cpu"]),
        arg0=np.ascontiguousarray(rows["arg0"]),
        arg1=np.ascontiguousarray(rows["arg1"]),
        ret=ret[order],
    )
