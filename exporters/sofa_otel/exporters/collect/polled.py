"""What every collector of resource points shares: the account of its own cost, the points of a poll, and shutdown.

A concrete collector says which files it opens and which points it puts; everything the host relies on (cost, sequence numbers,
``stop`` being idempotent, an error in one source never ending a run) is here once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import numpy as np

from sofa_otel.core.batch import BatchHeader
from sofa_otel.core.names import Metric
from sofa_otel.core.records import CaptureRequest
from sofa_otel.core.series import ResourceBatch, Series
from sofa_otel.exporters.collect.kernel_file import KernelFile
from sofa_otel.exporters.collector import Capability, CollectorStats, Sink, Target


class PolledCollector:
    """Base of the collectors that read counters and gauges at each poll.

    Subclasses set ``name``, ``interval_s``, ``provides`` and implement :meth:`probe`, :meth:`_open` and :meth:`_read`.

    Args:
        root: Prefix of ``/proc`` and ``/sys`` for :meth:`probe`; :meth:`start` takes the target's.
    """

    name = ""
    interval_s = 1.0
    provides = ""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._target: Target | None = None
        self._sink: Sink | None = None
        self._points: dict[int, tuple[list[int], list[float]]] = {}
        self._rank = 0
        self._files: list[KernelFile] = []
        self._seq = 0
        self._events = 0
        self._dropped = 0
        self._cpu_s = 0.0
        self._off = False

    def probe(self) -> Capability:
        """What it could do here."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Nothing is needed inside the target."""
        return {}

    def start(self, target: Target, sink: Sink) -> None:
        """Open what the target's kernel offers."""
        began = time.thread_time()
        self.stop()
        self._target, self._sink, self.root = target, sink, target.root
        self._open(target)
        self._cpu_s += time.thread_time() - began

    def poll(self, now_ns: int) -> None:
        """Read once and deliver one batch for each rank, all points at ``now_ns``."""
        target, sink = self._target, self._sink
        if target is None or sink is None or self._off:
            return
        began = time.thread_time()
        self._rank = target.rank
        try:
            self._read(now_ns)
        except (OSError, ValueError, IndexError, KeyError) as error:
            self._dropped += 1
            sink.warn(f"{self.name}: a reading was left out: {type(error).__name__}: {error}")
        points, self._points = self._points, {}
        for rank, (ids, values) in points.items():
            header = BatchHeader(job=target.job, rank=rank, host=target.host, source=self.name, seq=self._seq)
            sink.resources(ResourceBatch(header, sink.series, np.full(len(ids), now_ns, np.int64), ids, values))
            self._seq += 1
            self._events += len(ids)
        self._cpu_s += time.thread_time() - began

    def request(self, request: CaptureRequest) -> None:
        """``off`` pauses, any other mode resumes."""
        self._off = request.mode == "off"

    def stats(self) -> CollectorStats:
        """Points delivered, readings lost, CPU seconds used."""
        return CollectorStats(events=self._events, dropped=self._dropped, cpu_s=self._cpu_s)

    def stop(self) -> None:
        """Close every file."""
        for file in self._files:
            file.close()
        self._files.clear()
        self._close()
        self._sink = None

    def _open(self, target: Target) -> None:
        raise NotImplementedError

    def _read(self, now_ns: int) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        """Release what :meth:`_open` made beside files."""

    def _file(self, *parts: str, keep: bool = True) -> KernelFile:
        """A kernel file below the root; closed by :meth:`stop`."""
        file = KernelFile(os.path.join(self.root, *parts), keep=keep)
        self._files.append(file)
        return file

    def _series(self, metric: Metric, attributes: Mapping[str, str] | None = None) -> int:
        """Id of a series in the sink's table. Attributes by their dotted names."""
        assert self._sink is not None
        pairs = tuple(sorted((attributes or {}).items()))
        return self._sink.series.intern_series(Series(metric.name, metric.unit, metric.instrument.value, pairs))

    def _put(self, series: int, value: float) -> None:
        """Add a point for the rank in ``self._rank`` (the target's own unless :meth:`_read` changes it)."""
        found = self._points.get(self._rank)
        if found is None:
            found = self._points[self._rank] = ([], [])
        found[0].append(series)
        found[1].append(value)
