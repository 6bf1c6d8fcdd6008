"""austin's text: ``P<pid>;T<thread>;<file>:<function>:<line>;… <metrics>``, a line a sample; the first versions' text, too."""

from __future__ import annotations

import re
from typing import Final

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import NO_PATH, Symbol
from sofa_otel.exporters.read.austin_samples import COLLECTING, Samples
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.lines import lines
from sofa_otel.exporters.read.source import ByteSource

_OWNER: Final = re.compile(
    rb"(?:P(?:rocess )?(\d{1,10});)?(?:I\d{1,6};)?T(?:hread )?(?:\d{1,6}:)?(0x[0-9a-fA-F]{1,16}|[0-9a-fA-F]{1,20})(?=[; ])"
)
_METRIC: Final = re.compile(rb"-?\d{1,18}(?:,-?\d{1,18}){0,2}$")
NOTE: Final = re.compile(rb"^# ([a-z_ -]{1,40}): (.*?)\r?$")
_LINE: Final = re.compile(r"^L(\d{1,9})$")
_OLD: Final = re.compile(r"^(.*) \((.*?)(?::(\d{1,9}))?\)$")
_MOST_PATHS: Final = 200_000


def read_text(source: ByteSource, sink: ImportSink) -> None:
    """Deliver a row a sample.

    Raises:
        InputError: No line is a sample.
    """
    reader = _Reader(sink)
    number = bad = first_bad = 0
    for number, line in lines(source):
        if not reader.take(line):
            bad += 1
            first_bad = first_bad or number
    if not reader.samples.samples:
        raise InputError(f"{source.name}, line {first_bad or number}: no sample of austin's in it", "name the format with --from")
    reader.samples.finish(source.name)
    if source.damage:
        sink.warn(f"{source.name}, line {number}: it ends early ({source.damage})")
    if bad:
        sink.warn(f"{source.name}, line {first_bad}: {bad} lines are no samples and were left out")


def split_sample(line: bytes) -> tuple[int, bytes, bytes, list[int]] | None:
    """``(process, thread, stack, metrics)`` of a line; None when it is no sample."""
    owner = _OWNER.match(line)
    if owner is None:
        return None
    stack = line[owner.end() :].rstrip()
    metrics: list[int] = []
    while len(metrics) < 3:
        before, space, last = stack.rpartition(b" ")
        if not space or not _METRIC.match(last):
            break
        metrics[:0] = map(int, last.split(b","))
        stack = before
    return (int(owner[1] or 0), owner[2], stack, metrics) if metrics else None


class _Reader:
    def __init__(self, sink: ImportSink) -> None:
        self.samples = Samples(sink)
        self._tables = sink.tables
        self._frames: dict[str, int] = {}
        self._paths: dict[bytes, int] = {}

    def take(self, line: bytes) -> bool:
        """Take a line; False when it is neither sample nor metadata."""
        note = NOTE.match(line)
        if note is not None:
            self.samples.note(note[1].decode(), note[2].decode("utf-8", "replace"))
            return True
        if not line.strip():
            return True
        parts = split_sample(line)
        if parts is None:
            return False
        pid, thread, stack, metrics = parts
        try:
            tid = int(thread, 0) if thread.startswith(b"0x") else int(thread)
        except ValueError:
            tid = int(thread, 16)
        path = self._paths.get(stack)
        if path is None:
            if len(self._paths) > _MOST_PATHS:
                self._paths.clear()
            path = self._paths[stack] = self._path(stack.decode("utf-8", "replace").split(";")[1:])
        return self._add(pid, tid, path, metrics)

    def _add(self, pid: int, tid: int, path: int, metrics: list[int]) -> bool:
        if self.samples.metadata.get("mode") == "memory":
            self.samples.add(pid, tid, path, None, metrics[0])
            return True
        if metrics[0] < 0:
            return False
        if len(metrics) == 1:
            self.samples.add(pid, tid, path, metrics[0])
        elif len(metrics) == 3 and metrics[1] in (0, 1):
            self.samples.add(pid, tid, path, metrics[0], metrics[2], bool(metrics[1]))
        else:  # before version 3: time, memory gained, memory lost
            self.samples.add(pid, tid, path, metrics[0], sum(metrics[1:]))
        return True

    def _path(self, parts: list[str]) -> int:
        path = NO_PATH
        index = 0
        while index < len(parts):
            part = parts[index]
            index += 1
            if index < len(parts) and _LINE.match(parts[index]):
                part += f":{parts[index][1:]}"  # a frame and its line, in two
                index += 1
            if not part or part == ":INVALID:":
                continue
            symbol = self._frames.get(part)
            if symbol is None:
                symbol = self._frames[part] = self._tables.symbols.intern_symbol(self._symbol(part))
            path = self._tables.paths.intern(path, symbol)
        return path

    def _symbol(self, text: str) -> Symbol:
        if text == ":GC:":
            return COLLECTING
        file, _, rest = text.partition(":") if text.startswith("native@") else ("", "", "")
        if file:
            function, _, line = rest.rpartition(":")
            return self.samples.symbol(file, function or rest, int(line) if line.isdecimal() and len(line) < 10 else 0)
        parts = text.rsplit(":", 2)
        if len(parts) == 3 and parts[2].isdecimal() and len(parts[2]) < 10 and "(" not in parts[0]:
            return self.samples.symbol(parts[0], parts[1], int(parts[2]))
        old = _OLD.match(text if text.endswith(")") else f"{text.rpartition(':')[0][:-1]}:{text.rpartition(':')[2]})")
        if old is not None:
            return self.samples.symbol(old[2], old[1], int(old[3] or 0))
        return Symbol(text)
