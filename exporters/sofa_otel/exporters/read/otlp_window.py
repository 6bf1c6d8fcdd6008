"""Window: bytes of a stream around one place, and what can be told from the bytes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from sofa_otel.core.otlp.request_walk import Broken, field, varint

WINDOW: Final = 1 << 20
LONGEST_FRAME: Final = 1 << 27
_SPAN_HEAD: Final = 20
_MOST_FIELDS: Final = 256


class Window:
    """Bytes of a stream around one place.

    Attributes:
        data: What is in memory. at: the place in it. base: byte of the stream where ``data`` begins.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.data = b""
        self.at = 0
        self.base = 0
        self.ended = False
        self.before_move: Callable[[], None] | None = None
        """Called while ``data`` is still what it was."""

    @property
    def position(self) -> int:
        """Byte of the stream."""
        return self.base + self.at

    def has(self, size: int) -> bool:
        """Whether there are ``size`` more bytes; what lies before the place may go."""
        if len(self.data) - self.at >= size:
            return True
        if self.before_move is not None:
            self.before_move()
        parts, have = [self.data[self.at :]], len(self.data) - self.at
        self.base, self.at = self.base + self.at, 0
        while have < max(size, WINDOW) and not self.ended:
            more = next(self._chunks, b"")
            self.ended = not more
            parts.append(more)
            have += len(more)
        self.data = b"".join(parts)
        return have >= size

    def skip_to(self, position: int) -> None:
        """Go to a byte of the stream that is further on, or to its end."""
        while self.position < position and self.has(1):
            self.at = min(position - self.base, len(self.data))


def begins_request(data: bytes, at: int, size: int) -> bool:
    """Whether a request of ``size`` bytes may begin at ``at``: a resource's items, and in them a description or a scope."""
    stop = at + size
    try:
        for tags in (b"\x0a", b"\x0a\x12\x1a"):
            if at >= min(stop, len(data)):
                return at == stop or at == len(data)
            if data[at] not in tags:
                return False
            inner, at = varint(data, at + 1, len(data))
            if at + inner > stop:
                return False
            stop = at + inner
    except Broken:
        return False
    # A resource's attributes, a scope's description, or items: all of them are bytes, but for a count.
    return at >= min(stop, len(data)) or data[at] in b"\x0a\x12\x10"


def is_span(data: bytes, at: int) -> bool:
    """Whether what lies at ``at`` begins with the two ids of a span."""
    return data[at : at + 2] == b"\x0a\x10" and data[at + 18 : at + 20] == b"\x12\x08"


def kind_of(data: bytes, at: int, stop: int) -> str:
    """What an item is, by its fields: the three signals have the same levels around it."""
    if stop - at >= _SPAN_HEAD and is_span(data, at):
        return "span"
    tags: set[int] = set()
    try:
        for _ in range(_MOST_FIELDS):
            if at >= stop:
                break
            tag, _, at = field(data, at, stop)
            tags.add(tag)
    except Broken:
        return ""
    if tags & {0x09, 0x59, 0x10, 0x32}:
        return "log"
    if tags & {0x39, 0x41, 0x30}:
        return "span"
    return "metric" if 0x0A in tags and tags & {0x2A, 0x3A, 0x4A, 0x52, 0x5A} else ""
