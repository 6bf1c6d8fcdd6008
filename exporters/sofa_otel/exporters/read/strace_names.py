"""CallNames: the system calls of a recording by number, with what their arguments and results mean."""

from __future__ import annotations

import re
from enum import IntFlag
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.symbols import SymbolTable
from sofa_otel.exporters.collect.syscall_names import ON_DESCRIPTOR, TRANSFERS
from sofa_otel.exporters.read.strace_scan import Places, Scan, below, count_until

UNKNOWN: Final = -1
_CAPACITY: Final = 4096
"""Names kept; a recording has a few dozen, noise is not remembered beyond this."""

_NAME: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,31}")
_BY_NUMBER: Final = re.compile(rb"(?:syscall|SYS)_(0x[0-9a-f]+|\d+)")
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_SLOTS: Final = 16


class Trait(IntFlag):
    """What is read of a call besides its times."""

    MOVES = 1
    """Returns a number of bytes."""
    ON_FD = 2
    """The first argument is a descriptor."""
    FUTEX = 4
    """The second argument is a futex operation."""
    BIRTH = 32
    """Returns a new thread or process."""
    TELLS_PID = 64
    """Returns the calling process."""
    TELLS_TID = 128
    """Returns the calling thread."""
    WAITS = 256
    WAKES = 512


_TRAITS: Final[dict[str, Trait]] = (
    dict.fromkeys(TRANSFERS, Trait.MOVES)
    | {name: Trait.ON_FD | (Trait.MOVES if name in TRANSFERS else Trait(0)) for name in ON_DESCRIPTOR}
    | dict.fromkeys(("clone", "clone2", "clone3", "fork", "vfork"), Trait.BIRTH)
    | dict.fromkeys(("gettid", "set_tid_address"), Trait.TELLS_TID)
    | {
        "futex": Trait.FUTEX,
        "futex_time64": Trait.FUTEX,
        "futex_wait": Trait.WAITS,
        "futex_waitv": Trait.WAITS,
        "futex_wake": Trait.WAKES,
        "getpid": Trait.TELLS_PID,
    }
)


class CallNames:
    """Learns names as they come.

    Args:
        symbols: Where they are interned, under module ``syscall``.

    Attributes:
        symbol: ``u32`` symbol id by number.
        trait: ``u16`` :class:`Trait` bits by number.
    """

    def __init__(self, symbols: SymbolTable) -> None:
        self._symbols = symbols
        self.symbol = np.zeros(_CAPACITY, np.uint32)
        self.trait = np.zeros(_CAPACITY, np.uint16)
        self._ids: dict[int, int] = {}
        self._known = 0
        self._slot_key = np.zeros(1 << _SLOTS, np.uint64)
        self._slot_id = np.full(1 << _SLOTS, UNKNOWN, np.int32)

    def read(self, scan: Scan, at: Places, until: int) -> tuple[NDArray[np.int32], Places]:
        """``(number, place of the ending byte)`` of the names that stand at ``at``; :data:`UNKNOWN` for what is no name.

        Up to eight bytes a step are folded into a 64-bit key. Keys of names up to eight bytes are one-to-one; two longer ones
        that share a key would have to be made for it.
        """
        word = scan.word(at)
        length = count_until(word, until)
        key = (word & below(length)) * _MIX
        longer = np.flatnonzero(length == 8)
        for step in (8, 16, 24):
            if not len(longer):
                break
            word = scan.word(at[longer] + step)
            count = count_until(word, until)
            key[longer] = (key[longer] + (word & below(count))) * _MIX
            length[longer] += count
            longer = longer[count == 8]
        slot = (key >> np.uint64(64 - _SLOTS)).astype(np.int64)
        number = self._slot_id[slot]
        missing = np.flatnonzero(self._slot_key[slot] != key)
        if len(missing):
            number[missing] = self._look_up(scan, at[missing], length[missing], key[missing])
        number[longer] = UNKNOWN
        return number, at + length

    def _look_up(self, scan: Scan, at: Places, length: Places, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        ids = np.full(len(unique), UNKNOWN, np.int32)
        for i, (key, row) in enumerate(zip(unique.tolist(), first.tolist(), strict=True)):
            found = self._ids.get(key)
            if found is None:
                begin = int(at[row])
                found = self._learn(scan.data[begin : begin + int(length[row])], key)
            ids[i] = found
        return ids[inverse]

    def _learn(self, name: bytes, key: int) -> int:
        if len(self._ids) >= _CAPACITY:
            return UNKNOWN
        number = UNKNOWN
        if _NAME.fullmatch(name):
            number, self._known = self._known, self._known + 1
            text = name.decode("ascii")
            if by_number := _BY_NUMBER.fullmatch(name):
                text = f"syscall_{int(by_number[1], 0)}"
            self.symbol[number] = self._symbols.intern(text, "syscall")
            self.trait[number] = _TRAITS.get(text, 0)
        self._ids[key] = number
        slot = key >> (64 - _SLOTS)
        if self._slot_key[slot] == 0:
            self._slot_key[slot], self._slot_id[slot] = key, number
        return number
