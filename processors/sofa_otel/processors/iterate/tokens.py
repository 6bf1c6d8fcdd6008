"""TokenWindow: anonymous streams (system calls, ops, spans, kernels) as token sequences, a sequence a thread or device stream.

What an event *is* becomes a 32-bit number (a content hash, so that learned anchors survive a restart): a system call's name
(futex split into wait and wake), an op, a span, a kernel without its template arguments. Return values, sizes and scheduling
are left out; they only add noise. Runs of one token count once, so that a retry loop does not stretch the distance between
what repeats.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Tables, content_hash

SYSCALL: Final = 0
OP: Final = 1
DEVICE: Final = 2
SOURCES: Final = ("perf:syscall", "op", "kernel")
_FAMILY: Final = {
    Kind.SYSCALL: SYSCALL, Kind.CPU_OP: OP, Kind.SPAN: OP, Kind.COLLECTIVE: OP, Kind.GPU_RUNTIME: OP,
    Kind.GPU_KERNEL: DEVICE, Kind.GPU_COPY: DEVICE,
}  # fmt: skip
OPTIMISER: Final = 1
LOAD: Final = 2
_OPTIMISER: Final = re.compile(
    r"optim|adam|adagrad|adadelta|rmsprop|\bsgd|lamb\b|lion\b|multi_tensor_apply|_foreach_|addcdiv|zero_grad|apply_gradients"
    r"|resource_?apply", re.I,
)  # fmt: skip
_NOT_OPTIMISER: Final = re.compile(r"optimized|optimal", re.I)
_LOAD: Final = re.compile(r"HtoD|HostToDevice|Host -> Device|dataloader|data_loader|load_batch|iterator.*next", re.I)
_LOOKUPS: Final = frozenset(
    {"stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64"}
)
_NUMBERED_MARK: Final = re.compile(r"^(ProfilerStep|iteration|step|iter)[ _]?#\s*\d+$", re.I)
_ARGUMENTS: Final = re.compile(r"<.*>|\(.*\)|#\s*\d+$|0x[0-9a-f]+")


def role_of(name: str) -> int:
    """``OPTIMISER`` or ``LOAD`` when a name (with its template arguments) says so, else 0."""
    if _OPTIMISER.search(name) and not _NOT_OPTIMISER.search(name):
        return OPTIMISER
    return LOAD if _LOAD.search(name) else 0


class StreamId(NamedTuple):
    """A thread, or a stream of a device."""

    pid: int
    tid: int
    family: int


class Stream:
    """Tokens of one stream: ``token u32``, ``time_ns i64`` (end of the event), runs collapsed."""

    __slots__ = ("_chunks", "_times", "_tokens", "base", "last", "size")

    def __init__(self) -> None:
        self._tokens: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._times: NDArray[np.int64] = np.empty(0, np.int64)
        self._chunks: list[tuple[NDArray[np.uint32], NDArray[np.int64]]] = []
        self.base = 0  # tokens dropped in front
        self.last = -1
        self.size = 0

    def extend(self, tokens: NDArray[np.uint32], times: NDArray[np.int64]) -> None:
        """Append in order of time."""
        keep = np.concatenate([[int(tokens[0]) != self.last], tokens[1:] != tokens[:-1]])
        self.last = int(tokens[-1])
        self._chunks.append((tokens[keep], times[keep]))
        self.size += int(keep.sum())

    def arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """All tokens and times."""
        if self._chunks:
            self._tokens = np.concatenate([self._tokens, *(tokens for tokens, _ in self._chunks)])
            self._times = np.concatenate([self._times, *(times for _, times in self._chunks)])
            self._chunks = []
        return self._tokens, self._times

    def drop(self, keep: int) -> None:
        """Keep the newest ``keep`` tokens."""
        tokens, times = self.arrays()
        gone = max(0, len(tokens) - keep)
        if gone:
            self._tokens, self._times = tokens[gone:].copy(), times[gone:].copy()
            self.base += gone
            self.size -= gone

    def state(self) -> list[Any]:
        """Plain values."""
        tokens, times = self.arrays()
        return [self.base, self.last, tokens.astype("<u4").tobytes(), times.astype("<i8").tobytes()]

    @classmethod
    def restored(cls, state: list[Any]) -> Stream:
        """Inverse of :meth:`state`."""
        stream = cls()
        stream.base, stream.last = state[0], state[1]
        stream._tokens = np.frombuffer(state[2], "<u4").astype(np.uint32)
        stream._times = np.frombuffer(state[3], "<i8").astype(np.int64)
        stream.size = len(stream._tokens)
        return stream


class TokenWindow:
    """Streams of one rank, bounded together.

    Args:
        tables: Tables of the batches.
        most: Tokens kept over all streams.

    Attributes:
        sampled: Processes of which Python samples were seen.
    """

    def __init__(self, tables: Tables, most: int) -> None:
        self._names: dict[int, str] = {}
        self._tables = tables
        self._most = most
        self._token_of: dict[tuple[int, int], int] = {}
        self.roles: dict[int, int] = {}
        self.streams: dict[StreamId, Stream] = {}
        self.only: StreamId | None = None
        self.sampled: set[int] = set()

    def add(self, batch: EventBatch, python: set[tuple[int, int]]) -> None:
        """Take the rows that make tokens; once ``only`` is set, just that stream's.

        Args:
            batch: Rows by completion.
            python: Threads (pid, tid) seen in Python samples. Of a process that has any, system calls of other threads (the
                probe's own sampler, a library's pool) are left out.
        """
        self.sampled = known = {pid for pid, _ in python}
        kinds = batch.kind
        family = _FAMILIES[kinds]
        rows = np.flatnonzero(family >= 0)
        if not rows.size:
            return
        name, sub = (
            batch.name[rows].astype(np.int64),
            np.where(kinds[rows] == Kind.SYSCALL, batch.subkind[rows], 0).astype(np.int64),
        )
        code = name * 4 + sub
        values, inverse = np.unique(code, return_inverse=True)
        numbers = np.array([self._token(int(value)) for value in values], np.int64)[inverse]
        good = numbers >= 0
        rows, numbers = rows[good], numbers[good]
        pid = batch.pid[rows].astype(np.uint64) & np.uint64(0x3FFFFFFF)  # negative ones occur in traces
        stream_of = (pid << np.uint64(34)) | (batch.tid[rows].astype(np.uint64) << np.uint64(2))
        stream_of |= family[rows].astype(np.uint64)
        ends = batch.end_ns
        for key in np.unique(stream_of).tolist():
            stream_id = StreamId(int(key >> 34), int(key >> 2) & 0xFFFFFFFF, int(key & 3))
            if self.only is not None and stream_id != self.only:
                continue
            thread = (stream_id.pid, stream_id.tid)
            if stream_id.family == SYSCALL and stream_id.pid in known and thread not in python:
                continue
            at = stream_of == key
            self.streams.setdefault(stream_id, Stream()).extend(numbers[at].astype(np.uint32), ends[rows[at]])
        self._bound()

    def follow(self, only: StreamId | None) -> None:
        """Take just one stream from now on and forget the others; None: take all again."""
        if only is not None and self.only != only:
            self.streams = {only: self.streams.get(only, Stream())}
        self.only = only

    def lookups(self, tokens: NDArray[np.uint32]) -> float:
        """Share of the tokens that look a path up (system calls only)."""
        asked = [token for token, name in self._names.items() if name in _LOOKUPS]
        return float(np.mean(np.isin(tokens, np.array(asked, np.uint32)))) if asked and len(tokens) else 0.0

    def used(self, pid: int, tid: int) -> list[str]:
        """Names of a thread's system calls."""
        stream = self.streams.get(StreamId(pid, tid, SYSCALL))
        tokens = np.unique(stream.arrays()[0]).tolist() if stream is not None else []
        return sorted({self._names[token] for token in tokens if token in self._names})

    def state(self) -> list[Any]:
        """Plain values."""
        return [
            list(self.only) if self.only else None,
            self._names,
            self.roles,
            [[list(i), s.state()] for i, s in sorted(self.streams.items())],
        ]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self.only = StreamId(*state[0]) if state[0] else None
        self._names = state[1]
        self.roles = state[2]
        self.streams = {StreamId(*i): Stream.restored(s) for i, s in state[3]}

    def _bound(self) -> None:
        total = sum(stream.size for stream in self.streams.values())
        if total <= self._most:
            return
        if len(self.streams) > 64:
            for stream_id in sorted(self.streams, key=lambda i: self.streams[i].size)[: len(self.streams) - 48]:
                del self.streams[stream_id]
        for stream in self.streams.values():
            stream.drop(max(256, stream.size // 2))

    def _token(self, code: int) -> int:
        found = self._token_of.get((code >> 2, code & 3))
        if found is None:
            symbol = self._tables.symbols[code >> 2]
            if _NUMBERED_MARK.match(symbol.function):
                found = -1
            else:
                plain = _ARGUMENTS.sub("", symbol.function) or symbol.function
                found = content_hash(plain, symbol.module, code & 3) & 0xFFFFFFFF
                if symbol.module == "syscall":
                    self._names[found] = plain
                else:
                    role = role_of(symbol.function)
                    if role:
                        self.roles[found] = role
            self._token_of[code >> 2, code & 3] = found
        return found


_FAMILIES: Final[NDArray[np.int8]] = np.full(256, -1, np.int8)
for _kind, _number in _FAMILY.items():
    _FAMILIES[_kind] = _number
