"""StraceImporter: system calls that strace has written down, with all of its ways to print a line.

A block of lines at a time becomes columns (:mod:`.strace_lines`), then calls (:mod:`.strace_calls`); nothing is done line by line
except for the few that start threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.source import ByteSource
from sofa_otel.exporters.read.strace_calls import CallReader
from sofa_otel.exporters.read.strace_clock import LineClock
from sofa_otel.exporters.read.strace_lines import Line, Lines
from sofa_otel.exporters.read.strace_names import CallNames
from sofa_otel.exporters.read.strace_processes import Processes
from sofa_otel.exporters.read.strace_scan import PAD, PADDING, Scan, text_word
from sofa_otel.exporters.read.strace_terminal import is_torn, mend

BLOCK: Final = 2 << 20
"""Measured: 1 MB is a tenth slower, 512 KB a quarter, 8 MB no faster."""

_LONGEST: Final = 64 << 20
_ROWS: Final = 65_536
_SUMMARY: Final = b"% time     seconds  usecs/call"
_SUMMARY_WORD: Final = text_word(_SUMMARY[:8])
_PREFIX: Final = (
    rb"(?:\[pid +\d+(?:<[^>\n]*>)?\] +|\d{1,7}(?:<[^>\n]*>)? +)?"
    rb"( *\d[\d:]*(?:\.\d+)? (?:\(\+ +\d+(?:\.\d+)?\) )?)?(?:\[[ 0-9a-f?]+\] )*"
)
_KNOWN: Final = re.compile(
    _PREFIX
    + rb"(?:[a-z_]\w*\(.*?(?:\) += |<unfinished \.\.\.>)|<\.\.\. \w+ resumed>|--- SIG[A-Z0-9_]+ |\+\+\+ (?:exited|killed) )"
)
_RECORD: Final = "record with strace -f -ttt -T -o FILE"


class StraceImporter:
    """strace text: any of ``-f -ff -t -tt -ttt -r -T -y -yy -Y -i -n -k -v -s -x -X -C``, to a file or to the terminal.

    Rows are ``SYSCALL``: ``bytes`` is what the call moved (for mmap and its kin the size mapped), ``peer`` its descriptor. A call
    that never returned has duration 0. Recordings with ``-t``, ``-tt`` or ``-r`` have their own clock.
    """

    name = "strace"

    def recognise(self, head: bytes, name: str) -> float:
        """By the share of lines among the first hundreds that strace could have printed."""
        if _SUMMARY in head[:400]:
            return 0.9
        lines = [line for line in head.splitlines()[:400] if line and not line.startswith((b" > ", b"strace: "))]
        found = [match for line in lines if (match := _KNOWN.match(line))]
        if not found:
            return 0.0
        timed = sum(match[1] is not None for match in found)
        share = len(found) / len(lines)
        return min(0.95, 0.3 + 0.65 * share) if timed else 0.25 * share + 0.1

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """See :class:`~sofa_otel.exporters.read.importer.Importer`.

        Raises:
            InputError: No call with a time is in it (a ``-c`` summary, or a recording without ``-ttt``).
        """
        _Reading(source, sink).run()


class _Reading:
    """One file being read."""

    def __init__(self, source: ByteSource, sink: ImportSink) -> None:
        self._source, self._sink = source, sink
        self._names = CallNames(sink.tables.symbols)
        self._calls = CallReader(self._names)
        self._clock = LineClock()
        self._processes = Processes(self._names, source.name)
        self._line = 0
        self._seq = 0
        self._rows = 0
        self._durations = False
        self._untimed = 0
        self._lost: dict[str, tuple[int, int]] = {}
        self._summary = False

    def run(self) -> None:
        for scan, complete in self._blocks():
            self._block(scan, complete)
        self._deliver(self._calls.rest())
        self._report()

    def _blocks(self) -> Iterator[tuple[Scan, bool]]:
        """Whole lines, and whether the last one had its newline."""
        rest: list[bytes] = []
        held = 0
        for chunk in self._source.chunks(BLOCK):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest.append(chunk)
                held += len(chunk)
                if held > _LONGEST:
                    self._lose("longer than 64 MB", 1, self._line + 1)
                    rest, held = [], 0
                continue
            scan = Scan(b"".join((PADDING, *rest, memoryview(chunk)[:cut], PADDING)))
            rest, held = [chunk[cut:]], len(chunk) - cut
            if is_torn(scan):
                text, begun = mend(scan.data[PAD:-PAD])
                rest = [begun, *rest]
                held += len(begun)
                scan = Scan(b"".join((PADDING, text, PADDING)))
            if (scan.first == _SUMMARY_WORD).any() and (at := scan.data.find(_SUMMARY)) >= 0:
                self._summary = True
                yield Scan(scan.data[: scan.data.rfind(b"\n", 0, at) + 1] + PADDING), True
                return
            yield scan, True
        if tail := b"".join(rest):
            yield Scan(PADDING + tail + b"\n" + PADDING), False

    def _block(self, scan: Scan, complete: bool) -> None:
        if not len(scan):
            return
        lines = Lines(scan, self._names)
        times, timed = self._clock.times(lines)
        if not complete and self._durations and lines.kind[-1] == Line.WHOLE and lines.duration[-1] < 0:
            lines.kind[-1] = Line.CUT
        self._durations = self._durations or bool((lines.duration >= 0).any())
        self._processes.learn(lines, timed)
        rows, ends = self._calls.read(lines, times, timed)
        self._processes.answers(lines, rows, ends)
        self._account(lines, timed, complete)
        self._deliver(rows)
        self._line += len(scan)

    def _account(self, lines: Lines, timed: NDArray[np.bool_], complete: bool) -> None:
        kind = lines.kind
        call = (kind != Line.OTHER) & (kind != Line.STACK)
        untimed = call & ~timed
        self._untimed += int(untimed.sum())
        for why, mask in (
            ("not strace's own, or damaged", (kind == Line.OTHER) | (untimed if self._clock.kind else untimed & False)),
            ("calls that are cut off", timed & (kind == Line.CUT)),
        ):
            found = np.flatnonzero(mask)
            if len(found):
                self._lose(why, len(found), self._line + int(found[0]) + 1)

    def _lose(self, why: str, count: int, line: int) -> None:
        known, first = self._lost.get(why, (0, line))
        self._lost[why] = known + count, first

    def _deliver(self, rows: NDArray[Any]) -> None:
        sink = self._sink
        self._rows += len(rows)
        for begin in range(0, len(rows), _ROWS):
            part = rows[begin : begin + _ROWS]
            header = BatchHeader(sink.job, sink.rank, sink.host, StraceImporter.name, self._clock.name, self._seq)
            self._seq += 1
            sink.events(
                EventBatch.build(
                    header,
                    sink.tables,
                    start_ns=part["start"],
                    duration_ns=part["duration"],
                    kind=Kind.SYSCALL,
                    subkind=part["subkind"],
                    name=self._names.symbol[part["call"]],
                    pid=self._processes.pids(part["tid"]),
                    tid=part["tid"],
                    peer=part["peer"],
                    bytes=part["bytes"],
                )
            )

    def _report(self) -> None:
        name = self._source.name
        damage = f" ({self._source.damage})" if self._source.damage else ""
        if not self._rows:
            if self._summary:
                raise InputError(f"{name}, line 1: only a summary of counts (strace -c), no calls with times", _RECORD)
            if self._untimed:
                raise InputError(f"{name}, line 1: {self._untimed} lines of strace without a time{damage}", _RECORD)
            raise InputError(f"{name}, line 1: no line of {max(self._line, 1)} is a system call{damage}", _RECORD)
        for why, (count, line) in self._lost.items():
            self._sink.warn(f"{name}, line {line}: {count} lines left out: {why}")
        if self._source.damage:
            self._sink.warn(f"{name}, byte {self._source.position}: the file ends early{damage}")
