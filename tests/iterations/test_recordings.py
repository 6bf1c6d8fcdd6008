"""Real programs, recorded by the probe: the right number of steps, at the right times, found early; nothing where none are."""

from __future__ import annotations

import numpy as np
import pytest
from iteration_streams import detect, recording

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.names import IterationKind
from sofa_otel.core.symbols import Tables

COUNTED = (IterationKind.TRAIN, IterationKind.WARMUP)


@pytest.mark.parametrize(
    ("name", "source", "lock"),
    [
        ("torch-gpt-loops", "probe:loop", 12),
        ("torch-cnn-hooks", "probe:hook", 6),
        ("torch-gan-hooks", "probe:hook", 24),  # two optimisers, no loop in sight: they show by their rhythm only
        ("short-epochs-loops", "probe:loop", 12),
        ("numpy-mlp-loops", "probe:loop", 12),
        ("short-epochs-samples", "probe:sample", 24),
        ("torch-gan-samples", "probe:sample", 12),
        ("threaded-loader-samples", "probe:sample", 12),
        ("trainer-class-samples", "probe:sample", 12),
    ],
)
def test_steps_are_found(name: str, source: str, lock: int) -> None:
    batch, steps = recording(name)
    out = detect(batch)
    last = out.detections[-1]
    assert last.found, last.reason
    assert last.source == source
    counted = [i for i in out.iterations if i.kind in COUNTED]
    assert abs(len(counted) / len(steps) - 1) <= 0.02
    trained = [i.end_ns - i.start_ns for i in counted if i.kind == IterationKind.TRAIN]
    assert abs(np.median(trained) / np.median(steps[:, 1] - steps[:, 0]) - 1) <= 0.03
    assert (steps[:, 1] <= last.locked_ns).sum() <= lock


@pytest.mark.parametrize("name", ["random-walk", "sleeper", "training-thread"])
def test_no_iterations_where_none_can_be_told(name: str) -> None:
    out = detect(recording(name)[0])
    assert not out.detections[-1].found
    assert not out.iterations
    assert any(character.isdigit() for character in out.detections[-1].reason)


def test_iterations_do_not_overlap_and_numbers_go_on() -> None:
    out = detect(recording("torch-gpt-loops")[0])
    assert [i.index for i in out.iterations] == list(range(len(out.iterations)))
    for before, after in zip(out.iterations, out.iterations[1:], strict=False):
        assert before.start_ns < before.end_ns <= after.start_ns
    assert any(i.kind == IterationKind.VALIDATION for i in out.iterations)


def test_a_thread_that_stays_where_it_is_is_still_sampled_all_the_time() -> None:
    """A row of a thread other than the main one covers as many samples as it stayed: it is not a lower rate."""
    batch, steps = recording("training-thread-samples")
    out = detect(batch)
    assert out.detections[-1].found, out.detections[-1].reason
    counted = [i for i in out.iterations if i.kind in COUNTED]
    assert abs(len(counted) / len(steps) - 1) <= 0.08  # the first steps were not sampled at all


@pytest.mark.parametrize("name", ["trainer-class-samples", "threaded-loader-samples"])
def test_lines_do_where_instructions_are_not_known(name: str) -> None:
    """Samplers from outside (py-spy, austin) tell lines only."""
    batch, steps = recording(name)
    lines, old = Tables(), batch.tables
    paths = np.zeros(len(old.paths), np.uint32)
    for path in np.unique(batch.path).tolist():
        frames = [old.symbols[symbol]._replace(offset=0) for symbol in old.paths.frames(path)]
        paths[path] = lines.paths.intern_frames(lines.symbols.intern_symbol(frame) for frame in frames)
    out = detect(EventBatch(batch.header, lines, {**batch.columns, "path": paths[batch.path], "name": np.zeros_like(batch.name)}))
    assert out.detections[-1].found, out.detections[-1].reason
    assert abs(sum(i.kind in COUNTED for i in out.iterations) / len(steps) - 1) <= 0.05
