"""Files of OTLP: what a Collector's file exporter, an SDK, or ``sofa report --format otlp`` left on disk.

Protobuf (one request, or many with their lengths before them, compressed or not) and JSON (a request a line, or documents).
Spans of any instrumentation become rows; those that are single events of ours become what they were. Logs are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Final

import zstandard

from sofa_otel.core.errors import InputError
from sofa_otel.core.otlp.request_walk import Broken, varint
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.otlp_json import JsonReader
from sofa_otel.exporters.read.otlp_points import ResourcePoints
from sofa_otel.exporters.read.otlp_rows import Losses, SpanRows
from sofa_otel.exporters.read.otlp_window import LONGEST_FRAME, Window, begins_request
from sofa_otel.exporters.read.otlp_wire import WireReader
from sofa_otel.exporters.read.source import ByteSource

_JSON: Final = re.compile(rb'"resource(Spans|Metrics|Logs|Profiles)"')
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ENDLESS: Final = 1 << 62
_HEAD: Final = 1 << 16


class OtlpImporter:
    """Reads OTLP in each of its file forms."""

    name = "otlp"

    def recognise(self, head: bytes, name: str) -> float:
        """JSON by its first keys, protobuf by the levels of a request."""
        return {"": 0.0, "json": 0.9, "frames": 0.9, "packed": 0.9, "single": 0.8, "delimited": 0.7}[_form(head)]

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """Deliver spans as events and metrics as resource points.

        Raises:
            InputError: Not OTLP, or nothing but damage.
        """
        form = _form(source.head()) or ("json" if source.head(256).lstrip()[:1] == b"{" else "single")
        losses = Losses()
        rows, points = SpanRows(sink, losses), ResourcePoints(sink, losses)
        reader: JsonReader | WireReader
        if form == "packed":
            chunks = _unpacked(source, losses)
            first = next(chunks, b"")
            chunks = chain((first,), chunks)
            form = "json" if first[4:].lstrip()[:1] == b"{" else "frames"
            if form == "json":
                chunks = (chunk[4:] + b"\n" for chunk in chunks)
        else:
            chunks = source.chunks()
        if form == "json":
            reader = JsonReader(chunks, rows, points, losses)
            reader.read()
        else:
            reader = WireReader(chunks, rows, points, losses)
            {"frames": reader.frames, "delimited": reader.delimited}.get(form, reader.single)()
        points.flush()
        alone = rows.finish()
        if reader.logs:
            sink.warn(f"{source.name}: {reader.logs:,} log records passed over: only traces and metrics are read")
        if rows.records and not alone:
            sink.warn(f"{source.name}: {rows.records:,} spans are iterations and swarms that SOFA found, no events: left out")
        if not (rows.rows or points.points or rows.records or reader.logs) and (losses or not source.position):
            raise InputError(
                f"{source.name}, byte 0: nothing in it can be read as OTLP{f' ({source.damage})' if source.damage else ''}",
                "give a file of OTLP protobuf or JSON, for example a Collector's file exporter's",
            )
        losses.tell(sink, source.name)


def _form(head: bytes) -> str:
    """``json``, ``frames`` (4-byte lengths), ``packed`` (zstd in frames), ``single``, ``delimited`` (varint lengths), or none."""
    text = head[:3].removeprefix(b"\xef\xbb\xbf") + head[3:]
    if text.lstrip()[:1] == b"{":
        return "json" if _JSON.search(text) else ""
    size = int.from_bytes(head[:4], "big")
    if head[4:8] == _ZSTD and 0 < size < LONGEST_FRAME:
        return "packed"
    if len(head) > 5 and 2 <= size < LONGEST_FRAME and begins_request(head, 4, size):
        return "frames"
    if begins_request(head, 0, _ENDLESS):
        return "single"
    try:
        size, body = varint(head, 0, len(head))
    except Broken:
        return ""
    return "delimited" if size > 2 and begins_request(head, body, size) else ""


def _unpacked(source: ByteSource, losses: Losses) -> Iterator[bytes]:
    """The Collector compresses message by message: as frames that are not compressed."""
    window = Window(source.chunks())
    while window.has(8):
        size = int.from_bytes(window.data[window.at : window.at + 4], "big")
        place = window.position
        if size > LONGEST_FRAME or not window.has(4 + size):
            losses.add("message is cut off by the end of the file", f"byte {place}")
            return
        packed = window.data[window.at + 4 : window.at + 4 + size]
        window.at += 4 + size
        try:
            data = _inflate(packed)
        except zstandard.ZstdError:
            losses.add("messages are damaged and left out", f"byte {place}")
            continue
        yield len(data).to_bytes(4, "big") + data


def _inflate(packed: bytes) -> bytes:
    """One zstd frame, of a bounded size.

    Raises:
        ZstdError: It is none, or too large.
    """
    reader = zstandard.ZstdDecompressor().stream_reader(packed)
    data = bytes(reader.read(LONGEST_FRAME))
    if len(data) == LONGEST_FRAME:
        raise zstandard.ZstdError("a message of more than 128 MB")
    return data
