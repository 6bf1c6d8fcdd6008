"""Folded stacks (py-spy ``--format raw``, flamegraph.pl): how often each stack was seen, and nothing of when.

So that no iteration is told from an order that means nothing, there is one row a stack, as long as all its samples together,
and a thread's rows stand in the order of the call tree: along them a program only moves forward, never round a loop.
"""

from __future__ import annotations

import re
from typing import Final

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import NO_PATH
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.lines import lines
from sofa_otel.exporters.read.pyspy_frames import MAIN, Owner, join_split, owner_of, symbol_of
from sofa_otel.exporters.read.sample_rows import SampleRows
from sofa_otel.exporters.read.source import ByteSource

PERIOD_NS: Final = 10_000_000
"""A sample of unknown rate: py-spy's own default."""

LINE: Final = re.compile(rb"^(.*?)[ \t]+(\d{1,18})(?:\.(\d{1,18}))?(?:[ \t]+\d{1,18}(?:\.\d{1,18})?)?[ \t\r]*$")


def read_folded(source: ByteSource, sink: ImportSink) -> None:
    """Deliver a row a stack.

    Raises:
        InputError: No line is a stack with a number.
    """
    table = _Table(sink)
    number = bad = first_bad = 0
    for number, line in lines(source):
        if not table.take(line):
            bad += 1
            first_bad = first_bad or number
    if not table.weights:
        raise InputError(
            f"{source.name}, line {first_bad or number}: no stack with a number in it", "name the format with --from"
        )
    table.deliver()
    if source.damage:
        sink.warn(f"{source.name}, line {number}: it ends early ({source.damage})")
    if bad:
        sink.warn(f"{source.name}, line {first_bad}: {bad} lines are no stacks and were left out")
    sink.warn(
        f"{source.name}: folded stacks have no order in time: swarms and their shares can be told, iterations cannot\n"
        "  → record with py-spy record --format chrometrace, or run the job with sofa run"
    )


class _Table:
    """Samples by thread and path."""

    def __init__(self, sink: ImportSink) -> None:
        self._sink = sink
        self._frames: dict[str, int] = {}
        self.weights: dict[tuple[Owner, int], int] = {}

    def take(self, line: bytes) -> bool:
        """Take a line; False when it is no stack."""
        if not line.strip() or line.startswith(b"#"):
            return True
        found = LINE.match(line)
        if found is None:
            return False
        weight = int(found[2]) * PERIOD_NS
        if found[3]:
            weight += int(found[3]) * PERIOD_NS // 10 ** len(found[3])
        parts = found[1].decode("utf-8", "replace").split(";")
        if parts[0].startswith(("process ", "thread (")):
            parts = join_split(parts)
        owner, begin = owner_of(parts)
        tables = self._sink.tables
        path = NO_PATH
        for part in parts[begin:]:
            if not part:
                continue
            symbol = self._frames.get(part)
            if symbol is None:
                symbol = self._frames[part] = tables.symbols.intern_symbol(symbol_of(part))
            path = tables.paths.intern(path, symbol)
        key = owner, path
        self.weights[key] = self.weights.get(key, 0) + weight
        return True

    def deliver(self) -> None:
        """Deliver all rows, each thread's from the beginning of time."""
        rows = SampleRows(self._sink, "pyspy")
        main = {owner.tid: owner.pid for owner, _ in self.weights if owner.name == MAIN}
        lone = next(iter(main), 0)
        keys = self._order()
        seen: dict[tuple[int, int], list[tuple[bytes, int, int]]] = {}
        for (owner, path), weight in self.weights.items():
            pid = owner.pid or lone
            seen.setdefault((pid, owner.tid or pid), []).append((keys[path], path, weight))
        for thread in sorted(seen):
            clock = 0
            for _, path, weight in sorted(seen[thread]):
                if path != NO_PATH:
                    rows.add(clock, weight, path, *thread)
                    clock += weight
        rows.flush()

    def _order(self) -> dict[int, bytes]:
        """A sort key of each path: frames from the root down, lines of one function ascending."""
        tables = self._sink.tables
        used = sorted(set(self._frames.values()), key=lambda symbol: tables.symbols[symbol])
        rank = {symbol: number.to_bytes(4, "big") for number, symbol in enumerate(used)}
        return {path: b"".join(rank[symbol] for symbol in tables.paths.frames(path)) for _, path in self.weights}
