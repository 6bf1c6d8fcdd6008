"""The cut: few swarms, little left over, none too large where it can be opened, and no flapping."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import swarm_planted as planted
from hypothesis import given, settings
from hypothesis import strategies as st
from swarm_driver import Run, shares
from swarm_planted import MAIN, MS, START

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.group.cut import CEILING, cut
from sofa_otel.processors.group.grouper import Grouper
from sofa_otel.processors.group.keys import FrameKey
from sofa_otel.processors.group.tree import LEADER, CallTree


def grown(weights: dict[tuple[planted.Frame, ...], float]) -> tuple[Tables, CallTree]:
    """A tree with the given weight on each path."""
    tables = Tables()
    tree = CallTree(tables)
    for frames, weight in weights.items():
        path = np.array([planted.path(tables, MAIN + frames)], np.uint32)
        zero = np.zeros(1, np.uint8)
        tree.add(LEADER, tree.nodes_of(zero + Kind.PYTHON_SAMPLE, zero, path * 0, path), np.array([weight]))
    return tables, tree


def named(tree: CallTree) -> dict[str, float]:
    result = cut(tree)
    own = tree.weights[:, LEADER] / tree.weights[:, LEADER].sum()
    out = Counter({group.key.function: 0.0 for group in result.groups})
    for node, position in enumerate(result.owner.tolist()):
        out[result.groups[position].key.function if position >= 0 else "other"] += float(own[node])
    return dict(out)


def test_a_large_frame_is_opened_and_keeps_its_rest() -> None:
    _, tree = grown(
        {(("f", "m", 1),): 30, (("f", "m", 1), ("g", "m", 2)): 8, (("f", "m", 1), ("h", "m", 3)): 9, (("k", "m", 4),): 53}
    )
    assert named(tree) == {"k": 0.53, "f": 0.30, "h": 0.09, "g": 0.08, "other": 0.0}


def test_a_chain_is_one_swarm_named_after_its_innermost_frame() -> None:
    chain = (("load", "m", 1), ("open", "m", 2), ("decode", "m", 3))
    _, tree = grown({chain[:1]: 0.3, chain[:2]: 0.3, chain: 9.4, (("k", "m", 4),): 90})
    found = named(tree)
    assert found["decode"] == 0.1
    top = next(group.top.function for group in cut(tree).groups if group.key.function == "decode")
    assert top == "load"


def test_crumbs_go_to_their_caller() -> None:
    crumbs = {(("f", "m", 1), (f"tiny{i}", "m", 10 + i)): 0.5 for i in range(40)}
    _, tree = grown(crumbs | {(("k", "m", 4),): 80})
    assert named(tree) == pytest.approx({"k": 0.8, "f": 0.2, "other": 0.0})


def test_a_flat_profile_is_put_together_by_module() -> None:
    tables = Tables()
    tree = CallTree(tables)
    rng = np.random.default_rng(1)
    for i in range(400):
        path = np.array([tables.paths.intern_frames([tables.symbols.intern(f"fn{i}", f"lib{i % 3}.so", i)])], np.uint32)
        zero = np.zeros(1, np.uint8)
        tree.add(LEADER, tree.nodes_of(zero + Kind.CPU_SAMPLE, zero, path * 0, path), rng.uniform(1, 2, 1))
    result = cut(tree)
    assert (result.owner[1:] >= 0).mean() >= 0.95
    assert len(result.groups) <= 63


def test_one_big_python_function_is_split_by_line() -> None:
    lines = {(("loop", "m", 10 + i),): w for i, w in enumerate((40, 30, 20, 9, 0.5, 0.5))}
    _, tree = grown(lines)
    result = cut(tree)
    assert {g.key.line: round(g.share, 3) for g in result.groups} == {10: 0.4, 11: 0.3, 12: 0.2, 13: 0.09, 0: 0.01}
    _, single = grown({(("loop", "m", 10),): 97, (("loop", "m", 11),): 3})
    assert [g.key.line for g in cut(single).groups] == [0]


def test_a_small_function_is_not_split_by_line() -> None:
    weights = {(("f", "m", i),): 1.0 for i in range(10)} | {(("k", "m", 1),): 45.0, (("l", "m", 1),): 45.0}
    _, tree = grown(weights)
    assert {group.key.line for group in cut(tree).groups} == {0}


def test_thresholds_have_hysteresis() -> None:
    inner = (("f", "m", 1), ("g", "m", 2)), (("f", "m", 1), ("h", "m", 3))
    _, tree = grown({inner[0]: 5.8, inner[1]: 5.8, (("k", "m", 4),): 88.4})
    first = cut(tree)
    assert "f" in {group.key.function for group in first.groups}
    tree.weights[:, LEADER] = np.where([k.function in "gh" and k.line for k in tree.keys], 6.4, tree.weights[:, LEADER])
    assert CEILING < 12.8 / (12.8 + 88.4)
    assert "f" not in {group.key.function for group in cut(tree).groups}
    assert "f" in {group.key.function for group in cut(tree, first).groups}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 6), min_size=1, max_size=7), st.integers(1, 40), st.floats(0.01, 1_000)),
        min_size=1,
        max_size=80,
    )
)
def test_any_tree_is_cut_within_bounds(paths: list[tuple[list[int], int, float]]) -> None:
    tables = Tables()
    tree = CallTree(tables)
    for frames, line, weight in paths:
        path = np.array([planted.path(tables, tuple((f"f{one}", "m", line) for one in frames))], np.uint32)
        zero = np.zeros(1, np.uint8)
        tree.add(LEADER, tree.nodes_of(zero + Kind.PYTHON_SAMPLE, zero, path * 0, path), np.array([weight]))
    result = cut(tree)
    assert len(result.groups) <= 63
    assert len(result.owner) == len(tree)
    own = tree.weights[:, LEADER]
    left = own[result.owner < 0].sum() / own.sum()
    assert left <= 0.05 or len(result.groups) == 63
    assert len({(g.key.identity, g.host.identity) for g in result.groups}) == len(result.groups)


def test_at_most_64_swarms_and_little_other_on_a_wide_program() -> None:
    tables = Tables()
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.full(300, 0.5))
    paths = [planted.path(tables, (*MAIN, (f"stage{i // 30}", "m", 1), (f"fn{i}", "m", 1))) for i in range(300)]
    picks = rng.choice(300, 20_000, p=weights)
    batch = planted.samples(tables, [(START + i * MS, paths[p], Wait.ON_CPU) for i, p in enumerate(picks.tolist())], MS)
    run = Run(tables, [batch], planted.iterations(200))
    by = run.time_by_swarm()
    assert len(by) <= 64
    assert by[Grouper("", 0, tables).swarm_ids[0]] / by.total() <= 0.05


def test_planted_functions_are_recovered() -> None:
    """k functions, called from several places, as native symbols at other addresses: k swarms, each pure, sums exact."""
    tables = Tables()
    rng = np.random.default_rng(5)
    frames = [tables.symbols.intern(f"work{i}", "app", 0x1000 * i) for i in range(12)]
    outer = [tables.symbols.intern("main", "app", 1), tables.symbols.intern("run_loop", "app", 2)]
    picks = rng.integers(0, 12, 5_000)
    batch = EventBatch.build(
        planted.HEADER, tables, start_ns=START + np.arange(5_000) * MS, duration_ns=MS, kind=Kind.CPU_SAMPLE, subkind=Wait.ON_CPU,
        path=[tables.paths.intern_frames([*outer, frames[p]]) for p in picks], pid=planted.PID, tid=planted.PID,
    )  # fmt: skip
    run = Run(tables, [batch], planted.iterations(50))
    found = shares(run)
    assert len(found) == 12
    assert all(f"work{i} · compute" in found for i in range(12))
    calls = Counter({run.infos[w.swarm].caption: 0 for w in run.windows})
    for w in run.windows:
        calls[run.infos[w.swarm].caption] += w.calls
    assert {f"work{i} · compute": int((picks == i).sum()) for i in range(12)} == dict(calls)


def test_imports_are_one_swarm() -> None:
    tables = Tables()
    tree = CallTree(tables)
    machinery = tables.symbols.intern("_find_and_load", "importlib._bootstrap", 1, "<frozen importlib._bootstrap>", 1)
    for i in range(50):
        inside = tables.symbols.intern("<module>", f"pkg{i}", 1, f"/p/pkg{i}.py", 1)
        path = np.array([tables.paths.intern_frames([machinery, inside])], np.uint32)
        zero = np.zeros(1, np.uint8)
        tree.nodes_of(zero + Kind.PYTHON_SAMPLE, zero, path * 0, path)
    assert tree.keys[1:] == [FrameKey("python", "import")]
