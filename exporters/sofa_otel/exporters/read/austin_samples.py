"""What austin's text and binary formats share: threads, frames, and how time is told from the length of each sample.

austin looks at the threads of a process one after the other and writes beside each how long it is since it looked last. A
process's clock therefore moves on by that length once a round, and a round ends where a thread comes again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.symbols import NO_PATH, Symbol
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.pyspy_frames import placed_symbol
from sofa_otel.exporters.read.sample_rows import LATEST_NS, SampleRows

_MAP: Final = re.compile(r"^([0-9a-fA-F]{1,16})-([0-9a-fA-F]{1,16}) (.+)$")
_NATIVE: Final = re.compile(r"^native@(?:0x)?([0-9a-fA-F]{1,16})$")
_UNITS: Final = {"": 1, "us": 1, "ms": 1_000, "s": 1_000_000}
_NUMBER: Final = re.compile(r"^(\d{1,12})(us|ms|s)?$")
_DEFAULT_US: Final = 100
COLLECTING: Final = Symbol("[GC]", "gc")


class _Clock:
    """Time of one process: ``now`` in microseconds, and the threads of the round."""

    __slots__ = ("last", "now", "seen")

    def __init__(self, now: int) -> None:
        self.now, self.last = now, -1
        self.seen: set[int] = set()


class Samples:
    """Samples in, rows out.

    Args:
        sink: Where they go.

    Attributes:
        metadata: What the file says about itself.
    """

    def __init__(self, sink: ImportSink) -> None:
        self._sink = sink
        self._rows = SampleRows(sink, "austin")
        self._clocks: dict[int, _Clock] = {}
        self._latest = 0
        self._starts: list[int] = []
        self._maps: list[tuple[int, int, str]] = []
        self._bases: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self.samples = 0

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._rows.rows

    def note(self, key: str, value: str) -> None:
        """Take a line of metadata."""
        if key != "map":
            if len(self.metadata) < 1000:
                self.metadata[key] = value
            return
        found = _MAP.match(value)
        if found is None or len(self._maps) > 100_000:
            return
        start, path = int(found[1], 16), found[3]
        at = bisect_right(self._starts, start)
        self._starts.insert(at, start)
        self._maps.insert(at, (start, int(found[2], 16), path))
        self._bases[path] = min(self._bases.get(path, start), start)

    def symbol(self, file: str, function: str, line: int) -> Symbol:
        """The symbol of a frame; a native one gets its object from the mappings that austin wrote."""
        if file == "kernel" and not line:
            return Symbol(function, "[kernel.kallsyms]")
        native = _NATIVE.match(file)
        if native is None:
            return placed_symbol(function, file, line if 0 <= line < 1 << 31 else 0)
        address = int(native[1], 16)
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._maps[at][1]:
            return Symbol(function or "[unknown]", "[native]")
        path = self._maps[at][2]
        return Symbol(function or "[unknown]", path.rsplit("/", 1)[-1], (address - self._bases[path]) & ((1 << 62) - 1))

    def add(self, pid: int, tid: int, path: int, time: int | None, memory: int = 0, idle: bool | None = None) -> None:
        """Take a sample.

        Args:
            pid, tid: Whose it is.
            path: Call path, 0 for a thread outside Python.
            time: Microseconds since austin looked last; None where only memory was measured.
            memory: Bytes by which the process has grown.
            idle: Whether the thread was.
        """
        self.samples += 1
        if time is None:
            # Only what changed the memory was written: there is an order, but no time.
            at = self.samples * self._interval_us()
            self._rows.add(at * 1000, 0, path, pid, tid, kind=Kind.MEMORY, size=memory)
            return
        clock = self._clocks.get(pid)
        if clock is None:
            clock = self._clocks[pid] = _Clock(max(self._latest - time, 0))
        if tid in clock.seen or time != clock.last:
            clock.seen.clear()
            clock.last = time
            clock.now = min(clock.now + time, LATEST_NS // 1000)
            self._latest = max(self._latest, clock.now)
        clock.seen.add(tid)
        if path == NO_PATH:
            return
        on_cpu = idle is False or (idle is None and self.metadata.get("mode") == "cpu")
        wait = Wait.ON_CPU if on_cpu else Wait.OTHER if idle else Wait.UNKNOWN
        self._rows.add(clock.now * 1000, time * 1000, path, pid, tid, wait=wait, size=memory)

    def finish(self, name: str) -> None:
        """Deliver the rest, and say what such a file cannot tell."""
        self._rows.flush()
        mode = self.metadata.get("mode", "")
        if mode == "cpu":
            self._sink.warn(f"{name}: idle time is not in it (austin --sleepless or --cpu): durations are time on the CPU")
        elif mode == "memory":
            self._sink.warn(f"{name}: it holds memory, not time (austin --memory): iterations cannot be told from it")

    def _interval_us(self) -> int:
        found = _NUMBER.match(self.metadata.get("interval", ""))
        return int(found[1]) * _UNITS[found[2] or ""] if found else _DEFAULT_US
