"""Heads: who a line of ``perf script`` is about, and what its comments and task events tell about threads and clocks."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sofa_otel.exporters.read.perf_data_header import Recording

_HEAD: Final = re.compile(rb"\s*(?:(\S.*?)\s+)??(?:(-?\d{1,7})(?:/(-?\d{1,7}))?)?\s*(?:\[(\d{1,4})\])?\s*(?:[A-Z]{1,6})?\s*")
_TASK: Final = re.compile(
    rb"PERF_RECORD_(?:(FORK|EXIT)\((\d{1,7}):(\d{1,7})\)|(?:COMM|MMAP2?)[^:]*(?: |: .{0,64}?[: ])(\d{1,7})/(\d{1,7}))"
)
_REFERENCE: Final = re.compile(rb"# reference time: .*? = (\d{1,10})\.(\d{1,9}) \(TOD\) = (\d{1,10})\.(\d{1,9}) \(")
_FIELD: Final = re.compile(rb"# (hostname|arch) : (\S+)")
_MOST_NAMES: Final = 1024


class Head(NamedTuple):
    """Process (0: not told), thread, CPU (-1: not told)."""

    pid: int
    tid: int
    cpu: int


class Heads:
    """Takes the beginnings of lines apart.

    Where neither process nor thread is printed, threads are numbered by their command.
    """

    def __init__(self) -> None:
        self._commands: dict[bytes, int] = {}

    def parse(self, text: bytes) -> Head | None:
        """Of what stands before the time; None when no line of perf begins like that."""
        found = _HEAD.fullmatch(text + b" ")
        if found is None:
            return None
        command, first, second, cpu = found.groups()
        if first is None:
            if command is not None and len(self._commands) < _MOST_NAMES:
                self._commands.setdefault(command, len(self._commands) + 1)
            number = self._commands.get(command or b"", 1)
            return Head(number, number, int(cpu or -1))
        if second is None:
            return Head(0, max(int(first), 0), int(cpu or -1))
        return Head(max(int(first), 0), max(int(second), 0), int(cpu or -1))


class Threads:
    """Processes of threads, from forks and from whatever names both."""

    def __init__(self) -> None:
        self._pid: dict[int, int] = {}

    def learn(self, tid: int, pid: int) -> None:
        """A thread and its process."""
        if len(self._pid) < 1 << 20:
            self._pid[tid] = pid

    def pid(self, tid: int) -> int:
        """Process of a thread; itself when nothing is known."""
        return self._pid.get(tid, tid)

    def task(self, text: bytes) -> int:
        """Take in a task event (``perf script --show-task-events``).

        Returns:
            The thread that has ended, 0 when none has.
        """
        found = _TASK.match(text)
        if found is None:
            return 0
        pid, tid = int(found[2] or found[4]), int(found[3] or found[5])
        self.learn(tid, pid)
        return tid if found[1] == b"EXIT" else 0


def read_comment(line: bytes, recording: Recording) -> str:
    """Take in a line of ``perf script --header``; returns the name of what it told."""
    if field := _FIELD.match(line):
        value = field[2].decode("utf-8", "replace")
        if field[1] == b"hostname":
            recording.host = value
            return "host"
        recording.arch = value
        return "arch"
    if reference := _REFERENCE.match(line):
        unix, own = (
            int(a) * 10**9 + int(b.ljust(9, b"0")) for a, b in ((reference[1], reference[2]), (reference[3], reference[4]))
        )
        recording.clock = (-1, own, unix)
        return "clock"
    return ""
