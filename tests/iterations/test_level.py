"""The level question on made loop nests: which loop is one update of the parameters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iteration_streams import detect, loops

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Call
from sofa_otel.core.names import IterationKind


def counted(out: object) -> int:
    return sum(i.kind in (IterationKind.TRAIN, IterationKind.WARMUP) for i in out.iterations)  # type: ignore[attr-defined]


def steps(count: int, period: float, seed: int = 0) -> np.ndarray:
    """Ends of steps with a little jitter."""
    return 1.0 + np.cumsum(period * np.random.default_rng(seed).normal(1, 0.05, count).clip(0.7, 1.3))


def test_the_inner_of_two_covering_loops_is_the_step() -> None:
    ends = steps(200, 0.05)
    out = detect(loops(("train", "__main__", 10, ends[9::10]), ("train", "__main__", 11, ends)))
    assert abs(counted(out) - 200) <= 1


def test_a_loop_over_layers_is_not_the_step() -> None:
    ends = steps(120, 0.06)
    layers = np.concatenate([ends - 0.03 + 0.008 * i for i in range(3)])
    out = detect(loops(("train", "__main__", 10, ends), ("forward", "__main__", 30, np.sort(layers))))
    assert abs(counted(out) - 120) <= 1


@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulated_micro_batches_are_one_step(accumulate: int) -> None:
    micro = steps(60 * accumulate, 0.02)
    optimiser = micro[accumulate - 1 :: accumulate] - 0.002
    rows = [("main", "__main__", 9, micro), ("_single_tensor_adam", "torch.optim.adam", 380, optimiser)]
    out = detect(loops(*rows))
    assert abs(counted(out) - 60) <= 1


def test_a_validation_pass_through_the_same_loop_is_not_training() -> None:
    train, at, beats, calls = [], 1.0, [], []
    for _ in range(6):
        for _ in range(20):
            at += 0.05
            train.append(at)
            beats.append(at)
            calls.append(at - 0.01)
        for _ in range(10):
            at += 0.02
            beats.append(at)
    out = detect(loops(("run_epoch", "__main__", 12, beats), ("SGD.step", "torch.optim.sgd", 80, calls)))
    assert abs(counted(out) - len(train)) <= 1
    assert sum(i.kind == IterationKind.VALIDATION for i in out.iterations) >= 4


def test_preparation_gives_way_to_training() -> None:
    prepare = 1.0 + 0.02 * np.arange(60)
    train = prepare[-1] + 0.5 + np.cumsum(np.full(200, 0.03))
    out = detect(loops(("main", "__main__", 5, prepare), ("main", "__main__", 20, train)))
    assert abs(counted(out) - 200) <= 1


def test_too_few_steps_are_said_to_be_too_few() -> None:
    out = detect(loops(("main", "__main__", 5, 1.0 + 2.0 * np.arange(4))))
    assert not out.detections[-1].found
    assert "needed" in out.detections[-1].reason


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), sigma=st.floats(0.8, 1.8))
def test_irregular_loops_are_no_iterations(seed: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    ends = 1.0 + np.cumsum(np.exp(rng.normal(np.log(0.05), sigma, 150)))
    out = detect(loops(("main", "__main__", 5, ends)))
    assert not out.detections[-1].found
    assert not out.iterations


def test_a_slow_iteration_and_a_change_are_told() -> None:
    gaps = np.full(200, 0.05)
    gaps[80] = 0.4
    gaps[130:] = 0.07
    out = detect(
        loops(("main", "__main__", 5, 1.0 + np.cumsum(gaps)), ("SGD.step", "torch.optim.sgd", 80, 0.99 + np.cumsum(gaps)))
    )
    assert any(a.kind == "slow" for a in out.anomalies)
    changes = [a for a in out.anomalies if a.kind == "change"]
    assert len(changes) == 1
    assert changes[0].value_s == pytest.approx(0.07, rel=0.05)


def erratic_epochs(counts: list[int], seed: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of batches whose time varies wildly (a machine with too little to give), and of the epochs that they make up."""
    batches = 1.0 + np.cumsum(np.exp(np.random.default_rng(seed).normal(np.log(0.02), sigma, sum(counts))))
    return batches, batches[np.cumsum(counts) - 1] + 0.001


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("sigma", [0.9, 1.6])
def test_batches_are_steps_however_busy_the_machine_is(seed: int, sigma: float) -> None:
    batches, epochs = erratic_epochs([40] * 7 + [20], seed, sigma)
    out = detect(loops(("fit", "__main__", 88, batches), ("fit", "__main__", 85, epochs)))
    assert out.detections[-1].found
    assert abs(counted(out) - 300) <= 3


@pytest.mark.parametrize("seed", range(8))
def test_erratic_work_in_uneven_portions_is_no_training(seed: int) -> None:
    uneven = np.random.default_rng(seed).integers(20, 80, 7).tolist()
    batches, portions = erratic_epochs(uneven, seed, 1.6)
    out = detect(loops(("drain", "__main__", 88, batches), ("drain", "__main__", 85, portions)))
    assert counted(out) < 100


@pytest.mark.parametrize("seed", range(8))
def test_layers_of_different_size_are_not_the_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = np.exp(rng.normal(np.log(0.004), 1.8, 12))
    ends = 1.0 + np.cumsum((layers * rng.normal(1, 0.05, (60, 12)).clip(0.7, 1.3)).ravel())
    out = detect(loops(("main", "__main__", 20, ends), ("main", "__main__", 15, ends[11::12] + 0.0005)))
    assert abs(counted(out) - 60) <= 1


def test_a_loop_too_fast_to_be_followed_is_named() -> None:
    batch = loops(("main", "__main__", 5, [1.0, 1.1]))
    hot = batch.columns | {"subkind": np.full(2, Call.HOT, np.uint8), "duration_ns": np.full(2, 310_000)}
    out = detect(EventBatch(batch.header, batch.tables, hot))
    assert "main:5 turns every 0.31 ms, too fast" in out.detections[-1].reason
