"""Cutter: a JSON request of any length → requests of bounded length that hold the same items.

The items (spans, metrics, log records) of all signals lie three arrays deep. What stands around them, the resource and the scope,
is small and is repeated around every handful of items. Braces are found by numpy, and only those above the items are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

CHUNK: Final = 1 << 20
MOST_BYTES: Final = 1 << 20
LONGEST_ITEM: Final = 16 << 20
_PATTERN: Final = b"{[{[{[{"
"""The containers around and of an item; a resource's attributes are as deep and lie in other containers."""
_ITEM: Final = len(_PATTERN)
_CLOSING: Final = b"]}]}]}"
_SPECIAL: Final = bytes(byte in b'"\\{}[]' for byte in range(256))
_CHANGE: Final = np.zeros(256, np.int64)
_CHANGE[list(b"{[")], _CHANGE[list(b"}]")] = 1, -1
_PARTNER: Final = {ord("}"): ord("{"), ord("]"): ord("[")}
_ARRAY, _END = ord("["), ord("}")
_MOST_DAMAGES: Final = 500
_BEGIN: Final = re.compile(rb',\s*(\{\s*"(?:traceId|spanId|parentSpanId|traceState|name|kind)"\s*:)')


class Cutter:
    """Cuts a stream of documents.

    Args:
        lost: Told the byte of each damaged place.

    Attributes:
        cut_off: The text ended inside a document.
    """

    def __init__(self, lost: Callable[[int], None]) -> None:
        self._lost = lost
        self._stack = bytearray()
        self._around = [bytearray(), bytearray(), bytearray()]
        self._items: list[bytes] = []
        self._size = 0
        self._base = 0
        self._damages = 0
        self.cut_off = False

    def documents(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Items of about ``MOST_BYTES`` together; :meth:`around` makes a document of them until the next are asked for."""
        rest, wanted = b"", CHUNK
        for chunk in chunks:
            rest += chunk
            if len(rest) < wanted:
                continue
            rest = yield from self._cut(rest)
            if max(len(rest), *map(len, self._around)) > LONGEST_ITEM:
                rest = self._skip(rest, 0)
            if self._damages > _MOST_DAMAGES:
                return
            # An item that is longer than a chunk is not scanned again with each chunk.
            wanted = max(CHUNK, 2 * len(rest))
        while rest:
            rest = yield from self._cut(rest)
            self.cut_off = self.cut_off or bool(self._stack)
            rest = self._skip(rest, 0, told=self.cut_off) if self._stack and self._damages <= _MOST_DAMAGES else b""
        yield from self._flush()

    def around(self, items: list[bytes]) -> bytes:
        """A document of these items alone."""
        return b"".join((*self._around, b",".join(items), _CLOSING))

    # -- one piece of text -----------------------------------------------------------------------------------------------------
    def _cut(self, text: bytes) -> Generator[list[bytes], None, bytes]:
        """Take what is whole; returns what is not."""
        while True:
            places, marks = structure(text)
            depth = len(self._stack) + np.cumsum(_CHANGE[marks])
            shallow = np.flatnonzero(np.maximum(depth, depth - _CHANGE[marks]) <= _ITEM)
            used, within = 0, False
            for place, mark in zip(places[shallow].tolist(), marks[shallow].tolist(), strict=True):
                if within:
                    # Nearly all there is: an item ends, an item begins.
                    if mark != _END:
                        break
                    within = False
                    self._items.append(text[used : place + 1])
                    self._size += place + 1 - used
                    used = place + 1
                    if self._size >= MOST_BYTES:
                        yield from self._flush()
                    continue
                if mark not in _PARTNER:
                    within = mark == _PATTERN[-1] and self._stack == _PATTERN[:-1]
                    if not within:
                        self._open(text[used : place + 1], mark)
                    used = place if within else place + 1
                    continue
                if not self._stack or self._stack[-1] != _PARTNER[mark]:
                    break
                if self._stack[-1] == _ARRAY:
                    yield from self._flush()
                self._close(text[used : place + 1])
                used = place + 1
            else:
                self._base += used
                return text[used:]
            yield from self._flush()
            text = self._skip(text, place)
            if self._damages > _MOST_DAMAGES:
                return b""

    def _open(self, text: bytes, mark: int) -> None:
        """A container begins at the end of ``text``."""
        conforming = self._conforming()
        if conforming % 2:
            self._around[conforming // 2] += text
        elif conforming == len(self._stack) and mark == _PATTERN[0]:
            # A new request, resource or scope: what stood around its sister is over.
            for level in range(conforming // 2, 3):
                self._around[level].clear()
            self._around[conforming // 2] += b"{"
        self._stack.append(mark)

    def _close(self, text: bytes) -> None:
        """A container ends at the end of ``text``."""
        conforming = self._conforming()
        if conforming % 2:
            self._around[conforming // 2] += text
        elif conforming == len(self._stack):
            self._around[conforming // 2 - 1] += b"]"
        self._stack.pop()

    def _conforming(self) -> int:
        """How many of the open containers, from the outermost, are those of ``_PATTERN``."""
        return next((i for i, mark in enumerate(self._stack) if i >= _ITEM or mark != _PATTERN[i]), len(self._stack))

    def _flush(self) -> Iterator[list[bytes]]:
        if self._items:
            items, self._items, self._size = self._items, [], 0
            yield items

    def _skip(self, text: bytes, at: int, *, told: bool = False) -> bytes:
        """After damage: the text from where the next item begins, at which the cutter then stands."""
        if not told:
            self._lost(self._base + at)
        self._damages += 1
        found = _BEGIN.search(text, at)
        if found is None or not all(self._around):
            self._stack.clear()
            self._base += len(text)
            return b""
        self._stack[:] = _PATTERN[:-1]
        self._base += found.start(1)
        return text[found.start(1) :]


def structure(text: bytes) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where the braces and brackets outside of strings are, and which."""
    data = np.frombuffer(text, np.uint8)
    places = np.flatnonzero(np.frombuffer(text.translate(_SPECIAL), bool))
    marks = data[places]
    quotes = marks == ord('"')
    borders = quotes & ~_escaped(places, marks) if b"\\" in text else quotes
    outside = (np.cumsum(borders) & 1) == 0
    braces = outside & ~quotes & (marks != ord("\\"))
    return places[braces], marks[braces]


def _escaped(places: NDArray[np.int64], marks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which marks stand behind an odd number of backslashes."""
    slash = marks == ord("\\")
    # Runs of backslashes without a gap: a run's length is the distance to where it began.
    starts = slash & ~np.concatenate(([False], slash[:-1] & (np.diff(places) == 1)))
    begin = np.maximum.accumulate(np.where(starts, np.arange(len(places)), 0))
    run = np.arange(len(places)) - begin + 1
    odd = slash & (run % 2 == 1)
    return np.concatenate(([False], odd[:-1] & (np.diff(places) == 1)))
