"""What stands around the events of a trace: where their array begins, and what the file says about itself.

Both forms of the format ("Trace Event Format", Google): an object with ``traceEvents``, whose other members may stand before or
behind it, and a bare array, which need not be closed.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from sofa_otel.exporters.read.kineto_window import Window

_WANTED: Final = frozenset({b"baseTimeNanoseconds", b"distributedInfo", b"host_name", b"hostName"})
_LONGEST: Final = 1 << 20
_LARGEST_TOKEN: Final = 16 << 20
_SPACE: Final = re.compile(rb"\s*")
_BETWEEN: Final = re.compile(rb"[\s,]*")
_STRING: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.S)
_TOKEN: Final = re.compile(rb'[^"{}\[\]]*+(?:"(?:[^"\\]++|\\.)*+"|([{\[])|[}\]])', re.S)
_SCALAR: Final = re.compile(rb"[^\s,{}\[\]\"]+(?=[\s,}\]])")
_KEY: Final = re.compile(rb'"traceEvents"\s*:\s*\[')
_EVENTS: Final = re.compile(rb'(?=\{\s*"(?:ph|name|cat|pid|tid|ts|dur|args)"\s*:)')
_EVENT: Final = re.compile(rb'(?=\{\s*"ph"\s*:)')
_LIKE_EVENTS: Final = re.compile(rb'\[(?=\s*\{[^{}]*?"ph"\s*:)')


class _NoJsonError(Exception):
    """What stands here is not what must."""


class Document:
    """Goes from one array of events to the next (there is one, in truth) and gathers what stands between.

    Args:
        window: At the start of the file.

    Attributes:
        known: Decoded members of interest, by name.
        bare: The file is only an array.
        closed: The object has its end.
        damaged: Byte where the metadata could not be read, -1 when it could.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._begun = False
        self._skipping = False
        self._entered = False
        self._searched = b""
        self._key: re.Match[bytes] | None = None
        self.known: dict[str, Any] = {}
        self.bare = False
        self.closed = False
        self.damaged = -1

    def enter(self) -> bool:
        """Go behind the ``[`` of the next array of events; False when there is none."""
        if self.bare or self._skipping:
            return False
        window = self._window
        data, pos = window.data, window.pos
        try:
            if not self._begun:
                self._begun = True
                window.more()
                data, pos = window.data, window.pos
                if window.data.startswith(b"\xef\xbb\xbf"):
                    window.pos = 3
                first = self._peek(_SPACE)
                if first == b"[":
                    window.pos += 1
                    self.bare = True
                    return True
                if first != b"{":
                    raise _NoJsonError
                window.pos += 1
            return self._members()
        except _NoJsonError:
            self.damaged = window.at
            self._skipping = True
            if window.data is data:
                window.pos = pos  # what was damaged may have swallowed events
            return self._search(_EVENT if self._entered else _EVENTS)

    def _members(self) -> bool:
        window = self._window
        while True:
            first = self._peek(_BETWEEN)
            if first in (b"", b"}"):
                self.closed = first == b"}"
                if self.closed and not self._entered and window.data[window.pos + 1 :].strip():
                    raise _NoJsonError
                return False
            key_here = self._next_key()
            if key_here is not None and key_here.start() == window.pos:
                window.pos = key_here.end()
                self._entered = True
                return True
            key = self._match(_STRING)[1]
            if self._peek(_SPACE) != b":":
                raise _NoJsonError
            window.pos += 1
            first = self._peek(_SPACE)
            if _LIKE_EVENTS.match(window.data, window.pos):
                # Its name is damaged, or of another program.
                window.pos += 1
                self._entered = True
                return True
            if key == b"traceEvents" and first == b"{":
                raise _NoJsonError
            value = self._value(first)
            if key in _WANTED:
                try:
                    self.known[key.decode()] = msgspec.json.decode(value)
                except (ValueError, RecursionError):
                    continue

    def _value(self, first: bytes) -> bytes:
        """Go past a value of any size; its text, as far as it is not long."""
        if first not in (b"{", b"["):
            return self._match(_STRING if first == b'"' else _SCALAR)[0]
        depth = 0
        text = bytearray()
        while True:
            found = self._match(_TOKEN)
            if len(text) < _LONGEST:
                text += found[0]
            if found[1]:
                depth += 1
            elif not found[0].endswith(b'"'):
                depth -= 1
                if not depth:
                    return bytes(text)

    def _peek(self, between: re.Pattern[bytes]) -> bytes:
        """The next byte that counts, empty at the end."""
        window = self._window
        while True:
            found = between.match(window.data, window.pos)
            window.pos = found.end() if found else window.pos
            if window.pos < len(window.data):
                return window.data[window.pos : window.pos + 1]
            if not window.more():
                return b""

    def _match(self, token: re.Pattern[bytes]) -> re.Match[bytes]:
        """The token that stands here. None reaches into the events: a quote or a bracket is missing in front of them, then."""
        window = self._window
        while True:
            key = self._next_key()
            end = key.start() if key else len(window.data)
            found = token.match(window.data, window.pos, end)
            if found is not None:
                window.pos = found.end()
                return found
            if key or end - window.pos > _LARGEST_TOKEN or not window.more():
                raise _NoJsonError

    def _next_key(self) -> re.Match[bytes] | None:
        """Where the events begin, if that is in the window: a string cannot hold its quotes, so it is no part of one."""
        window = self._window
        if window.data is not self._searched or (self._key is not None and self._key.start() < window.pos):
            self._searched = window.data
            self._key = _KEY.search(window.data, window.pos)
        return self._key

    def _search(self, begin: re.Pattern[bytes]) -> bool:
        """Go to the events past metadata that cannot be read."""
        window = self._window
        while True:
            found = self._next_key() or begin.search(window.data, window.pos)
            if found is not None:
                window.pos = found.end()
                return True
            window.pos = max(window.pos, len(window.data) - 64)
            if not window.more():
                return False
