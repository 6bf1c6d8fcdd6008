"""Local tables: the symbols and call paths that one batch references, numbered from 0 for that batch alone.

This is how a batch leaves the process, on a wire or a disk: it carries everything that it references and nothing else, and each
symbol and path has its 64-bit content hash, so that two processes which never met agree on identity.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.symbols import NO_PATH, NO_SYMBOL, Symbol, Tables, closure, content_hash


class LocalTables(NamedTuple):
    """Tables of one batch. Local id 0 is "none" in both; row ``i`` of the arrays has local id ``i + 1``.

    Attributes:
        symbols: Referenced symbols.
        symbol_hash: ``u64`` content hash of each.
        parent: ``u32`` local path id of each path's parent, smaller than its own.
        leaf: ``u32`` local symbol id of each path's innermost frame.
    """

    symbols: list[Symbol]
    symbol_hash: NDArray[np.uint64]
    parent: NDArray[np.uint32]
    leaf: NDArray[np.uint32]


def localise(batch: EventBatch) -> tuple[LocalTables, NDArray[np.uint32], NDArray[np.uint32]]:
    """The batch's own tables, and its columns ``name`` and ``path`` in local ids."""
    tables = batch.tables
    used = closure(tables, batch.name, batch.path)
    symbols = [tables.symbols[i] for i in used.symbols]
    symbol_map = np.zeros(len(tables.symbols), np.uint32)
    symbol_map[used.symbols] = np.arange(1, len(symbols) + 1, dtype=np.uint32)
    path_map = np.zeros(len(tables.paths), np.uint32)
    path_map[used.paths] = np.arange(1, len(used.paths) + 1, dtype=np.uint32)
    parent, leaf = tables.paths.arrays()
    paths = np.asarray(used.paths, np.int64)
    local = LocalTables(symbols, hash_symbols(symbols), path_map[parent[paths]], symbol_map[leaf[paths]])
    return local, symbol_map[batch.name], path_map[batch.path]


def adopt(local: LocalTables, tables: Tables) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Intern local tables.

    Returns:
        Maps from local to ``tables`` ids for symbols and for paths.

    Raises:
        ValueError: An id points outside the tables, or a parent does not come before its child.
    """
    check(local)
    symbol_map = np.full(len(local.symbols) + 1, NO_SYMBOL, np.uint32)
    for i, symbol in enumerate(local.symbols, 1):
        symbol_map[i] = tables.symbols.intern_symbol(symbol)
    intern = tables.paths.intern
    known = [NO_PATH]
    for parent, leaf in zip(local.parent.tolist(), symbol_map[local.leaf].tolist(), strict=True):
        known.append(intern(known[parent], leaf))
    return symbol_map, np.asarray(known, np.uint32)


def check(local: LocalTables) -> None:
    """Refuse tables that contradict themselves.

    Raises:
        ValueError: Columns differ in length, an id points outside, or a parent does not come before its child.
    """
    if len(local.parent) != len(local.leaf) or len(local.symbols) != len(local.symbol_hash):
        raise ValueError("columns of the tables differ in length")
    if len(local.leaf) and int(local.leaf.max()) > len(local.symbols):
        raise ValueError("a call path refers to a symbol that is not there")
    if bool((local.parent > np.arange(len(local.parent))).any()):
        raise ValueError("a call path comes before its parent")


def hash_symbols(symbols: list[Symbol]) -> NDArray[np.uint64]:
    """``u64`` content hash of each symbol (1 µs each)."""
    return np.fromiter((content_hash(*symbol) for symbol in symbols), np.uint64, len(symbols))


_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def hash_paths(local: LocalTables) -> NDArray[np.uint64]:
    """``u64`` content hash of each path: the hashes of its frames, mixed from the outside in (splitmix64's finaliser).

    Whoever wrote the path, and whatever else was in the batch, equal stacks have equal hashes.

    Raises:
        ValueError: As :func:`check`.
    """
    check(local)
    parents, leaves = local.parent.tolist(), np.append(np.zeros(1, np.uint64), local.symbol_hash)[local.leaf]
    depth = [0]
    for parent in parents:
        depth.append(depth[parent] + 1)
    level = np.asarray(depth[1:], np.int64)
    out = np.zeros(len(parents) + 1, np.uint64)
    order = np.argsort(level, kind="stable")
    borders = np.searchsorted(level[order], np.arange(1, int(level.max(initial=0)) + 2))
    for a, b in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        rows = order[a:b]
        mixed = out[local.parent[rows]] * np.uint64(0x9E3779B97F4A7C15) + leaves[rows]
        for shift, factor in zip((30, 27), _MIX, strict=True):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
        out[rows + 1] = mixed ^ (mixed >> np.uint64(31))
    return out[1:]


class PackedSymbols(msgspec.Struct, frozen=True, array_like=True):
    """Symbols as bytes: all texts in one blob (names from a file system need not be valid Unicode), numbers as integers.

    Attributes:
        text: function, module and file of each symbol, one after another, UTF-8 with surrogates let through.
        lengths: ``<u4`` byte length of each.
        offsets, lines: One integer a symbol.
    """

    text: bytes
    lengths: bytes
    offsets: list[int]
    lines: list[int]


def pack_symbols(symbols: list[Symbol]) -> PackedSymbols:
    """Symbols as bytes."""
    texts = [text.encode("utf-8", "surrogatepass") for s in symbols for text in (s.function, s.module, s.file)]
    lengths = np.fromiter(map(len, texts), "<u4", len(texts)).tobytes()
    return PackedSymbols(b"".join(texts), lengths, [s.offset for s in symbols], [s.line for s in symbols])


def unpack_symbols(packed: PackedSymbols) -> list[Symbol]:
    """Symbols from bytes.

    Raises:
        ValueError: Lengths do not fit, or a text is not UTF-8.
    """
    count = len(packed.offsets)
    lengths: NDArray[Any] = np.frombuffer(packed.lengths, "<u4")
    if len(lengths) != 3 * count or len(packed.lines) != count or int(lengths.sum(dtype=np.int64)) != len(packed.text):
        raise ValueError("symbol columns differ in length")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    starts = [0, *ends[:-1]] if ends else []
    texts = [packed.text[a:b].decode("utf-8", "surrogatepass") for a, b in zip(starts, ends, strict=True)]
    rows = zip(texts[0::3], texts[1::3], packed.offsets, texts[2::3], packed.lines, strict=True)
    return [Symbol(function, module, offset, file, line) for function, module, offset, file, line in rows]
