"""WrapStore: loops seen in sampled stacks, by the lexicographic program counter.

Within one pass of a loop the vector of bytecode offsets of a thread's frames, outermost first, only moves forward. So when
two consecutive samples agree down to some frame and that frame's offset has moved *backward*, the loop around it has begun
again (or the function was entered anew from the same place, which a loop further out must have done). Such a *wrap* lies
between the two samples, and the interval of offsets it jumps over tells nested loops of one function apart.

Stacks are compared once per distinct pair of call paths, so a sample costs a table look-up, not a walk.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.iterate.keys import KeyTable

_BUSY: Final = (Wait.UNKNOWN, Wait.ON_CPU, Wait.GIL)
_IDLE: Final = (Wait.SLEEP, Wait.NETWORK, Wait.CHILD)
_MOST_PAIRS: Final = 65_536
_HALF_LIFE_NS: Final = 5e9
_RATE_HALF_LIFE_NS: Final = 1e9
LEFT: Final = -1
"""Offset "to" of a row that tells that the frame was left: behind every cut, so it ends the cycle like a wrap does."""
ENTERED: Final = -2
"""Offset "from" of a row that tells that the frame was entered: before every cut, so it is no end of a cycle."""


class FrameId(NamedTuple):
    """A frame of one thread: ``chain`` numbers the functions from the root down to it."""

    pid: int
    tid: int
    chain: int


class _Stack(NamedTuple):
    """A call path, prepared: function and offset of each frame, chain number of each, and what its names say."""

    codes: tuple[int, ...]
    offsets: tuple[int, ...]
    chains: tuple[int, ...]
    optimiser: bool
    other: str


class _Move(NamedTuple):
    """From one sample to the next: the outermost frame that moved (chain, from, to), frames left and entered (chain, offset)."""

    moved: tuple[int, int, int] | None
    left: tuple[tuple[int, int], ...]
    entered: tuple[tuple[int, int], ...]


class Wraps:
    """Wraps of one frame: rows of (sample before, sample after, offset it came from, offset it went to); moves forward,
    leaving and entering the function are rows too."""

    __slots__ = ("_chunks", "_rows", "occupied")

    def __init__(self, rows: NDArray[np.int64] | None = None, occupied: dict[int, tuple[int, int]] | None = None) -> None:
        self._rows: NDArray[np.int64] = np.empty((0, 4), np.int64) if rows is None else rows
        self._chunks: list[tuple[int, int, int, int]] = []
        self.occupied: dict[int, tuple[int, int]] = occupied or {}

    @property
    def rows(self) -> NDArray[np.int64]:
        """Shape (n, 4), by time."""
        if self._chunks:
            self._rows = np.concatenate([self._rows, np.array(self._chunks, np.int64)])
            self._chunks = []
        return self._rows

    @rows.setter
    def rows(self, rows: NDArray[np.int64]) -> None:
        self._rows, self._chunks = rows, []

    @property
    def samples(self) -> int:
        """Samples seen in this frame since its first wrap."""
        return sum(count for count, _ in self.occupied.values())

    def first_seen(self, cut: int) -> int:
        """When the loop around ``cut`` was first sampled, 0 when it never was."""
        first, last = self.interval(cut)
        return min((when for offset, (_, when) in self.occupied.items() if first <= offset <= last), default=0)

    def interval(self, cut: int) -> tuple[int, int]:
        """Offsets (first, last) of the loop around ``cut``: where most of the wraps over the cut cross too. A wrap from behind or
        to before them is a loop's further out."""
        crossing = self.crossing(cut)
        offsets = np.unique(self.rows[:, 2:4])
        offsets = offsets[offsets >= 0]
        if not len(crossing) or not len(offsets):
            return 0, 1 << 30
        counts = ((crossing[:, 3][:, None] <= offsets) & (offsets < crossing[:, 2][:, None])).sum(0)
        most = np.flatnonzero(counts >= 0.6 * len(crossing))
        last = min(int(most[-1]) + 1, len(offsets) - 1)
        return int(offsets[most[0]]), int(offsets[last])

    def extend(self, rows: list[tuple[int, int, int, int]], most: int) -> None:
        """Append; keep at most ``most`` of the newest (between ``most`` and half of it)."""
        self._chunks += rows
        if len(self._rows) + len(self._chunks) > most:
            self.rows = self.rows[-(most // 2) :].copy()

    def crossing(self, cut: int) -> NDArray[np.int64]:
        """Wraps over ``cut``: from behind it to before it."""
        return self.rows[(self.rows[:, 3] <= cut) & (cut < self.rows[:, 2])]


class Thread:
    """What is remembered of one sampled thread.

    ``interval`` follows the sampling interval at once, for choosing; ``usual`` lets a moment's disturbance pass, for judging.
    """

    __slots__ = (
        "busy",
        "hits",
        "idle",
        "interval",
        "last_ns",
        "last_path",
        "optimising",
        "others",
        "regime",
        "regime_ns",
        "samples",
        "usual",
        "waits",
    )

    def __init__(self) -> None:
        self.last_path = 0
        self.last_ns = 0
        self.interval = 0.0
        self.usual = 0.0
        self.samples = 0
        self.busy = 0.0
        self.idle = 0.0
        self.waits = 0.0
        self.regime = 0.0  # sampling interval that has held since ``regime_ns``
        self.regime_ns = 0
        self.optimising = False
        self.hits: list[int] = []
        self.others: list[tuple[int, str]] = []

    def state(self) -> list[Any]:
        """Plain values; the last path belongs to the tables and is saved by the snapshot."""
        return [
            self.last_ns,
            self.interval,
            self.samples,
            self.busy,
            self.idle,
            self.optimising,
            self.hits,
            self.others,
            self.waits,
            self.regime,
            self.regime_ns,
            self.usual,
        ]

    @classmethod
    def restored(cls, state: list[Any]) -> Thread:
        """Inverse of :meth:`state`."""
        thread = cls()
        thread.last_ns, thread.interval, thread.samples, thread.busy, thread.idle, thread.optimising, thread.hits = state[:7]
        thread.others = [(when, what) for when, what in state[7]]
        thread.waits, thread.regime, thread.regime_ns, thread.usual = state[8:12]
        return thread


class WrapStore:
    """Wraps of all sampled threads of one rank.

    Args:
        keys: Local numbers.
        tables: Tables of the batches.
        max_frames: Frames kept.
    """

    def __init__(self, keys: KeyTable, tables: Tables, max_frames: int) -> None:
        self._keys = keys
        self._tables = tables
        self._max_frames = max_frames
        self._stacks: dict[int, _Stack] = {}
        self._pairs: dict[int, _Move] = {}
        self._chains: dict[tuple[int, int], int] = {}
        self.chain_rows: list[tuple[int, int]] = []  # (parent chain, code)
        self.frames: dict[FrameId, Wraps] = {}
        self.threads: dict[tuple[int, int], Thread] = {}

    # -- input -----------------------------------------------------------------------------------------------------------------
    def add(self, batch: EventBatch, most: int) -> None:
        """Take the Python samples of a batch (sorted by time), keep ``most`` wraps a frame."""
        rows = np.flatnonzero(batch.kind == Kind.PYTHON_SAMPLE)
        if not rows.size:
            return
        thread_of = (batch.pid[rows].astype(np.uint64) << np.uint64(32)) | batch.tid[rows]
        for key in np.unique(thread_of).tolist():
            at = rows[thread_of == key]
            self._add_thread(int(key >> 32), int(key & 0xFFFFFFFF), batch, at, most)
        if len(self.frames) > self._max_frames:
            order = sorted(self.frames, key=lambda frame: int(self.frames[frame].rows[-1, 1]))
            for frame in order[: len(self.frames) - self._max_frames * 3 // 4]:
                del self.frames[frame]

    def _add_thread(self, pid: int, tid: int, batch: EventBatch, at: NDArray[np.intp], most: int) -> None:
        thread = self.threads.get((pid, tid))
        if thread is None:
            if len(self.threads) >= 64:
                del self.threads[min(self.threads, key=lambda key: self.threads[key].last_ns)]
            thread = self.threads[pid, tid] = Thread()
        when, path, spans = batch.start_ns[at], batch.path[at].astype(np.int64), batch.duration_ns[at]
        main = self.threads.get((pid, pid)) if tid != pid else None
        usual = main.interval if main is not None else 0.0
        self._weigh(thread, when, spans, batch.subkind[at], usual)
        before = np.concatenate([[thread.last_path], path[:-1]])
        # A thread that stays where it is makes one long row: it was still there at the last sample before the next one.
        seen = when + np.maximum(spans - int(usual), 0) if usual else when
        since = np.concatenate([[thread.last_ns], np.minimum(seen[:-1], when[1:])])
        moved = np.flatnonzero((path != before) & (before != 0) & (path != 0))
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        for i in moved.tolist():
            low, high = int(since[i]), int(when[i])
            move = self._compare(int(before[i]), int(path[i]))
            if move.moved is not None:
                chain, origin, target = move.moved
                if target < origin or chain in found or FrameId(pid, tid, chain) in self.frames:
                    found.setdefault(chain, []).append((low, high, origin, target))
            for chain, offset in move.left:
                if chain in found or FrameId(pid, tid, chain) in self.frames:
                    found.setdefault(chain, []).append((low, high, offset, LEFT))
            for chain, offset in move.entered:
                if chain in found or FrameId(pid, tid, chain) in self.frames:
                    found.setdefault(chain, []).append((low, high, ENTERED, offset))
        for chain, wraps in found.items():
            frame = FrameId(pid, tid, chain)
            self.frames.setdefault(frame, Wraps()).extend(wraps, most)
        self._names(pid, tid, thread, when, path)
        thread.last_path, thread.last_ns = int(path[-1]), int(when[-1])

    def _weigh(
        self, thread: Thread, when: NDArray[np.int64], spans: NDArray[np.int64], wait: NDArray[np.uint8], usual: float
    ) -> None:
        gap = float(when[-1] - (thread.last_ns or when[0]))
        fade = 0.5 ** (gap / _HALF_LIFE_NS)
        weight = np.maximum(spans, 1).astype(np.float64)
        idle = float(weight[np.isin(wait, _IDLE)].sum())
        thread.busy = thread.busy * fade + float(weight.sum()) - idle
        thread.idle = thread.idle * fade + idle
        thread.waits = thread.waits * fade + float(weight[~np.isin(wait, _BUSY)].sum())
        if thread.last_ns and len(when):
            mean = min(gap / len(when), usual or gap)
            thread.interval = (
                mean if not thread.interval else thread.interval + 0.1 * min(len(when), 5) * (mean - thread.interval)
            )
            fresh = 1.0 - 0.5 ** (gap / _RATE_HALF_LIFE_NS) if thread.usual else 1.0
            thread.usual += fresh * (mean - thread.usual)
        thread.samples += len(when)
        if not 0.4 * thread.regime < thread.interval < 2.5 * thread.regime:
            thread.regime, thread.regime_ns = thread.interval, int(when[0])

    def _names(self, pid: int, tid: int, thread: Thread, when: NDArray[np.int64], path: NDArray[np.int64]) -> None:
        values, firsts, inverse, counts = np.unique(path, return_index=True, return_inverse=True, return_counts=True)
        stacks = [self._stack(int(value)) for value in values]
        begins = when[firsts].tolist()
        for stack, count, begin in zip(stacks, counts.tolist(), begins, strict=True):
            for chain, offset in zip(stack.chains, stack.offsets, strict=True):
                wraps = self.frames.get(FrameId(pid, tid, chain))
                if wraps is not None:
                    known, since = wraps.occupied.get(offset, (0, begin))
                    wraps.occupied[offset] = (known + count, since)
        flags = np.array([stack.optimiser for stack in stacks])[inverse]
        rising = flags & ~np.concatenate([[thread.optimising], flags[:-1]])
        thread.hits += when[rising].tolist()
        thread.optimising = bool(flags[-1])
        del thread.hits[:-512]
        if any(stack.other for stack in stacks):
            names = [stack.other for stack in stacks]
            thread.others += [(int(w), names[i]) for w, i in zip(when.tolist(), inverse.tolist(), strict=True) if names[i]]
            del thread.others[:-512]

    # -- stacks ----------------------------------------------------------------------------------------------------------------
    def _stack(self, path: int) -> _Stack:
        found = self._stacks.get(path)
        if found is not None:
            return found
        symbols = self._tables.symbols
        codes, offsets, chains = [], [], []
        optimiser, other, chain = False, "", -1
        for symbol in self._tables.paths.frames(path):
            code = self._keys.number(symbols, symbol, code=True)
            chain = self._chain(chain, code)
            codes.append(code)
            offsets.append(symbols[symbol].offset)
            chains.append(chain)
            role = self._keys.role(code)
            optimiser = optimiser or role.optimiser == 2
            other = other or (role.other if len(codes) > 1 else "")
        if not any(offsets):  # recordings of samplers that know no instructions: lines are coarser, and do
            offsets = [symbols[symbol].line for symbol in self._tables.paths.frames(path)]
        if len(self._stacks) > _MOST_PAIRS:
            self._stacks.clear()
            self._pairs.clear()
        found = self._stacks[path] = _Stack(tuple(codes), tuple(offsets), tuple(chains), optimiser, other)
        return found

    def _chain(self, parent: int, code: int) -> int:
        found = self._chains.get((parent, code))
        if found is None:
            found = self._chains[parent, code] = len(self.chain_rows)
            self.chain_rows.append((parent, code))
        return found

    def restore_chains(self, rows: list[tuple[int, int]]) -> None:
        """Take over chain numbers (parent chain, code)."""
        self.chain_rows = list(rows)
        self._chains = {row: number for number, row in enumerate(rows)}

    def codes(self, chain: int) -> list[int]:
        """Functions from the root down to a frame."""
        out: list[int] = []
        while chain >= 0:
            chain, code = self.chain_rows[chain]
            out.append(code)
        out.reverse()
        return out

    def _compare(self, before: int, after: int) -> _Move:
        """What changed between two call paths."""
        pair = (before << 32) | after
        found = self._pairs.get(pair)
        if found is not None:
            return found
        old, new = self._stack(before), self._stack(after)
        shared = 0
        move: tuple[int, int, int] | None = None
        for chain, offset, was, then in zip(new.chains, new.offsets, old.chains, old.offsets, strict=False):
            if was != chain:
                break
            shared += 1
            if then != offset:
                move = (chain, then, offset)
                break
        left = tuple(zip(old.chains[shared:], old.offsets[shared:], strict=True))
        entered = tuple(zip(new.chains[shared:], new.offsets[shared:], strict=True))
        if len(self._pairs) > _MOST_PAIRS:
            self._pairs.clear()
        found = self._pairs[pair] = _Move(move, left, entered)
        return found

    # -- upkeep ----------------------------------------------------------------------------------------------------------------
    def idle(self) -> dict[tuple[int, int], float]:
        """Share of recent time each thread slept; all of it when it merely waits for another thread that works."""
        known = {key: t for key, t in self.threads.items() if t.idle + t.busy > 0 and t.samples >= 8}
        waits = {key: t.waits / (t.idle + t.busy) for key, t in known.items()}
        out = {}
        for key, thread in known.items():
            attends = waits[key] > 0.93 and any(pid == key[0] and waits[pid, tid] < 0.5 for pid, tid in known if tid != key[1])
            out[key] = 1.0 if attends else thread.idle / (thread.idle + thread.busy)
        return out

    def hits(self) -> dict[tuple[int, int], list[int]]:
        """Instants at which each thread was found in an optimiser."""
        return {key: thread.hits for key, thread in self.threads.items() if thread.hits}

    def prune(self, before_ns: int, keep: int) -> None:
        """After a lock: forget wraps the tracker has passed, beyond the newest ``keep`` a frame."""
        for frame in list(self.frames):
            rows = self.frames[frame].rows
            fresh = max(int((rows[:, 1] >= before_ns).sum()), min(keep, len(rows)))
            self.frames[frame].rows = rows[-fresh:]
            if len(self.frames[frame].occupied) > 256:
                self.frames[frame].occupied = {}
        for thread in self.threads.values():
            del thread.hits[:-128]
            del thread.others[:-128]
