"""OTLP as JSON in a file: a request a line, as the Collector and we write it, or documents of any length and layout."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np

from sofa_otel.core.errors import InputError
from sofa_otel.core.otlp.json_events import (
    EventRequest,
    EventScope,
    EventSpan,
    columns_of,
    decode_request,
    resource_attributes,
    scope_name,
)
from sofa_otel.exporters.read.otlp_json_cut import CHUNK, Cutter
from sofa_otel.exporters.read.otlp_points import ResourcePoints
from sofa_otel.exporters.read.otlp_rows import Losses, SpanRows

LONGEST_LINE: Final = 8 << 20
_BLOCK: Final = 8192
_BOM: Final = b"\xef\xbb\xbf"


class JsonReader:
    """Reads requests of traces, metrics and logs.

    Args:
        chunks: The text.
        rows, points: Where spans and metrics go.
        losses: Told about damage.

    Attributes:
        logs: Requests (or pieces of them) of logs, which are passed over.
    """

    def __init__(self, chunks: Iterator[bytes], rows: SpanRows, points: ResourcePoints, losses: Losses) -> None:
        self._chunks = chunks
        self._rows, self._points, self._losses = rows, points, losses
        self._spans: list[EventSpan] = []
        self._origin: list[int] = []
        self._place = ""
        self.logs = 0

    def read(self) -> None:
        """Everything."""
        rest, line, position = b"", 0, 0
        for chunk in self._chunks:
            if not position:
                chunk = chunk.removeprefix(_BOM)
            position += len(chunk)
            *lines, last = chunk.split(b"\n")
            if lines:
                lines[0] = rest + lines[0]
                rest = last
            else:
                rest += last
            for number, text in enumerate(lines, line + 1):
                if text.strip() and not self._line(text, number):
                    # Not a request a line, then: one document over many lines.
                    left = b"\n".join((*lines[number - line - 1 :], rest))
                    self._documents(chain(_pieces(left), self._chunks), position - len(left))
                    return
            line += len(lines)
            if len(rest) > LONGEST_LINE:
                self._documents(chain(_pieces(rest), self._chunks), position - len(rest))
                return
        if rest.strip() and not self._line(rest, line + 1):
            self._documents(_pieces(rest), position - len(rest))
        self._flush()

    def _line(self, text: bytes, number: int) -> bool:
        """Take a line; False where it looks like the beginning of a longer document."""
        place = f"line {number}"
        try:
            request = decode_request(text)
        except InputError:
            if number == 1 and not text.rstrip().endswith(b"}"):
                return False
            self._losses.add("lines are damaged; their whole spans were read", place)
            self._cut(_pieces(text), place)
            return True
        self._request(request, text, place)
        return True

    def _documents(self, chunks: Iterator[bytes], begin: int) -> None:
        cut_off = self._cut(chunks, "", begin)
        self._flush()
        if cut_off:
            self._losses.add("document is cut off by the end of the file; its whole spans were read", "at the end")

    def _cut(self, chunks: Iterator[bytes], place: str, begin: int = 0) -> bool:
        """Take the whole items of documents that are long or damaged."""

        def lost(at: int) -> None:
            if not place:
                self._losses.add("places are damaged; what stands between them was read", f"byte {begin + at}")

        cutter = Cutter(lost)
        for items in cutter.documents(chunks):
            whole = cutter.around(items)
            try:
                self._request(decode_request(whole), whole, place or "a document")
            except InputError:
                self._each(cutter, items, place)
        return cutter.cut_off

    def _each(self, cutter: Cutter, items: list[bytes], place: str) -> None:
        """Items one by one, since one of them is damaged."""
        for item in items:
            whole = cutter.around([item])
            try:
                request = decode_request(whole)
            except InputError:
                self._losses.add("items are damaged and left out", place or "a document")
            else:
                self._request(request, whole, place or "a document")

    def _request(self, request: EventRequest, text: bytes, place: str) -> None:
        for of_resource in request.resource_spans or ():
            scopes = chain(of_resource.scope_spans or (), of_resource.instrumentation_library_spans or ())
            resource = bytes(of_resource.resource)
            for scope in scopes:
                self._scope(resource, scope, place)
        if bytes(request.resource_metrics):
            self._flush()
            self._points.document(self._rows.header_of, text, place)
        if bytes(request.resource_logs):
            self.logs += 1
        if bytes(request.resource_profiles):
            self._losses.add("requests of profiles are left out", place)

    def _scope(self, resource: bytes, scope: EventScope, place: str) -> None:
        if not scope.spans:
            return
        described = bytes(scope.scope) or bytes(scope.instrumentation_library)
        origin = self._rows.origin(resource, described, resource_attributes, scope_name, place)
        self._place = self._place or place
        self._spans += scope.spans
        self._origin += [origin] * len(scope.spans)
        if len(self._spans) >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        if not self._spans:
            return
        for begin in range(0, len(self._spans), 2 * _BLOCK):
            spans = columns_of(self._spans[begin : begin + 2 * _BLOCK])
            self._rows.take(spans, np.array(self._origin[begin : begin + 2 * _BLOCK], np.int64))
            if spans.broken.any():
                self._losses.add("spans are damaged and left out", f"{self._place} and after", int(spans.broken.sum()))
        self._spans, self._origin, self._place = [], [], ""
        self._rows.settle()


def _pieces(text: bytes) -> Iterator[bytes]:
    """The cutter's tables are larger than the text they are of."""
    for begin in range(0, len(text), CHUNK):
        yield text[begin : begin + CHUNK]
