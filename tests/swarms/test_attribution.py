"""Iterations are split into swarms, phases and resources, and nothing is lost or counted twice."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import swarm_planted as planted
from hypothesis import given, settings
from hypothesis import strategies as st
from swarm_driver import Run, assert_exact, shares
from swarm_planted import HEADER, MS, PHASE, PID, SHARE, START

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Call, Copy, Futex, Kind, Wait
from sofa_otel.core.names import IterationKind
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.attribute.attributor import Attributor
from sofa_otel.processors.attribute.timeline import innermost, to_exact
from sofa_otel.processors.group.grouper import Grouper


def rows(tables: Tables, kind: Kind, name: tuple[str, str], spans: list[tuple[int, int]], **columns: object) -> EventBatch:
    """Events of one name from ``(start, end)``."""
    return EventBatch.build(
        HEADER, tables, start_ns=[s for s, _ in spans], duration_ns=[e - s for s, e in spans], kind=kind,
        name=tables.symbols.intern(*name), **{"pid": PID, "tid": PID, **columns},
    )  # fmt: skip


def every(steps: int, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """The same stretch of every step of 100 ms."""
    return [(START + (i * 100 + start_ms) * MS, START + (i * 100 + end_ms) * MS) for i in range(steps)]


def hooks(tables: Tables, steps: int, step_ms: float) -> list[EventBatch]:
    """Exact hooks of the planted phases."""
    borders = np.concatenate([[0.0], np.cumsum(list(SHARE.values()))])
    names = {"get_batch": "dataloader.next", "backward": "autograd.backward", "optimizer_step": "optimizer.step"}
    out = []
    for position, step in enumerate(SHARE):
        if step in names:
            spans = [
                (START + round((i + borders[position]) * step_ms * MS), START + round((i + borders[position + 1]) * step_ms * MS))
                for i in range(steps)
            ]
            out.append(rows(tables, Kind.PYTHON_CALL, (names[step], "torch"), spans, subkind=Call.HOOK))
    return out


@pytest.mark.parametrize("step_ms", [4.0, 35.0, 100.0, 730.0])
def test_planted_phases_are_found_at_every_step_length(step_ms: float) -> None:
    tables = Tables()
    steps = max(20, int(8_000 / step_ms))
    run = Run(tables, [planted.job(tables, steps=steps, step_ms=step_ms)], planted.iterations(steps, step_ms))
    assert_exact(run)
    wall = sum(b.end_ns - b.start_ns for b in run.breakdowns)
    assert wall == round(steps * step_ms * MS)
    for name, phase in PHASE.items():
        assert run.phase_ns()[phase] / wall == pytest.approx(SHARE[name], abs=0.02)
    assert run.exposed_ns()["loader"] / wall == pytest.approx(SHARE["get_batch"], abs=0.02)
    found = {caption.split(" ")[0]: share for caption, share in shares(run).items()}
    for name, frame in (
        ("get_batch", "get_batch"),
        ("forward", "Net.forward"),
        ("backward", "Net.backward"),
        ("optimizer_step", "Sgd.step"),
    ):
        assert found[frame] == pytest.approx(SHARE[name], abs=0.02)


def test_hooks_make_phases_exact_whatever_the_sampling_rate() -> None:
    tables = Tables()
    steps, step_ms = 80, 120.0
    events = [planted.job(tables, steps=steps, step_ms=step_ms, period_ms=47.0), *hooks(tables, steps, step_ms)]
    run = Run(tables, events, planted.iterations(steps, step_ms))
    assert_exact(run)
    for b in run.breakdowns:
        assert {str(k): v / MS for k, v in b.phase_ns.items()} == pytest.approx(
            {phase: SHARE[name] * step_ms for name, phase in PHASE.items()}, abs=1e-3
        )


def test_fast_iterations_share_records_and_slow_ones_do_not() -> None:
    tables = Tables()
    fast = Run(tables, [planted.job(tables, steps=1000, step_ms=4.0)], planted.iterations(1000, 4.0))
    assert len(fast.breakdowns) == 20
    assert {b.iterations for b in fast.breakdowns} == {50}
    assert sum(b.iterations for b in fast.breakdowns) == 1000
    tables = Tables()
    slow = Run(tables, [planted.job(tables, steps=20, step_ms=150.0)], planted.iterations(20, 150.0))
    assert [b.iteration for b in slow.breakdowns] == list(range(20))


def test_records_do_not_depend_on_when_iterations_are_closed() -> None:
    made = []
    for close_every in (1, 7):
        tables = Tables()
        run = Run(tables, [planted.job(tables, steps=300, step_ms=30.0)], planted.iterations(300, 30.0), close_every=close_every)
        made.append((sorted(run.windows, key=repr), run.breakdowns, run.profiles))
    assert made[0][1] == made[1][1]
    assert made[0][0] == made[1][0]
    assert made[0][2] == made[1][2]


def test_other_threads_and_processes_are_concurrent_and_never_part_of_the_wall_time() -> None:
    tables = Tables()
    steps = 60
    work = planted.path(tables, (("_worker_loop", "torch.utils.data._utils.worker", 300), ("augment", "images", 9)))
    wait = planted.path(
        tables, (("_worker_loop", "torch.utils.data._utils.worker", 300), ("Queue.get", "multiprocessing.queues", 100))
    )
    instants = list(range(START + 5 * MS, START + steps * 100 * MS, 10 * MS))
    worker = planted.samples(
        tables,
        [(t, work, Wait.ON_CPU) if i % 2 else (t, wait, Wait.IPC) for i, t in enumerate(instants)],
        10 * MS,
        pid=5000,
        tid=5000,
    )
    run = Run(tables, [planted.job(tables, steps=steps), worker], planted.iterations(steps))
    assert_exact(run)
    beside = run.time_by_swarm(concurrent=True)
    assert sum(beside.values()) == pytest.approx(steps * 100 * MS / 2, rel=0.02)
    augment = next(s for s in beside if "augment" in run.infos[s].caption)
    assert run.infos[augment].kind == "input"
    overlapped = sum(b.overlapped_ns.get("cpu_user", 0) for b in run.breakdowns)  # type: ignore[call-overload]
    assert overlapped == pytest.approx(steps * 100 * MS / 2, rel=0.02)


@pytest.mark.parametrize(
    ("frames", "wait", "resource"),
    [
        ((("step", "m", 1),), Wait.ON_CPU, "cpu_user"),
        ((("step", "m", 1),), Wait.LOCK, "sync"),
        ((("step", "m", 1),), Wait.GIL, "sync"),
        ((("step", "m", 1),), Wait.IPC, "sync"),
        ((("step", "m", 1),), Wait.DISK, "disk"),
        ((("step", "m", 1),), Wait.NETWORK, "network"),
        ((("step", "m", 1),), Wait.SLEEP, "idle"),
        ((("all_reduce", "torch.distributed.distributed_c10d", 1),), Wait.NETWORK, "communication"),
        ((("all_reduce", "torch.distributed.distributed_c10d", 1),), Wait.LOCK, "communication"),
        ((("DataLoader.__next__", "torch.utils.data.dataloader", 1),), Wait.IPC, "loader"),
        ((("get_batch", "m", 1),), Wait.SLEEP, "loader"),
        ((("get_batch", "m", 1),), Wait.ON_CPU, "loader"),
        ((("get_batch", "m", 1),), Wait.DISK, "disk"),
    ],
)
def test_what_a_sample_waits_for(frames: tuple[planted.Frame, ...], wait: Wait, resource: str) -> None:
    tables = Tables()
    where = planted.path(tables, planted.MAIN + frames)
    batch = planted.samples(tables, [(t, where, wait) for t in range(START + MS, START + 2_000 * MS, 10 * MS)], 10 * MS)
    run = Run(tables, [batch], planted.iterations(20))
    assert set(run.exposed_ns()) == {resource}
    assert {name for b in run.breakdowns for name in b.waits_ns} == {wait.name.lower()}


def test_cpu_time_is_split_into_user_and_system_by_the_counters() -> None:
    tables = Tables()
    grouper = Grouper("job", 0, tables)
    attributor = Attributor("job", 0, tables, grouper)
    series = SeriesTable()
    user = series.intern("process.cpu.time", "s", "counter", cpu__mode="user")
    system = series.intern("process.cpu.time", "s", "counter", cpu__mode="system")
    seconds = np.arange(-2, 14)
    for which, rate in ((user, 0.75), (system, 0.25)):
        attributor.feed_resources(ResourceBatch(BatchHeader("job", 0, "h", "proc"), series, START + seconds * 1_000 * MS,
                                                np.full(len(seconds), which), 50 + seconds * rate))  # fmt: skip
    run = Run(tables, [planted.job(tables)], planted.iterations(), grouper=grouper, attributor=attributor)
    assert_exact(run)
    exposed = run.exposed_ns()
    assert exposed["cpu_system"] / (exposed["cpu_system"] + exposed["cpu_user"]) == pytest.approx(0.25, abs=1e-3)


def test_without_samples_system_calls_say_what_the_loop_waits_for() -> None:
    tables = Tables()
    futex = rows(tables, Kind.SYSCALL, ("futex", "syscall"), every(50, 10, 40), subkind=Futex.WAIT)
    fsync = rows(tables, Kind.SYSCALL, ("fsync", "syscall"), every(50, 50, 70))
    run = Run(tables, [futex, fsync], planted.iterations(50))
    assert_exact(run)
    wall = 50 * 100 * MS
    assert {k: v / wall for k, v in run.exposed_ns().items()} == pytest.approx({"sync": 0.3, "disk": 0.2, "cpu_user": 0.5})
    assert sum(w.calls for w in run.windows) == 100


def test_waiting_for_a_device_is_the_devices_time() -> None:
    tables = Tables()
    where = planted.path(tables, planted.MAIN + (("synchronize", "torch.cuda", 1),))
    host = planted.samples(tables, [(t, where, Wait.LOCK) for t in range(START + MS, START + 2_000 * MS, 5 * MS)], 5 * MS)
    kernels = rows(tables, Kind.GPU_KERNEL, ("volta_sgemm_128x64", ""), every(20, 0, 60), device=0, tid=7)
    copies = rows(tables, Kind.GPU_COPY, ("Memcpy HtoD", ""), every(20, 60, 80), device=0, tid=7, subkind=Copy.H2D, bytes=1_000)
    run = Run(tables, [host, kernels, copies], planted.iterations(20))
    assert_exact(run)
    wall = 20 * 100 * MS
    assert {k: v / wall for k, v in run.exposed_ns().items()} == pytest.approx(
        {"gpu_compute": 0.6, "copy": 0.2, "sync": 0.2}, abs=0.01
    )
    assert sum(w.bytes for w in run.windows) == 20_000
    assert run.time_by_swarm(concurrent=True).total() == pytest.approx(0.8 * wall, rel=1e-6)


def test_time_outside_iterations_is_reported_as_such_and_once() -> None:
    tables = Tables()
    run = Run(tables, [planted.job(tables, steps=100)], planted.iterations(60, first=20))
    assert_exact(run)
    assert sum(b.iterations for b in run.breakdowns) == 40
    assert run.time_by_swarm(inside=False).total() == pytest.approx(60 * 100 * MS, rel=0.02)
    assert sum(p.time_ns for p in run.profiles) == pytest.approx(100 * 100 * MS, rel=0.01)


def test_a_job_without_iterations_still_says_where_its_time_went() -> None:
    tables = Tables()
    run = Run(tables, [planted.job(tables, steps=100)], [], leader=None)
    assert not run.breakdowns
    by = run.time_by_swarm(inside=False)
    assert by.total() == pytest.approx(100 * 100 * MS, rel=0.01)
    assert {p.swarm for p in run.profiles} == set(by)


def test_memory_is_bounded_and_no_time_is_lost_when_iterations_never_come() -> None:
    tables = Tables()
    grouper = Grouper("job", 0, tables)
    attributor = Attributor("job", 0, tables, grouper, bound=500)
    batch = planted.job(tables, steps=400, step_ms=100.0)
    run = Run(tables, [batch], [], grouper=grouper, attributor=attributor, leader=None)
    assert run.time_by_swarm(inside=False).total() == pytest.approx(int(batch.duration_ns.sum()), rel=0.01)
    assert sum(w.calls for w in run.windows) == len(batch)


def test_validation_iterations_are_validation() -> None:
    tables = Tables()
    run = Run(tables, [planted.job(tables, steps=40)], planted.iterations(40, kind=IterationKind.VALIDATION))
    assert run.phase_ns()["validation"] / (40 * 100 * MS) == pytest.approx(SHARE["forward"], abs=0.02)


def test_uncovered_time_is_idle_not_spread_over_what_was_seen() -> None:
    tables = Tables()
    where = planted.path(tables, planted.MAIN)
    batch = planted.samples(tables, [(START + i * 1_000 * MS + 50 * MS, where, Wait.ON_CPU) for i in range(10)], 50 * MS)
    run = Run(tables, [batch], planted.iterations(10, 1_000.0))
    assert_exact(run)
    assert run.exposed_ns()["idle"] / (10_000 * MS) == pytest.approx(0.95, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(1, 200), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60
    ),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 300), st.integers(0, 3)), max_size=12),
    st.lists(st.integers(1, 400), min_size=1, max_size=20),
)
def test_sums_are_exact_on_any_input(
    samples: list[tuple[int, int, int, int]], spans: list[tuple[int, int, int]], lengths: list[int]
) -> None:
    tables = Tables()
    paths = [planted.path(tables, planted.MAIN + frames) for frames in planted.STEP.values()]
    stacks = [paths[which] for _, _, which, _ in samples]
    instants = [(START + at * MS + 1, stack, wait) for (at, _, _, wait), stack in zip(samples, stacks, strict=True)]
    batch = planted.samples(tables, instants, [length * MS for _, length, _, _ in samples])
    names = ["dataloader.next", "autograd.backward", "optimizer.step", "checkpoint.save"]
    hooked = [
        rows(
            tables, Kind.PYTHON_CALL, (names[which], "torch"), [(START + at * MS, START + (at + length) * MS)], subkind=Call.HOOK
        )
        for at, length, which in spans
    ]
    borders = START + np.concatenate([[0], np.cumsum(lengths)]) * MS + 7
    made = [
        msgspec.structs.replace(one, start_ns=int(borders[i]), end_ns=int(borders[i + 1]))
        for i, one in enumerate(planted.iterations(len(lengths)))
    ]
    run = Run(tables, [batch, *hooked], made)
    assert_exact(run)
    assert sum(b.end_ns - b.start_ns for b in run.breakdowns) == int(borders[-1] - borders[0])


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=50), st.integers(0, 10**15))
def test_rounding_keeps_the_total(weights: list[float], total: int) -> None:
    out = to_exact(np.asarray(weights), total)
    assert out.sum() == (total if sum(weights) > 0 else 0)
    assert (out >= 0).all()


def test_innermost_of_nested_intervals() -> None:
    lo = np.array([0, 10, 12, 40, 70])
    hi = np.array([100, 30, 20, 60, 100])
    at = np.array([5, 11, 15, 25, 35, 50, 65, 99, 100])
    assert innermost(lo, hi, at).tolist() == [0, 1, 2, 1, 0, 3, 0, 4, -1]
