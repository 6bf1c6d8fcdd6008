"""Monotonic stamps land on the epoch; a wall clock that is slewed is followed, one that is set is reported and never copied."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core.clock import STEP_NS, EpochClock, read_anchor

SECOND = 10**9


class Clocks:
    """Two clocks that a test turns by hand."""

    def __init__(self) -> None:
        self.monotonic_now = 5 * SECOND
        self.offset = 1_700_000_000 * SECOND
        self.clock = EpochClock(lambda: self.monotonic_now, lambda: self.monotonic_now + self.offset)


def test_real_clocks_agree() -> None:
    clock = EpochClock()
    assert abs(clock.now_ns() - time.time_ns()) < SECOND
    assert read_anchor().uncertainty_ns < SECOND


def test_stamps_and_columns_are_converted_alike() -> None:
    clocks = Clocks()
    stamps = np.array([5 * SECOND, 5 * SECOND + 1, 0], np.int64)
    assert clocks.clock.to_epoch_array(stamps).tolist() == [clocks.clock.to_epoch(int(s)) for s in stamps]
    assert clocks.clock.to_epoch(5 * SECOND) == 1_700_000_005 * SECOND


def test_a_drift_is_followed() -> None:
    clocks = Clocks()
    for _ in range(100):
        clocks.monotonic_now += SECOND
        clocks.offset += 100_000  # 100 ppm
        assert clocks.clock.check() is None
    assert clocks.clock.now_ns() == clocks.monotonic_now + clocks.offset
    assert clocks.clock.steps == []


def test_a_step_is_reported_once_and_the_axis_stays_whole() -> None:
    clocks = Clocks()
    before = clocks.clock.now_ns()
    clocks.monotonic_now += SECOND
    clocks.offset -= 3600 * SECOND
    step = clocks.clock.check()
    assert step is not None
    assert step.by_ns == -3600 * SECOND
    assert clocks.clock.now_ns() == before + SECOND
    clocks.monotonic_now += SECOND
    clocks.offset += 1000_000
    assert clocks.clock.check() is None
    assert clocks.clock.now_ns() == before + 2 * SECOND + 1000_000
    assert len(clocks.clock.steps) == 1


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(-2 * STEP_NS, 2 * STEP_NS), st.booleans()), max_size=30))
def test_time_never_runs_backwards(moves: list[tuple[int, int, bool]]) -> None:
    clocks = Clocks()
    last = clocks.clock.now_ns()
    for forward, moved, check in moves:
        clocks.monotonic_now += forward
        clocks.offset += moved
        if check:
            clocks.clock.check()
        now = clocks.clock.now_ns()
        assert now >= last
        last = now
