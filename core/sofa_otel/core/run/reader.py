"""RunReader: a RUN as typed records and arrays, for reports, ``sofa top`` and notebooks; also while it is being written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.records import AnyRecord, Record
from sofa_otel.core.run import raw as raw_files
from sofa_otel.core.run import resources
from sofa_otel.core.run.meta import CATALOGUE_FILE, DATABASE_FILE, META_FILE, RAW_FOLDER, RunMeta, read_meta, writer_alive
from sofa_otel.core.run.raw import RawRef
from sofa_otel.core.run.tables import RECORD_TYPES, select_records, table_of
from sofa_otel.core.series import Series
from sofa_otel.core.symbols import Tables

R = TypeVar("R", bound=Record)


class ResourceSeries(NamedTuple):
    """A resource series of a rank: ``time_ns i64`` ascending, ``value f64`` (a counter's are as read, not rates)."""

    series: Series
    rank: int
    time_ns: NDArray[np.int64]
    value: NDArray[np.float64]


class RunReader:
    """Reads one RUN. Holds nothing open between calls, so every call sees the newest commit.

    Attributes:
        directory: The RUN.
        alive: Its writer was still at work when :meth:`refresh` was last called.
        meta: What it was. If the writer is gone without having closed it, ``state`` is ``ended``, ``ended_ns`` the time of the
            last thing written, and a warning says so.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.alive = False
        self.meta: RunMeta
        self.refresh()

    def refresh(self) -> RunMeta:
        """Read ``run.json`` again.

        Raises:
            InputError: It is not readable.
        """
        meta = read_meta(self.directory)
        self.alive = meta.state == "running" and writer_alive(self.directory)
        if meta.state == "running" and not self.alive:
            # It may have been closed between the two looks.
            meta = read_meta(self.directory)
            if meta.state == "running":
                meta = self._cut_off(meta)
        if not meta.ranks:
            meta = msgspec.structs.replace(meta, ranks=[meta.rank])
        self.meta = meta
        return meta

    def records(self, record_type: type[R], rank: int | None = None, last: int | None = None) -> list[R]:
        """Records of one type: iterations and breakdowns by rank and time, others as written.

        Args:
            rank: Only this rank's.
            last: Only the ``last`` ones written.

        Raises:
            InputError: The database is damaged.
        """
        with self._database() as database:
            return select_records(database, record_type, rank, last)

    def all_records(self) -> list[AnyRecord]:
        """Every record, kind by kind."""
        with self._database() as database:
            return [record for kind in RECORD_TYPES for record in select_records(database, kind)]  # type: ignore[misc]

    def table(self, record_type: type[Record]) -> dict[str, NDArray[Any]]:
        """A record kind as columns, for notebooks: ``pandas.DataFrame(run.table(Iteration))``."""
        records = self.records(record_type)
        return {column.name: np.array([getattr(r, column.name) for r in records]) for column in table_of(record_type).columns}

    def resources(self, metric: str | None = None, rank: int | None = None) -> list[ResourceSeries]:
        """Resource series by rank, metric and attributes.

        Args:
            metric: Only series of this metric.
            rank: Only this rank's.

        Raises:
            InputError: The database is damaged.
        """
        out: list[ResourceSeries] = []
        with self._database() as database:
            series = resources.select_series(database, metric)
            ranks = [row[0] for row in database.execute("SELECT DISTINCT rank FROM resource_chunk ORDER BY rank")]
            for each in ranks if rank is None else [r for r in ranks if r == rank]:
                out += _split(resources.join(resources.select_chunks(database, each)), series, each)
        return out

    def raw(self) -> list[RawRef]:
        """Files of raw events by rank and iteration."""
        return raw_files.list_raw(self.directory / RAW_FOLDER)

    def load_raw(self, ref: RawRef, tables: Tables | None = None) -> EventBatch:
        """Raw events of a kept iteration.

        Args:
            tables: Where to intern symbols and paths; new tables by default.

        Raises:
            InputError: The file is damaged.
        """
        return raw_files.load_raw(ref.path, tables)

    def catalogue(self) -> bytes | None:
        """``catalogue.json`` as it is, None when there is none."""
        try:
            return (self.directory / CATALOGUE_FILE).read_bytes()
        except OSError:
            return None

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        path = self.directory / DATABASE_FILE
        try:
            with closing(_open_read_only(path)) as database:
                yield database
        except (sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, OverflowError, MemoryError) as error:
            # Beside what SQLite notices itself, damage shows as words that are no member of their vocabulary, broken JSON …
            raise InputError(
                f"{path}, byte 0: not readable as a run's database: {error}", "restore the file, or run again"
            ) from error

    def _cut_off(self, meta: RunMeta) -> RunMeta:
        end = meta.started_ns
        try:
            with self._database() as database:
                for query in ("SELECT max(end_ns) FROM iteration", "SELECT max(end_ns) FROM resource_chunk"):
                    end = max(end, database.execute(query).fetchone()[0] or 0)
        except InputError:
            pass  # an unreadable database is told by the call that needs it
        warning = "the run was cut off: its sofa process ended without closing it; what it had written until then is here"
        return msgspec.structs.replace(meta, state="ended", ended_ns=meta.ended_ns or end, warnings=[*meta.warnings, warning])


def open_run(path: Path | str) -> RunReader:
    """Open a RUN by its directory (or by its ``run.json``).

    Raises:
        InputError: There is no run, or its description is damaged.
    """
    path = Path(path)
    return RunReader(path.parent if path.name == META_FILE else path)


def _open_read_only(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    database = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        database.close()
        if not path.exists() or path.with_name(path.name + "-wal").exists():
            raise
        # A log-mode database on read-only media, where the shared-memory file cannot be made: nobody can be writing it.
        database = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None, check_same_thread=False)
    return database


def _split(points: resources.Points, series: dict[int, Series], rank: int) -> list[ResourceSeries]:
    ids, time_ns, value = points
    order = np.lexsort((time_ns, ids))
    ids, time_ns, value = ids[order], time_ns[order], value[order]
    starts = np.flatnonzero(np.diff(ids, prepend=np.int64(-1)))
    ends = np.append(starts[1:], len(ids))
    found = [
        ResourceSeries(series[int(ids[a])], rank, time_ns[a:b], value[a:b])
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        if int(ids[a]) in series
    ]
    return sorted(found, key=lambda each: (each.series.metric, each.series.attributes))
