"""KeyTable: the detector's own small numbers for places in a program.

Symbol ids belong to a sink's tables and mean nothing after a restart; the detector's state must. So every place that the
detector remembers gets a local number here, and the table (with the symbols themselves) is part of the state.
"""

from __future__ import annotations

from sofa_otel.core.symbols import Symbol, SymbolTable
from sofa_otel.processors.iterate.roles import Role, role_of


class KeyTable:
    """Local numbers of loops, hooks and functions; append-only."""

    __slots__ = ("_by_symbol", "_ids", "_roles", "rows")

    def __init__(self, rows: list[Symbol] | None = None) -> None:
        self.rows: list[Symbol] = list(rows or [])
        self._ids = {row: number for number, row in enumerate(self.rows)}
        self._roles: dict[int, Role] = {}
        self._by_symbol: dict[tuple[int, bool], int] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def number(self, symbols: SymbolTable, symbol_id: int, *, code: bool = False) -> int:
        """Local number of a symbol; with ``code`` of its function, whatever instruction it is at."""
        found = self._by_symbol.get((symbol_id, code))
        if found is None:
            symbol = symbols[symbol_id]
            key = symbol._replace(offset=0, line=0) if code else symbol
            found = self._by_symbol[symbol_id, code] = self.intern(key)
        return found

    def intern(self, symbol: Symbol) -> int:
        """Local number of ``symbol``, new or known."""
        found = self._ids.get(symbol)
        if found is None:
            found = self._ids[symbol] = len(self.rows)
            self.rows.append(symbol)
        return found

    def role(self, number: int) -> Role:
        """Cached role of a place."""
        found = self._roles.get(number)
        if found is None:
            found = self._roles[number] = role_of(self.rows[number])
        return found
