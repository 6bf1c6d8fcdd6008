"""Recordings of austin: text of all versions, and MOJO (1 to 4)."""

from __future__ import annotations

from typing import Final

from sofa_otel.exporters.read.austin_mojo import MAGIC, read_mojo
from sofa_otel.exporters.read.austin_text import NOTE, read_text, split_sample
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.source import ByteSource

_NEWEST: Final = 9


class AustinImporter:
    """``austin`` and ``austinp`` in any mode (wall, cpu, memory, full), with or without ``--binary``."""

    name = "austin"

    def recognise(self, head: bytes, name: str) -> float:
        """MOJO by its magic number; text by lines that begin with process and thread."""
        if head.startswith(MAGIC):
            return 0.95 if len(head) > len(MAGIC) and 1 <= head[3] <= _NEWEST else 0.0
        if b"\0" in head:
            return 0.0
        lines = [line for line in head.split(b"\n")[:200] if line.strip()]
        if len(head) >= 1 << 16 and len(lines) > 1:
            lines.pop()
        if lines and lines[0].startswith(b"# austin: "):
            return 0.98
        notes = sum(bool(NOTE.match(line)) for line in lines)
        samples = sum(split_sample(line) is not None for line in lines)
        return 0.95 if samples and samples + notes > 0.8 * len(lines) else 0.0

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """Deliver everything; see :class:`Importer`.

        Raises:
            InputError: There is nothing in it that can be read.
        """
        if source.head(len(MAGIC)) == MAGIC:
            read_mojo(source, sink)
        else:
            read_text(source, sink)
