"""Records depend on events, not on how they are cut; a saved detector goes on as if nothing had happened."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from iteration_streams import HEADER, completion, detect, gather, recording, slices

from sofa_otel.core.batch import EventBatch, concat
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.iterate.detector import IterationDetector

NAMES = ["torch-cnn-hooks", "short-epochs-loops", "torch-gan-samples"]
SLOW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", NAMES)
@SLOW
@given(seed=st.integers(0, 2**32 - 1))
def test_cutting_the_input_changes_nothing(name: str, seed: int) -> None:
    batch, _ = recording(name)
    whole = detect(batch)
    rng = np.random.default_rng(seed)
    detector = IterationDetector("job", 0, batch.tables)
    outs = []
    for piece, until in slices(batch):
        cuts = [0, *np.sort(rng.integers(0, len(piece) + 1, 3)).tolist(), len(piece)]
        for i in range(4):
            part = piece.take(slice(cuts[i], cuts[i + 1]))
            reached = int(completion(piece)[cuts[i + 1]]) if cuts[i + 1] < len(piece) else until
            outs.append(detector.feed(part, reached if i < 3 else until))
    outs.append(detector.finish(int(completion(batch)[-1])))
    again = gather(outs)
    assert again.iterations == whole.iterations
    assert again.detections == whole.detections
    assert again.anomalies == whole.anomalies


@pytest.mark.parametrize("name", [*NAMES, "torch-gpt-loops", "torch-gan-hooks"])
@pytest.mark.parametrize("part", [0.1, 0.3, 0.6, 0.9])
def test_a_saved_detector_goes_on_identically(name: str, part: float) -> None:
    batch, _ = recording(name)
    whole = detect(batch)
    pieces = list(slices(batch))
    at = int(part * len(pieces))
    first = IterationDetector("job", 0, batch.tables)
    outs = [first.feed(piece, until) for piece, until in pieces[:at]]
    state = first.to_bytes()
    tables = Tables()  # a new process: other symbol ids
    second = IterationDetector.from_bytes(state, tables)
    outs += [second.feed(concat(HEADER, tables, [piece]), until) for piece, until in pieces[at:]]
    outs.append(second.finish(int(completion(batch)[-1])))
    again = gather(outs)
    assert again.iterations == whole.iterations
    assert again.detections[-1] == whole.detections[-1]


@pytest.mark.parametrize("name", [*NAMES, "numpy-mlp-loops", "torch-gpt-loops"])
def test_state_is_small_after_the_lock(name: str) -> None:
    batch, _ = recording(name)
    detector = IterationDetector("job", 0, batch.tables)
    for piece, until in slices(batch):
        detector.feed(piece, until)
    assert detector.leader is not None
    detector.finish(int(completion(batch)[-1]))
    assert len(detector.to_bytes()) <= 256 * 1024


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x81\xa7version\x63"])
def test_bad_state_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        IterationDetector.from_bytes(data, Tables())


def test_marks_are_never_used() -> None:
    batch, _ = recording("torch-cnn-hooks")
    marks = EventBatch.build(
        HEADER, batch.tables, start_ns=np.arange(batch.start_ns[0], batch.start_ns[-1], 7_000_000), kind=Kind.MARK,
        name=batch.tables.symbols.intern("ProfilerStep#1"), pid=int(batch.pid[0]), tid=int(batch.pid[0]),
    )  # fmt: skip
    both = concat(HEADER, batch.tables, [batch, marks])
    both = both.take(np.argsort(completion(both), kind="stable"))
    assert detect(both).iterations == detect(batch).iterations
