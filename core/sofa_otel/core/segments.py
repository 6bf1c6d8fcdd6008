"""An append-only log of byte records in segment files: durability before acknowledgement.

The agent's queue before a backend that is down, and the stream processor's input log. One process writes; a reader takes records
in order and moves a cursor; segments behind the cursor go. A record is acknowledged only after :meth:`SegmentLog.sync`, one fsync
for any number of appends. Whatever a crash leaves half-written at the end is cut off when the log is opened again; damage inside
is skipped to the next segment and counted, never handed out. A log is not for several threads at once.

Record: ``u32`` length, ``u32`` CRC-32 of the length and the bytes, the bytes. A segment file is named by the number of its first
record.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from sofa_otel.core.errors import InputError, UsageError, WorkFailedError

MAX_RECORD: Final = 64 << 20
_HEAD: Final = struct.Struct("<II")
_NAME: Final = re.compile(r"(\d{20})\.seg")
_CURSOR: Final = "cursor.json"
_LOCK: Final = ".lock"


class LogFullError(WorkFailedError):
    """The log has reached its size bound: the sender must wait."""


class LogWriteError(WorkFailedError):
    """The disk did not take an append; the log holds what it held before."""


class LogRecord(NamedTuple):
    """A record and its number, counted from 0 over the life of the log."""

    number: int
    data: bytes


class _Cursor(msgspec.Struct, frozen=True):
    next: int


class _Segment:
    """A file of consecutive records."""

    __slots__ = ("count", "first", "path", "size")

    def __init__(self, path: Path, first: int, count: int, size: int) -> None:
        self.path, self.first, self.count, self.size = path, first, count, size


class SegmentLog:
    """A bounded queue of byte records on disk.

    Attributes:
        cursor: Number of the first record that has not been acknowledged by its reader.
        next_number: Number that the next append gets.
        torn_bytes: Bytes cut off the end when the log was opened.
        skipped: Records that :meth:`read` left out because of damage inside a segment.
    """

    def __init__(self, directory: Path | str, *, max_bytes: int = 1 << 30, segment_bytes: int = 16 << 20) -> None:
        """Open or make the log.

        Args:
            max_bytes: Bound on the size of all segments.
            segment_bytes: A segment that has grown beyond this is closed.

        Raises:
            UsageError: The directory cannot be used, or another process writes this log.
            InputError: The cursor is damaged.
        """
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self.segment_bytes = min(segment_bytes, max(max_bytes // 4, 1))
        self.torn_bytes = 0
        self.skipped = 0
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"cannot use {self.directory} for a log: {error.strerror}", "choose another directory") from error
        self._file = -1
        self._torn = False
        self._sync_error = ""
        self._place = (-1, -1, 0)  # (first of segment, number, byte) where the last read stopped
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{self.directory} is in use by another process", "give each process its own") from error
            self._segments = self._recover()
            self.cursor = self._read_cursor()
            self._drop_read_segments()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def next_number(self) -> int:
        last = self._segments[-1]
        return last.first + last.count

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    def __len__(self) -> int:
        """Records that wait."""
        return self.next_number - self.cursor

    def append(self, data: bytes) -> int:
        """Add a record. It survives a crash of this process at once, and one of the machine after :meth:`sync`.

        Returns:
            Its number.

        Raises:
            LogFullError: It would exceed the size bound.
            LogWriteError: The disk did not take it.
            ValueError: It is longer than ``MAX_RECORD``.
        """
        return self.append_many([data])

    def append_many(self, records: Iterable[bytes]) -> int:
        """Add records, all or none.

        Returns:
            The number of the first.

        Raises:
            LogFullError, LogWriteError, ValueError: As :meth:`append`.
        """
        parts: list[bytes] = []
        for data in records:
            if len(data) > MAX_RECORD:
                raise ValueError(f"a record of {len(data)} bytes; {MAX_RECORD} is the limit")
            parts += (_HEAD.pack(len(data), _checksum(data)), data)
        block = b"".join(parts)
        count = len(parts) // 2
        if self.size + len(block) > self.max_bytes and not len(self):
            self._roll()  # everything has been read: the last segment may go too
            self._drop_read_segments()
        if self.size + len(block) > self.max_bytes:
            raise LogFullError(
                f"{self.directory.name}: {self.max_bytes} bytes of records wait", "the backend must take them first"
            )
        first = self.next_number
        try:
            segment = self._writable()
            _write_all(self._file, block)
        except OSError as error:
            with suppress(OSError):
                self._undo()
            raise LogWriteError(f"{self.directory}: cannot write: {error.strerror}", "free some space") from error
        segment.size += len(block)
        segment.count += count
        return first

    def sync(self) -> None:
        """Make every append so far survive a crash of the machine (one fsync for all of them).

        Raises:
            LogWriteError: The disk did not take it; what was appended must not be acknowledged.
        """
        if self._file >= 0 and not self._sync_error:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                # The kernel may drop what it could not write and call the next sync a success: never believe it again.
                self._sync_error = error.strerror or "failed"
        if self._sync_error:
            raise LogWriteError(f"{self.directory}: cannot sync: {self._sync_error}", "check the disk, then open the log again")

    def read(self, start: int | None = None) -> Iterator[LogRecord]:
        """Records from ``start`` (by default the cursor) on, up to what has been appended when each is reached.

        Records in damaged parts are left out; the numbers show the gap.
        """
        position = max(self.cursor if start is None else start, self._segments[0].first)
        while position < self.next_number:
            segment = next(s for s in reversed(self._segments) if s.first <= position)
            at = self._place if self._place[0] == segment.first and self._place[1] <= position else (0, segment.first, 0)
            begin = position
            for record, end in _scan(segment.path, at[1], segment.size, at[2]):
                if record.number >= begin:
                    position = record.number + 1
                    self._place = (segment.first, position, end)
                    yield record
            if position == begin:
                # Nothing sound is left here although more was written: damage, up to the next segment.
                self.skipped += segment.first + segment.count - position
                position = segment.first + segment.count

    def acknowledge(self, number: int) -> None:
        """Records before ``number`` have been dealt with: move the cursor and free segments that lie behind it whole.

        Raises:
            ValueError: ``number`` lies beyond the end.
        """
        if number > self.next_number:
            raise ValueError(f"record {number} does not exist yet")
        if number <= self.cursor:
            return
        self.cursor = number
        temporary = self.directory / (_CURSOR + ".tmp")
        # A cursor that is lost only means that records are read again: readers drop duplicates by (source, seq).
        with suppress(OSError):
            temporary.write_bytes(msgspec.json.encode(_Cursor(number)))
            temporary.replace(self.directory / _CURSOR)
        self._drop_read_segments()

    def close(self) -> None:
        """Sync and release. Idempotent."""
        if self._lock < 0:
            return
        with suppress(LogWriteError):
            self.sync()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _writable(self) -> _Segment:
        """The last segment, open; a new one when it is large enough. Raises OSError."""
        if self._torn:
            self._undo()
        if self._segments[-1].size >= self.segment_bytes:
            self._roll()
        last = self._segments[-1]
        if self._file < 0:
            self._file = os.open(last.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            _sync_directory(self.directory)
        return last

    def _roll(self) -> None:
        """Begin a new segment."""
        with suppress(LogWriteError):
            self.sync()  # appends in the old one may still wait for it; an error is kept for their own sync
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        first = self.next_number
        self._segments.append(_Segment(self.directory / f"{first:020d}.seg", first, 0, 0))

    def _undo(self) -> None:
        """Take back a half-written append. Raises OSError, and is then tried again before the next append."""
        if self._file >= 0:
            self._torn = True
            os.ftruncate(self._file, self._segments[-1].size)
            self._torn = False

    def _recover(self) -> list[_Segment]:
        found = sorted((int(m[1]), p) for p in self.directory.iterdir() if (m := _NAME.fullmatch(p.name)))
        segments: list[_Segment] = []
        for (first, path), following in zip(found, [*(name for name, _ in found[1:]), None], strict=False):
            length = path.stat().st_size
            if following is not None:
                segments.append(_Segment(path, first, following - first, length))
                continue
            count = size = 0
            for record, end in _scan(path, first, length):
                count, size = record.number - first + 1, end
            if size < length:
                self.torn_bytes = length - size
                os.truncate(path, size)
            segments.append(_Segment(path, first, count, size))
        if not segments:
            first = self._read_cursor()
            segments.append(_Segment(self.directory / f"{first:020d}.seg", first, 0, 0))
        return segments

    def _read_cursor(self) -> int:
        path = self.directory / _CURSOR
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Cursor).next
        except FileNotFoundError:
            return 0
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}, byte 0: not a cursor: {error}", "delete it: records are then read from the start"
            ) from error

    def _drop_read_segments(self) -> None:
        while len(self._segments) > 1 and self._segments[1].first <= self.cursor:
            gone = self._segments.pop(0)
            with suppress(OSError):
                gone.path.unlink()
        self.cursor = min(max(self.cursor, self._segments[0].first), self.next_number)


def _checksum(data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(len(data).to_bytes(4, "little")))


def _scan(path: Path, number: int, length: int, offset: int = 0) -> Iterator[tuple[LogRecord, int]]:
    """Sound records between ``offset`` and ``length`` of a segment, each with the byte where it ends, up to the first unsound.

    Args:
        number: Number of the record at ``offset``.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        while offset + _HEAD.size <= length:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            size, checksum = _HEAD.unpack(head)
            offset += _HEAD.size + size
            if offset > length or size > MAX_RECORD:
                return
            data = file.read(size)
            if len(data) < size or _checksum(data) != checksum:
                return
            yield LogRecord(number, data), offset
            number += 1


def _write_all(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
