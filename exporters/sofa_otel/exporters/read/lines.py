"""Lines of a text file, whatever its chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sofa_otel.exporters.read.source import ByteSource

LONGEST_LINE: Final = 1 << 20


def lines(source: ByteSource) -> Iterator[tuple[int, bytes]]:
    """``(number, line)`` of every line that holds something; lines too long to be any are empty."""
    rest, number = b"", 0
    for chunk in source.chunks():
        *whole, last = chunk.split(b"\n")
        if whole:
            whole[0] = rest + whole[0]
            rest = last
            for line in whole:
                number += 1
                if line.strip():
                    yield number, line.rstrip(b"\r")
        elif len(rest) < LONGEST_LINE:
            rest += last
    if rest.strip():
        yield number + 1, rest.rstrip(b"\r")
