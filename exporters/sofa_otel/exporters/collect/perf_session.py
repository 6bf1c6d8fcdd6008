"""The perf events on a process tree: attached to what is there, inherited by what it starts, steered by switching.

An event takes its filter once, so there are two sets of events: one without a filter, kept for the whole session, and one for
the filter of the day, opened when it is first asked for. Changing from wide to narrow and back is then a switch, and no thread
is missed. All sets write into rings owned by dummy events, two for each CPU: records of a ring have one size.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.exporters.collect.kernel_file import read_text
from sofa_otel.exporters.collect.perf_decode import ENTER, EXIT, decode
from sofa_otel.exporters.collect.perf_event import Event, Ring
from sofa_otel.exporters.collect.process_table import ProcessTree

_LARGEST: Final = (2 << 20, 1 << 20)
"""Bytes of a CPU's ring for entries, and for exits: what comes in a second at the rate guard's limit."""

_SPARE_FILES: Final = 256
"""Descriptors left for everything else."""


def online_cpus(root: str = "/") -> list[int]:
    """Numbers of the CPUs that are online."""
    out: list[int] = []
    for part in read_text(os.path.join(root, "sys/devices/system/cpu/online")).strip().split(","):
        low, _, high = part.partition("-")
        if low.isdecimal():
            out.extend(range(int(low), int(high or low) + 1))
    return out or list(range(os.cpu_count() or 1))


def ring_size(largest: int, cpus: int) -> int:
    """Bytes of each CPU's ring: a power of two from 64 KiB to ``largest``, together at most 16 times that if possible."""
    size = largest
    while size > 1 << 16 and size * cpus > 16 * largest:
        size //= 2
    return size


class EventSet:
    """Events of the same kind and filter on many threads.

    Args:
        config: Tracepoint id.
        expression: Filter, empty for none.
        owners: By CPU the event whose ring is written to.
    """

    def __init__(self, config: int, expression: str, owners: dict[int, Event]) -> None:
        self._config = config
        self._expression = expression
        self._owners = owners
        self._events: list[Event] = []
        self._tids: set[int] = set()
        self._on = False
        self.refused = 0

    def attach(self, tids: Iterable[int], spare: int) -> int:
        """Put events on threads that have none; returns how many were new. ``spare``: descriptors that may be used.

        Raises:
            OSError: The kernel refuses.
        """
        new = 0
        for tid in tids:
            if tid in self._tids:
                continue
            self._tids.add(tid)
            if len(self._events) + len(self._owners) > spare:
                self.refused += 1
                continue
            new += self._attach(tid)
        return new

    def _attach(self, tid: int) -> bool:
        for cpu, owner in self._owners.items():
            try:
                event = Event(self._config, tid, cpu)
            except OSError as error:
                if error.errno == errno.ESRCH:
                    return False  # the thread has gone meanwhile
                if error.errno == errno.ENODEV:
                    continue  # this CPU went offline
                raise
            self._events.append(event)
            event.output_to(owner)
            if self._expression:
                event.filter(self._expression)
            if self._on:
                event.enable()
        return True

    def switch(self, on: bool) -> None:
        """Switch all on or off, also what was inherited."""
        if on != self._on:
            self._on = on
            for event in self._events:
                event.enable(on)

    def close(self) -> None:
        """Drop all."""
        for event in self._events:
            event.close()
        self._events.clear()

    def __len__(self) -> int:
        return len(self._events)


