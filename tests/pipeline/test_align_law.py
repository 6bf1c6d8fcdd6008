"""The law: what leaves the aligner depends on the set of events and the watermark, not on batch borders or order of arrival."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.align.aligner import Aligner, Slice
from sofa_otel.processors.watermark import Watermark

HEADER = BatchHeader("job", 0, "host", "*")
SECOND = 1_000_000_000


def stream(tables: Tables, source: str, seed: int, n: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, 3 * SECOND, n)) + 10 * SECOND
    return {
        "start_ns": start,
        "duration_ns": rng.integers(0, SECOND // 3, n),
        "kind": rng.choice([Kind.PYTHON_SAMPLE, Kind.SYSCALL], n),
        "name": rng.integers(1, 5, n),
        "tid": np.arange(n),
    }


def chunked(tables: Tables, source: str, columns: dict[str, np.ndarray], cuts: list[int]) -> list[EventBatch]:
    n = len(columns["start_ns"])
    edges = [0, *sorted({c % (n + 1) for c in cuts}), n]
    pairs = list(itertools.pairwise(edges))
    return [
        EventBatch.build(BatchHeader("job", 0, "host", source, seq=i), tables, **{k: v[a:b] for k, v in columns.items()})
        for i, (a, b) in enumerate(pairs)
    ]


def picture(slices: list[Slice]) -> list[tuple[int, bytes]]:
    return [
        (s.until_ns, b"".join(s.batch.columns[c].tobytes() for c in ("start_ns", "duration_ns", "kind", "name", "tid")))
        for s in slices
        if len(s.batch)
    ]


def tables() -> Tables:
    out = Tables()
    for name in "abcd":
        out.symbols.intern(name)
    return out


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 400), max_size=12), st.lists(st.integers(0, 400), max_size=12), st.randoms(use_true_random=False))
def test_rechunk_shuffle_and_duplicate_change_nothing(cuts_a: list[int], cuts_b: list[int], random) -> None:
    shared = tables()
    a, b = stream(shared, "a", 1, 200), stream(shared, "b", 2, 150)

    reference = Aligner(HEADER, shared)
    for batch in [*chunked(shared, "a", a, []), *chunked(shared, "b", b, [])]:
        reference.push(batch)
    expected = picture(reference.flush())

    batches = [*chunked(shared, "a", a, cuts_a), *chunked(shared, "b", b, cuts_b)]
    batches += [batches[i] for i in range(0, len(batches), 2)]
    random.shuffle(batches)
    aligner = Aligner(HEADER, shared)
    out: list[Slice] = []
    for i, batch in enumerate(batches):
        aligner.push(batch)
        if i % 3 == 0:
            out += aligner.release(10 * SECOND)  # a watermark before all events releases nothing of them
    out += aligner.flush()
    assert picture(out) == expected
    assert aligner.late == 0


def test_progressive_watermark_gives_the_same_slices_as_one_flush() -> None:
    shared = tables()
    columns = stream(shared, "a", 5, 500)
    done = np.where(columns["kind"] == Kind.PYTHON_SAMPLE, columns["start_ns"], columns["start_ns"] + columns["duration_ns"])
    whole = Aligner(HEADER, shared)
    whole.push(chunked(shared, "a", columns, [])[0])
    expected = picture(whole.flush())

    order = np.argsort(done, kind="stable")
    by_completion = {k: v[order] for k, v in columns.items()}
    live, mark, out = Aligner(HEADER, shared), Watermark(lateness_ns=SECOND // 2), []
    for batch in chunked(shared, "a", by_completion, list(range(0, 500, 17))):
        newest = live.push(batch)
        mark.observe("a", newest)
        out += live.release(mark.value)
    out += live.flush()
    assert live.late == 0
    assert [p[0] for p in picture(out)] == [p[0] for p in expected]
    assert sum(len(s.batch) for s in out) == 500


def test_events_behind_the_border_are_counted_late_not_lost_silently() -> None:
    shared = tables()
    aligner = Aligner(HEADER, shared)
    aligner.push(EventBatch.build(BatchHeader("job", 0, "h", "a", seq=0), shared, start_ns=[10 * SECOND]))
    assert len(aligner.release(11 * SECOND)) >= 1
    aligner.push(EventBatch.build(BatchHeader("job", 0, "h", "a", seq=1), shared, start_ns=[9 * SECOND, 12 * SECOND]))
    assert aligner.late == 1
    assert sum(len(s.batch) for s in aligner.flush()) == 1


def test_a_long_event_is_not_late() -> None:
    shared = tables()
    aligner = Aligner(HEADER, shared)
    aligner.push(EventBatch.build(BatchHeader("job", 0, "h", "a", seq=0), shared, start_ns=[40 * SECOND]))
    aligner.release(38 * SECOND)
    aligner.push(EventBatch.build(BatchHeader("job", 0, "h", "a", seq=1), shared, start_ns=[9 * SECOND], duration_ns=30 * SECOND))
    assert aligner.late == 0


def test_silent_source_is_forgotten_after_the_maximum_delay() -> None:
    mark = Watermark(lateness_ns=SECOND, max_delay_ns=3 * SECOND)
    mark.observe("dead", 10 * SECOND)
    mark.observe("alive", 20 * SECOND)
    assert mark.value == 9 * SECOND
    mark.tick(21 * SECOND)
    assert mark.value == 18 * SECOND
    mark.observe("alive", 21 * SECOND)
    assert mark.value == 20 * SECOND
