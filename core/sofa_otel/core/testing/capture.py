"""Recorded inputs with their truth, in one file: a zip of batch messages and ``truth.json``."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.codec import decode_batch, encode_batch
from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import Tables
from sofa_otel.core.testing.truth import Truth

_TRUTH: Final = "truth.json"


class Capture(NamedTuple):
    """Batches in the order in which they came, on common tables, and the truth."""

    batches: list[EventBatch]
    tables: Tables
    truth: Truth


def save_capture(path: Path, batches: Iterable[EventBatch], truth: Truth) -> None:
    """Write a capture.

    Raises:
        OSError: As from the file system.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i, batch in enumerate(batches):
            # A fixed date, so that equal captures are equal files.
            archive.writestr(zipfile.ZipInfo(f"{i:06d}.sfeb"), encode_batch(batch, level=9))
        archive.writestr(zipfile.ZipInfo(_TRUTH), msgspec.json.encode(truth))


def load_capture(path: Path) -> Capture:
    """Read a capture.

    Raises:
        InputError: The file is not one, or is damaged.
    """
    tables = Tables()
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".sfeb"))
            batches = [decode_batch(archive.read(name), tables) for name in names]
            truth = msgspec.json.decode(archive.read(_TRUTH), type=Truth)
    except (
        OSError, KeyError, ValueError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error,
        msgspec.MsgspecError,
    ) as error:  # fmt: skip
        raise InputError(f"{path}, byte 0: not readable as a capture: {error}", "restore the file") from error
    return Capture(batches, tables, truth)
