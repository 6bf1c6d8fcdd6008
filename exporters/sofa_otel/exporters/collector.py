"""The one small protocol every source implements.

A collector is polled by its host from a single thread: no collector owns a thread, so back-pressure, cost and shutdown have one
place. ``probe`` must not change anything and must not need what it looks for.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.records import CaptureRequest
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a collector can work here.

    Attributes:
        usable: It can be started now.
        provides: What it would collect, in a few words.
        missing: What is missing (empty when usable).
        remedy: How to get it.
        privilege: Privilege it uses (``none``, ``CAP_PERFMON`` …).
    """

    usable: bool
    provides: str
    missing: str = ""
    remedy: str = ""
    privilege: str = "none"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched.

    Attributes:
        pid: Root of the process tree.
        job, rank, host: Header fields of every batch; a source that learns a process's own rank uses that instead.
        run_dir: Where sockets and spill files may be made; short (Unix socket paths end at 100 bytes).
        root: Prefix of ``/proc`` and ``/sys`` (``/`` on a live system, a recorded tree in tests).
        hooks: Whether the probe may hook libraries.
        cgroup: Control group to watch, empty for the root process's own.
    """

    pid: int
    job: str
    rank: int
    host: str
    run_dir: str
    root: str = "/"
    hooks: bool = True
    cgroup: str = ""


class CollectorStats(msgspec.Struct, frozen=True, kw_only=True):
    """A collector's own account: events delivered, events lost, CPU seconds used here and inside the target."""

    events: int = 0
    dropped: int = 0
    cpu_s: float = 0.0
    target_cpu_s: float = 0.0


class Sink(Protocol):
    """Where collectors deliver. Tables belong to the sink, so that all sources share ids."""

    tables: Tables
    series: SeriesTable

    def events(self, batch: EventBatch) -> None:
        """Take a batch of events."""

    def resources(self, batch: ResourceBatch) -> None:
        """Take a batch of resource points."""

    def warn(self, message: str) -> None:
        """Tell the user once about something that is missing or was lost, with the remedy."""


class Collector(Protocol):
    """A source of events or resource points.

    Attributes:
        name: Name used by ``--collect`` and the entry point.
        interval_s: Seconds between polls.
    """

    name: str
    interval_s: float

    def probe(self) -> Capability:
        """What it could do here. Never raises, starts nothing."""

    def environment(self) -> dict[str, str]:
        """Variables to set for a target that is about to be started (``PYTHONPATH`` …); ``{}`` for most."""

    def start(self, target: Target, sink: Sink) -> None:
        """Begin. The target may not exist yet (``pid`` 0) for sources that wait for it.

        Raises:
            RequirementError: Something needed is missing after all.
        """

    def poll(self, now_ns: int) -> None:
        """Deliver what has come since the last poll. Returns quickly; never blocks."""

    def request(self, request: CaptureRequest) -> None:
        """Change what is captured."""

    def stats(self) -> CollectorStats:
        """Own account so far."""

    def stop(self) -> None:
        """Deliver the rest and release everything. Idempotent."""
