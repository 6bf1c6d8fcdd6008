"""TraceRows: the lines of ``perf trace``, which are system calls already joined."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from sofa_otel.core.kinds import Futex, Kind
from sofa_otel.exporters.collect.syscall_names import ON_DESCRIPTOR, TRANSFERS
from sofa_otel.exporters.read.perf_data_rows import Output

TIME: Final = re.compile(rb" *(?:\d{1,12}\.\d{3}|\?) +\( *(?:\d{1,10}\.\d{3} ms)? *\): ")
_LINE: Final = re.compile(
    rb" *(?:(\d{1,12})\.(\d{3})|\?) +\( *(?:(\d{1,10})\.(\d{3}) ms)? *\): (?:(?:([^(]*?)/)?(\d{1,7}) )? *(.*)"
)
SUMMARY: Final = b" Summary of events:"
_CALL: Final = re.compile(rb"(?:\.\.\. \[continued\]: )?([a-z_]\w{0,40})\((.*)")
_OPEN: Final = re.compile(rb"\) +\.\.\.$")
_FD: Final = re.compile(rb"[\w.]+: (\d{1,9})")
_OP: Final = re.compile(rb"op: (WAIT|LOCK)")
_CONTINUED: Final = b"... [continued]"

Row = tuple[int, int, str, int, int, int, int]
"""``(start, duration, name, tid, peer, subkind, bytes)``."""


class TraceRows:
    """Takes lines one by one, delivers them in bulk.

    Args:
        output: Where rows go.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rows: list[Row] = []
        self._open: dict[int, Row] = {}

    @property
    def size(self) -> int:
        """Rows that wait."""
        return len(self._rows)

    def take(self, line: bytes) -> bool:
        """Read a line that :data:`TIME` fits; tells whether it could."""
        found = _LINE.fullmatch(line)
        if found is None:
            return False
        second, third, spent, part, _, thread, text = found.groups()
        call = _CALL.match(text)
        if call is None:
            # Page faults and other events that perf trace mixes in.
            return b"(" not in text[:40] or text.startswith((b"minfault", b"majfault"))
        tid = int(thread or 0)
        name, args = call[1].decode("ascii"), call[2]
        open_ = self._open.pop(tid, None)
        if open_ is not None and open_[2] != name:
            self._rows.append(open_)
            open_ = None
        if text.startswith(_CONTINUED) and open_ is not None:
            start, _, name, tid, peer, kind, _ = open_
        elif second is None:
            return True  # it began before the recording, at a time that is not told
        else:
            start = (int(second) * 1000 + int(third)) * 1000
            fd = _FD.match(args) if name in ON_DESCRIPTOR else None
            peer, kind = int(fd[1]) & 0xFFFFFFFF if fd else 0, Futex.UNKNOWN
            if name == "futex" and b"op: " in args:
                kind = Futex.WAIT if _OP.search(args) else Futex.WAKE
        if args.endswith(b"...") and _OPEN.search(args):
            self._open[tid] = start, 0, name, tid, peer, kind, 0
            return True
        args, equal, result = args.rpartition(b"= ")
        if not equal or not args.rstrip().endswith(b")"):
            return False
        moved = int(result[:18]) if name in TRANSFERS and result.isdigit() else 0
        duration = (int(spent) * 1000 + int(part)) * 1000 if spent else 0
        self._rows.append((start, duration, name, tid, peer, kind, moved))
        return True

    def flush(self) -> None:
        """Deliver what has ended."""
        if not self._rows:
            return
        start, duration, name, tid, peer, kind, moved = zip(*self._rows, strict=True)
        self._rows = []
        symbols = {one: self._output.sink.tables.symbols.intern(one, "syscall") for one in set(name)}
        self._output.put(
            start_ns=np.array(start, np.int64),
            duration_ns=np.array(duration, np.int64),
            kind=Kind.SYSCALL,
            subkind=np.array(kind, np.uint8),
            name=np.array([symbols[one] for one in name], np.uint32),
            pid=np.array(tid, np.uint32),
            tid=np.array(tid, np.uint32),
            peer=np.array(peer, np.uint32),
            bytes=np.array(moved, np.int64),
        )

    def finish(self) -> None:
        """Deliver the rest; calls that never returned have no duration."""
        self._rows += self._open.values()
        self._open = {}
        self.flush()
