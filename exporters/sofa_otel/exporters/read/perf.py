"""PerfImporter: what perf has recorded, as ``perf.data`` or as the text of ``perf script`` and ``perf trace``."""

from __future__ import annotations

import re
from typing import Final

from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.perf_script import TIME, ScriptReader
from sofa_otel.exporters.read.perf_trace import SUMMARY
from sofa_otel.exporters.read.perf_trace import TIME as TRACE_TIME
from sofa_otel.exporters.read.source import ByteSource

_MAGICS: Final = (b"PERFILE2", b"2ELIFREP", b"PERFFILE")
_FRAME: Final = re.compile(rb"\t *[0-9a-f]{1,16} \S")


class PerfImporter:
    """Samples of the CPU, system calls, scheduling and disk requests that perf has seen.

    Text has perf's own clock, unless ``perf script --header`` tells the offset to the epoch. Where a text names threads only,
    processes are learnt from task events and from the names of generated code; else a thread counts as a process.
    """

    name = "perf"

    def recognise(self, head: bytes, name: str) -> float:
        """By the magic number, or by the share of lines that perf could have printed."""
        if head[:8] in _MAGICS:
            return 1.0
        lines = [line for line in head.split(b"\n")[:400] if line and line[:1] != b"#"]
        known = sum(bool(_FRAME.match(line) or TRACE_TIME.match(line) or TIME.search(line[:200])) for line in lines)
        if head.lstrip().startswith(SUMMARY.lstrip()):
            return 0.8
        comment = 0.3 if head.startswith(b"# ========\n# captured on") else 0.0
        share = known / len(lines) if lines else 0.0
        return min(0.9, comment + (0.2 + 0.7 * share if share > 0.3 else 0.0))

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """See :class:`~sofa_otel.exporters.read.importer.Importer`.

        Raises:
            InputError: No event in it can be used.
        """
        if source.head(8) in _MAGICS:
            from sofa_otel.exporters.read.perf_data import read_perf_data  # text does not need it

            read_perf_data(source, sink)
            return
        ScriptReader(source, sink).run()
