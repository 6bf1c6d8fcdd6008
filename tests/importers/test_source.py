"""Bytes of plain and compressed files: all of them, and of a damaged file everything before the damage."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read.source import ByteSource

PLAIN = bytes(np.random.default_rng(0).integers(97, 123, 900_000, np.uint8))
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "two gzip members": lambda data: gzip.compress(data[:400_000]) + gzip.compress(data[400_000:]),
    "two zstd frames": lambda data: zstandard.compress(data[:400_000]) + zstandard.compress(data[400_000:]),
}


@pytest.mark.parametrize("kind", ["plain", *PACK])
@pytest.mark.parametrize("head", [0, 1000, 2_000_000])
def test_every_byte_comes_once(tmp_path: Path, kind: str, head: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(PACK[kind](PLAIN) if kind in PACK else PLAIN)
    with ByteSource(path) as source:
        assert source.head(head) == PLAIN[:head]
        assert b"".join(source.chunks(100_000)) == PLAIN
        assert source.position == len(PLAIN)
        assert not source.damage


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd"])
@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 1 << 23])
def test_what_stands_before_the_cut_is_read(tmp_path: Path, kind: str, size: int) -> None:
    packed = PACK[kind](PLAIN)
    path = tmp_path / "x"
    path.write_bytes(packed[: len(packed) // 2])
    with ByteSource(path) as source:
        found = b"".join(source.chunks(size))
    assert PLAIN.startswith(found)
    assert len(found) > (0.3 * len(PLAIN) if kind != "zstd" else 100_000)  # zstd and xz give whole blocks only
    assert source.damage or kind == "zstd"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none"):
        ByteSource(tmp_path / "none.txt")
