"""Edges are found where they were planted, with the right sign and lag, and hardly ever where there are none."""

from __future__ import annotations

import numpy as np
import planted_graphs as planted
import pytest

from sofa_otel.core.names import CorrelationStatus
from sofa_otel.core.records import Correlation
from sofa_otel.core.series import Series
from sofa_otel.processors.correlate import correlate


def run(case: planted.Case) -> list[Correlation]:
    return correlate(case.iterations, case.windows, case.series)


def summary(edges: list[Correlation]) -> list[tuple[str, str, float, str]]:
    return [(e.swarm, e.resource, e.strength, e.status) for e in edges]


@pytest.mark.parametrize("fine", [True, False])
def test_planted_graphs(fine: bool) -> None:
    right = found = planted_edges = 0
    for seed in range(500, 506):
        case = planted.make(seed, fine=fine, snr=2.0)
        edges = {(e.swarm, e.resource) for e in run(case) if e.status is CorrelationStatus.ASSOCIATED}
        right, found, planted_edges = right + len(edges & set(case.edges)), found + len(edges), planted_edges + len(case.edges)
    assert right / found >= 0.9
    assert right / planted_edges >= 0.5


@pytest.mark.parametrize("fine", [True, False])
def test_no_edges_in_nulls(fine: bool) -> None:
    runs = [
        run(planted.make(500 + i, fine=fine, units=units, null=null))
        for i, null in enumerate(planted.NULLS)
        for units in (60, 200)
    ]
    assert sum(bool(edges) for edges in runs) <= 1


def paired(lag: int, sign: float = 1.0, units: int = 150) -> planted.Case:
    """One swarm of eight moves one counter that is read once a second, ``lag`` seconds later."""
    case = planted.make(7, fine=False, units=units, swarms=8, resources=0, null="none")
    busy = np.zeros(len(case.iterations))
    for row in case.windows:
        if int(row.swarm, 16) == 3:
            busy[row.iteration : row.iteration + row.iterations] = row.time_ns / row.iterations
    start = np.array([one.start_ns for one in case.iterations])
    ticks = planted.START + np.arange(0, int((case.iterations[-1].end_ns - planted.START) / 1e9)) * 1_000_000_000
    grid = ticks[0] + np.arange(len(ticks) * 50) * 20_000_000
    share = busy / np.array([one.end_ns - one.start_ns for one in case.iterations])
    rate = share[np.clip(np.searchsorted(start, grid - lag * 1_000_000_000, "right") - 1, 0, len(start) - 1)]
    noise = np.random.default_rng(1).normal(0, rate.reshape(-1, 50).mean(axis=1).std() * 0.3, len(ticks)).repeat(50)
    total = np.cumsum(10 + sign * rate + noise)
    return planted.Case(
        "pair", case.iterations, case.windows, [planted.Stored(Series("x.y", "By", "counter"), 0, ticks, total[::50])]
    )


@pytest.mark.parametrize(("lag", "sign"), [(0, 1.0), (0, -1.0), (1, 1.0), (2, -1.0), (-1, 1.0)])
def test_sign_and_lag(lag: int, sign: float) -> None:
    edges = run(paired(lag, sign))
    assert [(int(e.swarm, 16), e.resource, e.status) for e in edges] == [(3, "x.y", CorrelationStatus.ASSOCIATED)]
    assert np.sign(edges[0].strength) == sign
    assert edges[0].lag_s == pytest.approx(lag, abs=0.1)
    assert 0.3 < abs(edges[0].strength) <= 1
    assert set(edges[0].tests) == {"joint_p", "joint_q", "shift_p", "shift_q"}


def test_best_first() -> None:
    edges = run(planted.make(504, fine=False, snr=1.5))
    order = [(e.status != CorrelationStatus.ASSOCIATED, -abs(e.strength)) for e in edges]
    assert len(edges) > 3
    assert order == sorted(order)


def test_too_little_is_no_result() -> None:
    case = planted.make(503, fine=True, snr=5.0)
    assert run(case)
    short = [row for row in case.windows if row.iteration < 39]
    assert correlate(case.iterations, short, case.series) == []
    assert correlate(case.iterations[:39], case.windows, case.series) == []
    few = paired(0, units=28)
    assert sum(row.iterations for row in few.windows if int(row.swarm, 16) == 3) >= 40
    assert run(few) == []
    assert correlate([], [], []) == correlate(case.iterations, case.windows, []) == []


def test_units_order_and_start_do_not_matter() -> None:
    case = paired(1)
    want = summary(run(case))
    (one,) = case.series
    assert summary(correlate(case.iterations, case.windows[::-1], [one._replace(value=one.value * 1e6)])) == want
    shuffled = np.random.default_rng(0).permutation(len(one.value))
    assert (
        summary(
            correlate(case.iterations, case.windows, [one._replace(time_ns=one.time_ns[shuffled], value=one.value[shuffled])])
        )
        == want
    )


def test_processes_of_a_metric_are_one_resource() -> None:
    case = paired(0)
    (one,) = case.series
    want = summary(run(case))
    parts = [
        one._replace(series=one.series._replace(attributes=(("process.pid", pid),)), value=one.value * share)
        for pid, share in (("1", 0.3), ("2", 0.7))
    ]
    assert summary(correlate(case.iterations, case.windows, parts)) == want


def test_a_reset_counter_counts_on() -> None:
    case = paired(0)
    (one,) = case.series
    middle = len(one.value) // 2
    value = np.where(np.arange(len(one.value)) < middle, one.value, one.value - one.value[middle - 1])
    assert summary(correlate(case.iterations, case.windows, [one._replace(value=value)])) == summary(run(case))


def test_series_without_information_are_left_out() -> None:
    case = paired(0)
    (one,) = case.series
    n = len(one.value)
    useless = [
        planted.Stored(Series("flat", "1", "gauge"), 0, one.time_ns, np.ones(n)),
        planted.Stored(Series("broken", "1", "gauge"), 0, one.time_ns, np.where(np.arange(n) == 5, np.nan, 1.0)),
        planted.Stored(Series("once", "1", "gauge"), 0, one.time_ns, (np.arange(n) == n // 2).astype(float)),
        planted.Stored(Series("short", "1", "gauge"), 0, one.time_ns[:5], np.arange(5.0)),
        planted.Stored(Series("empty", "1", "gauge"), 0, one.time_ns[:0], np.zeros(0)),
        planted.Stored(Series("still", "1", "gauge"), 0, np.full(n, one.time_ns[0]), np.arange(float(n))),
    ]
    assert summary(correlate(case.iterations, case.windows, [*useless, one])) == summary(run(case))
