"""Snapshot: the detector's state as bytes, independent of symbol tables and small after a lock.

Numbers of symbols and call paths mean nothing in another process, so a snapshot carries the symbols themselves, and only
those that it refers to. After a lock it holds what tracking needs; before, also the learn window.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import NO_PATH, Symbol, Tables
from sofa_otel.processors.iterate.keys import KeyTable
from sofa_otel.processors.iterate.plan import Plan
from sofa_otel.processors.iterate.trains import LOOP, Train, TrainId, TrainStore
from sofa_otel.processors.iterate.wraps import FrameId, Thread, Wraps, WrapStore

STATE_VERSION: Final = 2
_MOST_TRAINS: Final = 128
_MOST_BEATS: Final = 96


class Packer:
    """Renumbers what a snapshot refers to."""

    def __init__(self, keys: KeyTable) -> None:
        self._keys = keys
        self._numbers: dict[int, int] = {}

    def number(self, key: int) -> int:
        """New number of a local number."""
        return self._numbers.setdefault(key, len(self._numbers))

    def rows(self) -> list[list[Any]]:
        """The symbols, by new number."""
        return [list(self._keys.rows[key]) for key in self._numbers]


def pack_plan(plan: Plan, packer: Packer, chains: dict[int, int]) -> dict[str, Any]:
    """A plan with new numbers."""
    out: dict[str, Any] = msgspec.to_builtins(plan)
    if plan.mode == "wrap":
        out["beat"] = chains.get(plan.beat, -1)  # a plan that is not followed any more has no frame
    elif plan.mode != "vote":
        out["beat"] = packer.number(plan.beat)
    out["markers"] = [packer.number(key) for key in plan.markers]
    out["usual"] = [packer.number(key) for key in plan.usual]
    return out


def pack_trains(store: TrainStore, plan: Plan | None, packer: Packer) -> list[Any]:
    """Trains; after a lock those of the leader, the tracked ones first."""
    items = list(store.trains.items())
    if plan is not None:
        wanted = {plan.beat, *plan.markers}
        items = [item for item in items if (item[0].pid, item[0].tid) == (plan.pid, plan.tid)]

        def order(item: tuple[TrainId, Train]) -> tuple[bool, bool, int]:
            train_id, train = item
            return (train_id.key not in wanted, train.family == LOOP, -int(train.times[-1]))

        keep = {train_id for train_id, _ in sorted(items, key=order)[:_MOST_TRAINS]}
        items = [item for item in items if item[0] in keep]
        for _, train in items:
            train.forget_before_count(_MOST_BEATS)
    return [[i.pid, i.tid, packer.number(i.key), train.state()] for i, train in items]


def unpack_trains(store: TrainStore, state: list[Any]) -> None:
    """Inverse of :func:`pack_trains`."""
    store.trains = {TrainId(pid, tid, key): Train.restored(train) for pid, tid, key, train in state}


def pack_wraps(store: WrapStore, tables: Tables, plan: Plan | None, packer: Packer) -> tuple[list[Any], dict[int, int]]:
    """Frames and threads; after a lock on samples only the tracked frame, on anything else none.

    Returns:
        The state and the new numbers of chains.
    """
    frames = dict(store.frames)
    if plan is not None:
        wanted = FrameId(plan.pid, plan.tid, plan.beat)
        frames = {frame: wraps for frame, wraps in frames.items() if plan.mode == "wrap" and frame == wanted}
    chains: dict[int, int] = {}
    rows: list[list[int]] = []

    def chain_number(chain: int) -> int:
        if chain < 0:
            return -1
        found = chains.get(chain)
        if found is None:
            parent, code = store.chain_rows[chain]
            above = chain_number(parent)
            found = chains[chain] = len(rows)
            rows.append([above, packer.number(code)])
        return found

    kept = [
        [frame.pid, frame.tid, chain_number(frame.chain), wraps.rows.astype("<i8").tobytes(), wraps.occupied]
        for frame, wraps in frames.items()
    ]
    threads = []
    for key, thread in store.threads.items():
        path = [list(tables.symbols[symbol]) for symbol in tables.paths.frames(thread.last_path)]
        threads.append([*key, path, thread.state()])
    return [rows, kept, threads], chains


def unpack_wraps(store: WrapStore, tables: Tables, state: list[Any]) -> None:
    """Inverse of :func:`pack_wraps`."""
    rows, kept, threads = state
    store.restore_chains([(parent, code) for parent, code in rows])
    for pid, tid, chain, blob, occupied in kept:
        table = np.frombuffer(blob, "<i8").astype(np.int64).reshape(-1, 4)
        store.frames[FrameId(pid, tid, chain)] = Wraps(
            table, {offset: (count, when) for offset, (count, when) in occupied.items()}
        )
    for pid, tid, path, thread_state in threads:
        thread = Thread.restored(thread_state)
        thread.last_path = (
            tables.paths.intern_frames(tables.symbols.intern_symbol(Symbol(*row)) for row in path) if path else NO_PATH
        )
        store.threads[pid, tid] = thread


def encode(state: dict[str, Any]) -> bytes:
    """MessagePack; numpy scalars become plain numbers."""
    return msgspec.msgpack.encode(state, enc_hook=lambda value: value.item())


def decode(data: bytes) -> dict[str, Any]:
    """Inverse of :func:`encode`.

    Raises:
        InputError: Not a snapshot, or one of another version.
    """
    try:
        state: dict[str, Any] = msgspec.msgpack.decode(data, type=dict)
    except msgspec.MsgspecError as error:
        raise InputError(f"detector state: {error}", "start without a saved state") from error
    if state.get("version") != STATE_VERSION:
        raise InputError(
            f"detector state: version {state.get('version')}, this program reads {STATE_VERSION}", "start without a saved state"
        )
    return state
