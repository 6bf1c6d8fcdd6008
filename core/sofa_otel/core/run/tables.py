"""The database of a run: one table a record kind, one column a field, derived from the record types themselves.

Numbers and words are real columns, so that SQL and notebooks can query them; lists, maps and nested values are JSON text. A
reader takes the columns that both the file and its own record type have, so old runs stay readable when a record gains a field.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from sofa_otel.core.records import AnyRecord, Record

R = TypeVar("R", bound=Record)

RECORD_TYPES: Final[tuple[type[Record], ...]] = get_args(AnyRecord)

# "The last one written wins": these keep one row per key. All others are appended as they come.
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "iteration": ("job", "rank", "level", "index"),
    "detection": ("job", "rank"),
    "swarm_info": ("job", "rank", "swarm"),
}
_INDEXES: Final[dict[str, tuple[str, ...]]] = {"swarm_window": ("rank", "iteration"), "phase_breakdown": ("rank", "iteration")}
_ORDER: Final[dict[str, str]] = {"iteration": "rank, start_ns, rowid", "phase_breakdown": "rank, start_ns, rowid"}


BAD_RECORD: Final = (TypeError, ValueError, AttributeError, OverflowError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""What :func:`insert_records` raises when a record, not the disk, is at fault."""


class Column(NamedTuple):
    """A field as a column: ``to_sql``/``to_field`` are None where the value passes as it is."""

    name: str
    sql: str
    to_sql: Callable[[Any], Any] | None
    to_field: Callable[[Any], Any] | None


class Table(NamedTuple):
    """Where one record type is stored."""

    name: str
    type: type[Record]
    columns: tuple[Column, ...]

    def create(self) -> list[str]:
        """Statements that make the table and its indexes."""
        key = _KEYS.get(self.name)
        parts = [f'"{column.name}" {column.sql}' for column in self.columns]
        if key:
            parts.append(f"UNIQUE ({_quoted(key)})")
        out = [f'CREATE TABLE IF NOT EXISTS "{self.name}" ({", ".join(parts)})']
        if index := _INDEXES.get(self.name):
            out.append(f'CREATE INDEX IF NOT EXISTS "{self.name}_by" ON "{self.name}" ({_quoted(index)})')
        return out

    def insert(self) -> str:
        """The statement for ``executemany``."""
        marks = ", ".join("?" * len(self.columns))
        verb = "INSERT OR REPLACE" if self.name in _KEYS else "INSERT"
        return f'{verb} INTO "{self.name}" ({_quoted([c.name for c in self.columns])}) VALUES ({marks})'

    def rows(self, records: Iterable[Record]) -> Iterator[Sequence[Any]]:
        """Rows of ``records``, which are all of this table's type."""
        get = attrgetter(*(column.name for column in self.columns))
        convert = [(i, column.to_sql) for i, column in enumerate(self.columns) if column.to_sql is not None]
        for record in records:
            row = list(get(record))
            for i, function in convert:
                row[i] = function(row[i])
            yield row


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _json_column(name: str, hint: Any) -> Column:
    encoder, decoder = msgspec.json.Encoder(enc_hook=_plain), msgspec.json.Decoder(hint)
    return Column(name, "TEXT", lambda value: encoder.encode(value).decode(), decoder.decode)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a record")


def _real(value: Any) -> float:
    # SQLite keeps NaN as NULL.
    return math.nan if value is None else float(value)


def _column(name: str, hint: Any) -> Column:
    if hint is bool:
        return Column(name, "INTEGER", int, bool)
    if hint is int:
        return Column(name, "INTEGER", int, None)  # also of numpy's integers, which SQLite refuses
    if hint is float:
        return Column(name, "REAL", float, _real)
    if hint is str or get_origin(hint) is Literal:
        return Column(name, "TEXT", None, None)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Column(name, "TEXT", str, hint)
    return _json_column(name, hint)


@cache
def table_of(record_type: type[Record]) -> Table:
    """The table of a record type."""
    tag = msgspec.inspect.type_info(record_type)
    hints = get_type_hints(record_type)
    columns = tuple(_column(field.name, hints[field.name]) for field in msgspec.structs.fields(record_type))
    return Table(str(getattr(tag, "tag", "") or record_type.__name__.lower()), record_type, columns)


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the table of every record kind."""
    for record_type in RECORD_TYPES:
        for statement in table_of(record_type).create():
            connection.execute(statement)


def insert_records(connection: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Store records of any kinds, in their order within each kind (measured: 155 to 240 k/s)."""
    by_type: dict[type[Record], list[Record]] = {}
    for record in records:
        by_type.setdefault(type(record), []).append(record)
    for record_type, group in by_type.items():
        table = table_of(record_type)
        connection.executemany(table.insert(), table.rows(group))


def insert_one_by_one(connection: sqlite3.Connection, records: Iterable[Record]) -> list[str]:
    """Store what can be stored, when :func:`insert_records` found something that cannot.

    Returns:
        What was wrong with each record that is left out.
    """
    wrong: list[str] = []
    for record in records:
        try:
            insert_records(connection, [record])
        except BAD_RECORD as error:
            wrong.append(f"{type(record).__name__}: {error}")
    return wrong


def select_records(
    connection: sqlite3.Connection, record_type: type[R], rank: int | None = None, last: int | None = None
) -> list[R]:
    """Records of one type.

    Args:
        rank: Only this rank's.
        last: Only this many, the ones written last (in the same order).
    """
    table = table_of(record_type)
    present = {row[1] for row in connection.execute(f'PRAGMA table_info("{table.name}")')}
    columns = [column for column in table.columns if column.name in present]
    if not columns:
        return []
    where, values = ("", []) if rank is None else ("WHERE rank = ?", [rank])
    names = _quoted(column.name for column in columns)
    source = f'"{table.name}"'
    if last is not None:
        source = f'(SELECT rowid, * FROM "{table.name}" {where} ORDER BY rowid DESC LIMIT {int(last)})'  # noqa: S608
        where = ""
    query = f"SELECT {names} FROM {source} {where} ORDER BY {_ORDER.get(table.name, 'rowid')}"  # noqa: S608
    keys = [column.name for column in columns]
    convert = [(column.name, column.to_field) for column in columns if column.to_field is not None]
    out: list[R] = []
    for row in connection.execute(query, values):
        fields = dict(zip(keys, row, strict=True))
        for name, function in convert:
            fields[name] = function(fields[name])
        out.append(record_type(**fields))
    return out
