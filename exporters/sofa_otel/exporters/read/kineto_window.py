"""Window: the piece of a file that is being looked at."""

from __future__ import annotations

from typing import Final

from sofa_otel.exporters.read.source import ByteSource

CHUNK: Final = 1 << 19
"""Bytes decoded together. Measured: 256 KB to 1 MB are equal, 4 MB is slower (its objects leave the cache)."""


class Window:
    """Bytes of a source from ``pos`` on; what stands before may be gone after :meth:`more`.

    Attributes:
        data: Bytes at hand.
        pos: Place in ``data``.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._base = 0
        self._ended = False
        self.data = b""
        self.pos = 0

    @property
    def at(self) -> int:
        """Offset of ``pos`` in the file."""
        return self._base + self.pos

    def more(self) -> bool:
        """Read on, at least as much as is at hand, so that growing costs no more than reading; False at the end."""
        if self._ended:
            return False
        found = self._source.read(max(CHUNK, len(self.data) - self.pos))
        self._ended = not found
        if found:
            self._base += self.pos
            self.data, self.pos = self.data[self.pos :] + found, 0
        return bool(found)
