"""Reads a file with an importer into one list of batches, and damages files."""

from __future__ import annotations

import random
import time
from pathlib import Path

from sofa_otel.core.batch import BatchHeader, EventBatch, concat
from sofa_otel.core.errors import InputError
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.read.importer import Importer
from sofa_otel.exporters.read.source import ByteSource

DATA = Path(__file__).resolve().parents[1] / "data" / "importers"


class Gathered:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.tables, self.series = Tables(), SeriesTable()
        self.job, self.rank, self.host = "job", 0, "host"
        self.batches: list[EventBatch] = []
        self.points: list[ResourceBatch] = []
        self.warnings: list[str] = []

    def events(self, batch: EventBatch) -> None:
        assert batch.tables is self.tables
        assert len(batch) <= 65_536
        self.batches.append(batch)

    def resources(self, batch: ResourceBatch) -> None:
        self.points.append(batch)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @property
    def rows(self) -> EventBatch:
        """Everything in one batch, by start."""
        if not self.batches:
            return EventBatch.empty(BatchHeader("job", 0, "host", "none"), self.tables)
        one = concat(self.batches[0].header, self.tables, self.batches)
        return one.take(one.start_ns.argsort(kind="stable"))

    def name_of(self, row: int) -> str:
        return self.tables.symbols[int(self.rows.name[row])].function


def read(importer: Importer, path: Path) -> Gathered:
    """Everything ``importer`` delivers of ``path``."""
    sink = Gathered()
    with ByteSource(path) as source:
        importer.read(source, sink)
    return sink


def damage(data: bytes, seed: int) -> bytes:
    """``data`` with a few bytes changed, cut out, doubled or cut off."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        if not out:
            break
        at = rng.randrange(len(out))
        span = rng.choice([1, 1, 2, 8, 100, 5000])
        match rng.randrange(7):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                del out[at : at + span]
            case 2:
                out[at:at] = out[at : at + span]
            case 3:
                out[at:at] = rng.randbytes(span)
            case 4:
                del out[at:]
            case 5:
                out[at : at + 1] = rng.choice(
                    [b"\x00", b"\n", b'"', b"{", b"}", b"[", b"]", b"-", b"9" * 40, b"\xff\xfe", b"1e999"]
                )
            case _:
                swap = rng.randrange(len(out))
                out[at : at + span], out[swap : swap + span] = out[swap : swap + span], out[at : at + span]
    return bytes(out)


def survives(importer: Importer, data: bytes, folder: Path, name: str, seconds: float = 10.0) -> Gathered | None:
    """Read damaged ``data``: rows or a typed error, in bounded time, and nothing else."""
    path = folder / name
    path.write_bytes(data)
    began = time.process_time()
    try:
        found = read(importer, path)
    except InputError as error:
        if name not in str(error):
            raise AssertionError(f"the message names no file: {error}") from error
        return None
    finally:
        assert time.process_time() - began < seconds, "it hangs"
    for batch in found.batches:
        assert (batch.duration_ns >= 0).all()
    return found
