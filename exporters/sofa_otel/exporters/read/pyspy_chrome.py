"""py-spy's Chrome trace: begin and end of every frame at the microsecond of the sample that saw it.

Samples that saw no change are not in it; they are put back at the rate that the changes show, at least at py-spy's default.
py-spy knows threads by their ``pthread_t`` alone, which a forked child shares with its parent: their stacks then replace each
other with every sample, and a stretch that was ended so goes on to the thread's next one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NamedTuple

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import NO_PATH
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.json_stream import BrokenJson, JsonStream
from sofa_otel.exporters.read.pyspy_frames import owner_of, placed_symbol
from sofa_otel.exporters.read.sample_rows import SampleRows
from sofa_otel.exporters.read.source import ByteSource

_LEARN: Final = 4096
"""Runs from which the rate is told."""

_FEW: Final = 16
_FASTEST_NS: Final = 500_000
_SLOWEST_NS: Final = 10_000_000
"""py-spy's own default rate."""

_PATIENCE_NS: Final = 1_000_000_000
_LATEST_US: Final = 1 << 52
_MOST_SAMPLES: Final = 100_000
_THREAD_ROOT: Final = "_bootstrap"
"""Where the stack of every thread begins that ``threading`` has started."""

_DEEPEST: Final = 4096


class _Run(NamedTuple):
    """A stretch of time in which a thread's stack was seen unchanged."""

    start: int
    end: int
    path: int
    pid: int
    tid: int


class _Stack:
    """What is open under one ``pthread_t``: name, symbol (0 where it only says whose stack it is) and path of each frame."""

    __slots__ = ("frames", "last", "pid", "since")

    def __init__(self) -> None:
        self.frames: list[tuple[str, int, int]] = []
        self.since = -1
        self.pid = 0
        self.last: _Run | None = None


def read_chrome(source: ByteSource, sink: ImportSink) -> None:
    """Deliver a row a sample.

    Raises:
        InputError: There is no event of py-spy's in it.
    """
    stream = JsonStream(source)
    reader = _Reader(sink)
    broken = False
    try:
        if stream.peek() == "{":
            for key in stream.members():
                if key == "traceEvents":
                    reader.take(stream)
                else:
                    stream.skip()
        else:
            reader.take(stream)
    except BrokenJson:
        broken = True
    reader.finish()
    if not reader.events:
        raise InputError(f"{source.name}, byte {stream.position}: no event of py-spy can be read", "record again")
    if broken or source.damage:
        sink.warn(f"{source.name}, event {reader.events}: it is cut off or damaged there {source.damage}".rstrip())
    lost = stream.skipped + reader.bad
    if lost:
        sink.warn(f"{source.name}, event {reader.first_bad or reader.events}: {lost} damaged events were left out")


