"""Finds the records in the byte stream of ``perf.data``: blocks of whole records with the word at which each begins.

What cannot be a record is skipped up to the next place from which a chain of plausible records runs; compressed records are
unpacked in place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from sofa_otel.exporters.read.perf_data_borders import ATTR, LONGEST_CHAIN, borders, plausible

SAMPLE: Final = 9
TRACING_DATA: Final = 66
FINISHED_ROUND: Final = 68
AUXTRACE: Final = 71
COMPRESSED: Final = 81
COMPRESSED2: Final = 83
_LAST_KERNEL: Final = 40
_LAST: Final = 120
_PIECE: Final = 1024
"""Compressed bytes taken at a time: what they can grow to stays below 32 MB, whatever they are."""

_LEAST: Final = 1 << 12
_MOST: Final = 1 << 24


class Block(NamedTuple):
    """Whole records.

    Attributes:
        data: Their bytes; a record begins at a multiple of eight.
        words: The same as ``u64``.
        at: First word of each record; ``end``: word after its last (rounded down).
        kind, misc: Type and flags of each.
        base: Byte of the file at which ``data`` begins, -1 inside a compressed record.
    """

    data: bytes
    words: NDArray[np.uint64]
    at: NDArray[np.int64]
    end: NDArray[np.int64]
    kind: NDArray[np.uint32]
    misc: NDArray[np.uint16]
    base: int


class Tracing(NamedTuple):
    """Tracing data that were sent along in a pipe."""

    data: bytes


class Scanner:
    """Bytes in, blocks out.

    Args:
        start: Byte of the file at which they begin.

    Attributes:
        position: Byte of the file up to which everything was handed out.
        skipped: Bytes that were no records, and ``first_skipped`` where the first of them was.
        broken: Compressed records that could not be read, and ``first_broken`` where the first of them was.
    """

    def __init__(self, start: int) -> None:
        self.position = start
        self.skipped = self.broken = 0
        self.first_skipped = self.first_broken = -1
        self._rest = b""
        self._payload = 0
        self._wanted: list[bytes] | None = None
        self._inner: Scanner | None = None
        self._zstd: Any = None
        self._ahead = _MOST
        self._seam = False

    def feed(self, data: bytes) -> Iterator[Block | Tracing]:
        """Take the next bytes."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        here, total = 0, len(data)
        while here < total:
            if self._payload:
                here += self._take_payload(data, here)
                if not self._payload and self._wanted is not None:
                    yield Tracing(b"".join(self._wanted))
                    self._wanted = None
                continue
            # After something special the next one may be near: a small look ahead keeps the cost of many of them linear.
            window = data if not here and self._ahead >= total else data[here : here + self._ahead]
            block, used = self._block(window)
            if block is not None:
                yield from self._expand(block)
            self.position += used
            here += used
            if not used:
                if here + self._ahead >= total:
                    break
                self._ahead *= 2
            elif self._seam:
                self._ahead = _LEAST
            else:
                self._ahead = min(self._ahead * 2, _MOST)
        self._rest = data[here:]

    @property
    def skipped_inside(self) -> int:
        """Bytes of the compressed records' contents that were no records."""
        return self._inner.skipped if self._inner is not None else 0

    @property
    def left(self) -> int:
        """Bytes at the end that are no whole record."""
        return len(self._rest)

    def _take_payload(self, data: bytes, here: int) -> int:
        length = min(self._payload, len(data) - here)
        if self._wanted is not None:
            self._wanted.append(data[here : here + length])
        self._payload -= length
        self.position += length
        return length

    def _block(self, data: bytes) -> tuple[Block | None, int]:
        """The records at the start of ``data`` up to one after which something special follows, and how many bytes they are."""
        self._seam = False
        count = len(data) // 8
        if not count:
            return None, 0
        words = np.frombuffer(data, np.uint64, count)
        size = np.frombuffer(data, np.uint16, 4 * count)[3::4]
        at = borders(words, size)
        sizes = size[at].astype(np.int64)
        kind = words[at].astype(np.uint32)
        odd = (sizes & 7) != 0
        special = odd | (kind == TRACING_DATA) | (kind == AUXTRACE)
        wrong = (sizes < 8) | (kind == 0) | (kind > _LAST) | ((kind > _LAST_KERNEL) & (kind < ATTR)) | (odd & (kind < ATTR))
        cut = np.flatnonzero(special | wrong)
        whole = len(at) if not len(cut) else int(cut[0])
        ends = at * 8 + sizes
        self._seam = whole < len(at)
        if whole < len(at) and wrong[whole]:
            used = int(at[whole]) * 8
            if used == 0:
                return None, self._skip(data, words, size)
        elif whole < len(at):
            used = int(ends[whole])
            if used > len(data):
                used = int(at[whole]) * 8
            else:
                used = self._special(data, int(at[whole]) * 8, int(kind[whole]), used)
                whole += 1
        else:
            if whole and ends[-1] > len(data):
                whole -= 1
            used = int(ends[whole - 1]) if whole else 0
        if not whole:
            return None, used
        at = at[:whole]
        misc = (words[at] >> np.uint64(32)).astype(np.uint16)
        return Block(data, words, at, ends[:whole] // 8, kind[:whole], misc, self.position), used

    def _special(self, data: bytes, start: int, kind: int, end: int) -> int:
        if kind == TRACING_DATA and end - start >= 12:
            (self._payload,) = struct.unpack_from("<I", data, start + 8)
            self._wanted = []
            if self._payload > 64 << 20:
                self._payload, self._wanted = 0, None
        elif kind == AUXTRACE and end - start >= 16:
            (size,) = struct.unpack_from("<Q", data, start + 8)
            self._payload = size if size < 1 << 40 else 0
        return end

    def _skip(self, data: bytes, words: NDArray[np.uint64], size: NDArray[np.uint16]) -> int:
        """Bytes up to the next place that looks like records; 0 when more must be seen to tell."""
        if len(data) < 8 * LONGEST_CHAIN:
            return 0
        best = len(data) - 7
        for shift in (0, 4, 1, 2, 3, 5, 6, 7):  # records begin at multiples of eight unless bytes are missing
            if shift:
                count = (len(data) - shift) // 8
                words = np.frombuffer(data, np.uint64, count, shift)
                size = (words >> np.uint64(48)).astype(np.uint16)
            found = plausible(words, size)
            if found >= 0 and found * 8 + shift and found * 8 + shift < best:
                best = found * 8 + shift
        if self.first_skipped < 0:
            self.first_skipped = self.position
        self.skipped += best
        return best

    def _expand(self, block: Block) -> Iterator[Block | Tracing]:
        packed = np.flatnonzero((block.kind == COMPRESSED) | (block.kind == COMPRESSED2))
        if not len(packed):
            yield block
            return
        begin = 0
        for index in packed.tolist():
            if index > begin:
                yield _part(block, begin, index)
            yield from self._unpack(block, index)
            begin = index + 1
        if begin < len(block.at):
            yield _part(block, begin, len(block.at))

    def _unpack(self, block: Block, index: int) -> Iterator[Block | Tracing]:
        start, end = int(block.at[index]) * 8, int(block.at[index]) * 8 + int(block.words[block.at[index]] >> np.uint64(48))
        start += 8
        if block.kind[index] == COMPRESSED2:
            (size,) = struct.unpack_from("<Q", block.data, start) if end - start >= 8 else (0,)
            start, end = start + 8, min(end, start + 8 + size)
        if self._inner is None:
            self._inner, self._zstd = Scanner(0), zstandard.ZstdDecompressor().decompressobj()
        for piece in range(start, end, _PIECE):
            try:
                data = self._zstd.decompress(block.data[piece : min(piece + _PIECE, end)])
            except zstandard.ZstdError:
                self.broken += 1
                if self.first_broken < 0:
                    self.first_broken = block.base + start
                # A stream that is broken stays so; another one may begin with the next record.
                self._inner, self._zstd = Scanner(0), zstandard.ZstdDecompressor().decompressobj()
                return
            if data:
                for part in self._inner.feed(data):
                    yield part._replace(base=-1) if isinstance(part, Block) else part


def _part(block: Block, begin: int, end: int) -> Block:
    return block._replace(
        at=block.at[begin:end], end=block.end[begin:end], kind=block.kind[begin:end], misc=block.misc[begin:end]
    )
