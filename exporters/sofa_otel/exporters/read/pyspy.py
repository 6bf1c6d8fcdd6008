"""Recordings of py-spy, and folded stacks of any tool: raw, speedscope JSON and Chrome trace JSON.

Only the Chrome trace has times that were measured. speedscope has an order, raw has neither.
"""

from __future__ import annotations

import re
from typing import Final

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.pyspy_chrome import read_chrome
from sofa_otel.exporters.read.pyspy_folded import LINE, read_folded
from sofa_otel.exporters.read.pyspy_speedscope import read_speedscope
from sofa_otel.exporters.read.source import ByteSource

_CATEGORY: Final = re.compile(rb'"cat"\s*:\s*"py-spy"')
_SPEEDSCOPE: Final = re.compile(rb'speedscope\.app/file-format-schema|"type"\s*:\s*"(?:sampled|evented)"\s*,\s*"name"')
_PLACED: Final = re.compile(rb"(?:^|;)[^;]+ \([^;()]+?(?::\d+)?\)(?=;|[ \t]+[\d.]+\s*$)")
_OTHERS: Final = re.compile(rb"^(?:P\d+;T|Process \d+;Thread |\d+ |\[pid)")
_BOM: Final = b"\xef\xbb\xbf"


class PySpyImporter:
    """``py-spy record --format raw``, ``speedscope`` or ``chrometrace``, with or without threads, processes, native frames."""

    name = "pyspy"

    def recognise(self, head: bytes, name: str) -> float:
        """JSON by py-spy's category or speedscope's schema; text by lines that end in a count."""
        text = head.removeprefix(_BOM).lstrip()
        if text[:1] in (b"[", b"{"):
            return 0.95 if _CATEGORY.search(head) or _SPEEDSCOPE.search(head) else 0.0
        if b"\0" in head:
            return 0.0
        lines = [line for line in text.split(b"\n")[:200] if line.strip() and not line.startswith(b"#")]
        if len(head) >= 1 << 16 and len(lines) > 1:
            lines.pop()
        folded = [line for line in lines if LINE.match(line) and not _OTHERS.match(line)]
        if len(folded) < 0.8 * len(lines) or not folded:
            return 0.0
        if sum(bool(_PLACED.search(line)) for line in folded) > 0.5 * len(folded):
            return 0.9
        return 0.4 if sum(b";" in line for line in folded) > 0.5 * len(folded) else 0.0

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """Deliver everything; see :class:`Importer`.

        Raises:
            InputError: There is nothing in it that can be read.
        """
        head = source.head()
        text = head.removeprefix(_BOM).lstrip()
        if not text:
            raise InputError(f"{source.name}, byte 0: there is nothing in it {source.damage}".rstrip(), "record again")
        if text[:1] not in (b"[", b"{"):
            read_folded(source, sink)
        elif text[:1] == b"{" and not _CATEGORY.search(head):
            read_speedscope(source, sink)
        else:
            read_chrome(source, sink)
