"""ByteSource: a file (or stdin) as chunks of plain bytes, whatever it is compressed with; never more than a chunk in memory."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, cast

import zstandard

from sofa_otel.core.errors import InputError

CHUNK: Final = 1 << 18
HEAD: Final = 1 << 16
_MAGIC: Final = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))
_BROKEN: Final = (EOFError, OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


class ByteSource:
    """Bytes of one input, decompressed (gzip, xz and zstd are told by their first bytes, not by the name).

    Args:
        path: File, or ``-`` for stdin.

    Attributes:
        name: Base name, for messages.
        position: Bytes handed out so far, counted after decompression.
        damage: What ended the input early (a truncated or damaged compressed file), empty when nothing did.

    Raises:
        InputError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name if str(path) != "-" else "stdin"
        self.position = 0
        self.damage = ""
        try:
            raw = cast("BinaryIO", sys.stdin.buffer) if str(path) == "-" else path.open("rb")
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror}", "name a file that can be read") from error
        buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw), HEAD)
        self._raw = buffered
        magic = buffered.peek(8)[:8]
        self.compression = next((name for start, name in _MAGIC if magic.startswith(start)), "")
        self._file = self._open(buffered)
        self._head = b""

    def _open(self, raw: io.BufferedReader) -> io.BufferedReader:
        opened: Any = raw
        if self.compression == "gzip":
            opened = gzip.GzipFile(fileobj=raw)
        elif self.compression == "xz":
            opened = lzma.LZMAFile(raw)  # noqa: SIM115 - closed with the raw file
        elif self.compression == "zstd":
            opened = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        return cast("io.BufferedReader", opened)  # all of them have read1

    def head(self, size: int = HEAD) -> bytes:
        """The first bytes, without taking them: fewer than ``size`` only when the input is that short."""
        while len(self._head) < size:
            data = self._take(size - len(self._head))
            if not data:
                break
            self._head += data
        return self._head[:size]

    def read(self, size: int = CHUNK) -> bytes:
        """The next bytes, at most ``size``; empty at the end. A damaged compressed file ends where it is damaged."""
        data, self._head = (self._head[:size], self._head[size:]) if self._head else (self._take(size), b"")
        self.position += len(data)
        return data

    def chunks(self, size: int = CHUNK) -> Iterator[bytes]:
        """The rest, in pieces of ``size`` bytes (the last may be shorter)."""
        while data := self.read(size):
            yield data

    def _take(self, size: int) -> bytes:
        """Up to ``size`` bytes, in single reads: one that meets the damage loses nothing that came before it."""
        parts: list[bytes] = []
        while size > 0 and not self.damage:
            try:
                data = self._file.read1(size)
            except _BROKEN as error:
                self.damage = f"{type(error).__name__}: {error}"
                break
            if not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; stdin stays open."""
        if self.name != "stdin":
            self._raw.close()

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
