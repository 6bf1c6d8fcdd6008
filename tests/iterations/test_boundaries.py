"""Boundaries from coarse instants: relaxation stays inside its bounds and recovers a steady rhythm; votes find planted cycles."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from iteration_streams import HEADER, START, detect

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.names import IterationKind
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.iterate.wraptrack import relax


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 2)), min_size=1, max_size=60))
def test_relaxed_boundaries_stay_between_their_samples(steps: list[tuple[float, float]]) -> None:
    low = np.cumsum([gap for gap, _ in steps])
    high = low + np.array([width for _, width in steps])
    x = relax(low, high)
    assert (x >= low).all()
    assert (x <= high).all()


def test_a_steady_rhythm_is_recovered_from_coarse_samples() -> None:
    truth = 1000.0 + 53.7 * np.arange(40)
    samples = np.arange(0, 4000, 7.3)
    after = np.searchsorted(samples, truth)
    spans = np.diff(relax(samples[after - 1], samples[after]))
    assert abs(np.median(spans) / 53.7 - 1) < 0.02
    assert spans.std() < np.diff((samples[after - 1] + samples[after]) / 2).std()


def calls(count: int, seed: int, noise: float) -> tuple[EventBatch, np.ndarray]:
    """System calls of a loop: a fixed sequence of 30 a step with inserted noise, steps of 40 ms with jitter."""
    rng = np.random.default_rng(seed)
    tables = Tables()
    ids = [tables.symbols.intern(f"call{i}", "syscall") for i in range(18)]
    body = rng.integers(0, 14, 30)
    names, times, ends, at = [], [], [], 1.0
    for _ in range(count):
        length = 0.04 * rng.uniform(0.8, 1.2)
        places = np.sort(rng.uniform(0, length, len(body)))
        for token, place in zip(body, places, strict=True):
            if rng.random() < noise:
                names.append(ids[int(rng.integers(14, 18))])
                times.append(at + place)
            names.append(ids[int(token)])
            times.append(at + place)
        at += length
        ends.append(at)
    ns = START + (np.array(times) * 1e9).astype(np.int64)
    batch = EventBatch.build(HEADER, tables, start_ns=ns, kind=Kind.SYSCALL, name=names, pid=5, tid=5)
    return batch, START + (np.array(ends) * 1e9).astype(np.int64)


def test_system_calls_alone_give_the_period() -> None:
    batch, ends = calls(300, 3, 0.1)
    out = detect(batch)
    assert out.detections[-1].found, out.detections[-1].reason
    spans = [i.end_ns - i.start_ns for i in out.iterations if i.kind == IterationKind.TRAIN]
    assert abs(len(spans) - len(ends)) <= 6
    assert abs(np.median(spans) / np.median(np.diff(ends)) - 1) < 0.03


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_random_system_calls_are_no_iterations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = Tables()
    ids = np.array([tables.symbols.intern(f"call{i}", "syscall") for i in range(20)])
    ns = START + np.cumsum(rng.exponential(1e6, 6000)).astype(np.int64)
    batch = EventBatch.build(HEADER, tables, start_ns=ns, kind=Kind.SYSCALL, name=ids[rng.integers(0, 20, 6000)], pid=5, tid=5)
    out = detect(batch)
    assert not out.detections[-1].found
    assert not out.iterations
