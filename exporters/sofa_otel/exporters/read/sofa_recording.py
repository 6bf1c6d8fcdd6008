"""Our own recordings (``sofa run --record``) from any source: a pipe, a compressed file, one that is damaged in the middle."""

from __future__ import annotations

from typing import Final

from sofa_otel.core.codec import decode_batch
from sofa_otel.core.errors import InputError
from sofa_otel.core.recording import FRAME, LARGEST, MAGIC, decode_points
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.source import ByteSource

_MOST_ROWS: Final = 65_536


class Recording:
    """Reads one recording.

    Attributes:
        delivered: Batches delivered. bad: damaged frames, the first of them at byte ``first_bad``. cut_off: the end is missing.
    """

    def __init__(self, source: ByteSource, sink: ImportSink) -> None:
        self._source, self._sink = source, sink
        self._rest = b""
        self.delivered = self.bad = self.first_bad = 0
        self.cut_off = False

    def read(self) -> None:
        """Every frame that is whole."""
        if self._take(len(MAGIC)) != MAGIC:
            raise InputError(f"{self._source.name}, byte 0: not a recording", "give a file made with `sofa run --record`")
        at = len(MAGIC)
        while head := self._take(FRAME.size):
            if len(head) < FRAME.size:
                self.cut_off = True
                return
            kind, length = FRAME.unpack(head)
            if length > LARGEST or kind not in (b"E", b"R"):
                # Frames hold compressed bytes, in which no border can be found again.
                self._lost(at)
                return
            payload = self._take(length)
            if len(payload) < length:
                self.cut_off = True
                return
            try:
                self._deliver(kind, payload, at)
            except InputError:
                self._lost(at)
            at += FRAME.size + length

    def _deliver(self, kind: bytes, payload: bytes, at: int) -> None:
        if kind == b"R":
            self._sink.resources(decode_points(payload, self._sink.series, f"{self._source.name}, byte {at}"))
        else:
            batch = decode_batch(payload, self._sink.tables)
            for begin in range(0, len(batch), _MOST_ROWS):
                self._sink.events(batch.take(slice(begin, begin + _MOST_ROWS)) if len(batch) > _MOST_ROWS else batch)
        self.delivered += 1

    def _lost(self, at: int) -> None:
        if not self.bad:
            self.first_bad = at
        self.bad += 1

    def _take(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size and (more := self._source.read()):
            parts.append(more)
            have += len(more)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]
