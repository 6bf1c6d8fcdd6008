"""``perf.data``, the binary file of ``perf record``: samples of the CPU, system calls, the scheduler.

perf writes CPU by CPU and says at the end of each round that nothing older than the round before will come: up to there rows
can be told. Fields are read as columns from blocks of records; only the rare records (mappings, forks) are looked at one by
one. Times are the epoch's when the recording holds its clock's offset (``perf record -k``), its own otherwise.
"""

from __future__ import annotations

import os
import struct
import tempfile
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.perf_data_attr import (
    CPU,
    ID,
    IDENTIFIER,
    IP,
    TID,
    TIME,
    TRACEPOINT,
    main_event,
    variable_parts,
)  # fmt: skip
from sofa_otel.exporters.read.perf_data_borders import ATTR
from sofa_otel.exporters.read.perf_data_cpu import Change, CpuRows, Samples, chains, durations
from sofa_otel.exporters.read.perf_data_header import (
    PIPE_HEADER,
    Recording,
    check_magic,
    is_pipe,
    read_file_header,
)  # fmt: skip
from sofa_otel.exporters.read.perf_data_losses import Losses
from sofa_otel.exporters.read.perf_data_points import Points
from sofa_otel.exporters.read.perf_data_rows import Output
from sofa_otel.exporters.read.perf_data_scan import FINISHED_ROUND, SAMPLE, Block, Scanner, Tracing
from sofa_otel.exporters.read.source import ByteSource

CHUNK: Final = 1 << 20
_MOST_WAITING: Final = 1_000_000
_LATEST: Final = 1 << 62
_MMAP, _LOST, _COMM, _EXIT, _FORK, _MMAP2, _LOST_SAMPLES = 1, 2, 3, 4, 7, 10, 13
_UPDATE: Final = 78
_FEATURE: Final = 80
_NAME: Final = 2
_RARE: Final = np.zeros(256, bool)
_RARE[[_MMAP, _LOST, _COMM, _EXIT, _FORK, _MMAP2, _LOST_SAMPLES]] = True
_META: Final = np.zeros(256, bool)
_META[[ATTR, _UPDATE, _FEATURE]] = True
_EXEC: Final = 1 << 13


def read_perf_data(source: ByteSource, sink: ImportSink) -> None:
    """Deliver everything in a ``perf.data``.

    Args:
        source: A file, or what a pipe brought; a file that is compressed or comes from a pipe is put on disk first, because what
            its tracepoints mean stands at its end.
        sink: Where batches go.

    Raises:
        InputError: It is of another byte order, or no event in it can be read.
    """
    head = source.head(PIPE_HEADER)
    check_magic(head, source.name)
    if is_pipe(head):
        source.read(PIPE_HEADER)
        reader = _Reader(Recording(), sink, source.name, PIPE_HEADER)
        for chunk in source.chunks(CHUNK):
            reader.take(chunk)
        reader.finish(source.damage)
        return
    with _seekable(source) as file:
        length = file.seek(0, os.SEEK_END)
        recording, start, size = read_file_header(file, length, source.name)
        file.seek(start)
        reader = _Reader(recording, sink, source.name, start)
        while size > 0 and (chunk := file.read(min(size, CHUNK))):
            size -= len(chunk)
            reader.take(chunk)
        reader.finish(source.damage, complete=start + size < length)


def _seekable(source: ByteSource) -> BinaryIO:
    if str(source.path) != "-" and not source.compression and source.path.is_file():
        return source.path.open("rb")
    copy = tempfile.TemporaryFile(prefix="sofa-")  # noqa: SIM115 - the caller closes it
    for chunk in source.chunks(CHUNK):
        copy.write(chunk)
    return copy


