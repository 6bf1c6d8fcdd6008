"""A batch crosses a wire exactly, carries only what it references, and nothing that arrives can do worse than a typed error."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sofa_otel.core.batch import COLUMNS, OPTIONAL_COLUMNS, BatchHeader, EventBatch
from sofa_otel.core.codec import MAX_ROWS, decode_batch, encode_batch, payload_of
from sofa_otel.core.errors import InputError
from sofa_otel.core.pack import LocalTables, hash_paths, localise, pack_symbols, unpack_symbols
from sofa_otel.core.symbols import Symbol, Tables

GOLDEN = Path(__file__).parent.parent / "data" / "core" / "batch-v1.sfeb"


def golden_batch() -> EventBatch:
    """The batch of the golden file. Its content is part of format version 1: never change it, add a file for a new version."""
    tables = Tables()
    tables.symbols.intern("unused")
    main = tables.symbols.intern("main", "train", 0x7FFF_FFFF_FFFF_FFFF, "/src/träin.py", 12)
    step = tables.symbols.intern("step", "train", 2**64 - 1, "/src/bad\udcff.py", 40)
    read = tables.symbols.intern("read", "syscall")
    path = tables.paths.intern_frames([main, step])
    tables.paths.intern_frames([main, read])
    header = BatchHeader("job-é", 3, "host-a", "probe/4711", "own", 2**40)
    return EventBatch.build(
        header, tables,
        start_ns=[1_700_000_000_000_000_000, 1_700_000_000_000_000_300, 1_699_999_999_999_999_999, -(2**63), 2**63 - 1],
        duration_ns=[0, 5, 2**62, 1, 70_000], kind=4, subkind=[0, 1, 2, 255, 0], name=[read, step, main, 0, read],
        path=[path, tables.paths.parent(path), 0, path, 0], pid=4_294_967_295, tid=[1, 2, 3, 4, 300], cpu=[-1, 0, 1, 2, -1],
        device=-1, peer=[0, 0, 9, 0, 0], bytes=[0, -5, 0, 2**40, 1], link=[2**64 - 1, 0, 1, 2, 3],
    )  # fmt: skip


def assert_same(found: EventBatch, wanted: EventBatch) -> None:
    assert found.header == wanted.header
    assert found.columns.keys() == wanted.columns.keys()
    for key, column in wanted.columns.items():
        assert found.columns[key].dtype == column.dtype
        if key not in ("name", "path"):
            np.testing.assert_array_equal(found.columns[key], column, err_msg=key)
    for row in range(len(wanted)):
        assert found.tables.symbols[int(found.name[row])] == wanted.tables.symbols[int(wanted.name[row])]
        assert stack(found, row) == stack(wanted, row)


def stack(batch: EventBatch, row: int) -> list[Symbol]:
    return [batch.tables.symbols[i] for i in batch.tables.paths.frames(int(batch.path[row]))]


def test_golden_file_of_version_1() -> None:
    data = GOLDEN.read_bytes()
    assert_same(decode_batch(data, Tables()), golden_batch())
    assert payload_of(encode_batch(golden_batch())) == payload_of(data)


@st.composite
def batches(draw: st.DrawFn) -> EventBatch:
    tables = Tables()
    text = st.text(st.characters(), max_size=6)
    number = st.integers(-(2**63), 2**64 - 1)
    symbols = [
        tables.symbols.intern(draw(text), draw(text), draw(number), draw(text), draw(st.integers(0, 2**31)))
        for _ in range(draw(st.integers(0, 8)))
    ]
    paths = [0]
    for _ in range(draw(st.integers(0, 8)) if symbols else 0):
        paths.append(tables.paths.intern(draw(st.sampled_from(paths)), draw(st.sampled_from(symbols))))
    rows = draw(st.integers(0, 12))
    columns: dict[str, Any] = {}
    for key, dtype in (COLUMNS | OPTIONAL_COLUMNS).items():
        if key in ("name", "path"):
            values = st.sampled_from([0, *symbols] if key == "name" else paths)
        else:
            info = np.iinfo(dtype)
            values = st.one_of(st.integers(int(info.min), int(info.max)), st.integers(0, 3))
        if key in COLUMNS or draw(st.booleans()):
            columns[key] = np.array(draw(st.lists(values, min_size=rows, max_size=rows)), dtype)
    header = BatchHeader(draw(text), draw(st.integers(0, 2**31)), "h", draw(text), seq=draw(st.integers(0, 2**63 - 1)))
    return EventBatch.build(header, tables, **columns)


@given(batches(), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_batch_comes_back_exactly(batch: EventBatch, shared: bool) -> None:
    if any("\ud800" <= c <= "\udfff" for c in batch.header.job + batch.header.source):
        return  # a header is UTF-8 by contract
    target = Tables()
    if shared:
        target.paths.intern(0, target.symbols.intern("already here"))
    assert_same(decode_batch(encode_batch(batch), target), batch)


def test_only_what_is_referenced_travels() -> None:
    tables = Tables()
    path = 0
    for i in range(1000):
        path = tables.paths.intern(0, tables.symbols.intern(f"function_number_{i}"))
    batch = EventBatch.build(BatchHeader("j", 0, "h", "s"), tables, start_ns=[1], path=[path])
    target = Tables()
    decode_batch(encode_batch(batch), target)
    assert len(target.symbols) == 2
    assert len(target.paths) == 2


def test_path_hashes_depend_on_the_stack_alone() -> None:
    def hashes(order: list[list[str]], extra: list[str]) -> dict[tuple[str, ...], int]:
        tables = Tables()
        for name in extra:
            tables.symbols.intern(name)
        paths = [tables.paths.intern_frames([tables.symbols.intern(f) for f in frames]) for frames in order]
        batch = EventBatch.build(BatchHeader("j", 0, "h", "s"), tables, start_ns=np.zeros(len(paths)), path=paths)
        local, _, column = localise(batch)
        values = hash_paths(local)
        return {tuple(frames): int(values[i - 1]) for frames, i in zip(order, column.tolist(), strict=True)}

    stacks = [["a"], ["a", "b"], ["b", "a"], ["a", "b", "c"], ["a", "a"], ["a", "a", "a"], ["c"]]
    first = hashes(stacks, [])
    assert len(set(first.values())) == len(stacks)
    assert hashes(stacks[::-1], ["c", "x", "b"]) == first


def test_too_many_rows_are_refused_before_they_are_sent() -> None:
    batch = EventBatch.build(BatchHeader("j", 0, "h", "s"), Tables(), start_ns=np.zeros(MAX_ROWS + 1, np.int64))
    with pytest.raises(ValueError, match="in parts"):
        encode_batch(batch)


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda d: b"", "byte 0"),
        (lambda d: d[:19], "byte 19"),
        (lambda d: b"XXXX" + d[4:], "byte 0"),
        (lambda d: d[:4] + b"\x02\x00" + d[6:], "byte 4: version 2"),
        (lambda d: d[:-1], f"byte {GOLDEN.stat().st_size - 1 if GOLDEN.exists() else 0}"),
        (lambda d: d + b"x", "byte"),
        (lambda d: d[:30] + bytes([d[30] ^ 1]) + d[31:], "byte 16: the checksum"),
        (lambda d: d[:12] + b"\xff\xff\xff\xff" + d[16:], "byte 12"),
        (lambda d: d[:12] + b"\x01\x00\x00\x00" + d[16:], "byte 12"),
    ],
)
def test_damage_is_named_with_its_byte(damage: Any, where: str) -> None:
    with pytest.raises(InputError, match=where):
        decode_batch(damage(GOLDEN.read_bytes()), Tables())


@given(st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_fuzz_any_bytes(data: bytes) -> None:
    with pytest.raises(InputError, match="byte"):
        decode_batch(data, Tables())


def reseal(payload: bytes) -> bytes:
    """A message with a right checksum around any payload: what an ill-meaning sender can do."""
    body = zstandard.ZstdCompressor(level=1).compress(payload)
    return struct.pack("<4sHHIII", b"SFEB", 1, 0, len(body), len(payload), zlib.crc32(body)) + body


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 40))
@settings(max_examples=2000, deadline=None)
def test_fuzz_behind_the_checksum(changes: list[tuple[int, int]], cut: int) -> None:
    payload = bytearray(payload_of(GOLDEN.read_bytes()))
    for position, value in changes:
        payload[position % len(payload)] = value
    tables = Tables()
    try:
        batch = decode_batch(reseal(bytes(payload[: len(payload) - cut] if cut < 10 else payload)), tables)
    except InputError:
        return
    assert {len(column) for column in batch.columns.values()} == {len(batch)}
    assert int(batch.name.max(initial=0)) < len(tables.symbols)
    assert int(batch.path.max(initial=0)) < len(tables.paths)


def test_a_small_message_cannot_claim_a_large_batch() -> None:
    fields = msgspec.msgpack.decode(payload_of(GOLDEN.read_bytes()))
    fields[1] = 2**40
    fields[2] = [[name, "const", 0, 0, 0, b""] for name in COLUMNS]
    with pytest.raises(InputError, match="rows"):
        decode_batch(reseal(msgspec.msgpack.encode(fields)), Tables())


def test_a_lying_content_hash_is_refused() -> None:
    fields = msgspec.msgpack.decode(payload_of(GOLDEN.read_bytes()))
    fields[4] = bytes(len(fields[4]))
    with pytest.raises(InputError, match="content hash"):
        decode_batch(reseal(msgspec.msgpack.encode(fields)), Tables())


def test_packed_symbols_refuse_what_does_not_fit() -> None:
    packed = pack_symbols([Symbol("f", "m", 1, "x.py", 2)])
    assert unpack_symbols(packed) == [Symbol("f", "m", 1, "x.py", 2)]
    for wrong in (
        msgspec.structs.replace(packed, text=b""),
        msgspec.structs.replace(packed, offsets=[]),
        msgspec.structs.replace(packed, lengths=packed.lengths[:-1]),
        msgspec.structs.replace(packed, text=b"\xff" * len(packed.text)),
    ):
        with pytest.raises(ValueError, match=r".+"):
            unpack_symbols(wrong)


def test_path_tables_refuse_cycles() -> None:
    one = np.ones(1, np.uint32)
    with pytest.raises(ValueError, match="parent"):
        hash_paths(LocalTables([Symbol("f")], np.ones(1, np.uint64), one, one))
