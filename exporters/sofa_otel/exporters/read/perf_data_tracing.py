"""The ``tracing_data`` section of ``perf.data``: names and field offsets of tracepoints, as the recording kernel gave them."""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple

MAGIC: Final = b"\x17\x08\x44tracing"
_FIELD: Final = re.compile(rb"field:([^;]{1,500});\s*offset:(\d{1,6});\s*size:(\d{1,6});")
_NAME: Final = re.compile(rb"^name: (\S+)\s*\nID: (\d{1,9})\s*\n", re.M)
_MOST: Final = 100_000


class Format(NamedTuple):
    """A tracepoint.

    Attributes:
        name: ``system:event``.
        fields: ``(offset, size)`` in the raw data by field name.
    """

    name: str
    fields: dict[str, tuple[int, int]]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError("tracing data are cut off")
        self.at += size
        return self.data[self.at - size : self.at]

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def text(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise ValueError("tracing data are cut off")
        return self.take(end + 1 - self.at)[:-1]


def parse_tracing(data: bytes) -> dict[int, Format]:
    """Formats by tracepoint id. What is damaged ends the reading; what was read before it counts."""
    out: dict[int, Format] = {}
    reader = _Reader(data)
    try:
        if reader.take(len(MAGIC)) != MAGIC:
            return out
        reader.text()
        if reader.take(1) != b"\0":
            return out  # big-endian
        reader.take(1 + 4)
        for _ in range(2):  # header_page, header_event
            reader.text()
            reader.take(reader.u64())
        for _ in range(min(reader.u32(), _MOST)):
            reader.take(reader.u64())
        for _ in range(min(reader.u32(), _MOST)):
            system = reader.text().decode("utf-8", "replace")
            for _ in range(min(reader.u32(), _MOST)):
                _add(out, system, reader.take(reader.u64()))
    except ValueError:
        pass
    return out


def _add(out: dict[int, Format], system: str, text: bytes) -> None:
    found = _NAME.search(text)
    if found is None:
        return
    fields: dict[str, tuple[int, int]] = {}
    for declaration, offset, size in _FIELD.findall(text):
        name = declaration.split(b"[", 1)[0].split()[-1:] or [b""]
        fields[name[0].decode("utf-8", "replace")] = (int(offset), int(size))
    out[int(found[2])] = Format(f"{system}:{found[1].decode('utf-8', 'replace')}", fields)
