"""The events of an array in a file, a list at a time.

A chunk is cut at the last thing that looks like the border between two events. The decoder then says whether it was one: a chunk
that begins at a border is a list of whole events if and only if it ends at a border. Only where it refuses are events taken one
by one, so that what is damaged costs nothing but itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from sofa_otel.exporters.read.kineto_event import BROKEN, Event, IdEvent, decode
from sofa_otel.exporters.read.kineto_window import CHUNK, Window


class Chunk(NamedTuple):
    """Events in the order of the file, and which phases are among them."""

    events: list[Event]
    phases: set[str]


ASYNC: Final = frozenset("be")
LARGEST: Final = 16 << 20
"""Bytes of one event at most: what has no end until there is damaged."""
CAREFUL: Final = 1 << 13
"""Bytes of the first chunk after a refused one."""

_SPACE: Final = re.compile(rb"[\s,]*")
_KEY: Final = re.compile(rb'\s*,\s*\{\s*"(?:[^"\\]{1,20}"\s*:)?')
_NEXT: Final = re.compile(
    rb'\{\s*"ph"\s*:|(?<=\})\s*,?\s*\{\s*"(?:name|cat|pid|tid|ts|dur|id|args|s|bp|tts|tdur|sf|id2|scope)"\s*:'
)
_AT: Final = re.compile(r"\(byte (\d+)\)$")
_TRAILING: Final = "trailing characters"
_TRUNCATED: Final = "truncated"
_END: Final = re.compile(rb'(?<=\})\s*(\])\s*(?:,\s*"|\}|\Z)')
_OVERLAP: Final = 64
_LAST: Final = re.compile(rb"\}(?=\s*\])")

_plain: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(list[Event])
_with_id: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(list[IdEvent])
_raw: Final = msgspec.json.Decoder(Raw)


class EventArray:
    """The events from a window's place to the end of their array.

    Args:
        window: Stands behind the array's ``[``; afterwards behind its ``]``, or at the end of the file.
        bare: The array is the whole file.

    Attributes:
        count: Events seen, whole or not.
        lost: Events that were damaged.
        first_lost: (number, byte) of the first of them.
        cut: (number, byte) of an event that the end of the file cuts off.
        closed: The array has its end.
    """

    def __init__(self, window: Window, *, bare: bool) -> None:
        self._window = window
        self._bare = bare
        self._border = b""
        self._size = CHUNK
        self._singly = 0
        self._refused = 0
        self._unfinished = False
        self._unsure = False  # behind damage: an object may be a part of an event
        self._decoder: msgspec.json.Decoder[Any] = _plain
        self.count = 0
        self.lost = 0
        self.first_lost = (0, 0)
        self.cut: tuple[int, int] | None = None
        self.closed = False

    def chunks(self) -> Iterator[Chunk]:
        """All whole events."""
        window = self._window
        while True:
            self._skip()
            if len(window.data) - window.pos < self._size:
                window.more()
            data, pos = window.data, window.pos
            cut = -1
            if self._border and not self._singly:
                cut = data.rfind(self._border, pos, pos + self._size + len(self._border))
            if cut <= pos:
                self._singly = max(self._singly - 1, 0)
                one = self._one()
                if one is None:
                    return
                if one.events:
                    yield one
                continue
            many = self._many(cut + 1)
            if many is not None:
                self._size = min(2 * self._size, CHUNK)
                yield many
                continue
            # What stands in front of the place where the decoder stopped is whole; the event there is looked at by itself.
            self._size, self._singly = CAREFUL, 64
            cut = data.rfind(self._border, pos, pos + self._refused) if self._refused else -1
            many = self._many(cut + 1) if cut > pos else None
            if many is not None:
                self._singly = 1
                yield many

    def _many(self, end: int) -> Chunk | None:
        """The events up to ``end``; None when that is no list of whole events, ``_refused`` is then how far the decoder came."""
        window = self._window
        try:
            text = b"".join((b"[", memoryview(window.data)[window.pos : end], b"]"))
            events: list[Event] = self._decoder.decode(text)
            phases = {event.ph for event in events}
            if self._decoder is _plain and not ASYNC.isdisjoint(phases):
                self._decoder = _with_id
                events = self._decoder.decode(text)
        except BROKEN as error:
            at = _AT.search(str(error))
            self._refused = int(at[1]) - 1 if at else 0
            return None
        window.pos = end
        self.count += len(events)
        return Chunk(events, phases)

    def _one(self) -> Chunk | None:
        """The event at the window's place: one, none because it is damaged, or None when there are no more."""
        window = self._window
        if not self._skip():
            return None
        first = window.data[window.pos]
        if first == ord("]") and self._closes():
            window.pos += 1
            self.closed = True
            return None
        event, end = self._whole() if first == ord("{") else (None, 0)
        self.count += 1
        if event is not None and (event.ph or not self._unsure):
            self._unsure = False
            self._learn(end)
            window.pos = end
            return Chunk([event], {event.ph})
        at, number = window.at, self.count
        if self._unfinished and _NEXT.search(window.data, window.pos + 1) is None:
            window.pos = len(window.data)
            self.cut = number, at
            return None
        self._resume()
        if not self.lost:
            self.first_lost = number, at
        self.lost += 1
        self._unsure = True
        return Chunk([], set())

    def _skip(self) -> bool:
        """Go past white space and commas; whether anything follows."""
        window = self._window
        while True:
            found = _SPACE.match(window.data, window.pos)
            window.pos = found.end() if found else window.pos
            if window.pos < len(window.data):
                return True
            if not window.more():
                return False

    def _whole(self) -> tuple[Event | None, int]:
        """The event that begins here and where it ends; None when it is damaged or never ends."""
        window = self._window
        self._unfinished = False
        while True:
            try:
                _raw.decode(memoryview(window.data)[window.pos :])
                end = len(window.data)
            except BROKEN as error:
                message = str(error)
                at = _AT.search(message)
                if at is None or _TRAILING not in message:
                    if _TRUNCATED in message and len(window.data) - window.pos < LARGEST:
                        if window.more():
                            continue
                        self._unfinished = True
                    return self._mended()
                # The byte is the one that follows, or the one after that.
                end = window.data.rfind(b"}", window.pos, window.pos + int(at[1]) - 1) + 1
            text = window.data[window.pos : end]
            return decode(text), end

    def _mended(self) -> tuple[Event | None, int]:
        """The event that begins here, which is no JSON: as what was meant, if it can be told where it ends."""
        window = self._window
        while (found := _NEXT.search(window.data, window.pos + 1)) is None:
            if len(window.data) - window.pos > 2 * CHUNK or not window.more():
                break
        # The last one of the array has no next: its end is one of those that a "]" follows.
        ends = [found.start()] if found else [one.end() for one in islice(_LAST.finditer(window.data, window.pos), 8)]
        for end in ends:
            text = window.data[window.pos : end].rstrip(b" \t\r\n,")
            event = decode(text)
            if event is not None:
                return event, window.pos + len(text)
        return None, 0

    def _learn(self, end: int) -> None:
        """What stands between this event and the next is what stands between most."""
        found = _KEY.match(self._window.data, end)
        if found is not None:
            self._border = b"}" + found[0]

    def _resume(self) -> None:
        """Go to where the next event may be, else to what may be the array's end, else to the file's."""
        window = self._window
        window.pos += 1
        at_end = False
        searched = 0
        while (found := _NEXT.search(window.data, window.pos + searched)) is None:
            if not at_end and (last := _END.search(window.data, window.pos + searched)) is not None:
                at_end, window.pos = True, last.start(1)
            if not at_end or len(window.data) - window.pos > LARGEST:
                at_end, window.pos = False, max(window.pos, len(window.data) - _OVERLAP)
            searched = max(len(window.data) - _OVERLAP - window.pos, 0)
            if not window.more():
                window.pos = window.pos if at_end else len(window.data)
                return
        window.pos = window.data.index(b"{", found.start())

    def _closes(self) -> bool:
        """Whether a ``]`` between events is the end of the array: a damaged byte may be one, too."""
        window = self._window
        if len(window.data) - window.pos < 256:
            window.more()
        rest = window.data[window.pos + 1 : window.pos + 256].lstrip()
        if self._bare:
            return not rest.startswith((b",", b"{"))
        return not rest or rest[:1] == b"}" or (rest[:1] == b"," and rest[1:].lstrip()[:1] in (b'"', b""))
