"""Samples of tracepoints: system calls and the scheduler, with their fields where the recording says they are."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.exporters.read.perf_data_header import Recording
from sofa_otel.exporters.read.perf_data_pairs import ANY, Pairs, marks
from sofa_otel.exporters.read.perf_data_rows import Output, SchedRows, SyscallRows
from sofa_otel.exporters.read.perf_data_tracing import Format

ENTER: Final = "enter"
EXIT: Final = "exit"
SWITCH: Final = "switch"
WAKEUP: Final = "wakeup"
OTHER: Final = ""

_FIRST_ARGUMENT: Final = 16
_ENTER_SIZE: Final = 68
_EXIT_SIZE: Final = 28
_MOSTLY: Final = 0.8
"""Raw bytes of ``raw_syscalls`` events with the padding that the kernel adds."""


class Point(NamedTuple):
    """What a tracepoint is, and the offsets of two or three of its fields in the raw data.

    ``number`` is the system call, ``prev_pid`` or ``pid``; ``value`` the first argument, the result or ``next_pid``; ``more``
    the second argument.
    """

    role: str
    number: int = 0
    value: int = 0
    more: int = 0

    @property
    def least(self) -> int:
        """Raw bytes that hold all of them."""
        wide = 8 if self.role in (ENTER, EXIT) else 4
        return max(self.number + 4, self.value + wide, self.more + 4 if self.more else 0)


def point_of(name: str, form: Format | None) -> Point:
    """The tracepoint ``system:event``; standard offsets where the recording holds no format."""
    system, _, event = name.partition(":")
    event = event.split(":", 1)[0]
    fields = form.fields if form is not None else {}

    def at(field: str, standard: int) -> int:
        found = fields.get(field, (standard, 8))[0]
        return found if found % 4 == 0 and found < 4096 else standard

    if (system, event) == ("raw_syscalls", "sys_enter"):
        arguments = at("args", _FIRST_ARGUMENT)
        return Point(ENTER, at("id", 8), arguments, arguments + 8)
    if (system, event) == ("raw_syscalls", "sys_exit"):
        return Point(EXIT, at("id", 8), at("ret", 16))
    if system == "syscalls" and event.startswith("sys_enter_"):
        count = sum(name not in _COMMON for name in fields) if fields else 2
        # A call without arguments has nothing behind its number: the number is read again, and means nothing.
        return Point(ENTER, at("__syscall_nr", 8), 16 if count else 8, 24 if count > 1 else 0)
    if system == "syscalls" and event.startswith("sys_exit_"):
        return Point(EXIT, at("__syscall_nr", 8), at("ret", 16))
    if (system, event) == ("sched", "sched_switch"):
        return Point(SWITCH, at("prev_pid", 24), at("next_pid", 56))
    if system == "sched" and event in ("sched_wakeup", "sched_wakeup_new"):
        return Point(WAKEUP, at("pid", 24), at("pid", 24))
    return Point(OTHER)


_COMMON: Final = ("common_type", "common_flags", "common_preempt_count", "common_pid", "__syscall_nr")


class Points:
    """Rows of tracepoints.

    Args:
        output: Where they go.
    """

    def __init__(self, output: Output) -> None:
        self._calls, self._switches = Pairs(), Pairs()
        self._call_rows, self._sched_rows = SyscallRows(output), SchedRows(output)
        self._points: list[Point | None] = []
        self._ending: list[Pairs] = []

    @property
    def size(self) -> int:
        """Records that wait."""
        return self._calls.size + self._switches.size

    def learn(self, recording: Recording) -> None:
        """Look up what each event is."""
        self._points = [
            point_of(name, recording.formats.get(attr.config)) if (name := recording.event_name(index)) else None
            for index, attr in enumerate(recording.attrs)
        ]
        roles = {point.role if point is not None else ENTER for point in self._points}
        self._ending = [pairs for role, pairs in ((ENTER, self._calls), (SWITCH, self._switches)) if role in roles]

    def take(
        self,
        index: int,
        words: NDArray[np.uint64],
        raw: NDArray[np.int64],
        end: NDArray[np.int64],
        time: NDArray[np.int64],
        pid: NDArray[np.uint32],
        tid: NDArray[np.uint32],
        cpu: NDArray[np.int16],
    ) -> int | None:
        """Take samples of event ``index`` whose raw data begin at the words ``raw``.

        Returns:
            How many were damaged; None when the event is of no use here.
        """
        half = words.view(np.uint32)
        start = raw * 2
        size = half[start]
        point = self._points[index]
        if point is None:
            point = self._points[index] = _guess(half, start, size)
        if point.role == OTHER:
            return None
        good = (size >= point.least) & (start + 1 + (size >> np.uint32(2)) <= 2 * end)
        bad = len(good) - int(good.sum())
        if bad:
            start, time, pid, tid, cpu = start[good], time[good], pid[good], tid[good], cpu[good]
        start = start + 1
        number = half[start + point.number // 4]
        if point.role == ENTER:
            value = _wide(half, start + point.value // 4)
            more = half[start + point.more // 4] if point.more else 0
            self._calls.add(marks(False, time=time, pid=pid, tid=tid, cpu=cpu, number=number.view(np.int32), a=value, b=more))
        elif point.role == EXIT:
            value = _wide(half, start + point.value // 4)
            self._calls.add(marks(True, time=time, pid=pid, tid=tid, cpu=cpu, number=number.view(np.int32), a=value))
        elif point.role == SWITCH:
            following = half[start + point.value // 4]
            leaves, comes = number > 0, following > 0
            self._switches.add(
                marks(False, time=time[leaves], pid=pid[leaves], tid=number[leaves], cpu=cpu[leaves], a=following[leaves])
            )
            self._switches.add(marks(True, time=time[comes], tid=following[comes]))
        else:
            self._sched_rows.put_wakeups(time, pid, tid, cpu, number)
        return bad

    def gone(self, tid: int, time: int) -> None:
        """A thread has ended, and with it the call it was in."""
        end = np.array([time], np.int64)
        for pairs in self._ending:
            pairs.add(marks(True, time=end, tid=np.array([tid], np.uint32), number=ANY))

    def flush(self, cut: int) -> None:
        """Deliver what ended before ``cut``."""
        if self._calls.size:
            self._call_rows.put(self._calls.join(cut))
        if self._switches.size:
            self._sched_rows.put_absences(self._switches.join(cut))

    def finish(self, end: int) -> None:
        """Deliver what never ended."""
        self._call_rows.put(self._calls.finish(end))
        self._sched_rows.put_absences(self._switches.finish(end))


def _wide(half: NDArray[np.uint32], at: NDArray[np.int64]) -> NDArray[np.uint64]:
    low: Any = half[at].astype(np.uint64)
    return np.asarray(low | half[at + 1].astype(np.uint64) << np.uint64(32))


def _guess(half: NDArray[np.uint32], start: NDArray[np.int64], size: NDArray[np.uint32]) -> Point:
    """What a tracepoint without name and format (they stand at the end of a file that was cut off) must be, by its looks."""
    number = half[np.minimum(start + 1 + 2, len(half) - 2)]
    upper = half[np.minimum(start + 1 + 3, len(half) - 1)]
    called = ((number < 1024) & (upper == 0)) | (number == 0xFFFFFFFF)
    for name, usual in (("sys_enter", _ENTER_SIZE), ("sys_exit", _EXIT_SIZE)):
        if (called & (size == usual)).mean() > _MOSTLY:
            return point_of(f"raw_syscalls:{name}", None)
    return Point(OTHER)
