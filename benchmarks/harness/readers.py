"""Reading files in a fresh process, with a sink that only counts: what importers cost."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class CountingSink:
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        from sofa_otel.core.series import SeriesTable
        from sofa_otel.core.symbols import Tables

        self.tables, self.series = Tables(), SeriesTable()
        self.job, self.rank, self.host = "bench", 0, "host"
        self.rows = 0

    def events(self, batch: Any) -> None:
        self.rows += len(batch)

    def resources(self, batch: Any) -> None:
        pass

    def warn(self, message: str) -> None:
        print(message)


def rows_of(importer: Any, path: Path) -> int:
    """Rows that an importer makes of a file, read as ``sofa import`` does."""
    from sofa_otel.exporters.read.source import ByteSource

    sink = CountingSink()
    gc.disable()
    with ByteSource(path) as source:
        importer.read(source, sink)
    return sink.rows


def measure(function: Callable[[Path], int], path: Path, warm: Callable[[Path], int] | None = None) -> dict[str, float]:
    """``rows``, ``cpu_s`` (of children too) and ``rss_mb`` of ``function(path)`` in a fresh process; ``warm`` runs before it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(function, path, warm, there))
    child.start()
    out: dict[str, float] = here.recv()
    child.join()
    return out


def _child(function: Callable[[Path], int], path: Path, warm: Callable[[Path], int] | None, pipe: Any) -> None:
    if warm is not None:
        warm(path)
    before = time.process_time()
    rows = function(path)
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() - before + others.ru_utime + others.ru_stime
    pipe.send({"rows": rows, "cpu_s": spent, "rss_mb": max(_peak_mb(), others.ru_maxrss / 1024)})


def _peak_mb() -> float:
    """Of this process alone: the maximum that getrusage tells begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
