"""Rows of a file leave in the order in which they completed, and none is lost, whatever is kept in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.read.order import TimeOrder


def batches(tables: Tables, seed: int, count: int, rows: int) -> list[EventBatch]:
    """Rows all over time, of two ranks, with links in some batches only; ``bytes`` numbers them."""
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        more = {"link": rng.integers(0, 9, rows)} if number % 3 == 0 else {}
        out.append(
            EventBatch.build(
                BatchHeader("job", number % 2, "host", "kineto"), tables, start_ns=rng.integers(0, 10**9, rows),
                duration_ns=rng.integers(0, 10**8, rows), kind=rng.choice([Kind.CPU_OP, Kind.PYTHON_SAMPLE], rows),
                bytes=np.arange(number * rows, (number + 1) * rows), pid=7, **more,
            )
        )  # fmt: skip
    return out


@pytest.mark.parametrize("run_rows", [50, 333, 10_000, 1 << 20])
def test_everything_comes_out_once_and_in_order(tmp_path: Path, run_rows: int) -> None:
    tables = Tables()
    given = batches(tables, 5, 40, 100)
    with TimeOrder(tmp_path, tables, run_rows) as order:
        for batch in given:
            order.add(batch)
        found = list(order.batches())
    assert not list(tmp_path.iterdir())
    last, seen, seqs = 0, {}, []
    for batch in found:
        done = batch.completed_ns
        assert (np.diff(done) >= 0).all()
        last = max(last, int(done[-1]))
        seqs.append(batch.header.seq)
        for row, number in enumerate(batch.bytes.tolist()):
            assert number not in seen
            seen[number] = (batch.header.rank, int(batch.start_ns[row]), int(batch.optional("link")[row]))
    assert seqs == list(range(len(seqs)))
    for batch in given:
        for row, number in enumerate(batch.bytes.tolist()):
            assert seen.pop(number) == (batch.header.rank, int(batch.start_ns[row]), int(batch.optional("link")[row]))
    assert not seen


def test_slices_do_not_overlap(tmp_path: Path) -> None:
    tables = Tables()
    rng = np.random.default_rng(1)
    with TimeOrder(tmp_path, tables, 5000) as order:
        for _ in range(30):
            order.add(EventBatch.build(BatchHeader("j", 0, "h", "s"), tables, start_ns=rng.integers(0, 10**9, 5000)))
        newest = -1
        for batch in order.batches():
            assert int(batch.start_ns[0]) >= newest
            newest = int(batch.start_ns[-1])
    assert newest > 9 * 10**8


def test_many_rows_at_one_instant_are_bounded(tmp_path: Path) -> None:
    tables = Tables()
    with TimeOrder(tmp_path, tables, 100_000) as order:
        for _ in range(8):
            order.add(EventBatch.build(BatchHeader("j", 0, "h", "s"), tables, start_ns=np.full(60_000, 5)))
        sizes = [len(batch) for batch in order.batches()]
    assert sum(sizes) == 480_000
    assert max(sizes) <= 131_072