class _Reader:
    def __init__(self, sink: ImportSink) -> None:
        self._sink = sink
        self._rows = SampleRows(sink, "pyspy")
        self._stacks: dict[int, _Stack] = {}
        self._replaced: dict[tuple[int, int], _Run] = {}
        self._symbols: dict[tuple[str, str, int], int] = {}
        self._early: list[_Run] | None = []
        self._main: dict[int, int] = {}
        self._period = _SLOWEST_NS
        self.events = self.bad = self.first_bad = 0

    def take(self, stream: JsonStream) -> None:
        """Read the events of an array."""
        for event in stream.elements():
            if not self._event(event):
                self.bad += 1
                self.first_bad = self.first_bad or self.events + self.bad

    def finish(self) -> None:
        """Deliver the rest."""
        for stack in self._stacks.values():
            if stack.last is not None:
                self._emit(stack.last)
        for run in self._replaced.values():
            self._emit(run)
        self._learn()
        self._rows.flush()

    def _event(self, event: Any) -> bool:
        if not isinstance(event, dict):
            return False
        name, phase, when = event.get("name"), event.get("ph"), event.get("ts")
        pid, tid, place = event.get("pid", 0), event.get("tid", 0), event.get("args")
        if phase == "M":
            return True
        if not isinstance(name, str) or phase not in ("B", "E") or not isinstance(when, (int, float)):
            return False
        if type(pid) is not int or type(tid) is not int or not 0 <= when < _LATEST_US:
            return False
        when = int(when)
        stack = self._stacks.setdefault(tid, _Stack())
        if stack.frames and when > stack.since >= 0:
            self._run(stack, tid, stack.since * 1000, when * 1000)
        stack.since, stack.pid = when, pid
        self.events += 1
        if phase == "B":
            symbol = self._symbol(name, place if isinstance(place, dict) else {})
            path = stack.frames[-1][2] if stack.frames else NO_PATH
            stack.frames.append((name, symbol, self._sink.tables.paths.intern(path, symbol) if symbol else path))
            if len(stack.frames) < _DEEPEST:
                return True
            stack.frames.clear()
            return False
        # The end of a frame whose begin was lost ends nothing; one that is further out ends what is inside it, too.
        for depth in range(len(stack.frames) - 1, -1, -1):
            if stack.frames[depth][0] == name:
                del stack.frames[depth:]
                return True
        return False

    def _symbol(self, name: str, place: dict[str, Any]) -> int:
        file, line = place.get("filename"), place.get("line")
        file, line = file if isinstance(file, str) else "", line if isinstance(line, int) else 0
        if not file and owner_of([name])[1]:
            return 0
        symbol = self._symbols.get((name, file, line))
        if symbol is None:
            found = placed_symbol(name, file, line if 0 <= line < 1 << 31 else 0)
            symbol = self._symbols[name, file, line] = self._sink.tables.symbols.intern_symbol(found)
        return symbol

    def _run(self, stack: _Stack, tid: int, start: int, end: int) -> None:
        path = stack.frames[-1][2]
        if path == NO_PATH:
            return
        first = next(index for index, (_, symbol, _) in enumerate(stack.frames) if symbol)
        owner, _ = owner_of([name for name, _, _ in stack.frames[:first]])
        root = stack.frames[first][0]
        pid = owner.pid or stack.pid
        if not owner.tid and not root.endswith(_THREAD_ROOT) and self._main.setdefault(pid, tid) == tid:
            tid = pid
        run = _Run(start, end, path, pid, owner.tid or tid)
        before, stack.last = stack.last, run
        if before is None:
            return
        if before.pid == pid:
            self._emit(before)
            return
        self._replaced[before.pid, before.tid] = before
        mine = self._replaced.pop((run.pid, run.tid), None)
        if mine is not None:
            self._emit(mine._replace(end=max(mine.end, min(start, mine.start + _PATIENCE_NS))))

    def _emit(self, run: _Run) -> None:
        if self._early is None:
            self._samples(run)
            return
        self._early.append(run)
        if len(self._early) >= _LEARN:
            self._learn()

    def _learn(self) -> None:
        runs, self._early = self._early, None
        if runs is None:
            return
        by_thread: dict[tuple[int, int], list[int]] = {}
        for run in runs:
            by_thread.setdefault((run.pid, run.tid), []).append(run.end - run.start)
        # Samples come at random, so only the mean says something: of a thread that changes with every sample it is the rate's.
        means = [sum(gaps) // len(gaps) for gaps in by_thread.values() if len(gaps) >= _FEW]
        self._period = min(max(min(means, default=_SLOWEST_NS), _FASTEST_NS), _SLOWEST_NS)
        for run in runs:
            self._samples(run)

    def _samples(self, run: _Run) -> None:
        length = run.end - run.start
        count = max(1, round(length / self._period))
        if count > _MOST_SAMPLES:
            count = 1
        borders = [run.start + length * index // count for index in range(count + 1)]
        for at, until in pairwise(borders):
            self._rows.add(at, until - at, run.path, run.pid, run.tid)
