"""JsonStream: walks through a JSON text of any length and hands out the small values in it, one after the other.

For formats whose values are small and many (frames, stacks, events) in an order that cannot be relied on. What is damaged is
skipped up to where the next value of its kind begins.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from sofa_otel.exporters.read.source import ByteSource

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NEXT: Final = {
    "{": re.compile(r"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)"),
    "[": re.compile(r"\][ \t\r\n]*,[ \t\r\n]*(?=\[)"),
}
_NEXT_PLAIN: Final = re.compile(r",[ \t\r\n]*(?=[-\d\"])")
_AHEAD: Final = (1 << 12, 1 << 16, 1 << 20)
_BORDER: Final = 16
"""An error this close to the end of a piece may only mean that it ends there."""

_DEEPEST: Final = 64
_DECODER: Final = json.JSONDecoder()


class BrokenJson(Exception):
    """The text cannot be followed any further."""


class JsonStream:
    """Cursor in a JSON text.

    Args:
        source: Where the text comes from.

    Attributes:
        skipped: Damaged values that were left out, ``first_skipped`` the byte of the first.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._text, self._at = "", 0
        self._ended = False
        self.skipped = 0
        self.first_skipped = -1

    @property
    def position(self) -> int:
        """Byte of the cursor (exact where the text is ASCII)."""
        return max(self._source.position - (len(self._text) - self._at), 0)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """Keys of the object that begins here; the caller takes each value before it asks for the next key.

        Raises:
            BrokenJson: It is no object, or is damaged.
        """
        self._expect("{")
        while True:
            mark = self.peek()
            if mark == "}":
                self._at += 1
                return
            if mark == ",":
                self._at += 1
                continue
            key = self.value()
            if not isinstance(key, str):
                raise BrokenJson
            self._expect(":")
            yield key

    def enter(self) -> None:
        """Step into the array that begins here; then :meth:`another` tells whether a value follows.

        Raises:
            BrokenJson: It is no array.
        """
        self._expect("[")

    def another(self) -> bool:
        """Whether the array has another value, which then begins here.

        Raises:
            BrokenJson: The array does not end.
        """
        while True:
            mark = self.peek()
            if mark == "]":
                self._at += 1
                return False
            if mark == ",":
                self._at += 1
                continue
            if not mark:
                raise BrokenJson
            return True

    def elements(self) -> Iterator[Any]:
        """Values of the array that begins here. A damaged one is skipped.

        Raises:
            BrokenJson: It is no array, or does not end.
        """
        self.enter()
        kind = ""
        while self.another():
            kind = kind or self._text[self._at]
            try:
                value = self.value()
            except BrokenJson:
                self._resync(kind)
                continue
            yield value

    def value(self) -> Any:
        """The value that begins here, as a whole.

        Raises:
            BrokenJson: It is damaged, or longer than a megabyte.
        """
        self.peek()
        for ahead in _AHEAD:
            while len(self._text) - self._at < ahead and self._more():
                pass
            # A piece of its own: an error counts the lines of all the text in front of it.
            piece = self._text[self._at : self._at + ahead]
            whole = self._ended and len(self._text) - self._at <= ahead
            try:
                value, end = _DECODER.raw_decode(piece)
            except json.JSONDecodeError as error:
                if whole or (error.pos < len(piece) - _BORDER and not error.msg.startswith("Unterminated")):
                    break
                continue
            except (ValueError, RecursionError):
                break
            if end == len(piece) and not whole:
                continue  # a number may go on
            self._at += end
            return value
        raise BrokenJson

    def skip(self, depth: int = 0) -> None:
        """Pass over the value that begins here, whatever its length.

        Raises:
            BrokenJson: It does not end, or is nested too deeply.
        """
        if depth > _DEEPEST:
            raise BrokenJson
        mark = self.peek()
        if mark == "[":
            for _ in self.elements():
                pass
        elif mark == "{":
            for _ in self.members():
                self.skip(depth + 1)
        else:
            self.value()

    def _expect(self, mark: str) -> None:
        if self.peek() != mark:
            raise BrokenJson
        self._at += 1

    def _resync(self, kind: str) -> None:
        if self.first_skipped < 0:
            self.first_skipped = self.position
        self.skipped += 1
        border = _NEXT.get(kind, _NEXT_PLAIN)
        while True:
            found = border.search(self._text, self._at)
            if found:
                self._at = found.end()
                return
            self._at = max(len(self._text) - 64, self._at)
            if not self._more():
                raise BrokenJson

    def _more(self) -> bool:
        if self._ended:
            return False
        data = self._source.read()
        self._ended = not data
        self._text = self._text[self._at :] + self._decode(data, final=self._ended)
        self._at = 0
        return True
