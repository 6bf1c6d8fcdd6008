"""EventBatch on a wire or a disk: one self-contained, checksummed, versioned message.

A column is stored as its smallest value and the differences to it in the narrowest integer that holds them (times: of the step to
the previous row), constant columns as one number, and zstd does the rest. Ids are local to the message; the tables that travel
with it hold only what it references, with content hashes. Integers come back exactly.

Layout, little-endian: magic ``SFEB``, ``u16`` version, ``u16`` zero, ``u32`` length of the body, ``u32`` length of the payload,
``u32`` CRC-32 of the body; then the body, a zstd frame whose payload is one MessagePack array (:class:`_Message`).
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final, Literal

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from sofa_otel.core.batch import COLUMNS, OPTIONAL_COLUMNS, BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.pack import (
    LocalTables,
    PackedSymbols,
    adopt,
    hash_paths,
    hash_symbols,
    localise,
    pack_symbols,
    unpack_symbols,
)
from sofa_otel.core.symbols import Tables

MAGIC: Final = b"SFEB"
VERSION: Final = 1
MAX_ROWS: Final = 1 << 22
"""Rows of one message; also the bound on what a small malicious one can make a reader allocate."""
MAX_PAYLOAD: Final = 1 << 28

_FRAME: Final = struct.Struct("<4sHHIII")
_ALL: Final = COLUMNS | OPTIONAL_COLUMNS
_WIDTHS: Final = (1, 2, 4, 8)


class _Column(msgspec.Struct, frozen=True, array_like=True):
    """``const``: every value is ``base``. ``offset``: value = base + data. ``step``: the first value is ``first``, and each next
    one is the previous + base + data. All modulo 2**64, then narrowed to the column's type."""

    name: str
    mode: Literal["const", "offset", "step"]
    width: int
    first: int
    base: int
    data: bytes


class _Message(msgspec.Struct, frozen=True, array_like=True):
    header: BatchHeader
    rows: int
    columns: list[_Column]
    symbols: PackedSymbols
    symbol_hash: bytes
    path_parent: bytes
    path_leaf: bytes
    path_hash: bytes


_DECODER: Final = msgspec.msgpack.Decoder(_Message)


def encode_batch(batch: EventBatch, *, level: int = 1) -> bytes:
    """A batch as one message (measured: see ``benchmarks/core_columns.py``).

    Args:
        level: zstd's.

    Raises:
        ValueError: The batch has more than ``MAX_ROWS`` rows, or a symbol's offset or line does not fit 64 bits.
    """
    rows = len(batch)
    if rows > MAX_ROWS:
        raise ValueError(f"{rows} rows in one batch; a message holds {MAX_ROWS}: send it in parts")
    local, name, path = localise(batch)
    columns = {**batch.columns, "name": name, "path": path}
    message = _Message(
        batch.header,
        rows,
        [_encode_column(key, columns[key]) for key in _ALL if key in columns],
        pack_symbols(local.symbols),
        local.symbol_hash.astype("<u8").tobytes(),
        local.parent.astype("<u4").tobytes(),
        local.leaf.astype("<u4").tobytes(),
        hash_paths(local).astype("<u8").tobytes(),
    )
    try:
        payload = msgspec.msgpack.encode(message)
    except OverflowError as error:
        raise ValueError(f"a symbol holds an integer of more than 64 bits: {error}") from error
    body = zstandard.ZstdCompressor(level=level).compress(payload)
    return _FRAME.pack(MAGIC, VERSION, 0, len(body), len(payload), zlib.crc32(body)) + body


def decode_batch(data: bytes | bytearray | memoryview, tables: Tables) -> EventBatch:
    """The batch of a message; its symbols and paths are interned in ``tables``.

    Raises:
        InputError: The message is cut, damaged, contradicts itself, or is of a version that this program does not know.
    """
    message = _decode_message(_open(bytes(data)))
    try:
        local = LocalTables(
            unpack_symbols(message.symbols),
            np.frombuffer(message.symbol_hash, "<u8").astype(np.uint64),
            np.frombuffer(message.path_parent, "<u4").astype(np.uint32),
            np.frombuffer(message.path_leaf, "<u4").astype(np.uint32),
        )
        if not np.array_equal(hash_symbols(local.symbols), local.symbol_hash):
            raise ValueError("a symbol is not what its content hash says")
        if hash_paths(local).astype("<u8").tobytes() != message.path_hash:
            raise ValueError("a call path is not what its content hash says")
        columns = {column.name: _decode_column(column, message.rows) for column in message.columns}
        for key, limit in (("name", len(local.symbols)), ("path", len(local.parent))):
            if int(columns[key].max(initial=0)) > limit:
                raise ValueError(f"column {key} refers to what is not in the message")
        if missing := COLUMNS.keys() - columns.keys():
            raise ValueError(f"column {min(missing)} is missing")
        symbol_map, path_map = adopt(local, tables)
    except (ValueError, KeyError) as error:
        raise _damaged(_FRAME.size, str(error)) from error
    columns["name"], columns["path"] = symbol_map[columns["name"]], path_map[columns["path"]]
    return EventBatch(message.header, tables, columns)


