"""What two series may share without an edge is taken out, and swarm time is neither lost nor made on the way."""

from __future__ import annotations

import numpy as np
import planted_graphs as planted
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_otel.processors.correlate.fold import units_of
from sofa_otel.processors.correlate.nuisance import clip, combs, remove, whiten, whitener
from sofa_otel.processors.correlate.swarm_time import swarm_time


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 3.0))
@settings(max_examples=30, deadline=None)
def test_swarm_time_is_conserved(seed: int, spacing_s: float) -> None:
    case = planted.make(seed, fine=False, units=20, swarms=4, resources=0, null="none")
    time = swarm_time(case.iterations, case.windows)
    assert time.seconds.sum() == pytest.approx(sum(row.time_ns for row in case.windows) / 1e9)
    edges = np.arange(time.start_ns[0], time.end_ns[-1] + int(spacing_s * 1e9), int(spacing_s * 1e9))
    used, count, covered = (np.diff(each, axis=0) for each in time.until(edges))
    assert used.sum(axis=0) == pytest.approx(time.seconds.sum(axis=0))
    assert count.sum() == pytest.approx(len(case.iterations))
    assert covered.sum() == pytest.approx((time.end_ns[-1] - time.start_ns[0]) / 1e9)
    assert (used >= -1e-9).all()


def test_units_outside_training_are_not_valid() -> None:
    case = planted.make(1, fine=False, units=20, swarms=4, resources=0, null="none")
    time = swarm_time(case.iterations, case.windows)
    edges = time.start_ns[0] + np.arange(-5, 10) * 1_000_000_000
    units = units_of(time, edges[:-1], edges[1:])
    assert not units.valid[:5].any()
    assert units.valid[5:].all()
    assert units.share[5:, :].sum(axis=1) == pytest.approx(units.share[5:, :].sum(axis=1).mean(), rel=0.5)


@pytest.mark.parametrize("period", [4.0, 7.3, 19.6])
@pytest.mark.parametrize("burst", [False, True])
def test_rhythms_are_taken_out(period: float, burst: bool) -> None:
    n, rng = 300, np.random.default_rng(3)
    at = np.arange(n)
    wave = np.asarray(6.0 * (at % period < 1) if burst else 1.5 * np.sin(2 * np.pi * at / period), np.float64)
    noise = rng.standard_normal(n)
    basis, found = combs(wave + noise)
    assert found
    assert basis.shape[1] <= n // 8 + 2
    left = remove(np.column_stack([np.ones(n), basis]), wave)
    assert left.var() < 0.5 * wave.var()  # bursts fall on whole units only, so a period of 7.3 is no pure comb


def test_noise_has_no_rhythm() -> None:
    rng = np.random.default_rng(0)
    names = [combs(planted.ar(rng, 200, rho))[1] for rho in (0.0, 0.5, 0.9) for _ in range(20)]
    assert sum(bool(found) for found in names) <= 2


def test_a_whitener_whitens() -> None:
    y = planted.ar(np.random.default_rng(0), 2000, 0.9)
    taps = whitener(y, 6)
    assert taps[:2] == pytest.approx([1, -0.9], abs=0.07)
    left = whiten(taps, y)
    assert abs(np.corrcoef(left[1:], left[:-1])[0, 1]) < 0.06
    assert whitener(np.zeros(50), 3).tolist() == [1.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=60))
@settings(max_examples=50, deadline=None)
def test_clip_bounds_and_keeps_order(values: list[float]) -> None:
    x = np.array(values)
    y = clip(x)
    assert y.min() >= x.min()
    assert y.max() <= x.max()
    order = np.argsort(x, kind="stable")
    assert (np.diff(y[order]) >= 0).all()
