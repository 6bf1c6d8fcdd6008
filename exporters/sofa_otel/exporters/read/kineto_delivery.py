"""Rows on their way to the sink: when the file has said whose they are and what its clock counts from.

PyTorch writes ``distributedInfo`` and ``baseTimeNanoseconds`` before the events, behind them, or not at all. As long as they may
still come, rows are kept in a temporary file, 48 bytes each; memory stays flat, and no row leaves under a wrong rank or time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import WorkFailedError
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.kineto_numbers import LIMIT
from sofa_otel.exporters.read.kineto_rows import ROW

BATCH: Final = 65_536
ABSOLUTE_NS: Final = 946_684_800 * 10**9
"""Times from here on (the year 2000) count from 1970 by themselves: 30 years of uptime, or of a base's age, do not occur."""


class Delivery:
    """Sends rows to a sink in batches.

    Args:
        sink: Where to.
        source: Name of the stream.
        known: Members of the document, filled while it is read.

    Attributes:
        rows: Rows taken.
        last_ns: Latest end, in the file's clock.
    """

    def __init__(self, sink: ImportSink, source: str, known: Mapping[str, Any]) -> None:
        self._sink, self._source, self._known = sink, source, known
        self._spool: BinaryIO | None = None
        self._header: BatchHeader | None = None
        self._seq = 0
        self._unix = False
        self.rows = 0
        self.last_ns = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Take rows, ``ROW``.

        Raises:
            WorkFailedError: There is no room for the temporary file.
        """
        if not len(rows):
            return
        if not self.rows:
            self._unix = bool(np.median(rows["start_ns"]) >= ABSOLUTE_NS)
        self.rows += len(rows)
        self.last_ns = max(self.last_ns, int((rows["start_ns"] + rows["duration_ns"]).max()))
        if self._header is None and self._spool is None and self._rank() is not None and (self._unix or self._base()):
            self._header = self._make_header()
        if self._header is not None:
            self._send(rows)
            return
        try:
            if self._spool is None:
                self._spool = tempfile.TemporaryFile(prefix="sofa-import-")  # noqa: SIM115
            self._spool.write(rows.tobytes())
        except OSError as error:
            raise WorkFailedError(
                f"no room to keep rows until the end of the trace is known ({error.strerror})",
                f"set TMPDIR to a folder with {self.rows * ROW.itemsize / 1e6:.0f} MB and more",
            ) from error

    def finish(self) -> None:
        """Send what was kept back."""
        if self._spool is None:
            return
        self._header = self._make_header()
        for rows in self._kept(self._spool):
            self._send(rows)
        self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    @staticmethod
    def _kept(spool: BinaryIO) -> Iterator[NDArray[Any]]:
        spool.seek(0)
        while data := spool.read(BATCH * ROW.itemsize):
            yield np.frombuffer(data, ROW)

    def _send(self, rows: NDArray[Any]) -> None:
        assert self._header is not None
        base = self._base()
        for begin in range(0, len(rows), BATCH):
            part = rows[begin : begin + BATCH]
            start = part["start_ns"]
            if base:
                start = np.where(start >= ABSOLUTE_NS, start, start + base)
            columns = {key: part[key] for key in ROW.names or () if key != "start_ns"}
            if not columns["link"].any():
                del columns["link"]
            h = self._header
            header = BatchHeader(h.job, h.rank, h.host, h.source, h.clock, self._seq)
            self._seq += 1
            self._sink.events(EventBatch.build(header, self._sink.tables, start_ns=start, **columns))

    def _make_header(self) -> BatchHeader:
        sink, known = self._sink, self._known
        rank = self._rank()
        host = known.get("host_name") or known.get("hostName")
        return BatchHeader(
            sink.job,
            sink.rank if rank is None else rank,
            host if isinstance(host, str) else sink.host,
            self._source,
            "unix" if self._unix or self._base() else "own",
        )

    def _rank(self) -> int | None:
        info = self._known.get("distributedInfo")
        return _whole(info.get("rank"), 1 << 31) if isinstance(info, dict) else None

    def _base(self) -> int:
        return _whole(self._known.get("baseTimeNanoseconds"), LIMIT) or 0


def _whole(value: object, end: int) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < end else None
