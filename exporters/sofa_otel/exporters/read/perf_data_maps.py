"""Which shared object is where in which process: from addresses to symbols that are the same in every run.

An address becomes ``0x<offset in the object's file>`` with the object as module: neither address-space randomisation nor the
process shows. Nothing is read but the recording; the objects themselves need not be here.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.symbols import SymbolTable

KERNEL: Final = 0xFFFFFFFF
"""Process id of the kernel's own mappings."""

_MOST_SPACES: Final = 4096
_MOST_SYMBOLS: Final = 2_000_000
_PAGE: Final = 0xFFF
_JIT: Final = re.compile(r"^(jitted-\d+-\d+\.so|perf-\d+\.map)$")
_UNKNOWN: Final = 0


class Mapping(NamedTuple):
    """A range of addresses: ``start``, ``end``, what to add to an address to get the offset, number of the module."""

    start: int
    end: int
    shift: int
    module: int


class Space:
    """Mappings of one process, without overlap."""

    __slots__ = ("_arrays", "maps", "starts")

    def __init__(self, other: Space | None = None) -> None:
        self.starts: list[int] = list(other.starts) if other else []
        self.maps: list[Mapping] = list(other.maps) if other else []
        self._arrays: tuple[NDArray[np.uint64], ...] | None = None

    def _overlap(self, new: Mapping) -> tuple[int, int]:
        first = bisect_right(self.starts, new.start)
        if first and self.maps[first - 1].end > new.start:
            first -= 1
        return first, bisect_left(self.starts, new.end)

    def contradicts(self, new: Mapping) -> bool:
        """Whether an address that was mapped would mean something else with ``new``."""
        first, last = self._overlap(new)
        return any(old.module != new.module or old.shift != new.shift for old in self.maps[first:last])

    def add(self, new: Mapping) -> None:
        """Map a range; what it covers is not mapped any more."""
        first, last = self._overlap(new)
        old = self.maps[first:last]
        if len(old) == 1 and old[0] == new:
            return
        put = [new]
        if old and old[0].start < new.start:
            put.insert(0, old[0]._replace(end=new.start))
        if old and old[-1].end > new.end:
            put.append(old[-1]._replace(start=new.end))
        self.maps[first:last] = put
        self.starts[first:last] = [mapping.start for mapping in put]
        self._arrays = None

    def find(self, address: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Module numbers (0: not mapped) and offsets."""
        if not self.maps:
            return np.zeros(len(address), np.int64), address
        if self._arrays is None:
            rows = self.maps
            self._arrays = (
                np.array([m.start for m in rows], np.uint64),
                np.array([m.end for m in rows], np.uint64),
                np.array([m.shift & 0xFFFFFFFFFFFFFFFF for m in rows], np.uint64),
                np.array([m.module for m in rows], np.uint64),
            )
        starts, ends, shift, module = self._arrays
        at = np.searchsorted(starts, address, side="right") - 1
        inside = (at >= 0) & (address < ends[at])
        return np.where(inside, module[at], 0).astype(np.int64), np.where(inside, address + shift[at], address)


class Spaces:
    """Mappings of all processes.

    Args:
        symbols: Table that symbols go to.
    """

    def __init__(self, symbols: SymbolTable) -> None:
        self._symbols = symbols
        self._spaces: dict[int, Space] = {KERNEL: Space()}
        self._modules: dict[str, int] = {"[unknown]": _UNKNOWN}
        self._names = ["[unknown]"]
        self._paged = {_UNKNOWN}
        self._known: dict[int, int] = {}

    def mapping(self, pid: int, start: int, length: int, offset: int, path: str) -> Mapping | None:
        """A mapping as a record tells it; None when it makes no sense."""
        end = start + length
        if not 0 < length < 1 << 64 or end > 1 << 64:
            return None
        # The kernel's own is said to begin at the address of a symbol: from there its offsets are counted.
        shift = -start if pid == KERNEL else offset - start
        return Mapping(start, min(end, (1 << 64) - 1), shift, self._module(path))

    def contradicts(self, pid: int, new: Mapping) -> bool:
        """Whether samples of before must be resolved before ``new`` is added."""
        space = self._spaces.get(pid)
        return space is not None and space.contradicts(new)

    def add(self, pid: int, new: Mapping) -> None:
        """Map a range of a process."""
        self._space(pid).add(new)

    def fork(self, pid: int, parent: int) -> None:
        """A child begins with its parent's mappings."""
        if pid != parent and parent in self._spaces:
            self._spaces[pid] = Space(self._spaces[parent])

    def clear(self, pid: int) -> None:
        """The process has another program now."""
        self._spaces.pop(pid, None)

    def knows(self, pid: int) -> bool:
        """Whether anything is mapped in a process."""
        return pid in self._spaces

    def symbols_of(self, pid: int, address: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Symbol ids of addresses in one process."""
        values, inverse = np.unique(address, return_inverse=True)
        upper = values >> np.uint64(63) > 0
        module, offset = np.zeros(len(values), np.int64), values.copy()
        for mask, space in ((upper, self._spaces[KERNEL]), (~upper, self._spaces.get(pid))):
            if space is not None and mask.any():
                module[mask], offset[mask] = space.find(values[mask])
        out = [self._symbol(m, o) for m, o in zip(module.tolist(), offset.tolist(), strict=True)]
        return np.array(out, np.uint32)[inverse]

    def _symbol(self, module: int, offset: int) -> int:
        if module in self._paged or len(self._known) > _MOST_SYMBOLS:
            offset &= ~_PAGE  # garbage from broken stacks and generated code: one symbol a page, or there is no end of them
        key = module << 64 | offset
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._symbols.intern(
                f"0x{offset:x}", self._names[module], offset if offset < 1 << 63 else offset - (1 << 64)
            )
        return found

    def _module(self, path: str) -> int:
        base = path.removesuffix(" (deleted)").rsplit("/", 1)[-1] or "[anon]"
        if path.startswith("[kernel.kallsyms]"):
            base = "[kernel.kallsyms]"
        elif path == "//anon":
            base = "[anon]"
        elif _JIT.match(base):
            base = "[jit]"
        found = self._modules.get(base)
        if found is None:
            found = self._modules[base] = len(self._names)
            self._names.append(base)
            if base in ("[anon]", "[jit]", "[heap]", "[stack]"):
                self._paged.add(found)
        return found

    def _space(self, pid: int) -> Space:
        found = self._spaces.get(pid)
        if found is None:
            if len(self._spaces) >= _MOST_SPACES:
                del self._spaces[next(old for old in self._spaces if old != KERNEL)]
            found = self._spaces[pid] = Space()
        return found
