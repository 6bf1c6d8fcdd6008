"""Head and feature sections of ``perf.data``: which events there are, whose ids are whose, the host, and what the clock was."""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read.perf_data_attr import SMALLEST, Attr
from sofa_otel.exporters.read.perf_data_tracing import Format, parse_tracing

MAGIC: Final = b"PERFILE2"
OTHERS: Final = {b"2ELIFREP": "it is big-endian", b"PERFFILE": "it is of the first version of the format"}
FILE_HEADER: Final = 104
PIPE_HEADER: Final = 16

_TRACING_DATA: Final = 1
_HOSTNAME: Final = 3
_ARCH: Final = 6
_EVENT_DESC: Final = 12
_CLOCK_DATA: Final = 29
_LAST: Final = 64
_BIG: Final = 64 << 20
_REALTIME: Final = 0


class Recording:
    """What is known about a recording; grows while a pipe is read.

    Attributes:
        attrs: Events.
        of_id: Index into ``attrs`` by sample id.
        names: Event name by index, as the command line gave it.
        formats: Tracepoints by id.
        host, arch: Empty where the file does not say.
        clock: ``(clock id, its nanoseconds, nanoseconds of the epoch at the same moment)``.
    """

    def __init__(self) -> None:
        self.attrs: list[Attr] = []
        self.of_id: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self.formats: dict[int, Format] = {}
        self.host = self.arch = ""
        self.clock: tuple[int, int, int] | None = None
        self.version = 0
        """Counts changes, so that what was derived from this can be derived anew."""

    @property
    def offset_ns(self) -> int | None:
        """What to add to the recording's times to get the epoch, None where that is not known."""
        clockid = self.attrs[0].clockid if self.attrs else -1
        if clockid == _REALTIME:
            return 0
        if self.clock is not None and self.clock[0] == clockid:
            return self.clock[2] - self.clock[1]
        return None

    def event_name(self, index: int) -> str:
        """``system:event`` of a tracepoint, the name given on the command line otherwise, empty when neither is known."""
        attr = self.attrs[index]
        if attr.kind == 2 and attr.config in self.formats:
            return self.formats[attr.config].name
        return self.names.get(index, "")

    def add_attr(self, data: bytes, ids: bytes) -> bool:
        """Take an event and its ids; False when it is damaged."""
        attr = Attr.parse(data)
        if attr is None or len(self.attrs) >= 65_536:
            return False
        for (number,) in struct.iter_unpack("<Q", ids[: len(ids) // 8 * 8]):
            self.of_id[number] = len(self.attrs)
        self.attrs.append(attr)
        self.version += 1
        return True

    def name(self, number: int, text: bytes) -> None:
        """Take the name of the event that has this id."""
        self.names[self.of_id[number]] = text.split(b"\0", 1)[0].decode("utf-8", "replace")
        self.version += 1

    def add_feature(self, number: int, data: bytes) -> None:
        """Take a feature section (or the payload of a HEADER_FEATURE record)."""
        self.version += 1
        try:
            if number == _TRACING_DATA:
                self.formats.update(parse_tracing(data))
            elif number == _HOSTNAME:
                self.host = _string(data, 0)[0]
            elif number == _ARCH:
                self.arch = _string(data, 0)[0]
            elif number == _CLOCK_DATA:
                _, clockid, epoch, clock = struct.unpack_from("<IIQQ", data)
                if epoch < 1 << 62 and clock < 1 << 62:
                    self.clock = (clockid, clock, epoch)
            elif number == _EVENT_DESC:
                self._describe(data)
        except (struct.error, ValueError):
            return

    def _describe(self, data: bytes) -> None:
        count, size = struct.unpack_from("<II", data)
        at = 8
        for index in range(min(count, 65_536)):
            attr = data[at : at + size]
            (ids,) = struct.unpack_from("<I", data, at + size)
            name, at = _string(data, at + size + 4)
            (first,) = struct.unpack_from("<Q", data, at) if ids else (0,)
            at += 8 * ids
            if not self.attrs and len(attr) < size:
                return
            self.names[self.of_id.get(first, index)] = name


def _string(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, at)
    text = data[at + 4 : at + 4 + length]
    if len(text) < length:
        raise ValueError("a string is cut off")
    return text.split(b"\0", 1)[0].decode("utf-8", "replace"), at + 4 + length


def check_magic(head: bytes, name: str) -> None:
    """Refuse what is not a ``perf.data`` of today's little-endian machines.

    Raises:
        InputError: It is not.
    """
    if head[:8] != MAGIC:
        why = OTHERS.get(bytes(head[:8]), "it has no perf.data header")
        raise InputError(f"{name}, byte 0: {why}", "record on a little-endian machine with perf record")
    if len(head) < PIPE_HEADER:
        raise InputError(f"{name}, byte {len(head)}: the header is cut off", "record again")


def is_pipe(head: bytes) -> bool:
    """Whether it was written to a pipe (``perf record -o -``)."""
    return int(struct.unpack_from("<Q", head, 8)[0]) == PIPE_HEADER


def read_file_header(file: BinaryIO, length: int, name: str) -> tuple[Recording, int, int]:
    """Read head, events and features of a file; leaves the position undefined.

    Returns:
        The recording, and first byte and size of its data section.

    Raises:
        InputError: There is no event in it that can be read.
    """
    file.seek(0)
    head = file.read(FILE_HEADER)
    if len(head) < FILE_HEADER:
        raise InputError(f"{name}, byte {len(head)}: the header is cut off", "record again")
    attr_size, attrs_at, attrs_size, data_at, data_size = struct.unpack_from("<QQQQQ", head, 16)
    bits = int.from_bytes(head[72:FILE_HEADER], "little")
    out = Recording()
    if SMALLEST + 16 <= attr_size <= 65_536:
        left = length  # sections do not overlap: together they are no longer than the file
        for entry in range(min(attrs_size // attr_size, 65_536)):
            data = _section(file, length, attrs_at + entry * attr_size, attr_size)
            if len(data) < attr_size or left < 0:
                break
            ids_at, ids_size = struct.unpack_from("<QQ", data, attr_size - 16)
            ids = _section(file, length, ids_at, ids_size)
            left -= len(ids)
            out.add_attr(data[:-16], ids)
    if not out.attrs:
        raise InputError(f"{name}, byte {attrs_at}: no event can be read", "record again")
    if not FILE_HEADER <= data_at <= length:
        raise InputError(f"{name}, byte 40: the data are said to begin at byte {data_at} of {length}", "record again")
    if data_size == 0 or data_at + data_size > length:
        return out, data_at, length - data_at  # perf was killed, or the copy was: no features
    table = _section(file, length, data_at + data_size, 16 * bits.bit_count())
    sections = list(struct.iter_unpack("<QQ", table[: len(table) // 16 * 16]))
    numbers = [number for number in range(_LAST) if bits >> number & 1]
    for number, (start, size) in zip(numbers, sections, strict=False):
        out.add_feature(number, _section(file, length, start, size))
    return out, data_at, data_size


def _section(file: BinaryIO, length: int, start: int, size: int) -> bytes:
    if start >= length or size > _BIG:
        return b""
    file.seek(start)
    return file.read(min(size, length - start))
