"""Local tables: the symbols and call paths that one batch references, numbered from 0 for that batch alone.

This is how a batch leaves the process, on a wire or a disk: it carries everything that it references and nothing else, and each
symbol and path has its 64-bit content hash, so that two processes which never met agree on identity.
"""

from __future__ import annotations

from typing import NamedTuple

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
    local = LocalTables(
        symbols,
        np.array([content_hash(*symbol) for symbol in symbols], np.uint64),
        path_map[parent[used.paths]] if used.paths else np.empty(0, np.uint32),
        symbol_map[leaf[used.paths]] if used.paths else np.empty(0, np.uint32),
    )
    return local, symbol_map[batch.name], path_map[batch.path]


def adopt(local: LocalTables, tables: Tables) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Intern local tables.

    Returns:
        Maps from local to ``tables`` ids for symbols and for paths.

    Raises:
        ValueError: An id points outside the tables, or a parent does not come before its child.
    """
    symbol_map = np.full(len(local.symbols) + 1, NO_SYMBOL, np.uint32)
    for i, symbol in enumerate(local.symbols, 1):
        symbol_map[i] = tables.symbols.intern_symbol(symbol)
    if len(local.parent) != len(local.leaf):
        raise ValueError("call-path columns differ in length")
    if len(local.parent) and (
        int(local.leaf.max()) > len(local.symbols) or bool((local.parent > np.arange(len(local.parent), dtype=np.uint32)).any())
    ):
        raise ValueError("a call path refers to what is not there")
    path_map = np.full(len(local.parent) + 1, NO_PATH, np.uint32)
    intern = tables.paths.intern
    leaves = symbol_map[local.leaf].tolist()
    known = [NO_PATH]
    for parent, leaf in zip(local.parent.tolist(), leaves, strict=True):
        known.append(intern(known[parent], leaf))
    path_map[:] = known
    return symbol_map, path_map
