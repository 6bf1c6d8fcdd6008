"""Reading the same small kernel file again and again, cheaply.

An open, a read and a close of a ``/proc`` file cost about three times a ``pread`` on a descriptor that stays open. It is also
bound to *its* process: after a pid was used again, it fails instead of telling about a stranger.
"""

from __future__ import annotations

import os
from typing import Final

_WHOLE: Final = 3000
"""A first read below this is the whole file: a sequence file hands out a page at a time and stops early only when the next record
does not fit, and no record of the files read here is longer than a thousand bytes."""

_BLOCK: Final = 1 << 16


class KernelFile:
    """A file of ``/proc`` or ``/sys`` that is read from the start each time.

    Args:
        path: Absolute path. Opened at the first read; a missing file is not an error, it just has no content.
        keep: Keep the descriptor open between reads.
    """

    __slots__ = ("_fd", "_keep", "path")

    def __init__(self, path: str, *, keep: bool = True) -> None:
        self.path = path
        self._keep = keep
        self._fd = -1

    def read(self) -> bytes:
        """The whole content now; empty when the file is missing, unreadable or its process has gone."""
        fd = self._fd
        if fd < 0:
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return b""
            if self._keep:
                self._fd = fd
        try:
            data = os.pread(fd, _BLOCK, 0)
            if len(data) >= _WHOLE:
                while more := os.pread(fd, _BLOCK, len(data)):
                    data += more
        except OSError:
            self.close()
            data = b""
        if not self._keep:
            os.close(fd)
        return data

    def close(self) -> None:
        """Close the descriptor, if one is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_text(path: str) -> str:
    """Content of a file that is read once; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def count_cpus(cpu_list: str) -> int:
    """Number of CPUs in a kernel CPU list such as ``0-3,8,10-11``; 0 when it is empty or not a list."""
    total = 0
    for part in cpu_list.strip().split(","):
        low, _, high = part.partition("-")
        if not low.isdecimal() or (high and not high.isdecimal()):
            return 0
        total += int(high or low) - int(low) + 1
    return total
