"""Text of ``perf script`` (any ``-F``) and of ``perf trace``, line by line.

Nothing of a line is fixed but that its time stands behind the thread and before the event. Heads, events and frames repeat: each
is taken apart once and looked up afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.perf_data_header import Recording
from sofa_otel.exporters.read.perf_data_rows import Output
from sofa_otel.exporters.read.perf_script_frames import Frames, parse_frame
from sofa_otel.exporters.read.perf_script_head import Head, Heads, Threads, read_comment
from sofa_otel.exporters.read.perf_script_points import TextPoints, Where
from sofa_otel.exporters.read.perf_script_samples import SampleRows, base_of, is_tracepoint, main_event
from sofa_otel.exporters.read.perf_trace import SUMMARY, TraceRows
from sofa_otel.exporters.read.perf_trace import TIME as TRACE_TIME
from sofa_otel.exporters.read.source import ByteSource

TIME: Final = re.compile(rb"(?:^|(?<=[\s\]]))(\d{1,10})\.(\d{6}(?:\d{3})?): *")
_CHUNK: Final = 1 << 20
_LONGEST: Final = 16 << 20
_DIGITS: Final = (6, 9)
_SECONDS: Final = 11
_LAST_NS: Final = 9_000_000_000 * 10**9
_FLUSH: Final = 32_768
_MOST_HEADS: Final = 65_536
_RECORD: Final = "write it with perf script -F +pid --ns (or give perf.data itself)"


class Event(NamedTuple):
    """What is done with the lines of an event.

    Attributes:
        reader: Reads the fields of a tracepoint.
        sample: Its lines are samples of the CPU.
        in_time: Their periods are nanoseconds.
    """

    reader: Callable[[Where, bytes], bool] | None = None
    sample: bool = False
    in_time: bool = False


class _Sample(NamedTuple):
    """A sample whose frames follow."""

    time: int
    head: Head
    period: int


class ScriptReader:
    """One text being read.

    Args:
        source: The text.
        sink: Where rows go.
    """

    def __init__(self, source: ByteSource, sink: ImportSink) -> None:
        self._source = source
        self._sink = sink
        self._recording = Recording()
        self._output = Output(self._recording, sink, "perf")
        self._points = TextPoints(self._output)
        self._traced = TraceRows(self._output)
        self._threads = Threads()
        self._samples = SampleRows(self._output, self._threads)
        self._frames = Frames(sink.tables)
        self._heads = Heads()
        self._known_heads: dict[bytes, Head | None] = {}
        self._main = main_event(source.head())
        self._events: dict[bytes, Event] = {}
        self._sample: _Sample | None = None
        self._chain: list[bytes] = []
        self._last_ns = 0
        self._line = 0
        self._lost: dict[str, tuple[int, int]] = {}
        self._unused: dict[str, int] = {}
        self._summary = False

    def run(self) -> None:
        """Read it all.

        Raises:
            InputError: There is no event in it that can be used.
        """
        for lines in self._blocks():
            self._take(lines)
            self._line += len(lines)
        self._end_sample()
        self._samples.flush()
        self._points.finish(self._last_ns)
        self._traced.finish()
        self._report()

    def _blocks(self) -> Iterator[list[bytes]]:
        rest = b""
        for chunk in self._source.chunks(_CHUNK):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if len(rest) > _LONGEST:
                self._lose("longer than 16 MB", self._line + len(lines))
                rest = b""
            yield lines
        if rest:
            yield [rest]

    def _take(self, lines: list[bytes]) -> None:
        chain = self._chain
        search, heads, events = TIME.search, self._known_heads, self._events
        for number, line in enumerate(lines):
            if line[:1] == b"\t":
                chain.append(line)
                continue
            if not line:
                self._end_sample()
                chain = self._chain
                continue
            # The quick way to the time: up to the first ": ", back to the space before it. A command may hold one too.
            text, _, rest = line.partition(b": ")
            text, _, clock = text.rpartition(b" ")
            second, _, fraction = clock.partition(b".")
            if not (second.isdigit() and fraction.isdigit() and len(fraction) in _DIGITS and len(second) < _SECONDS):
                found = None if b"): " in line[:40] and TRACE_TIME.match(line) else search(line)
                if found is None:
                    if self._sample is not None and line[:1] == b" " and parse_frame(line):
                        chain.append(line)  # tabs that became spaces on the way
                    else:
                        self._other(line, number)
                    continue
                text, second, fraction, rest = line[: found.start()], found[1], found[2], line[found.end() :]
            if self._sample is not None or chain:
                self._end_sample()
                chain = self._chain
            head = heads.get(text)
            if head is None and (head := self._new_head(text)) is None:
                self._lose("their beginning is not perf's", number)
                continue
            time = int(second) * 1_000_000_000 + int(fraction) * (1000 if len(fraction) == 6 else 1)
            if time > _LAST_NS:
                self._lose("their time cannot be", number)
                continue
            self._last_ns = time
            rest = told = rest.lstrip()
            first, _, tail = rest.partition(b" ")
            period = 0
            if first.isdigit():
                period = int(first[:18])
                rest = tail.lstrip()
                first, _, tail = rest.partition(b" ")
            if first[-1:] == b":":
                event = events.get(first)
                if event is None:
                    event = self._new_event(first)
                rest = tail
            else:
                event = self._nameless(rest)
            if event.reader is not None:
                if not event.reader((time, head.pid or self._threads.pid(head.tid), head.tid, head.cpu), rest):
                    self._lose("their fields cannot be read", number)
            elif event.sample:
                self._sample = _Sample(time, head, period if event.in_time else 0)
                if rest and not rest.isspace():
                    chain.append(rest)
            elif rest.startswith(b"PERF_RECORD_") or first.startswith(b"PERF_RECORD_"):
                self._task(time, told)
            if not number & 1023:
                self._flush_full()
        self._flush_full()

    def _end_sample(self) -> None:
        sample, chain = self._sample, self._chain
        self._sample, self._chain = None, []
        if sample is None:
            return
        path, name = self._frames.chain(chain) if chain else (0, 0)
        time, (pid, tid, cpu), period = sample
        if self._frames.process and not pid and chain:
            self._threads.learn(tid, self._frames.process)
        if tid:  # the idle task is nobody's
            self._samples.add(time, pid, tid, cpu, path, name, period)

    def _new_head(self, text: bytes) -> Head | None:
        head = self._heads.parse(text)
        if head is not None:
            if len(self._known_heads) >= _MOST_HEADS:
                self._known_heads.clear()
            self._known_heads[text] = head
            if head.pid:
                self._threads.learn(head.tid, head.pid)
        return head

    def _new_event(self, first: bytes) -> Event:
        name = first[:-1].decode("utf-8", "replace")
        if first.startswith(b"PERF_RECORD_"):
            return Event()
        reader = self._points.reader(name)
        if reader is not None:
            event = Event(reader)
        elif is_tracepoint(name) or name.startswith("dummy") or (self._main and base_of(name) != self._main):
            event = Event()
            self._unused.setdefault(name[:80], self._line)
        else:
            event = Event(sample=True, in_time=base_of(name) in {"cpu-clock", "task-clock"})
        if len(self._events) < _MOST_HEADS:
            self._events[first] = event
        return event

    def _nameless(self, rest: bytes) -> Event:
        """What a line without an event's name must be."""
        if rest.startswith(b"NR "):
            return Event(self._points.reader("raw_syscalls:sys_enter" if b" (" in rest else "raw_syscalls:sys_exit"))
        return Event() if rest.startswith(b"PERF_RECORD_") else Event(sample=True)

    def _task(self, time: int, text: bytes) -> None:
        if gone := self._threads.task(text):
            self._points.gone(time, gone)

    def _other(self, line: bytes, number: int) -> None:
        if TRACE_TIME.match(line):
            if not self._traced.take(line):
                self._lose("their fields cannot be read", number)
        elif line[:1] == b"#":
            if read_comment(line, self._recording) == "arch":
                self._points.learn_arch(self._recording.arch)
        elif line.startswith(SUMMARY):
            self._summary = True
        elif not line.startswith(b"    ") and not line.isspace() and not self._summary:
            self._lose("not perf's own, or damaged", number)

    def _lose(self, why: str, number: int) -> None:
        count, first = self._lost.get(why, (0, self._line + number + 1))
        self._lost[why] = count + 1, first

    def _flush_full(self) -> None:
        if self._samples.size >= _FLUSH:
            self._samples.flush()
        if self._points.size >= _FLUSH:
            self._points.flush()
        if self._traced.size >= _FLUSH:
            self._traced.flush()

    def _report(self) -> None:
        name = self._source.name
        damage = f" ({self._source.damage})" if self._source.damage else ""
        if not self._output.rows:
            if self._summary:
                raise InputError(
                    f"{name}, line 1: only a summary of counts (perf trace -s), no calls with times", "leave -s away"
                )
            if self._unused:
                events = ", ".join(sorted(self._unused)[:5])
                raise InputError(f"{name}, line 1: no event in it tells what a thread does (there are {events})", _RECORD)
            raise InputError(f"{name}, line 1: no event with a time in {self._line} lines{damage}", _RECORD)
        for why, (count, line) in self._lost.items():
            self._sink.warn(f"{name}, line {line}: {count} lines left out: {why}")
        if self._source.damage:
            self._sink.warn(f"{name}, byte {self._source.position}: the file ends early{damage}")
