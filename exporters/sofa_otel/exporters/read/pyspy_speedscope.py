"""speedscope JSON: samples in order, each with its nominal length; frames are told behind the samples that mention them.

Samples therefore go to a scratch file as numbers of stacks until the frames are known; only different stacks stay in memory.
Times were never measured: rows follow each other at the lengths that the file gives.
"""

from __future__ import annotations

import re
import tempfile
from array import array
from typing import Any, Final, NamedTuple

import numpy as np

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import NO_PATH
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.json_stream import BrokenJson, JsonStream
from sofa_otel.exporters.read.pyspy_frames import MAIN, number_of, owner_of, placed_symbol
from sofa_otel.exporters.read.sample_rows import LATEST_NS, SampleRows
from sofa_otel.exporters.read.source import ByteSource

_UNITS: Final = {"seconds": 1e9, "milliseconds": 1e6, "microseconds": 1e3, "nanoseconds": 1.0, "none": 1e7}
"""Nanoseconds of a unit; plain counts are samples of 10 ms."""

_NAMED: Final = re.compile(r'^(?:Process (\d{1,10}) )?Thread (\d{1,20}|0x[0-9a-fA-F]{1,16}) "(.*)"$', re.S)
_BLOCK: Final = 1 << 16


class _Column:
    """Numbers in a scratch file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="sofa-")  # noqa: SIM115 - closed by close()
        self._block = array("q")
        self.length = 0

    def add(self, value: int) -> None:
        self._block.append(value)
        self.length += 1
        if len(self._block) >= _BLOCK:
            self._block.tofile(self._file)
            self._block = array("q")

    def rewind(self) -> None:
        self._block.tofile(self._file)
        self._block = array("q")
        self._file.seek(0)

    def read(self, count: int) -> list[int]:
        values: list[int] = np.frombuffer(self._file.read(8 * count), np.int64).tolist()
        return values

    def close(self) -> None:
        self._file.close()


class _Profile(NamedTuple):
    """A thread: how many samples and weights of the columns are its own, where its time begins."""

    name: str
    unit: str
    start: float
    samples: int
    weights: int
    evented: bool


def read_speedscope(source: ByteSource, sink: ImportSink) -> None:
    """Deliver a row a sample.

    Raises:
        InputError: There is no profile of time in it.
    """
    stream = JsonStream(source)
    reader = _Reader()
    broken = False
    try:
        for key in stream.members():
            if key == "profiles":
                reader.profiles_of(stream)
            elif key == "shared":
                reader.shared(stream)
            else:
                stream.skip()
    except BrokenJson:
        broken = True
    try:
        rows = reader.deliver(sink)
    finally:
        reader.close()
    name = source.name
    if not rows:
        what = "the frames stand behind where it ends" if reader.stacks and not reader.frames else "no profile of time"
        raise InputError(f"{name}, byte {stream.position}: {what}", "record again")
    if broken or source.damage:
        sink.warn(f"{name}, byte {stream.position}: it is cut off or damaged there {source.damage}".rstrip())
    lost = stream.skipped + reader.bad
    if lost:
        sink.warn(f"{name}, byte {max(stream.first_skipped, 0)}: {lost} damaged values were left out")
    if reader.other_units:
        sink.warn(f"{name}: profiles in {', '.join(sorted(reader.other_units))} say nothing about time and were left out")
    sink.warn(
        f"{name}: speedscope files have nominal times: what was idle is missing unless it was recorded with --idle\n"
        "  → --format chrometrace has measured times"
    )


class _Reader:
    def __init__(self) -> None:
        self.frames: list[tuple[str, str, int]] = []
        self.stacks: dict[tuple[int, ...], int] = {}
        self.profiles: list[_Profile] = []
        self.samples, self.weights = _Column(), _Column()
        self.other_units: set[str] = set()
        self.bad = 0

    def close(self) -> None:
        self.samples.close()
        self.weights.close()

    # -- reading ---------------------------------------------------------------------------------------------------------------
    def profiles_of(self, stream: JsonStream) -> None:
        """Read the array of profiles."""
        if stream.peek() != "[":
            raise BrokenJson
        stream.enter()
        while stream.another():
            self._profile(stream)

    def shared(self, stream: JsonStream) -> None:
        """Read the frames."""
        for key in stream.members():
            if key != "frames":
                stream.skip()
                continue
            for frame in stream.elements():
                fields = frame if isinstance(frame, dict) else {}
                name, file, line = fields.get("name"), fields.get("file"), fields.get("line")
                self.frames.append(
                    (
                        name if isinstance(name, str) else "[unknown]",
                        file if isinstance(file, str) else "",
                        line if type(line) is int and 0 <= line < 1 << 31 else 0,
                    )
                )

    def _profile(self, stream: JsonStream) -> None:
        plain: dict[str, Any] = {}
        samples, weights = self.samples.length, self.weights.length
        evented = False
        try:
            for key in stream.members():
                if key == "samples":
                    for stack in stream.elements():
                        self.samples.add(self._stack(stack))
                elif key == "weights":
                    for weight in stream.elements():
                        self.weights.add(_bits(weight))
                elif key == "events":
                    evented = True
                    self._events(stream)
                elif stream.peek() in "[{":
                    stream.skip()
                else:
                    plain[key] = stream.value()
        finally:
            name, unit, start = plain.get("name"), plain.get("unit", "none"), plain.get("startValue")
            self.profiles.append(
                _Profile(
                    name if isinstance(name, str) else "",
                    unit if isinstance(unit, str) else "none",
                    float(start) if isinstance(start, (int, float)) and abs(start) < 1e15 else 0.0,
                    self.samples.length - samples,
                    self.weights.length - weights,
                    evented,
                )
            )

    def _events(self, stream: JsonStream) -> None:
        """Begins and ends of frames: a row a stretch between two of them, its weight the instant of its end."""
        stack: list[int] = []
        for event in stream.elements():
            kind, at, frame = (event.get(key) for key in ("type", "at", "frame")) if isinstance(event, dict) else (None,) * 3
            if kind not in ("O", "C") or type(frame) is not int or type(at) not in (int, float):
                self.bad += 1
                continue
            self.samples.add(self._stack(stack))
            self.weights.add(_bits(at))
            if kind == "O" and len(stack) < 4096:
                stack.append(frame)
            elif frame in stack:
                del stack[len(stack) - 1 - stack[::-1].index(frame) :]

    def _stack(self, stack: Any) -> int:
        if not isinstance(stack, list) or not all(type(frame) is int for frame in stack):
            self.bad += 1
            return 0
        return self.stacks.setdefault(tuple(stack), len(self.stacks) + 1)

    # -- delivering ------------------------------------------------------------------------------------------------------------
    def deliver(self, sink: ImportSink) -> int:
        """Deliver all profiles; the number of rows."""
        rows = SampleRows(sink, "pyspy")
        self.samples.rewind()
        self.weights.rewind()
        owners = [self._owner(profile.name) for profile in self.profiles]
        main = next((tid for pid, tid, name in owners if name == MAIN and not pid), 0)
        main = main or min((tid for pid, tid, _ in owners if tid and not pid), default=0)
        paths = self._paths(sink)
        for profile, (pid, tid, _) in zip(self.profiles, owners, strict=True):
            pid = pid or main
            self._deliver(rows, profile, paths, pid, tid or pid)
        rows.flush()
        return rows.rows

    def _deliver(self, rows: SampleRows, profile: _Profile, paths: list[int], pid: int, tid: int) -> None:
        scale = _UNITS.get(profile.unit)
        if scale is None:
            self.other_units.add(profile.unit)
        clock = max(round(profile.start * (scale or 1.0)), 0)
        ends = clock
        left, weights = profile.samples, profile.weights
        while left > 0:
            count = min(left, _BLOCK)
            stacks = self.samples.read(count)
            lengths = self.weights.read(min(count, weights))
            left -= count
            weights -= len(lengths)
            for index, stack in enumerate(stacks):
                value = _value(lengths[index]) if index < len(lengths) else 1e7 / (scale or 1.0)
                length = round(value * (scale or 0.0)) if 0 <= value * (scale or 0.0) < LATEST_NS else 0
                if profile.evented:
                    length, ends = max(length - ends, 0), max(length, ends)
                if scale is not None and paths[stack] != NO_PATH and length:
                    rows.add(clock, length, paths[stack], pid, tid)
                clock = min(clock + length, LATEST_NS)
        self.weights.read(max(weights, 0))

    def _owner(self, name: str) -> tuple[int, int, str]:
        found = _NAMED.match(name)
        return (int(found[1] or 0), number_of(found[2]), found[3]) if found else (0, 0, "")

    def _paths(self, sink: ImportSink) -> list[int]:
        """Call path by number of the stack."""
        symbols: list[int] = []
        for name, file, line in self.frames:
            mere_owner = not file and owner_of([name])[1]
            symbols.append(0 if mere_owner else sink.tables.symbols.intern_symbol(placed_symbol(name, file, line)))
        out = [NO_PATH]
        for stack in self.stacks:
            path = NO_PATH
            for frame in stack:
                if 0 <= frame < len(symbols) and symbols[frame]:
                    path = sink.tables.paths.intern(path, symbols[frame])
            out.append(path)
        return out


def _bits(value: Any) -> int:
    """A float as the integer of the same bits, so that one kind of column holds both."""
    number = float(value) if type(value) in (int, float) and abs(value) < 1e300 else 0.0
    return int(np.float64(number).view(np.int64))


def _value(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
