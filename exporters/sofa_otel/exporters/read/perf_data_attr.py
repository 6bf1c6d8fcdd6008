"""What a ``perf_event_attr`` says about the records of its event: where each field of a sample stands.

Formats: perf_event_open(2), section "Overflow handling"; offsets in 8-byte words from the start of a record.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

IP: Final = 1 << 0
TID: Final = 1 << 1
TIME: Final = 1 << 2
ADDR: Final = 1 << 3
READ: Final = 1 << 4
CALLCHAIN: Final = 1 << 5
ID: Final = 1 << 6
CPU: Final = 1 << 7
PERIOD: Final = 1 << 8
STREAM_ID: Final = 1 << 9
RAW: Final = 1 << 10
IDENTIFIER: Final = 1 << 16

_FIXED: Final = (IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD)
_TRAILER: Final = (TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER)

_FREQ: Final = 1 << 10
_SAMPLE_ID_ALL: Final = 1 << 18
_USE_CLOCKID: Final = 1 << 25

HARDWARE: Final = 0
SOFTWARE: Final = 1
TRACEPOINT: Final = 2
_CYCLES: Final = (0, 6, 9)  # cycles, bus-cycles, ref-cycles
_DUMMY: Final = 9
_CLOCKS: Final = (0, 1)  # cpu-clock, task-clock
SMALLEST: Final = 64


class Attr(NamedTuple):
    """An event of the recording.

    Attributes:
        kind, config: ``perf_event_attr.type`` and ``.config``; of a tracepoint ``config`` is its id.
        every: Period, or samples a second where ``freq``.
        sample_type, read_format: Bit sets.
        freq, sample_id_all: Flags.
        clockid: Clock of the times, -1 for the kernel's own.
    """

    kind: int
    config: int
    every: int
    sample_type: int
    read_format: int
    freq: bool
    sample_id_all: bool
    clockid: int

    @classmethod
    def parse(cls, data: bytes) -> Attr | None:
        """From the bytes of a ``perf_event_attr`` of any version; None when they are too few."""
        if len(data) < SMALLEST:
            return None
        kind, _, config, every, sample_type, read_format, flags = struct.unpack_from("<IIQQQQQ", data)
        clockid = struct.unpack_from("<i", data, 92)[0] if flags & _USE_CLOCKID and len(data) >= 96 else -1
        return cls(kind, config, every, sample_type, read_format, bool(flags & _FREQ), bool(flags & _SAMPLE_ID_ALL), clockid)

    @property
    def is_clock(self) -> bool:
        """Whether its periods are nanoseconds."""
        return self.kind == SOFTWARE and self.config in _CLOCKS

    @property
    def is_cycles(self) -> bool:
        """Whether its samples are evenly spread over the time on a CPU."""
        return self.kind == HARDWARE and (self.config & 0xFF) in _CYCLES

    def word(self, field: int) -> int:
        """Word of a field of fixed place in a sample, 0 when samples do not have it."""
        if not self.sample_type & field:
            return 0
        before = _FIXED[: _FIXED.index(field)]
        return 1 + sum(bool(self.sample_type & other) for other in before)

    @property
    def fixed_words(self) -> int:
        """Words of a sample before its parts of variable length."""
        return 1 + sum(bool(self.sample_type & field) for field in _FIXED)

    def trailer_word(self, field: int) -> int:
        """Words from the end of another record back to a field of its trailer, 0 when there is none."""
        if not self.sample_id_all or not self.sample_type & field:
            return 0
        after = _TRAILER[_TRAILER.index(field) :]
        return sum(bool(self.sample_type & other) for other in after)


class Variable(NamedTuple):
    """Where the parts of variable length stand, a row a sample, in words; ``fits`` where they lie inside the record."""

    chain: NDArray[np.int64]
    chain_length: NDArray[np.int64]
    raw: NDArray[np.int64]
    fits: NDArray[np.bool_]

    def take(self, index: NDArray[np.bool_]) -> Variable:
        """Rows by mask."""
        return Variable(self.chain[index], self.chain_length[index], self.raw[index], self.fits[index])


def variable_parts(attr: Attr, words: NDArray[np.uint64], at: NDArray[np.int64], end: NDArray[np.int64]) -> Variable:
    """Find callchain and raw data of samples.

    Args:
        attr: Their event.
        words: The block.
        at, end: First word, and word after the last, of each sample.
    """
    here = at + attr.fixed_words
    fits = here <= end
    none = np.zeros(len(at), np.int64)
    chain, length, raw = none, none, none
    if attr.sample_type & READ:
        form = attr.read_format
        if form & 8:  # PERF_FORMAT_GROUP
            count, inside = _counted(words, here, end)
            fits &= inside
            here = here + 1 + bool(form & 1) + bool(form & 2) + count * (1 + bool(form & 4) + bool(form & 16))
        else:
            here = here + 1 + sum(bool(form & bit) for bit in (1, 2, 4, 16))
    if attr.sample_type & CALLCHAIN:
        length, inside = _counted(words, here, end)
        fits &= inside & (here + 1 + length <= end)
        chain = here + 1
        here = chain + length
    if attr.sample_type & RAW:
        raw = here
        fits &= here < end
    return Variable(chain, length, raw, fits)


def _counted(words: NDArray[np.uint64], here: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], Any]:
    inside = (here >= 0) & (here < end)
    count = words[np.where(inside, here, 0)]
    inside &= count < 1 << 16
    return np.where(inside, count, 0).astype(np.int64), inside


def main_event(attrs: list[Attr]) -> frozenset[int]:
    """The events whose samples are time on a CPU: the first clock (or cycle counter, on each kind of core), else the first
    event that samples at all. Two of them would count time twice."""
    sampling = [
        index for index, attr in enumerate(attrs) if attr.kind != TRACEPOINT and (attr.kind, attr.config) != (SOFTWARE, _DUMMY)
    ]
    first = next((i for i in sampling if attrs[i].is_clock or attrs[i].is_cycles), next(iter(sampling), -1))
    if first < 0:
        return frozenset()
    same = attrs[first].kind, attrs[first].config & 0xFF
    return frozenset(
        i for i in sampling if i == first or ((attrs[i].kind, attrs[i].config & 0xFF) == same and attrs[i].is_cycles)
    )