class _Reader:
    """Blocks in, rows out."""

    def __init__(self, recording: Recording, sink: ImportSink, name: str, start: int) -> None:
        self._recording, self._sink, self._name = recording, sink, name
        self._scanner = Scanner(start)
        self._output = Output(recording, sink, "perf")
        self._cpu = CpuRows(self._output)
        self._points = Points(self._output)
        self._version = -1
        self._rounds = 0
        self._seen = self._settled = self._limit = self._next = -1
        self._file_order = 0
        self._losses = Losses()

    def take(self, chunk: bytes) -> None:
        """Read the next bytes and deliver what is settled."""
        for part in self._scanner.feed(chunk):
            if isinstance(part, Tracing):
                self._recording.add_feature(1, part.data)
            else:
                self._block(part)
        waiting = self._cpu.size + self._points.size
        if self._limit > self._settled:
            self._settled = self._limit
            self._deliver(self._limit + 1)
        elif waiting > (4 if self._rounds else 1) * _MOST_WAITING:
            self._deliver(self._seen + 1)  # no rounds: it was sorted, or has one buffer

    def finish(self, damage: str, *, complete: bool = True) -> None:
        """Deliver the rest, and say what was lost.

        Raises:
            InputError: Not one sample or record could be read.
        """
        self._deliver(_LATEST)
        self._points.finish(max(self._seen, 0))
        scanner, name = self._scanner, self._name
        if not self._recording.attrs:
            raise InputError(f"{name}, byte {scanner.position}: no event can be read", "record again")
        losses = self._losses.told(scanner, damage, complete=complete)
        if losses and not self._output.rows:
            raise InputError(f"{name}, {losses[0]}; nothing in it could be read", "record again")
        for loss in losses:
            self._sink.warn(f"{name}, {loss}")

    def _deliver(self, cut: int) -> None:
        self._cpu.flush(cut)
        self._points.flush(cut)

    # -- blocks ----------------------------------------------------------------------------------------------------------------
    def _block(self, block: Block) -> None:
        kind = np.minimum(block.kind, 255)
        for index in np.flatnonzero(_META[kind]).tolist():
            self._meta(block, index)
        if self._version != self._recording.version:
            self._learn()
        if not self._recording.attrs:
            return
        for index in np.flatnonzero(_RARE[kind]).tolist():
            self._rare(block, index)
        sampled = np.flatnonzero(kind == SAMPLE)
        at, end = block.at[sampled], block.end[sampled]
        which = self._which(block.words, at, end)
        time = _field(block.words, at + self._time_word[which], self._time_word[which] > 0, end).view(np.int64)
        self._advance(time, sampled, np.flatnonzero(kind == FINISHED_ROUND))
        for index in range(len(self._recording.attrs)) if len(self._recording.attrs) < 8 else np.unique(which).tolist():
            mine = which == index
            if mine.all():
                self._decode(index, block, at, end, time)
                break
            if mine.any():
                self._decode(index, block, at[mine], end[mine], time[mine])

    def _learn(self) -> None:
        recording = self._recording
        self._version = recording.version
        self._points.learn(recording)
        attrs = recording.attrs
        self._time_word = np.array([attr.word(TIME) for attr in attrs], np.int64)
        self._id_word = next((word for attr in attrs if (word := attr.word(IDENTIFIER) or attr.word(ID))), 0)
        ids = sorted(recording.of_id)
        self._ids = np.array(ids, np.uint64)
        self._index = np.array([recording.of_id[number] for number in ids], np.int64)
        self._main = main_event(attrs)

    def _which(self, words: NDArray[np.uint64], at: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Event of each sample."""
        if len(self._recording.attrs) == 1 or not self._id_word or not len(self._ids):
            return np.zeros(len(at), np.int64)
        number = _field(words, at + self._id_word, True, end)
        place = np.minimum(np.searchsorted(self._ids, number), len(self._ids) - 1)
        known = self._ids[place] == number
        self._losses.damaged += len(known) - int(known.sum())
        return np.where(known, self._index[place], -1)

    def _advance(self, time: NDArray[np.int64], sampled: NDArray[np.int64], rounds: NDArray[np.int64]) -> None:
        """When a round ends, nothing older than the newest record of the round before it will come."""
        newest = np.maximum.accumulate(np.where((time < _LATEST) & (time >= 0), time, -1))

        def seen_at(mark: int) -> int:
            count = int(np.searchsorted(sampled, mark))
            return max(self._seen, int(newest[count - 1]) if count else -1)

        if len(rounds):
            self._limit = seen_at(int(rounds[-2])) if len(rounds) > 1 else self._next
            self._next = seen_at(int(rounds[-1]))
            self._rounds += len(rounds)
        if len(newest):
            self._seen = max(self._seen, int(newest[-1]))

    def _decode(self, index: int, block: Block, at: NDArray[np.int64], end: NDArray[np.int64], time: NDArray[np.int64]) -> None:
        attr, words = self._recording.attrs[index], block.words
        if attr.kind != TRACEPOINT and index not in self._main:
            self._losses.unused[self._recording.event_name(index)] += len(at)
            return
        good = (at + attr.fixed_words <= end) & (time >= 0) & (time < _LATEST)
        parts = variable_parts(attr, words, at, end)
        good &= parts.fits
        if not good.all():
            self._losses.damaged += len(good) - int(good.sum())
            at, end, time = at[good], end[good], time[good]
            parts = parts.take(good)
        if not len(at):
            return
        half = words.view(np.uint32)
        word = attr.word(TID)
        pid = half[2 * (at + word)] if word else np.zeros(len(at), np.uint32)
        tid = half[2 * (at + word) + 1] if word else pid
        cpu = half[2 * (at + attr.word(CPU))].astype(np.int16) if attr.word(CPU) else np.full(len(at), -1, np.int16)
        if attr.kind == TRACEPOINT:
            bad = self._points.take(index, words, parts.raw, end, time, pid, tid, cpu) if parts.raw.any() else None
            if bad is None:
                self._losses.unused[self._recording.event_name(index)] += len(at)
            else:
                self._losses.damaged += bad
            return
        ip = words[at + attr.word(IP)] if attr.word(IP) else np.zeros(len(at), np.uint64)
        duration, gap = durations(attr, words, at)
        if not attr.word(TIME):
            self._losses.timeless += len(at)
            time = self._file_order + np.cumsum(duration) - duration
            self._file_order += int(duration.sum())
        length, chain = chains(words, ip, parts.chain, parts.chain_length)
        found = Samples(time, pid, tid, cpu, duration, np.full(len(at), gap), length, chain)
        idle = pid == 0  # the idle task: no time of anybody
        self._cpu.add(found.take(np.flatnonzero(~idle)) if idle.any() else found)

    # -- single records --------------------------------------------------------------------------------------------------------
    def _meta(self, block: Block, index: int) -> None:
        data = _bytes(block, index)
        if block.kind[index] == ATTR:
            size = struct.unpack_from("<I", data, 12)[0] if len(data) >= 16 else 0
            if not self._recording.add_attr(data[8 : 8 + size], data[8 + size :]):
                self._losses.damaged += 1
        elif block.kind[index] == _FEATURE and len(data) >= 16:
            self._recording.add_feature(struct.unpack_from("<Q", data, 8)[0], data[16:])
        elif block.kind[index] == _UPDATE and len(data) >= 24:
            what, number = struct.unpack_from("<QQ", data, 8)
            if what == _NAME and number in self._recording.of_id:
                self._recording.name(number, data[24:])

    def _rare(self, block: Block, index: int) -> None:
        data, kind = _bytes(block, index), int(block.kind[index])
        time = self._time_of(block, index)
        if kind == _LOST and len(data) >= 24:
            self._losses.lost += min(struct.unpack_from("<Q", data, 16)[0], 1 << 40)
        elif kind == _LOST_SAMPLES and len(data) >= 16:
            self._losses.lost += min(struct.unpack_from("<Q", data, 8)[0], 1 << 40)
        elif kind in (_MMAP, _MMAP2) and len(data) >= (40 if kind == _MMAP else 72):
            pid, _, start, length, offset = struct.unpack_from("<IIQQQ", data, 8)
            path = data[40 if kind == _MMAP else 72 :].split(b"\0", 1)[0].decode("utf-8", "replace")
            new = self._cpu.mapping(pid, start, length, offset, path)
            if new is not None:
                self._cpu.change(Change(time, pid, new))
        elif kind == _COMM and len(data) >= 16 and int(block.misc[index]) & _EXEC:
            self._cpu.change(Change(time, struct.unpack_from("<I", data, 8)[0]))
        elif kind in (_FORK, _EXIT) and len(data) >= 32:
            pid, parent, tid, _, when = struct.unpack_from("<IIIIQ", data, 8)
            if kind == _FORK and pid != parent:
                self._cpu.change(Change(time, pid, parent=parent))
            elif kind == _EXIT and when < _LATEST:
                self._points.gone(tid, when)

    def _time_of(self, block: Block, index: int) -> int:
        """Time of a record that is no sample; 0 (before everything) where it has none."""
        attrs, end = self._recording.attrs, int(block.end[index])
        attr = attrs[0]
        if attr.trailer_word(IDENTIFIER):
            attr = attrs[self._recording.of_id.get(int(block.words[end - 1]), 0)]
        back = attr.trailer_word(TIME)
        place = end - back
        time = int(block.words[place]) if back and place > block.at[index] else 0
        return time if time < _LATEST else 0


def _field(words: NDArray[np.uint64], at: NDArray[np.int64], there: Any, end: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Words, 0 where there are none."""
    inside = (at < end) & there
    return np.where(inside, words[np.where(inside, at, 0)], np.uint64(0)) if len(at) else np.empty(0, np.uint64)


def _bytes(block: Block, index: int) -> bytes:
    start = int(block.at[index]) * 8
    return block.data[start : start + int(block.words[block.at[index]] >> np.uint64(48))]
