"""Interned paths as columns: exact at every size, and what was given out stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.symbols import Tables, closure, content_hash


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 50), st.booleans()), max_size=300))
def test_columns_follow_the_table(moves: list[tuple[int, int, bool]]) -> None:
    paths = Tables().paths
    given_out = []
    for parent, symbol, look in moves:
        paths.intern(parent % len(paths), symbol)
        if look:
            given_out.append(paths.arrays())
    for parent_column, symbol_column in [*given_out, paths.arrays()]:
        for path in range(1, len(parent_column)):
            assert parent_column[path] == paths.parent(path) < path
            assert symbol_column[path] == paths.leaf(path)
    assert len(paths.arrays()[0]) == len(paths)


def test_columns_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Tables().paths.arrays()[0][0] = 1


def test_rebasing_keeps_the_meaning_and_takes_only_what_is_used() -> None:
    source, target = Tables(), Tables()
    target.symbols.intern("already")
    a, b, unused = (source.symbols.intern(name, "m") for name in ("a", "b", "unused"))
    path = source.paths.intern_frames([a, b])
    source.paths.intern_frames([unused])
    batch = EventBatch.build(BatchHeader("j", 0, "h", "s"), source, start_ns=[1, 2], name=[b, 0], path=[path, 0])
    moved = batch.rebased(target)
    assert [target.symbols[i].function for i in target.paths.frames(int(moved.path[0]))] == ["a", "b"]
    assert moved.name.tolist()[1] == moved.path.tolist()[1] == 0
    assert len(target.symbols) == 4
    assert closure(source, batch.name, batch.path) == ([a, b], [1, 2])
    np.testing.assert_array_equal(moved.start_ns, batch.start_ns)


def test_content_hashes_are_the_same_on_every_machine() -> None:
    assert content_hash("f", "m", 3, "a.py", 9) == 0xE1F141B24C5E1AA0
    assert content_hash("ab", "c") != content_hash("a", "bc")
