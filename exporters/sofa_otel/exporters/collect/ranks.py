"""Which rank of the job a process is, read from outside: launchers tell it in the environment a process was started with.

``fork`` copies that environment, so loader workers have their trainer's rank. A rank that a program sets itself after it
started (``torch.multiprocessing.spawn``) cannot be seen here; only its in-process probe knows it.
"""

from __future__ import annotations

import os
from typing import Final

from sofa_otel.core.identity import detect_identity
from sofa_otel.exporters.collect.kernel_file import KernelFile

_YOUNG_NS: Final = 2_000_000_000
"""A process seen for less than this may still be about to exec: its environment is read again."""


def rank_in(environ: bytes) -> int:
    """Rank in a NUL-separated environment, -1 when it holds none for sure."""
    pairs = (item.partition(b"=") for item in environ.split(b"\0") if b"=" in item)
    rank = detect_identity({key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}).rank
    return -1 if rank is None else rank


class Ranks:
    """Ranks of processes, remembered.

    Args:
        root: Prefix of ``/proc``.
        default: Rank of a process that tells none.
    """

    def __init__(self, root: str, default: int) -> None:
        self._root = root
        self._default = default
        self._known: dict[int, tuple[int, int]] = {}

    def of(self, pid: int, now_ns: int) -> int:
        """Rank of ``pid``. Costs a file read for a process that is new."""
        found = self._known.get(pid)
        if found is not None and (now_ns < found[1]):
            return found[0]
        rank = rank_in(KernelFile(os.path.join(self._root, "proc", str(pid), "environ"), keep=False).read())
        if rank < 0:
            rank = found[0] if found is not None else self._default
        settled = found is not None and now_ns >= found[1]
        self._known[pid] = (rank, 1 << 62 if settled else now_ns + _YOUNG_NS)
        return rank

    @property
    def pids(self) -> list[int]:
        """Every process that was asked about and not forgotten."""
        return list(self._known)

    def forget(self, pid: int) -> None:
        """The process has gone."""
        self._known.pop(pid, None)
