"""Thinning keeps what a reader would see: means, extremes, ranks that differ."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core.report import FlameNode, RankTrack
from sofa_otel.dashboards.report import thin

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=300), st.integers(1, 50))
def test_groups_cover_every_row_once(values: list[float], groups: int) -> None:
    borders = thin.edges(len(values), groups)
    assert borders[0] == 0
    assert borders[-1] == len(values)
    assert (np.diff(borders) >= 1).all()
    weighted = thin.means(values, groups) * np.diff(borders)
    np.testing.assert_allclose(weighted.sum(), sum(values), atol=1e-3)
    assert thin.maxima(values, groups).max() == max(values)


@given(st.lists(finite, min_size=1, max_size=400), st.integers(4, 60))
def test_a_thinned_lane_keeps_its_extremes_and_its_order(values: list[float], points: int) -> None:
    time, value = thin.envelope(np.arange(len(values), dtype=np.int64), np.array(values), points)
    assert len(time) <= max(points, 1)
    assert (np.diff(time) > 0).all()
    assert value.min() == min(values)
    assert value.max() == max(values)


def test_a_slow_rank_is_slow_in_every_slice() -> None:
    start = [step * 100_000_000 for step in range(50)]
    tracks = [RankTrack(rank=rank, start_ns=start, duration_s=[0.1 + 0.02 * rank] * 50) for rank in range(3)]
    borders, rows = thin.rank_map(tracks, 10)
    assert len(borders) == 11
    assert all(len(row) == 10 for row in rows)
    np.testing.assert_allclose(rows[2], 0.14)


def test_an_iteration_longer_than_a_slice_leaves_no_hole() -> None:
    track = RankTrack(rank=0, start_ns=[0, 10**9, 5 * 10**9, 6 * 10**9], duration_s=[1.0, 4.0, 1.0, 1.0])
    _, rows = thin.rank_map([track, track], 7)
    assert np.isfinite(rows[0]).all()
    assert rows[0].max() == 4.0


def test_no_iterations_make_no_map() -> None:
    assert thin.rank_map([RankTrack(rank=0, start_ns=[], duration_s=[])], 10)[1] == []


def test_a_few_stragglers_do_not_flatten_the_histogram() -> None:
    values = np.concatenate([np.linspace(0.14, 0.16, 200), [3.0, 9.0]])
    borders, counts = thin.histogram(values, 40)
    assert borders[-1] < 0.3
    assert counts.sum() == 200
    assert (counts > 0).sum() > 10


def test_equal_durations_still_make_a_histogram() -> None:
    borders, counts = thin.histogram(np.full(30, 0.2), 12)
    assert counts.sum() == 30
    assert (np.diff(borders) > 0).all()


def _nodes(depth: int) -> st.SearchStrategy[FlameNode]:
    def build(name: str, own: float, children: list[FlameNode]) -> FlameNode:
        return FlameNode(name=name, value=own + sum(child.value for child in children), children=children)

    children = st.lists(_nodes(depth - 1), max_size=4) if depth else st.just([])
    return st.builds(build, st.text(max_size=3), st.floats(0.0, 10.0), children)


@given(_nodes(3), st.integers(1, 40))
def test_a_flattened_flame_is_a_tree_within_its_limit(root: FlameNode, limit: int) -> None:
    rows = thin.flatten(root, limit)
    assert 1 <= len(rows) <= limit
    assert rows[0] == (0, root.name, root.value)
    assert all(rows[at][0] <= rows[at - 1][0] + 1 for at in range(1, len(rows)))
    assert all(depth > 0 for depth, _, _ in rows[1:])


def test_a_deep_stack_needs_no_recursion() -> None:
    node = FlameNode(name="leaf", value=1.0)
    for level in range(5000):
        node = FlameNode(name=str(level), value=1.0, children=[node])
    assert len(thin.flatten(node, 10_000)) == 5001
