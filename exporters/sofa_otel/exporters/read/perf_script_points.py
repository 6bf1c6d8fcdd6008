"""TextPoints: tracepoints as ``perf script`` prints them (system calls, scheduler, disks) as rows.

The text is in the order of time, but may tell it to the microsecond only: what ends is joined to what began as the lines come.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import numpy as np

from sofa_otel.core.kinds import Direction, Kind
from sofa_otel.exporters.collect.syscall_names import table_for
from sofa_otel.exporters.read.perf_data_pairs import Spans, marks
from sofa_otel.exporters.read.perf_data_rows import Output, SchedRows, SyscallRows

_MOST_OPEN: Final = 65_536
_HEX: Final = re.compile(rb": 0x([0-9a-f]{1,16})")
_LAST_HEX: Final = re.compile(rb"0x([0-9a-f]{1,16})\s*$")
_SWITCH: Final = re.compile(rb"prev_pid=(\d{1,7}) .*? ?next_pid=(\d{1,7})|:(\d{1,7}) \[\d+\] \S+ ==> .*:(\d{1,7}) \[")
_WAKEUP: Final = re.compile(rb"\bpid=(\d{1,7})|:(\d{1,7}) \[\d+\]")
_REQUEST: Final = re.compile(rb"(\d+,\d+) ([A-Z]+) (?:\d+ )?\(.*\) (\d{1,20}) \+ (\d{1,9})\b")
_ALIASES: Final = {
    "newstat": "stat", "newfstat": "fstat", "newlstat": "lstat", "newuname": "uname", "sendfile64": "sendfile",
    "umount": "umount2", "pread64": "pread64",
}  # fmt: skip
_MASK: Final = (1 << 64) - 1
_NUMBERS: Final = 1 << 14

Where = tuple[int, int, int, int]
"""``(time, pid, tid, cpu)``."""
Entry = tuple[int, int, int, int, int, int, int]
"""Where, number, first and second argument."""
Call = tuple[int, int, int, int, int, int, int, int, int]
"""An entry, how long it lasted, the result."""
Absence = tuple[int, int, int, int, int, int]
"""Where, who came, how long (0 while it lasts)."""


class TextPoints:
    """Takes tracepoints one by one, delivers them in bulk.

    Args:
        output: Where rows go.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._call_rows, self._sched_rows = SyscallRows(output), SchedRows(output)
        self._calls: list[Call] = []
        self._inside: dict[int, Entry] = {}
        self._absences: list[Absence] = []
        self._away: dict[int, Absence] = {}
        self._wakes: list[tuple[int, int, int, int, int]] = []
        self._disk: list[tuple[int, int, int, int, int, int, str]] = []
        self._requests: OrderedDict[tuple[bytes, int], tuple[Where, bytes]] = OrderedDict()
        self._numbers = {name: number for number, name in (table_for("x86_64") or {}).items()}

    @property
    def size(self) -> int:
        """Events that wait."""
        return len(self._calls) + len(self._absences) + len(self._wakes) + len(self._disk)

    def reader(self, event: str) -> Callable[[Where, bytes], bool] | None:
        """What reads the fields of an event (and tells whether it could), None for an event that is of no use here."""
        system, _, name = event.partition(":")
        if system == "raw_syscalls":
            return {"sys_enter": self._enter, "sys_exit": self._exit}.get(name)
        if system == "syscalls":
            kind, _, call = name.removeprefix("sys_").partition("_")
            number = self._numbers.get(_ALIASES.get(call, call), _NUMBERS)
            if kind == "enter":
                return lambda where, text: self._enter_named(where, text, number)
            return (lambda where, text: self._exit_named(where, text, number)) if kind == "exit" else None
        return {
            "sched:sched_switch": self._switch,
            "sched:sched_wakeup": self._wake,
            "sched:sched_wakeup_new": self._wake,
            "block:block_rq_issue": self._issue,
            "block:block_rq_complete": self._complete,
        }.get(event)

    def learn_arch(self, arch: str) -> None:
        """Names by number are those of another machine."""
        if table := table_for(arch):
            self._numbers = {name: number for number, name in table.items()}

    def _enter(self, where: Where, text: bytes) -> bool:
        try:
            number, rest = text[3:].split(b" (", 1)
            args = rest.split(b", ", 2)
            first, second = int(args[0].rstrip(b")\n"), 16), int(args[1].rstrip(b")\n"), 16) if len(args) > 1 else 0
            self._begin((*where, int(number), first & _MASK, second & 0xFFFFFFFF))
        except ValueError:
            return False
        return True

    def _begin(self, entry: Entry) -> None:
        if not -1 <= entry[4] <= _NUMBERS:
            raise ValueError
        lost = self._inside.get(entry[2])
        if lost is not None:
            self._calls.append((*lost, 0, 0))
        self._inside[entry[2]] = entry

    def _end(self, time: int, tid: int, number: int, result: int) -> None:
        entry = self._inside.get(tid)
        if entry is not None and entry[4] == number:
            del self._inside[tid]
            self._calls.append((*entry, time - entry[0] if time > entry[0] else 0, result))

    def _exit(self, where: Where, text: bytes) -> bool:
        try:
            number, result = text[3:].split(b" = ", 1)
            self._end(where[0], where[2], int(number), int(result) & _MASK)
        except ValueError:
            return False
        return True

    def _enter_named(self, where: Where, text: bytes, number: int) -> bool:
        args = _HEX.findall(text)[:2]
        first, second = (int(args[0], 16) if args else 0), (int(args[1], 16) if len(args) > 1 else 0)
        self._begin((*where, number, first, second & 0xFFFFFFFF))
        return True

    def _exit_named(self, where: Where, text: bytes, number: int) -> bool:
        result = _LAST_HEX.search(text)
        self._end(where[0], where[2], number, int(result[1], 16) if result else 0)
        return result is not None

    def _switch(self, where: Where, text: bytes) -> bool:
        found = _SWITCH.search(text)
        if found is None:
            return False
        leaves, comes = int(found[1] or found[3]), int(found[2] or found[4])
        time, pid, tid, cpu = where
        if leaves:
            self._away[leaves] = (time, pid if tid == leaves else leaves, leaves, cpu, comes, 0)
        if comes:
            self._back(time, comes)
        return True

    def _back(self, time: int, tid: int) -> None:
        away = self._away.pop(tid, None)
        if away is not None:
            self._absences.append((*away[:5], max(time - away[0], 0)))

    def _wake(self, where: Where, text: bytes) -> bool:
        found = _WAKEUP.search(text)
        if found is not None:
            self._wakes.append((*where, int(found[1] or found[2])))
        return found is not None

    def _issue(self, where: Where, text: bytes) -> bool:
        found = _REQUEST.search(text)
        if found is not None:
            self._requests[found[1], int(found[3])] = where, found[2]
            if len(self._requests) > _MOST_OPEN:
                self._requests.popitem(last=False)
        return found is not None

    def _complete(self, where: Where, text: bytes) -> bool:
        found = _REQUEST.search(text)
        if found is None:
            return False
        issued = self._requests.pop((found[1], int(found[3])), None)
        if issued is not None:
            (time, pid, tid, cpu), how = issued
            what = "write" if b"W" in how else "read" if b"R" in how else "discard" if b"D" in how else "flush"
            self._disk.append((time, max(where[0] - time, 0), pid, tid, cpu, int(found[4]) * 512, what))
        return True

    def gone(self, time: int, tid: int) -> None:
        """A thread has ended, and with it the call it was in."""
        if entry := self._inside.get(tid):
            self._end(time, tid, entry[4], 0)
        self._back(time, tid)

    def flush(self) -> None:
        """Deliver what has ended."""
        if self._calls:
            time, pid, tid, cpu, number, a, b, duration, result = zip(*self._calls, strict=True)
            begin = marks(False, time=np.array(time), pid=pid, tid=tid, cpu=cpu, number=number, a=np.array(a, np.uint64), b=b)
            results = np.array(result, np.uint64).view(np.int64)
            self._call_rows.put(Spans(begin, np.array(duration, np.int64), results))
        if self._absences:
            time, pid, tid, cpu, comes, duration = zip(*self._absences, strict=True)
            begin = marks(False, time=np.array(time), pid=pid, tid=tid, cpu=cpu, a=comes)
            none = np.zeros(len(duration), np.int64)
            self._sched_rows.put_absences(Spans(begin, np.array(duration, np.int64), none))
        if self._wakes:
            self._sched_rows.put_wakeups(*(np.array(column) for column in zip(*self._wakes, strict=True)))
        self._put_disk()
        self._calls, self._absences, self._wakes, self._disk = [], [], [], []

    def finish(self, end: int) -> None:
        """Deliver the rest; what is still open lasts up to ``end``."""
        self._calls += [(*entry, max(end - entry[0], 0), 0) for entry in self._inside.values()]
        self._absences += [(*away[:5], max(end - away[0], 0)) for away in self._away.values()]
        self._inside, self._away = {}, {}
        self.flush()

    def _put_disk(self) -> None:
        if not self._disk:
            return
        time, duration, pid, tid, cpu, size, what = zip(*self._disk, strict=True)
        names = {word: self._output.sink.tables.symbols.intern(word, "disk") for word in set(what)}
        directions = {"read": Direction.READ, "write": Direction.WRITE}
        self._output.put(
            start_ns=np.array(time),
            duration_ns=np.array(duration),
            kind=Kind.DISK,
            subkind=np.array([directions.get(word, Direction.UNKNOWN) for word in what], np.uint8),
            name=np.array([names[word] for word in what], np.uint32),
            pid=np.array(pid),
            tid=np.array(tid),
            cpu=np.array(cpu),
            bytes=np.array(size),
        )