def payload_of(data: bytes) -> bytes:
    """The uncompressed payload of a message: equal for equal batches, whatever the version of zstd.

    Raises:
        InputError: As :func:`decode_batch`.
    """
    return _open(data)


def _damaged(byte: int, what: str) -> InputError:
    return InputError(f"event batch, byte {byte}: {what}", "the message is cut or damaged: send or fetch it again")


def _open(data: bytes) -> bytes:
    if len(data) < _FRAME.size:
        raise _damaged(len(data), f"ends inside its {_FRAME.size} byte head")
    magic, version, zero, body_length, payload_length, checksum = _FRAME.unpack_from(data)
    if magic != MAGIC:
        raise _damaged(0, f"starts with {magic!r}, not {MAGIC!r}")
    if version != VERSION or zero:
        raise InputError(
            f"event batch, byte 4: version {version}.{zero}, this program reads {VERSION}.0", "update the older side"
        )
    if len(data) != _FRAME.size + body_length:
        raise _damaged(
            min(len(data), _FRAME.size + body_length), f"{len(data) - _FRAME.size} bytes follow the head, not {body_length}"
        )
    if payload_length > MAX_PAYLOAD:
        raise _damaged(12, f"claims a payload of {payload_length} bytes; {MAX_PAYLOAD} is the limit")
    body = data[_FRAME.size :]
    if zlib.crc32(body) != checksum:
        raise _damaged(16, "the checksum does not fit")
    try:
        if zstandard.frame_content_size(body) != payload_length:
            raise _damaged(12, "the length of the payload does not fit")
        return bytes(zstandard.ZstdDecompressor().decompress(body, max_output_size=payload_length))
    except zstandard.ZstdError as error:
        raise _damaged(_FRAME.size, f"not decompressible: {error}") from error


def _decode_message(payload: bytes) -> _Message:
    try:
        message = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(_FRAME.size, f"not a batch: {error}") from error
    if not 0 <= message.rows <= MAX_ROWS:
        raise _damaged(_FRAME.size, f"{message.rows} rows")
    return message


def _narrow(values: NDArray[np.uint64], top: int) -> tuple[int, bytes]:
    width = next(w for w in _WIDTHS if top < 1 << (8 * w))
    return width, values.astype(f"<u{width}", copy=False).tobytes()


def _encode_column(name: str, column: NDArray[Any]) -> _Column:
    if not len(column):
        return _Column(name, "const", 0, 0, 0, b"")
    if name != "start_ns":
        low, high = int(column.min()), int(column.max())
        if low == high:
            return _Column(name, "const", 0, 0, low, b"")
        width = next(w for w in _WIDTHS if high - low < 1 << (8 * w))
        if width == column.dtype.itemsize or low == 0:
            # Taking the smallest off gains nothing here: plain integers of the narrowest width, modulo 2**(8 * width).
            plain = column.astype(f"<u{width}", copy=False)
            return _Column(name, "offset", width, 0, 0, plain.tobytes()) if low >= 0 else _offset(name, column, low, high)
        return _offset(name, column, low, high)
    step = np.diff(column)
    low, high = (int(step.min()), int(step.max())) if len(step) else (0, 0)
    width, data = _narrow(step.view(np.uint64) - np.uint64(low % 2**64), high - low)
    return _Column(name, "step", width, int(column[0]), low, data)


def _offset(name: str, column: NDArray[Any], low: int, high: int) -> _Column:
    wide = (
        column.astype(np.int64, copy=False).view(np.uint64) if column.dtype.kind == "i" else column.astype(np.uint64, copy=False)
    )
    width, data = _narrow(wide - np.uint64(low % 2**64), high - low)
    return _Column(name, "offset", width, 0, low, data)


def _decode_column(column: _Column, rows: int) -> NDArray[Any]:
    dtype = _ALL[column.name]
    base = column.base % 2**64
    if column.mode == "const":
        return np.full(rows, np.uint64(base)).astype(dtype)
    if column.width not in _WIDTHS:
        raise ValueError(f"column {column.name} is {column.width} bytes wide")
    data = np.frombuffer(column.data, f"<u{column.width}")
    if len(data) != (rows - 1 if column.mode == "step" else rows):
        raise ValueError(f"column {column.name} has {len(data)} values for {rows} rows")
    if column.mode == "offset":
        if not base:
            return data.astype(dtype)
        return (data.astype(np.uint64) + np.uint64(base)).astype(dtype)
    wide = np.empty(rows, np.uint64)
    wide[0] = column.first % 2**64
    np.add(data, np.uint64(base), out=wide[1:], casting="unsafe")
    return np.cumsum(wide, dtype=np.uint64).view(np.int64).astype(dtype, copy=False)
