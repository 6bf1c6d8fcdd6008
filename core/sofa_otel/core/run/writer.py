"""RunWriter: what a running agent puts into a RUN, without ever hurting the job it watches.

Records wait in memory and reach the disk together at :meth:`RunWriter.commit` (once a second by its host), so ``kill -9`` loses
at most what came since. A disk that is full or gone raises nothing: the writer keeps what fits in a bound, counts what does not,
says so once, and goes on by itself when there is room again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.errors import UsageError
from sofa_otel.core.records import AnyRecord, SwarmInfo
from sofa_otel.core.run import meta as meta_file
from sofa_otel.core.run import resources
from sofa_otel.core.run.folder import free_directory
from sofa_otel.core.run.meta import RunMeta, RunTakenError
from sofa_otel.core.run.raw import raw_name, save_raw
from sofa_otel.core.run.tables import BAD_RECORD, create_tables, insert_one_by_one, insert_records, select_records
from sofa_otel.core.series import ResourceBatch, SeriesTable

COMMIT_RECORDS: Final = 5_000
MAX_PENDING_RECORDS: Final = 50_000
MAX_PENDING_POINTS: Final = 200_000
RETRY_S: Final = 5.0


def _silent(_: str) -> None:
    return None


class RunWriter:
    """Writes one RUN; safe to call from several threads.

    Attributes:
        directory: The RUN.
        lossy: The disk takes nothing at the moment.
        lost: Records, resource points and raw files lost so far.
    """

    def __init__(
        self, directory: Path, meta: RunMeta, lock: int, database: sqlite3.Connection, warn: Callable[[str], None]
    ) -> None:
        """Use :meth:`create`."""
        self.directory = directory
        self.lossy = False
        self.lost = 0
        self._meta = meta
        self._lock_file = lock
        self._database = database
        self._warn_user = warn
        self._guard = threading.RLock()
        self._records: list[AnyRecord] = []
        self._points: dict[int, list[resources.Points]] = {}
        self._pending_points = 0
        self._series = SeriesTable()
        self._stored_series = 0
        self._series_maps: dict[int, tuple[SeriesTable, NDArray[np.uint32]]] = {}
        self._unfolded_since: dict[int, int] = {}
        self._retry_at = 0.0
        self._reported_lost = 0
        self._closed = False

    @classmethod
    def create(cls, directory: Path | str, meta: RunMeta, *, warn: Callable[[str], None] | None = None) -> RunWriter:
        """Make a new RUN; of any number of processes that want ``directory`` exactly one gets it.

        Args:
            warn: Told, once per cause, what could not be kept.

        Raises:
            RunTakenError: ``directory`` holds something already.
            UsageError: It cannot be made, or there is no room for a database in it.
        """
        directory = Path(directory)
        lock = meta_file.claim(directory)
        meta = msgspec.structs.replace(meta, host=meta.host or os.uname().nodename, pid=meta.pid or os.getpid(), state="running")
        try:
            meta_file.write_meta(directory, meta, durable=True)
            (directory / meta_file.RAW_FOLDER).mkdir()
            database = _open(directory)
        except (OSError, sqlite3.Error) as error:
            os.close(lock)
            raise UsageError(
                f"cannot write the run {directory}: {error}", "free some space or choose another place with -o"
            ) from error
        return cls(directory, meta, lock, database, warn or _silent)

    @classmethod
    def create_free(cls, directory: Path | str, meta: RunMeta, *, warn: Callable[[str], None] | None = None) -> RunWriter:
        """As :meth:`create`, but where another rank holds ``directory`` take ``<directory>-r<rank>`` beside it.

        Raises:
            RunTakenError: Both hold something, or ``directory`` holds a run of this rank.
            UsageError: As from :meth:`create`.
        """
        directory = Path(directory)
        chosen = free_directory(directory, meta.rank)
        try:
            return cls.create(chosen, meta, warn=warn)
        except RunTakenError:
            if chosen != directory:
                raise
        # Another process took it between the look and the claim.
        return cls.create(directory.with_name(f"{directory.name}-r{meta.rank}"), meta, warn=warn)

    @property
    def meta(self) -> RunMeta:
        """What ``run.json`` says."""
        return self._meta

    def update(self, **fields: Any) -> None:
        """Change fields of ``run.json``, now.

        Raises:
            TypeError: There is no such field.
        """
        with self._guard:
            self._meta = msgspec.structs.replace(self._meta, **fields)
            self._write_meta()

    def warn(self, message: str) -> None:
        """Add a warning to the run, once."""
        with self._guard:
            if message in self._meta.warnings:
                return
            self._meta = msgspec.structs.replace(self._meta, warnings=[*self._meta.warnings, message])
            self._write_meta()
        self._warn_user(message)

    def write(self, records: Iterable[AnyRecord]) -> None:
        """Take records; they are on disk after the next :meth:`commit`. Never raises for the disk's sake."""
        with self._guard:
            self._records.extend(records)
            if len(self._records) >= COMMIT_RECORDS:
                self.commit()
            excess = len(self._records) - MAX_PENDING_RECORDS
            if excess > 0:
                del self._records[:excess]
                self.lost += excess

    def write_resources(self, batch: ResourceBatch) -> None:
        """Take resource points; they are on disk after the next :meth:`commit`."""
        if not len(batch):
            return
        with self._guard:
            ids = self._series_map(batch.table)[batch.series]
            rank = batch.header.rank
            self._points.setdefault(rank, []).append((ids, batch.time_ns.copy(), batch.value.copy()))
            self._pending_points += len(batch)
            if self._pending_points > MAX_PENDING_POINTS:
                self.commit()
            while self._pending_points > MAX_PENDING_POINTS:
                dropped = len(self._points[rank].pop(0)[0])
                self._pending_points -= dropped
                self.lost += dropped

    def write_raw(self, batch: EventBatch, iteration: int) -> Path | None:
        """Keep the raw events of an iteration.

        Returns:
            The file, None where the disk did not take it.
        """
        folder = self.directory / meta_file.RAW_FOLDER
        number = 0
        while (path := folder / raw_name(batch.header.rank, iteration, number)).exists():
            number += 1
        try:
            save_raw(path, batch)
        except OSError as error:
            with self._guard:
                self.lost += 1
                self._degrade(error)
            return None
        return path

    def write_file(self, name: str, data: bytes) -> Path | None:
        """Replace a file of the run, such as ``report.html``, at once and whole.

        Returns:
            The file, None where the disk did not take it.
        """
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not a plain file name")
        try:
            meta_file.replace_file(self.directory / name, data)
        except OSError as error:
            with self._guard:
                self._degrade(error)
            return None
        return self.directory / name

    def commit(self) -> bool:
        """Put everything taken so far on disk.

        Returns:
            Whether it is there. If not, it is kept (within bounds) for a later commit.
        """
        with self._guard:
            if self._closed or not (self._records or self._points):
                return not self._closed
            if self.lossy and time.monotonic() < self._retry_at:
                return False
            try:
                self._store()
            except (sqlite3.Error, OSError) as error:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                self._stored_series = 0
                self._degrade(error)
                return False
            self._records.clear()
            self._points.clear()
            self._pending_points = 0
            self._recover()
            return True

    def close(self) -> None:
        """Commit, note the end and release the run. Idempotent, never raises for the disk's sake."""
        with self._guard:
            if self._closed:
                return
            self._retry_at = 0.0
            if not self.commit():
                self.lost += len(self._records) + self._pending_points
            with suppress(sqlite3.Error, OSError):
                self._finish_database()
            self._closed = True
            self._database.close()
            if self.lost > self._reported_lost:
                self.warn(f"{self.lost} records, points or raw files of this run were lost because the disk did not take them")
            self._meta = msgspec.structs.replace(self._meta, state="ended", ended_ns=self._meta.ended_ns or time.time_ns())
            self._write_meta(durable=True)
            with suppress(OSError):
                (self.directory / meta_file.LOCK_FILE).unlink()
            os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _store(self) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        self._store_records()
        for series_id in range(self._stored_series, len(self._series)):
            resources.insert_series(database, series_id, self._series[series_id])
        fold: list[int] = []
        for rank, parts in self._points.items():
            points = resources.join(parts)
            resources.insert_chunk(database, rank, points)
            since = self._unfolded_since.get(rank, int(points[1].min()))
            if int(points[1].max()) - since >= resources.FOLD_NS:
                resources.fold_chunks(database, rank)
                fold.append(rank)
        database.execute("COMMIT")
        self._stored_series = len(self._series)
        for rank, parts in self._points.items():
            if rank in fold:
                self._unfolded_since.pop(rank, None)
            else:
                self._unfolded_since.setdefault(rank, min(int(part[1].min()) for part in parts))

    def _store_records(self) -> None:
        database = self._database
        database.execute("SAVEPOINT records")
        try:
            insert_records(database, self._records)
        except BAD_RECORD:
            # One wrong record must not cost the others, nor be taken for a broken disk.
            database.execute("ROLLBACK TO records")
            wrong = insert_one_by_one(database, self._records)
            self.lost += len(wrong)
            self._reported_lost += len(wrong)
            for message in dict.fromkeys(wrong[:3]):
                self.warn(f"a record could not be stored: {message}")
        database.execute("RELEASE records")

    def _finish_database(self) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        for rank in self._unfolded_since:
            resources.fold_chunks(database, rank)
        database.execute("COMMIT")
        if not (self.directory / meta_file.CATALOGUE_FILE).exists():
            swarms = select_records(database, SwarmInfo)
            if swarms:
                text = msgspec.json.encode({"schema": "sofa/catalogue/v1", "swarms": swarms})
                meta_file.replace_file(self.directory / meta_file.CATALOGUE_FILE, text)
        # A finished run needs no log beside it, and then opens on read-only media too.
        database.execute("PRAGMA journal_mode=DELETE")

    def _series_map(self, table: SeriesTable) -> NDArray[np.uint32]:
        known = self._series_maps.get(id(table))
        ids = known[1] if known is not None else np.empty(0, np.uint32)
        if len(ids) < len(table):
            new = [self._series.intern_series(table[i]) for i in range(len(ids), len(table))]
            ids = np.concatenate([ids, np.asarray(new, np.uint32)])
            self._series_maps[id(table)] = (table, ids)
        return ids

    def _write_meta(self, *, durable: bool = False) -> None:
        try:
            meta_file.write_meta(self.directory, self._meta, durable=durable)
        except OSError as error:
            self._degrade(error)

    def _degrade(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_S
        if self.lossy:
            return
        self.lossy = True
        message = (
            f"{self.directory.name}: the disk takes no more ({error}); the newest results are kept in memory: free some space"
        )
        if message not in self._meta.warnings:
            self._meta = msgspec.structs.replace(self._meta, warnings=[*self._meta.warnings, message])
            self._warn_user(message)

    def _recover(self) -> None:
        if not self.lossy:
            return
        self.lossy = False
        lost = self.lost - self._reported_lost
        self._reported_lost = self.lost
        self.warn(f"{self.directory.name}: the disk takes data again; {lost} records, points or raw files were lost meanwhile")


def _open(directory: Path) -> sqlite3.Connection:
    database = sqlite3.connect(directory / meta_file.DATABASE_FILE, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        # Safe against kill -9 (not against a power cut since the last checkpoint), and no fsync in the path of a commit.
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("BEGIN IMMEDIATE")
        create_tables(database)
        for statement in resources.SCHEMA:
            database.execute(statement)
        database.execute("COMMIT")
    except sqlite3.Error:
        database.close()
        raise
    return database