class PerfSession:
    """Events and rings of one target; wide from the start.

    Args:
        enter_id, exit_id: Tracepoint ids.
        root: Prefix of ``/proc``.
        pid: Root of the tree.

    Raises:
        OSError: The kernel refuses events or memory.
    """

    def __init__(self, enter_id: int, exit_id: int, root: str, pid: int) -> None:
        self._enter_id = enter_id
        self._root = root
        self._pid = pid
        self._sets: list[EventSet] = []
        self._owners: tuple[dict[int, Event], dict[int, Event]] = ({}, {})
        self._rings: list[tuple[np.dtype[Any], Ring]] = []
        self._narrow: EventSet | None = None
        self._filter = ""
        try:
            cpus = online_cpus()
            for owners, largest, layout in zip(self._owners, _LARGEST, (ENTER, EXIT), strict=True):
                for cpu in cpus:
                    owners[cpu] = Event(0, 0, cpu)
                    self._rings.append((layout, Ring(owners[cpu], ring_size(largest, len(cpus)))))
            self._entries = EventSet(enter_id, "", self._owners[0])
            self._exits = EventSet(exit_id, "", self._owners[1])
            self._sets += [self._exits, self._entries]
            # Exits first: an exit without its entry is dropped, an entry without its exit looks like a call that never returns.
            self._exits.switch(True)
            self._entries.switch(True)
            self._attach_tree(self._sets, ())
        except BaseException:
            self.close()
            raise

    @property
    def refused(self) -> int:
        """Threads for which no descriptor was left."""
        return sum(one.refused for one in self._sets)

    def keep_all(self, *, exits: bool) -> None:
        """Record every call, with or without its exit."""
        self._exits.switch(exits)
        self._entries.switch(True)
        if self._narrow is not None:
            self._narrow.switch(False)

    def keep_only(self, expression: str, pids: Iterable[int] = ()) -> None:
        """Record entries for which the kernel finds ``expression`` true.

        Args:
            expression: Tracepoint filter.
            pids: Processes that are known to belong to the tree beside those that ``/proc`` shows below it.
        """
        if self._narrow is None or self._filter != expression:
            if self._narrow is not None:
                self._sets.remove(self._narrow)
                self._narrow.close()
            self._narrow, self._filter = EventSet(self._enter_id, expression, self._owners[0]), expression
            self._sets.append(self._narrow)
            self._attach_tree([self._narrow], pids)
        self._entries.switch(False)
        self._exits.switch(False)
        self._narrow.switch(True)

    def pause(self) -> None:
        """Record nothing."""
        for one in self._sets:
            one.switch(False)

    def fill(self, entered: int, left: int) -> float:
        """Upper bound of the share of a ring that so many entries and exits took: all of them on one CPU."""
        sizes = {layout.itemsize: ring.size for layout, ring in self._rings}
        return max(entered * ENTER.itemsize / sizes[ENTER.itemsize], left * EXIT.itemsize / sizes[EXIT.itemsize])

    def take(self) -> tuple[NDArray[Any], NDArray[Any], int]:
        """``(entries, exits, lost)`` since the last call, rings one after the other."""
        entered: list[NDArray[Any]] = []
        left: list[NDArray[Any]] = []
        lost = 0
        for layout, ring in self._rings:
            data = ring.take()
            if data:
                found = decode(data, layout)
                (entered if layout is ENTER else left).append(found.samples)
                lost += found.lost
        return (
            np.concatenate(entered) if entered else np.empty(0, ENTER),
            np.concatenate(left) if left else np.empty(0, EXIT),
            lost,
        )

    def close(self) -> None:
        """Drop every event and ring."""
        for _, ring in self._rings:
            ring.close()
        for one in self._sets:
            one.close()
        for owners in self._owners:
            for owner in owners.values():
                owner.close()
            owners.clear()
        self._rings.clear()
        self._sets.clear()

    def _attach_tree(self, sets: list[EventSet], pids: Iterable[int]) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        tree = ProcessTree(self._root, self._pid)
        try:
            for _ in range(5):  # until no thread was started by one that was not watched yet
                tree.discover()
                new = 0
                for pid in dict.fromkeys([*tree.members, *pids]):
                    try:
                        tids = [int(tid) for tid in os.listdir(os.path.join(self._root, "proc", str(pid), "task"))]
                    except OSError:
                        continue
                    for one in sets:
                        spare = soft - _SPARE_FILES - sum(len(other) for other in self._sets if other is not one)
                        new += one.attach(tids, spare)
                if not new:
                    break
        finally:
            tree.close()
