"""Which rank a process belongs to, when one command starts several.

A probe knows its own rank. Other sources see process ids only; for them a process's environment says it, else its parent's. A
launcher (torchrun, mpirun) is nobody's: rank -1, which every later stage leaves out.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.identity import detect_identity, is_launcher
from sofa_otel.core.series import ResourceBatch

NOBODY: Final = -1
_ANCESTORS: Final = 6


class Ranks:
    """Resolves process ids to ranks and splits batches of several processes accordingly.

    Args:
        default: Rank of processes that say nothing about theirs.
        root: Prefix of ``/proc``.
    """

    def __init__(self, default: int, root: str = "/") -> None:
        self._default = default
        self._proc = f"{root.rstrip('/')}/proc"
        self._told: dict[int, int] = {}
        self._asked: dict[int, int | None] = {}
        self._launchers: set[int] = set()
        self.world_size = 1

    @property
    def known(self) -> set[int]:
        """Ranks that a process has claimed."""
        return {rank for rank in (*self._told.values(), *self._asked.values()) if rank is not None and rank >= 0}

    def tell(self, pid: int, rank: int) -> None:
        """A probe in ``pid`` has said its rank."""
        self._told[pid] = rank

    def of(self, pid: int) -> int:
        """Rank of ``pid``, :data:`NOBODY` for launchers."""
        if pid in self._told:
            return self._told[pid]
        if pid not in self._asked:
            self._asked[pid] = self._ask(pid)
        found = self._asked[pid]
        return self._default if found is None else found

    def route_events(self, batch: EventBatch) -> list[EventBatch]:
        """``batch``, split by rank when its processes belong to several."""
        return [batch.take(rows).with_header(_ranked(batch.header, rank)) for rank, rows in self._split(batch.pid)]

    def route_resources(self, batch: ResourceBatch) -> list[ResourceBatch]:
        """``batch``, split by rank; series without a process stay with the batch's rank."""
        owner = np.array([self._owner(batch, int(s)) for s in range(len(batch.table))] or [0])
        ranks = owner[batch.series] if len(batch) else np.empty(0, int)
        if not len(ranks) or (ranks == batch.header.rank).all():
            return [batch]
        out = []
        for rank in np.unique(ranks):
            rows = ranks == rank
            header = _ranked(batch.header, int(rank))
            out.append(ResourceBatch(header, batch.table, batch.time_ns[rows], batch.series[rows], batch.value[rows]))
        return out

    def _owner(self, batch: ResourceBatch, series: int) -> int:
        pid = batch.table[series].attribute(names.PROCESS_PID)
        return self.of(int(pid)) if pid.isdigit() else batch.header.rank

    def _split(self, pids: NDArray[np.uint32]) -> list[tuple[int, NDArray[np.bool_]]]:
        unique, inverse = np.unique(pids, return_inverse=True)
        ranks = np.array([self.of(int(pid)) for pid in unique], np.int64)[inverse]
        return [(int(rank), ranks == rank) for rank in np.unique(ranks)]

    def _ask(self, pid: int) -> int | None:
        """The first of ``pid`` and its ancestors that says something."""
        for _ in range(_ANCESTORS):
            if pid in self._told:
                return self._told[pid]
            environ, argv, parent = self._look(pid)
            if argv and is_launcher(argv):
                return NOBODY
            identity = detect_identity(environ)
            if identity.rank is not None:
                self.world_size = max(self.world_size, identity.world_size or 1)
                return identity.rank
            if parent <= 1:
                return None
            pid = parent
        return None

    def _look(self, pid: int) -> tuple[dict[str, str], list[str], int]:
        try:
            with open(f"{self._proc}/{pid}/environ", "rb") as file:
                pairs = (item.partition(b"=") for item in file.read().split(b"\0") if item)
                environ = {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}
            with open(f"{self._proc}/{pid}/cmdline", "rb") as file:
                argv = [word.decode(errors="replace") for word in file.read().split(b"\0")[:-1]]
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return {}, [], 0
        return environ, argv, parent


def _ranked(header: BatchHeader, rank: int) -> BatchHeader:
    return msgspec.structs.replace(header, rank=rank)
