"""Raw events of a kept iteration: one ``.npz`` that numpy alone can read, with the symbols and call paths it references."""

from __future__ import annotations

import os
import re
import struct
import tokenize
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from sofa_otel.core.batch import COLUMNS, OPTIONAL_COLUMNS, BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.pack import LocalTables, PackedSymbols, adopt, localise, pack_symbols, unpack_symbols
from sofa_otel.core.symbols import Tables

_NAME: Final = re.compile(r"r(-?\d+)-i(\d+)(?:-(\d+))?\.npz")

# What numpy, zipfile, zlib and msgspec raise for a damaged file; MemoryError where a header claims an array of any size.
_DAMAGE: Final = (
    OSError, LookupError, ValueError, TypeError, EOFError, RuntimeError, SyntaxError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, msgspec.MsgspecError,
)  # fmt: skip


class RawRef(NamedTuple):
    """A file of raw events."""

    rank: int
    iteration: int
    path: Path


def save_raw(path: Path, batch: EventBatch) -> None:
    """Write ``batch`` to ``path``: one array a column, ids local to the file.

    Raises:
        OSError: As from the file system; no half file is left.
    """
    local, name, column_path = localise(batch)
    arrays = {
        **batch.columns,
        "name": name,
        "path": column_path,
        "symbols": np.frombuffer(msgspec.msgpack.encode(pack_symbols(local.symbols)), np.uint8),
        "symbol_hash": local.symbol_hash,
        "path_parent": local.parent,
        "path_symbol": local.leaf,
        "header_json": np.frombuffer(msgspec.json.encode(batch.header), np.uint8),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def load_raw(path: Path, tables: Tables | None = None) -> EventBatch:
    """Read what :func:`save_raw` wrote.

    Raises:
        InputError: The file is not one, or is damaged.
    """
    target = Tables() if tables is None else tables
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        header = msgspec.json.decode(arrays["header_json"].tobytes(), type=BatchHeader)
        symbols = unpack_symbols(msgspec.msgpack.decode(arrays["symbols"].tobytes(), type=PackedSymbols))
        local = LocalTables(symbols, arrays["symbol_hash"], arrays["path_parent"], arrays["path_symbol"])
        symbol_map, path_map = adopt(local, target)
        columns = {key: arrays[key] for key in (COLUMNS | OPTIONAL_COLUMNS) if key in arrays}
        columns["name"], columns["path"] = symbol_map[columns["name"]], path_map[columns["path"]]
        return EventBatch.build(header, target, **columns)
    except _DAMAGE as error:
        raise InputError(
            f"{path}, byte 0: not readable as raw events: {error}", "the rest of the run can still be read"
        ) from error


def raw_name(rank: int, iteration: int, number: int = 0) -> str:
    """File name of a kept iteration; ``number`` tells several files of one iteration apart."""
    return f"r{rank}-i{iteration:07d}" + (f"-{number}" if number else "") + ".npz"


def list_raw(folder: Path) -> list[RawRef]:
    """Files of raw events by rank and iteration."""
    try:
        matches = [(path, _NAME.fullmatch(path.name)) for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(RawRef(int(match[1]), int(match[2]), path) for path, match in matches if match)
