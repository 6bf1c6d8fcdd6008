"""OTLP as protobuf in a file of any length: one request, or many with their lengths before them.

A request may be longer than memory, so it is walked level by level (request, resource, scope) over a window of bytes, and spans
are decoded where they lie, a window at a time. Damage costs the spans it hits: after it the next span is found by its ids' form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from sofa_otel.core.otlp.request_walk import Broken, field, resource_attributes, scope_name, varint
from sofa_otel.core.otlp.span_columns import decode_block
from sofa_otel.exporters.read.otlp_points import ResourcePoints
from sofa_otel.exporters.read.otlp_rows import Losses, SpanRows
from sofa_otel.exporters.read.otlp_window import LONGEST_FRAME, Window, begins_request, is_span, kind_of

LONGEST_ITEM: Final = 16 << 20
_BLOCK: Final = 16_384
_ENDLESS: Final = 1 << 62
_FRAME: Final = rb"(?P<frame>[\x00-\x07][\x00-\xff]{3}\x0a)|"
_DELIMITED: Final = rb"(?P<frame>[\x80-\xff]{0,3}[\x00-\x7f]\x0a)|"
_SPAN: Final = rb"\x12(?:[\x00-\x7f]|[\x80-\xff][\x00-\x7f]|[\x80-\xff]{2}[\x00-\x7f])\x0a\x10[\x00-\xff]{16}\x12\x08"
_NEXT: Final = {
    framing: re.compile(before + _SPAN) for framing, before in (("", b""), ("frames", _FRAME), ("delimited", _DELIMITED))
}
_LONGEST_MATCH: Final = 64


class WireReader:
    """Reads requests of traces, metrics and logs.

    Args:
        chunks: The bytes.
        rows, points: Where spans and metrics go.
        losses: Told about damage.

    Attributes:
        logs: Log records passed over.
    """

    def __init__(self, chunks: Iterator[bytes], rows: SpanRows, points: ResourcePoints, losses: Losses) -> None:
        self._window = Window(chunks)
        self._rows, self._points, self._losses = rows, points, losses
        self._begin: list[int] = []
        self._end: list[int] = []
        self._origin: list[int] = []
        self._about = self._scope = b""
        self._framing = ""
        self._was_cut = False
        self._window.before_move = self._flush
        self.logs = 0

    def single(self) -> None:
        """A request from here to the end."""
        self._message(_ENDLESS)
        self._flush()

    def delimited(self) -> None:
        """Requests, each after its length as a varint."""
        self._many("delimited")

    def frames(self) -> None:
        """Requests, each after its length as four bytes, most significant first."""
        self._many("frames")

    def _many(self, framing: str) -> None:
        window, self._framing = self._window, framing
        while window.has(1):
            if framing == "frames" and not window.has(4):
                self._cut()
                break
            begin, size = self._length()
            if size >= 0:
                window.at = begin
                self._message(window.position + size)
            else:
                self._lost()
                if self._find(_ENDLESS) == "span":
                    self._loose(_ENDLESS)
        self._flush()

    def _length(self) -> tuple[int, int]:
        """Where the request behind the length here begins, and that length; -1 where there cannot be one."""
        window = self._window
        window.has(48)
        data, at = window.data, window.at
        if self._framing == "frames":
            begin, size = at + 4, int.from_bytes(data[at : at + 4], "big")
        else:
            try:
                size, begin = varint(data, at, len(data))
            except Broken:
                return at, -1
        return begin, size if size <= LONGEST_FRAME and begins_request(data, begin, size) else -1

    # -- levels ----------------------------------------------------------------------------------------------------------------
    def _message(self, stop: int) -> None:
        """Fields of a request up to ``stop``; leaves the window there."""
        window = self._window
        try:
            while window.position < stop and window.has(1):
                tag, end = self._head(stop)
                if tag == 0x0A:
                    self._about = b""
                    self._resource(end)
                window.skip_to(end)
            if window.position < stop != _ENDLESS:
                self._cut()
        except Broken:
            self._lost()
            if self._find(stop) == "span":
                self._loose(stop)
            elif self._framing and window.position < stop:
                return
        if stop != _ENDLESS:
            window.skip_to(stop)

    def _resource(self, stop: int) -> None:
        window = self._window
        while window.position < stop and window.has(1):
            tag, end = self._head(stop)
            if tag == 0x0A:
                self._about = self._bytes(end)
            elif tag == 0x12:
                self._scope = b""
                self._items(end)
            window.skip_to(end)
        if window.position < stop:
            self._cut()

    def _items(self, stop: int) -> None:
        """Spans, metrics or log records of a scope."""
        window, kind = self._window, ""
        while window.position < stop and window.has(1):
            data, at, limit = window.data, window.at, min(stop - window.base, len(window.data))
            if kind == "span":
                at = self._spans(data, at, limit)
                if at > window.at:
                    window.at = at
                    if len(self._begin) >= _BLOCK:
                        self._flush()
                    continue
            start = window.position
            tag, end = self._head(stop)
            if tag != 0x12:
                if tag == 0x0A:
                    self._scope, kind = self._bytes(end), ""
                window.skip_to(end)
                continue
            size = end - window.position
            if size > LONGEST_ITEM:
                raise Broken(start)
            if not window.has(size):
                self._cut()
                window.skip_to(end)
                return
            kind = kind_of(window.data, window.at, window.at + size)
            self._item(kind, window.at, window.at + size)
            window.at += size

    def _spans(self, data: bytes, at: int, limit: int) -> int:
        """Note spans that lie one after the other; returns where something else, or the end of what is in memory, begins."""
        begin, end = self._begin, self._end
        count = len(begin)
        while at + 3 < limit and data[at] == 0x12 and len(begin) < _BLOCK:
            size, body = data[at + 1], at + 2
            if size > 127:
                size, body = size & 127 | data[at + 2] << 7, at + 3
                if size > 16383:
                    break
            if body + size > limit or data[body] == 0x09:
                break
            begin.append(body)
            at = body + size
            end.append(at)
        self._origin += [self._place()] * (len(begin) - count)
        return at

    def _item(self, kind: str, begin: int, end: int) -> None:
        if kind == "span":
            self._begin.append(begin)
            self._end.append(end)
            self._origin.append(self._place())
        elif kind == "metric":
            self._points.message(
                self._rows.header(self._place()), self._window.data[begin:end], f"byte {self._window.base + begin}"
            )
        elif kind == "log":
            self.logs += 1
        else:
            self._losses.add("items are neither span, metric nor log record", f"byte {self._window.base + begin}")

    def _head(self, stop: int) -> tuple[int, int]:
        """Tag of the field here and the byte of the stream where it ends; the window goes to its content.

        Raises:
            Broken: There is none.
        """
        window = self._window
        window.has(20)
        start, data = window.at, window.data
        tag, body = varint(data, start, len(data))
        if tag & 7 == 2 and tag > 7:
            size, body = varint(data, body, len(data))
            end = window.base + body + size
        else:
            end = window.base + field(data, start, len(data))[2]
        if end > stop:
            raise Broken(window.position)
        window.at = body
        return tag, end

    def _bytes(self, end: int) -> bytes:
        window = self._window
        size = end - window.position
        if size > LONGEST_ITEM or not window.has(size):
            raise Broken(window.position)
        return window.data[window.at : window.at + size]

    def _place(self) -> int:
        return self._rows.origin(self._about, self._scope, resource_attributes, scope_name, f"byte {self._window.position}")

    # -- blocks ----------------------------------------------------------------------------------------------------------------
    def _flush(self) -> None:
        if not self._begin:
            return
        begin, end, origin = (np.array(column, np.int64) for column in (self._begin, self._end, self._origin))
        self._begin, self._end, self._origin = [], [], []
        spans = decode_block(self._window.data, begin, end)
        first = self._rows.take(spans, origin)
        self._rows.settle()
        if first >= 0:
            count = int(spans.broken.sum())
            self._losses.add("spans are damaged and left out", f"byte {self._window.base + int(begin[first])}", count)

    def _cut(self) -> None:
        if not self._was_cut:
            self._was_cut = True
            self._lost("request is cut off by the end of the file; its whole spans were read")

    # -- damage ----------------------------------------------------------------------------------------------------------------
    def _lost(self, what: str = "places are no OTLP; what stands between them was read") -> None:
        self._flush()
        self._losses.add(what, f"byte {self._window.position}")

    def _find(self, stop: int) -> str:
        """Go to the next ``frame`` or ``span`` before ``stop``; empty when there is none."""
        window = self._window
        window.at += 1
        while window.position < stop and window.has(1):
            window.has(_LONGEST_MATCH)
            for match in _NEXT[self._framing].finditer(window.data, window.at):
                window.at = match.start()
                if window.position >= stop:
                    return ""
                if match.lastgroup is None:
                    return "span"
                if self._length()[1] >= 0:
                    return "frame"
            if window.ended:
                window.at = len(window.data)
            else:
                window.at = max(len(window.data) - _LONGEST_MATCH, window.at)
                window.has(2 * _LONGEST_MATCH)
        return ""

    def _loose(self, stop: int) -> None:
        """Spans after damage, where the borders of what holds them are not known any more."""
        window, within = self._window, True
        while window.position < stop and window.has(1):
            try:
                tag, end = self._head(stop)
                size = end - window.position
                data, at = window.data, window.at
                if tag == 0x12 and not is_span(data, at):
                    within = False  # the next scope: its description or its spans follow
                elif tag == 0x12 and size <= LONGEST_ITEM:
                    within = True
                    if not window.has(size):
                        self._cut()
                        return
                    self._item("span", window.at, window.at + size)
                    window.at += size
                elif tag == 0x0A and within:
                    self._resource(end)
                else:
                    if tag == 0x0A:
                        self._scope = self._bytes(end)
                    window.skip_to(end)
            except Broken:
                self._lost()
                if self._find(stop) != "span":
                    return
                within = True
