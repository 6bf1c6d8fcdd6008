"""Figures of the report against planted truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from sofa_otel.core import names
from sofa_otel.core.names import IterationKind, Phase, Resource, SwarmKind
from sofa_otel.core.records import Detection, Iteration, LoopLevel, PhaseBreakdown, StackProfile, SwarmInfo, SwarmWindow
from sofa_otel.core.series import Series
from sofa_otel.processors.summary.counters import Counters
from sofa_otel.processors.summary.iterations import summarise
from sofa_otel.processors.summary.stragglers import stragglers_of
from sofa_otel.processors.summary.swarms import breakdown_of, flames_of, swarms_of

S = 1_000_000_000


class Stored(NamedTuple):
    series: Series
    rank: int
    time_ns: NDArray[np.int64]
    value: NDArray[np.float64]


def counter(metric: names.Metric, values: list[float], start: int = 0, kind: str = "counter", **attributes: str) -> Stored:
    time_ns = (np.arange(len(values)) + start) * S
    return Stored(Series(metric.name, metric.unit, kind, tuple(attributes.items())), 0, time_ns, np.array(values, float))


def test_counter_increase_is_per_series_and_within_the_span() -> None:
    stored = [
        counter(names.PROCESS_CPU_TIME, [0, 1, 2, 3, 4, 5], pid="1"),
        counter(names.PROCESS_CPU_TIME, [10, 10.5, 11], start=2, pid="2"),
    ]
    assert Counters(stored, 1 * S, 3 * S).increase(names.PROCESS_CPU_TIME, lambda s: s.attribute("pid") == "1") == pytest.approx(
        3
    )
    assert Counters(stored, 0, 5 * S).increase(names.PROCESS_CPU_TIME) == pytest.approx(6)
    assert Counters(stored, 0, 5 * S).rate(names.PROCESS_CPU_TIME) == pytest.approx(6 / 5)


def test_a_counter_reset_does_not_go_backwards() -> None:
    assert Counters([counter(names.PROCESS_CPU_TIME, [5, 6, 1, 2])], 0, 9 * S).increase(names.PROCESS_CPU_TIME) == pytest.approx(
        3
    )


def test_two_readers_of_one_counter_do_not_count_twice() -> None:
    crossing = counter(names.PROCESS_CPU_TIME, [10.0, 10.5, 10.49, 11.0, 10.98, 11.5])
    assert Counters([crossing], 0, 9 * S).increase(names.PROCESS_CPU_TIME) == pytest.approx(1.5)


def test_gauge_mean_sums_series_that_live_at_the_same_time() -> None:
    stored = [
        counter(names.PROCESS_RUNNABLE, [1, 1, 1, 1], kind="gauge", pid="1"),
        counter(names.PROCESS_RUNNABLE, [2, 2], start=2, kind="gauge", pid="2"),
    ]
    assert Counters(stored, 0, 9 * S).mean(names.PROCESS_RUNNABLE) == pytest.approx((1 + 1 + 3 + 3) / 4)
    assert Counters([], 0, S).mean(names.PROCESS_RUNNABLE) is None


def iteration(index: int, kind: IterationKind = IterationKind.TRAIN, ms: int = 10) -> Iteration:
    start = index * 10_000_000
    return Iteration(
        job="j",
        rank=0,
        level="step",
        index=index,
        start_ns=start,
        end_ns=start + ms * 1_000_000,
        kind=kind,
        confidence=0.9,
        source="x",
    )


def test_iterations_count_train_and_warmup_and_time_train_only() -> None:
    items = [
        iteration(0, IterationKind.WARMUP, 500),
        *(iteration(i) for i in range(1, 11)),
        iteration(11, IterationKind.VALIDATION, 90),
    ]
    detection = Detection(job="j", rank=0, found=True, reason="", level="step", source="x", confidence=0.9)
    out = summarise({0: (items, detection)})
    assert (out.found, out.count, out.warmup) == (True, 11, 1)
    assert out.duration_s is not None
    assert out.duration_s.median == pytest.approx(0.010)
    assert len(out.items) == 12


def test_levels_are_counted_over_the_whole_run() -> None:
    levels = [LoopLevel("step", 0, 0.02), LoopLevel("micro-batch", 3, 0.005)]
    detection = Detection(job="j", rank=0, found=True, reason="", level="step", source="x", confidence=0.9, levels=levels)
    out = summarise({0: ([iteration(i) for i in range(20)], detection)})
    assert {level.name: level.count for level in out.levels} == {"step": 20, "micro-batch": 40}


def test_no_iterations_always_has_a_reason() -> None:
    detection = Detection(job="j", rank=0, found=False, reason="4 steps seen, 5 needed: run 30 s or longer")
    assert summarise({0: ([], detection)}).reason.startswith("4 steps")
    assert summarise({}).reason
    assert summarise({0: ([], None)}).reason


def window(iteration: int, swarm: str, ms: float, *, concurrent: bool = False) -> SwarmWindow:
    return SwarmWindow(job="j", rank=0, iteration=iteration, swarm=swarm, time_ns=int(ms * 1e6), calls=1, concurrent=concurrent)


def test_swarm_times_shares_and_trend() -> None:
    rows = [window(i, "a" * 16, 10 if i < 15 else 20) for i in range(30)] + [window(i, "b" * 16, 10) for i in range(30)]
    rows.append(window(3, "c" * 16, 99, concurrent=True))
    infos = [SwarmInfo(job="j", rank=0, swarm=s * 16, caption=s, kind=SwarmKind.COMPUTE) for s in "abc"]
    swarms = {swarm.caption: swarm for swarm in swarms_of(rows, infos, set(range(30)))}
    assert swarms["a"].time_s == pytest.approx(0.45)
    assert swarms["a"].share + swarms["b"].share == pytest.approx(1)
    assert swarms["a"].per_iteration_s == pytest.approx(0.015)
    assert swarms["a"].trend == pytest.approx(1.0)
    assert swarms["b"].trend == pytest.approx(0.0)


def part(rank: int, index: int, **exposed: int) -> PhaseBreakdown:
    total = sum(exposed.values())
    return PhaseBreakdown(
        job="j", rank=rank, iteration=index, start_ns=0, end_ns=total, phase_ns={Phase.UNKNOWN: total},
        exposed_ns={Resource(key): ns for key, ns in exposed.items()},
    )  # fmt: skip


def test_breakdown_shares_sum_to_one_and_name_the_bottleneck() -> None:
    out = breakdown_of(
        [part(0, i, loader=6_000_000, cpu_user=4_000_000) for i in range(10)] + [part(0, -1, idle=10**9)], {}, set(range(10))
    )
    assert sum(out.shares.values()) == pytest.approx(1)
    assert out.bottleneck is not None
    assert out.bottleneck.class_ == Resource.LOADER
    assert out.bottleneck.share == pytest.approx(0.6)
    assert set(out.exposed) == set(Resource)


def test_straggler_is_the_rank_that_waits_least() -> None:
    parts = {
        r: [part(r, i, communication=2_000_000 if r == 1 else 40_000_000, cpu_user=50_000_000) for i in range(20)]
        for r in range(4)
    }
    found = stragglers_of(parts, 0.09)
    assert [item.rank for item in found] == [1]
    assert found[0].delay_s == pytest.approx(20 * 0.038)
    even = {r: [part(r, i, communication=5_000_000, cpu_user=50_000_000) for i in range(20)] for r in range(4)}
    assert stragglers_of(even, 0.055) == []


def test_flame_values_include_children() -> None:
    rows = [
        StackProfile(job="j", rank=0, swarm="s", frames=["main", "step"], time_ns=3 * S, samples=3),
        StackProfile(job="j", rank=0, swarm="s", frames=["main", "load"], time_ns=1 * S, samples=1),
    ]
    root = flames_of(rows)[0].root
    assert root.value == pytest.approx(4)
    assert {child.name: child.value for child in root.children[0].children} == {"step": 3.0, "load": 1.0}
