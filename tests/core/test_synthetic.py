"""Generated loops hold exactly what their truth says, and aperiodic streams hold nothing."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Call, Kind
from sofa_otel.core.names import IterationKind
from sofa_otel.core.testing.aperiodic import KINDS, aperiodic
from sofa_otel.core.testing.capture import load_capture, save_capture
from sofa_otel.core.testing.synthetic import LoopSpec, Stream, Synthetic, chunked, generate
from sofa_otel.core.testing.truth import Agreement, Truth, score_boundaries

STREAMS = get_args(Stream)


def starts_of(made: Synthetic, function: str) -> NDArray[np.int64]:
    """When a function of the training script itself is called (noise has other modules)."""
    rows: list[bool] = [
        s.function == function and s.module == "train" for s in (made.tables.symbols[int(i)] for i in made.batches[0].name)
    ]
    return made.batches[0].start_ns[np.array(rows, np.bool_)]


def test_the_optimiser_steps_once_an_iteration_and_the_loader_once_a_micro_batch() -> None:
    made = generate(LoopSpec(iterations=30, accumulation=4, validate_every=10, checkpoint_every=15, warmup=3))
    updates, loads = starts_of(made, "optimizer_step"), starts_of(made, "load_batch")
    truth = made.truth
    assert truth.steps == 30 == len(updates)
    assert truth.kind.count(IterationKind.WARMUP) == 3
    assert truth.kind.count(IterationKind.VALIDATION) == 9
    assert truth.kind.count(IterationKind.CHECKPOINT) == 2
    assert len(loads) == 30 * 4 + 9
    steps = [
        (a, b)
        for a, b, k in zip(truth.start_ns, truth.end_ns, truth.kind, strict=True)
        if k in (IterationKind.TRAIN, IterationKind.WARMUP)
    ]
    assert all(a <= update < b for (a, b), update in zip(steps, updates.tolist(), strict=True))
    assert truth.period_s() == pytest.approx(0.1, rel=0.03)
    assert truth.ends().tolist() == [b for _, b in steps]


def test_loop_events_stand_on_the_ends_of_the_steps() -> None:
    made = generate(LoopSpec(streams=("loop",), iterations=20, setup_s=0))
    batch = made.batches[0]
    assert set(batch.subkind.tolist()) == {Call.LOOP}
    np.testing.assert_array_equal(batch.start_ns, made.truth.ends())


@given(
    st.sampled_from(STREAMS), st.floats(0, 0.2), st.floats(0, 0.3), st.floats(0, 0.2), st.integers(1, 8), st.integers(0, 3),
    st.integers(1, 40), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_stream_is_sorted_well_formed_and_repeatable(
    stream: Stream, noise: float, jitter: float, loss: float, accumulation: int, threads: int, iterations: int, seed: int
) -> None:
    spec = LoopSpec(
        streams=(stream,), noise=noise, jitter=jitter, loss=loss, accumulation=accumulation, other_threads=threads,
        aperiodic_threads=threads, iterations=iterations, variable=0.2, drift=0.5, seed=seed,
    )  # fmt: skip
    made = generate(spec)
    batch = made.batches[0]
    assert bool((np.diff(batch.start_ns) >= 0).all())
    assert int(batch.name.max(initial=0)) < len(made.tables.symbols)
    assert int(batch.path.max(initial=0)) < len(made.tables.paths)
    assert bool((batch.duration_ns >= 0).all())
    assert Kind.MARK not in batch.kind
    assert made.truth.steps == iterations
    assert all(a < b for a, b in zip(made.truth.start_ns, made.truth.end_ns, strict=True))
    again = generate(spec).batches[0]
    for key, column in batch.columns.items():
        np.testing.assert_array_equal(column, again.columns[key])


def test_noise_and_loss_do_what_they_say() -> None:
    clean = generate(LoopSpec(setup_s=0, iterations=200))
    lossy = generate(LoopSpec(setup_s=0, iterations=200, loss=0.25))
    noisy = generate(LoopSpec(setup_s=0, iterations=200, noise=0.2))
    assert len(lossy.batches[0]) == pytest.approx(0.75 * len(clean.batches[0]), rel=0.03)
    assert len(noisy.batches[0]) == pytest.approx(1.2 * len(clean.batches[0]), rel=0.01)


def test_streams_of_one_loop_agree_and_merge() -> None:
    made = generate(LoopSpec(streams=STREAMS, iterations=20))
    merged = made.merged()
    assert len(merged) == sum(len(batch) for batch in made.batches)
    assert bool((np.diff(merged.start_ns) >= 0).all())
    assert len({batch.header.source for batch in made.batches}) == len(STREAMS)
    parts = chunked(merged, 250_000_000)
    assert sum(len(part) for part in parts) == len(merged)
    assert [part.header.seq for part in parts] == list(range(len(parts)))
    for part in parts:
        assert len(np.unique((part.start_ns - merged.start_ns[0]) // 250_000_000)) == 1


def test_there_are_enough_aperiodic_kinds_and_each_is_its_own() -> None:
    assert len(KINDS) >= 50
    seen = set()
    for kind in KINDS:
        made = aperiodic(kind, seed=1, events=500)
        assert made.truth.steps == 0
        assert made.truth.period_s() == 0
        assert len(made.batches[0]) == 500
        assert bool((np.diff(made.batches[0].start_ns) >= 0).all())
        seen.add(made.batches[0].start_ns.tobytes() + made.batches[0].name.tobytes())
    assert len(seen) == len(KINDS)


def test_a_capture_comes_back(tmp_path: Path) -> None:
    made = generate(LoopSpec(streams=("sample", "cpu_op"), iterations=10))
    save_capture(tmp_path / "a.capture", made.batches, made.truth)
    save_capture(tmp_path / "b.capture", made.batches, made.truth)
    assert (tmp_path / "a.capture").read_bytes() == (tmp_path / "b.capture").read_bytes()
    found = load_capture(tmp_path / "a.capture")
    assert found.truth == made.truth
    for wanted, batch in zip(made.batches, found.batches, strict=True):
        assert batch.header == wanted.header
        np.testing.assert_array_equal(batch.start_ns, wanted.start_ns)
        assert found.tables.symbols[int(batch.name[0])] == made.tables.symbols[int(wanted.name[0])]


def test_a_damaged_capture_is_a_typed_error(tmp_path: Path) -> None:
    file = tmp_path / "a.capture"
    made = generate(LoopSpec(iterations=3))
    save_capture(file, made.batches, made.truth)
    data = file.read_bytes()
    for wrong in (b"", data[:100], data[:-10], data[:80] + b"\xff\xff" + data[82:]):
        file.write_bytes(wrong)
        with pytest.raises(InputError, match="byte"):
            load_capture(file)
    with pytest.raises(InputError):
        load_capture(tmp_path / "none")


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 2**20))
@settings(max_examples=500, deadline=None)
def test_fuzz_captures(changes: list[tuple[int, int]], cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.capture"
        save_capture(file, generate(LoopSpec(iterations=2, layers=1, setup_s=0)).batches, Truth())
        data = bytearray(file.read_bytes())
        for position, value in changes:
            data[position % len(data)] = value
        if cut % 5 == 0:
            del data[cut % len(data) :]
        file.write_bytes(data)
        with suppress(InputError):
            load_capture(file)


def test_scores() -> None:
    truth = np.arange(0, 1000, 10)
    assert score_boundaries(truth, truth, 1).f1 == 1
    assert score_boundaries(truth, truth + 4, 1).f1 == 1  # one constant offset is free
    assert score_boundaries(truth, truth[::2], 1) == Agreement(1.0, 0.5, 1 / 1.5)
    assert score_boundaries(truth, np.arange(0, 1000, 5), 1).precision == 0.5
    assert score_boundaries(truth, [], 1).f1 == 0
    assert score_boundaries([], [], 1).f1 == 1
    rng = np.random.default_rng(0)
    assert score_boundaries(truth * 100, np.sort(rng.integers(0, 100_000, 100)), 10).f1 < 0.3
    assert Truth().ends().tolist() == []
