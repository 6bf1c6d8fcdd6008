"""strace text: every option gives the rows that the plain reading gives, and damage costs only what it hits."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from reading import DATA, Gathered, damage, read, survives
from strace_reference import Row, Writer, reference

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Futex, Kind
from sofa_otel.exporters.read import strace
from sofa_otel.exporters.read.importer import detect
from sofa_otel.exporters.read.source import ByteSource
from sofa_otel.exporters.read.strace import StraceImporter


def rows_of(found: Gathered) -> list[Row]:
    out = []
    for batch in found.batches:
        c = batch.columns
        assert (batch.kind == Kind.SYSCALL).all()
        names = [found.tables.symbols[int(i)] for i in batch.name]
        assert all(symbol.module == "syscall" for symbol in names)
        out += [
            Row(symbol.function, *values)
            for symbol, *values in zip(
                names, *(c[key].tolist() for key in ("start_ns", "duration_ns", "pid", "tid", "bytes", "subkind", "peer")),
                strict=True,
            )
        ]  # fmt: skip
    return sorted(out)


def read_text(folder: Path, text: str | bytes, name: str = "trace.txt") -> Gathered:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(StraceImporter(), path)


@pytest.mark.parametrize("seed", range(150))
def test_reads_what_the_plain_reading_reads(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small blocks: calls, clocks and processes go on from block to block.
    monkeypatch.setattr(strace, "BLOCK", 700 if seed % 3 == 0 else 2 << 20)
    writer = Writer(seed)
    text = writer.text(300)
    found = read_text(tmp_path, text)
    expected = reference(text)
    got = rows_of(found)
    assert len(expected) > 80
    assert found.rows.header.clock == ("unix" if writer.options.clock == "unix" else "own")
    assert [row._replace(pid=0) for row in got] == [row._replace(pid=0) for row in expected], writer.options
    if seed % 3:
        assert got == expected
    assert not found.warnings
