"""Interned symbols and call paths: an event row holds two integers instead of strings and stacks.

Inside a process identity is a ``u32`` id into these append-only tables. On any wire or disk it is a 64-bit content hash, so that
two processes which never met agree on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_SYMBOL = 0
NO_PATH = 0


class Symbol(NamedTuple):
    """A place in a program.

    Attributes:
        function: Qualified name without arguments; also a system call, kernel, span or op name.
        module: Python module, shared object base name, or the family (``syscall``, ``kernel``) for events without code.
        offset: Python: bytecode offset of the instruction being executed; native: module-relative address. Exact.
        file: Source path as the program gave it.
        line: Line being executed, 0 when not known.
    """

    function: str
    module: str = ""
    offset: int = 0
    file: str = ""
    line: int = 0


def content_hash(*parts: str | int) -> int:
    """64-bit content hash of ``parts`` (BLAKE2b, 8 bytes); equal on every machine and in every process."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class SymbolTable:
    """Append-only table of symbols; id 0 is "no symbol"."""

    __slots__ = ("_ids", "_rows")

    def __init__(self) -> None:
        none = Symbol("")
        self._rows: list[Symbol] = [none]
        self._ids: dict[Symbol, int] = {none: NO_SYMBOL}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, symbol_id: int) -> Symbol:
        return self._rows[symbol_id]

    def intern(self, function: str, module: str = "", offset: int = 0, file: str = "", line: int = 0) -> int:
        """Id of the symbol, new or known."""
        return self.intern_symbol(Symbol(function, module, offset, file, line))

    def intern_symbol(self, symbol: Symbol) -> int:
        """Id of ``symbol``, new or known."""
        found = self._ids.get(symbol)
        if found is None:
            found = len(self._rows)
            self._rows.append(symbol)
            self._ids[symbol] = found
        return found

    def hash_of(self, symbol_id: int) -> int:
        """64-bit content hash of a symbol."""
        return content_hash(*self._rows[symbol_id])


class CallPathTable:
    """Append-only calling-context tree: a path is (parent path, symbol); id 0 is the root."""

    __slots__ = ("_columns", "_filled", "_ids", "_parent", "_symbol")

    def __init__(self) -> None:
        self._parent: list[int] = [NO_PATH]
        self._symbol: list[int] = [NO_SYMBOL]
        self._ids: dict[tuple[int, int], int] = {}
        self._columns = np.zeros((2, 64), np.uint32)
        self._filled = 0

    def __len__(self) -> int:
        return len(self._parent)

    def intern(self, parent: int, symbol: int) -> int:
        """Id of the path that ends in ``symbol`` below ``parent``."""
        found = self._ids.get((parent, symbol))
        if found is None:
            found = len(self._parent)
            self._parent.append(parent)
            self._symbol.append(symbol)
            self._ids[parent, symbol] = found
        return found

    def intern_frames(self, symbols: Iterable[int]) -> int:
        """Id of the path through ``symbols``, outermost first."""
        path = NO_PATH
        for symbol in symbols:
            path = self.intern(path, symbol)
        return path

    def parent(self, path: int) -> int:
        """The path one frame further out."""
        return self._parent[path]

    def leaf(self, path: int) -> int:
        """Symbol id of the innermost frame."""
        return self._symbol[path]

    def frames(self, path: int) -> list[int]:
        """Symbol ids, outermost first."""
        out: list[int] = []
        while path != NO_PATH:
            out.append(self._symbol[path])
            path = self._parent[path]
        out.reverse()
        return out

    def arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """``(parent, symbol)`` as two read-only ``u32`` columns indexed by path id. A parent's id is smaller than its child's."""
        known, count = self._filled, len(self._parent)
        if known < count:
            if count > self._columns.shape[1]:
                # Grown by doubling: a table that gains paths with every batch is not converted anew with every batch.
                grown = np.zeros((2, max(count, 2 * self._columns.shape[1])), np.uint32)
                grown[:, :known] = self._columns[:, :known]
                self._columns = grown
            self._columns[0, known:count] = self._parent[known:]
            self._columns[1, known:count] = self._symbol[known:]
            self._filled = count
        view = self._columns[:, :count]
        view.flags.writeable = False
        return view[0], view[1]


class Tables:
    """The symbol and call-path tables that a set of batches shares."""

    __slots__ = ("paths", "symbols")

    def __init__(self) -> None:
        self.symbols = SymbolTable()
        self.paths = CallPathTable()

    def rebase(
        self, other: Tables, names: NDArray[np.uint32], paths: NDArray[np.uint32]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Map ids of ``other`` into this table.

        Args:
            other: The table that ``names`` and ``paths`` refer to.
            names: Symbol ids, any shape.
            paths: Path ids, any shape.

        Returns:
            The same columns with ids of this table; symbols and paths they reference are interned.
        """
        if other is self:
            return names, paths
        used = closure(other, names, paths)
        symbol_map = np.zeros(len(other.symbols), np.uint32)
        for symbol_id in used.symbols:
            symbol_map[symbol_id] = self.symbols.intern_symbol(other.symbols[symbol_id])
        path_map = np.zeros(len(other.paths), np.uint32)
        for path_id in used.paths:
            parent = int(path_map[other.paths.parent(path_id)])
            path_map[path_id] = self.paths.intern(parent, int(symbol_map[other.paths.leaf(path_id)]))
        return symbol_map[names], path_map[paths]


class Closure(NamedTuple):
    """What a set of rows references, ascending (so parents come before children); ids 0 are left out."""

    symbols: Sequence[int]
    paths: Sequence[int]


def closure(tables: Tables, names: NDArray[np.uint32], paths: NDArray[np.uint32]) -> Closure:
    """Every symbol and path that ``names`` and ``paths`` reach, with all ancestors."""
    parent, symbol = tables.paths.arrays()
    wanted = np.zeros(len(parent), bool)
    frontier = np.unique(paths)
    while frontier.size:
        frontier = frontier[(frontier != NO_PATH) & ~wanted[frontier]]
        wanted[frontier] = True
        frontier = np.unique(parent[frontier])
    used_paths = np.flatnonzero(wanted)
    used_symbols = np.union1d(np.unique(names), symbol[used_paths])
    return Closure([int(s) for s in used_symbols if s != NO_SYMBOL], [int(p) for p in used_paths])
