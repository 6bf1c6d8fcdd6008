"""Recording: everything a session's sources delivered, in order, in one file that can be replayed.

A bug report, a demonstration and a test of the processors need the same thing: the exact input. Frames are appended as they come;
a file that ends in the middle of one is read up to there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np
import zstandard

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.codec import decode_batch, encode_batch
from sofa_otel.core.errors import InputError
from sofa_otel.core.series import ResourceBatch, Series, SeriesTable
from sofa_otel.core.symbols import Tables

MAGIC: Final = b"SOFAREC1"
FRAME: Final = struct.Struct("<cI")
"""Before each payload: ``E`` (a batch of events) or ``R`` (resource points), and its length."""
LARGEST: Final = 64 << 20


class _Points(msgspec.Struct, frozen=True, array_like=True):
    header: BatchHeader
    series: list[Series]
    time_ns: bytes
    row: bytes
    value: bytes


class RecordingWriter:
    """Appends batches to a file.

    Args:
        path: File to make; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._file.write(MAGIC)

    def events(self, batch: EventBatch) -> None:
        """Append a batch of events."""
        self._frame(b"E", encode_batch(batch, level=9))

    def resources(self, batch: ResourceBatch) -> None:
        """Append a batch of resource points."""
        used, row = np.unique(batch.series, return_inverse=True)
        points = _Points(
            batch.header,
            [batch.table[int(series)] for series in used],
            batch.time_ns.tobytes(),
            row.astype(np.uint32).tobytes(),
            batch.value.tobytes(),
        )
        self._frame(b"R", zstandard.compress(msgspec.msgpack.encode(points), 9))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _frame(self, kind: bytes, payload: bytes) -> None:
        self._file.write(FRAME.pack(kind, len(payload)) + payload)


def read_recording(path: Path, tables: Tables, series: SeriesTable) -> Iterator[EventBatch | ResourceBatch]:
    """Batches of a recording, in the order of their delivery.

    Args:
        path: The file.
        tables, series: Tables of the batches.

    Raises:
        InputError: The file is no recording or is damaged; the message names the byte.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{path.name}, byte 0: not a recording", "give a file made with `sofa run --record`")
        while True:
            at = file.tell()
            head = file.read(FRAME.size)
            if len(head) < FRAME.size:
                return
            kind, length = FRAME.unpack(head)
            if length > LARGEST or kind not in (b"E", b"R"):
                raise InputError(f"{path.name}, byte {at}: damaged frame", "record again; what stands before it is whole")
            payload = file.read(length)
            if len(payload) < length:
                return
            yield decode_batch(payload, tables) if kind == b"E" else decode_points(payload, series, f"{path.name}, byte {at}")


def decode_points(payload: bytes, table: SeriesTable, where: str) -> ResourceBatch:
    """The points of a payload.

    Args:
        payload: As it stands in the file.
        table: Table of the batch.
        where: File and byte, for messages.

    Raises:
        InputError: It is damaged.
    """
    try:
        if zstandard.frame_content_size(payload) > LARGEST:
            raise ValueError(f"claims more than {LARGEST} bytes")
        data = zstandard.ZstdDecompressor().decompress(payload, max_output_size=LARGEST)
        points = msgspec.msgpack.decode(data, type=_Points)
        ids = np.array([table.intern_series(one) for one in points.series] or [0], np.uint32)
        row = np.frombuffer(points.row, np.uint32)
        return ResourceBatch(
            points.header, table, np.frombuffer(points.time_ns, np.int64), ids[row], np.frombuffer(points.value, np.float64)
        )
    except (zstandard.ZstdError, msgspec.DecodeError, ValueError, IndexError) as error:
        raise InputError(f"{where}: damaged points: {error}", "record again") from error
