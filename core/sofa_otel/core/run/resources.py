"""Resource points on disk: columns in compressed chunks instead of a row a point.

A commit writes one small chunk of all series; once a minute the small ones are folded into one. Within a chunk rows are sorted by
series and time, times are differences, values are split into byte planes, and all of it is one zstd frame. Measured with 100
series at 1 Hz for an hour (360 k points, half of them gauges of pure noise, which nothing compresses): 3.3 MB, against 9.8 MB for
a row a point and 6.2 MB for a raw blob per series and minute; 0.7 s of CPU with a commit a second; read back in 60 ms.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from sofa_otel.core.errors import InputError
from sofa_otel.core.series import Series

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, metric TEXT, unit TEXT, kind TEXT, attributes TEXT)",
    "CREATE TABLE IF NOT EXISTS resource_chunk (rank INTEGER, start_ns INTEGER, end_ns INTEGER, points INTEGER, "
    "folded INTEGER, data BLOB)",
)
FOLD_NS: Final = 60_000_000_000
MAX_POINTS: Final = 1 << 24

Points = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.float64]]
"""``series u32, time_ns i64, value f64``, of equal length."""


def encode_points(points: Points) -> bytes:
    """Points as one compressed chunk."""
    series, time_ns, value = points
    order = np.lexsort((time_ns, series))
    series, time_ns, value = series[order], time_ns[order], value[order]
    time_step = np.diff(time_ns, prepend=np.int64(0))
    series_step = np.diff(series.astype(np.int64), prepend=np.int64(0)).astype("<u4")
    planes = np.ascontiguousarray(value.astype("<f8").view(np.uint8).reshape(-1, 8).T)
    payload = series_step.tobytes() + time_step.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes() + planes.tobytes()
    return zstandard.ZstdCompressor(level=3).compress(payload)


def decode_points(data: bytes, count: int) -> Points:
    """The points of a chunk of ``count`` points.

    Raises:
        InputError: The chunk is damaged.
    """
    try:
        if not 0 <= count <= MAX_POINTS:
            raise ValueError(f"{count} points")
        payload = zstandard.ZstdDecompressor().decompress(data, max_output_size=count * 20)
        if len(payload) != count * 20:
            raise ValueError(f"{len(payload)} bytes for {count} points")
    except (zstandard.ZstdError, ValueError) as error:
        raise InputError(
            f"run.sqlite, byte 0: a resource chunk is damaged: {error}", "the rest of the run can be read"
        ) from error
    series = np.cumsum(np.frombuffer(payload, "<u4", count), dtype=np.uint32)
    time_ns = np.cumsum(_planes(payload, count * 4, count).view("<i8").astype(np.int64))
    value = _planes(payload, count * 12, count).view("<f8").astype(np.float64)
    return series, time_ns, value


def _planes(payload: bytes, offset: int, count: int) -> NDArray[Any]:
    planes = np.frombuffer(payload, np.uint8, count * 8, offset).reshape(8, count)
    return np.ascontiguousarray(planes.T).reshape(-1)


def join(parts: list[Points]) -> Points:
    """One set of points from several."""
    if not parts:
        return np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.float64)
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))  # type: ignore[return-value]


def insert_series(connection: sqlite3.Connection, series_id: int, series: Series) -> None:
    """Store a series under its id in this run."""
    attributes = msgspec.json.encode(dict(series.attributes)).decode()
    connection.execute(
        "INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?)", (series_id, series.metric, series.unit, series.kind, attributes)
    )


def select_series(connection: sqlite3.Connection, metric: str | None = None) -> dict[int, Series]:
    """Series of the run by id."""
    where, values = ("", []) if metric is None else ("WHERE metric = ?", [metric])
    query = f"SELECT id, metric, unit, kind, attributes FROM series {where}"  # noqa: S608
    out: dict[int, Series] = {}
    for series_id, name, unit, kind, text in connection.execute(query, values):
        attributes = msgspec.json.decode(text, type=dict[str, str])
        out[series_id] = Series(name, unit, kind, tuple(sorted(attributes.items())))
    return out


def insert_chunk(connection: sqlite3.Connection, rank: int, points: Points, *, folded: bool = False) -> None:
    """Store points as one chunk."""
    if not len(points[0]):
        return
    start, end = int(points[1].min()), int(points[1].max())
    row = (rank, start, end, len(points[0]), int(folded), encode_points(points))
    connection.execute("INSERT INTO resource_chunk VALUES (?, ?, ?, ?, ?, ?)", row)


def select_chunks(connection: sqlite3.Connection, rank: int) -> list[Points]:
    """All points of a rank, chunk by chunk, in the order in which they were written.

    Raises:
        InputError: A chunk is damaged.
    """
    rows = connection.execute("SELECT points, data FROM resource_chunk WHERE rank = ? ORDER BY start_ns, rowid", (rank,))
    return [decode_points(data, count) for count, data in rows]


def fold_chunks(connection: sqlite3.Connection, rank: int) -> None:
    """Replace the small chunks of a rank by one, inside the caller's transaction."""
    rows = connection.execute(
        "SELECT rowid, points, data FROM resource_chunk WHERE rank = ? AND folded = 0 ORDER BY rowid", (rank,)
    ).fetchall()
    if not rows:
        return
    insert_chunk(connection, rank, join([decode_points(data, count) for _, count, data in rows]), folded=True)
    connection.executemany("DELETE FROM resource_chunk WHERE rowid = ?", [(row[0],) for row in rows])
