"""A RUN is readable at every moment of its life and harms nobody: not other ranks, not a full disk's owner, not foreign files."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError, UsageError
from sofa_otel.core.names import CorrelationStatus, FindingId, IterationKind, Phase, Resource, Severity, SwarmKind
from sofa_otel.core.records import (
    Anomaly,
    AnyRecord,
    Correlation,
    Detection,
    Finding,
    Gain,
    Iteration,
    LoopLevel,
    PhaseBreakdown,
    StackProfile,
    StepMarks,
    Straggler,
    SwarmInfo,
    SwarmMember,
    SwarmWindow,
)
from sofa_otel.core.run import (
    RunMeta,
    RunTakenError,
    RunWriter,
    default_run_name,
    free_directory,
    is_run,
    list_runs,
    open_run,
    prune,
    read_meta,
)
from sofa_otel.core.run.raw import load_raw, raw_name, save_raw
from sofa_otel.core.run.tables import RECORD_TYPES
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables


def meta(rank: int = 0, started_ns: int = 1) -> RunMeta:
    return RunMeta(command=["python", "train.py"], started_ns=started_ns, job="job-1", rank=rank)


NOW_NS = 1_700_000_000_000_000_000


def iteration(index: int, rank: int = 0, level: str = "step") -> Iteration:
    return Iteration(
        job="job-1",
        rank=rank,
        level=level,
        index=index,
        start_ns=NOW_NS + index,
        end_ns=NOW_NS + index + 1,
        kind=IterationKind.WARMUP,
        confidence=0.9,
        source="probe:loop",
        anomalous=index == 1,
        score=math.nan if index == 2 else 1.5,
    )


CANDIDATE = CorrelationStatus.CANDIDATE
EXAMPLES: list[AnyRecord] = [
    iteration(0),
    Detection(job="job-1", rank=0, found=True, reason="", levels=[LoopLevel("step", 5, 0.25)], locked_ns=7),
    SwarmInfo(
        job="job-1", rank=0, swarm="ab", caption="conv é", kind=SwarmKind.COMPUTE, members=[SwarmMember("f", "m", 1.0)]
    ),
    SwarmWindow(job="job-1", rank=0, iteration=-1, swarm="ab", phase=Phase.DATA_LOADING, time_ns=2**62, concurrent=True),
    PhaseBreakdown(
        job="job-1", rank=0, iteration=0, start_ns=1, end_ns=3, phase_ns={Phase.MODEL_FORWARD: 2}, exposed_ns={Resource.IDLE: 2}
    ),
    Correlation(job="job-1", rank=0, swarm="ab", resource="hw", lag_s=0.5, strength=0.7, status=CANDIDATE, tests={"p": 0.01}),
    Straggler(job="job-1", rank=0, iterations=3, delay_s=1.5, cause="quota"),
    Anomaly(job="job-1", rank=0, kind="stall", time_ns=5, iteration=1, value_s=2.0, reference_s=1.0),
    Finding(
        job="job-1", rank=0, id=FindingId.DISK_BOUND, severity=Severity.WARNING, title="t", metric="m", value=1.0, reference=2.0,
        evidence=["é ✓"], suggestion="s", predicted_gain=Gain(1.0, 1.1, 1.2),
    ),
    StackProfile(job="job-1", rank=0, swarm="ab", frames=["main (a.py:1)", "libc.so!read"], time_ns=9, samples=2),
    StepMarks(job="job-1", rank=0, count=6, period_s=0.125),
]  # fmt: skip


def test_every_record_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    assert {type(record) for record in EXAMPLES} == set(RECORD_TYPES)
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        writer.write(EXAMPLES)
    reader = open_run(tmp_path / "run")
    for record in EXAMPLES:
        converted = msgspec.json.decode(msgspec.json.encode(record), type=type(record))
        assert reader.records(type(record)) == [converted]
    assert len(reader.all_records()) == len(EXAMPLES)


def test_the_last_word_on_an_iteration_a_detection_and_a_swarm_wins(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        for confidence in (0.1, 0.8):
            writer.write(
                [msgspec.structs.replace(iteration(4), confidence=confidence), iteration(4, level="epoch"), iteration(4, rank=1)]
            )
            writer.write([Detection(job="job-1", rank=0, found=False, reason="r", confidence=confidence)])
            writer.write([SwarmWindow(job="job-1", rank=0, iteration=4, swarm="ab", time_ns=1)])
    reader = open_run(tmp_path / "run")
    assert [(i.rank, i.level, i.confidence) for i in reader.records(Iteration)] == [
        (0, "step", 0.8),
        (0, "epoch", 0.9),
        (1, "step", 0.9),
    ]
    assert [d.confidence for d in reader.records(Detection)] == [0.8]
    assert len(reader.records(SwarmWindow)) == 2
    assert [i.rank for i in reader.records(Iteration, rank=1)] == [1]


def test_real_columns_for_sql_and_notebooks(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        writer.write(iteration(i) for i in range(4))
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    rows = database.execute('SELECT job, rank, level, "index", start_ns FROM iteration WHERE anomalous').fetchall()
    database.close()
    assert rows == [("job-1", 0, "step", 1, 1_700_000_000_000_000_001)]
    table = open_run(tmp_path / "run").table(Iteration)
    assert table["index"].tolist() == [0, 1, 2, 3]
    assert math.isnan(table["score"][2])


def test_the_last_records_written(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        writer.write(iteration(i, rank=i % 2) for i in range(10))
        writer.commit()
        reader = open_run(tmp_path / "run")
        assert [i.index for i in reader.records(Iteration, rank=1, last=2)] == [7, 9]


def test_resources_are_exact_and_small(tmp_path: Path) -> None:
    table = SeriesTable()
    ids = [table.intern("system.cpu.time", "s", "counter", cpu__mode="user", cpu__logical_number=str(i)) for i in range(100)]
    rng = np.random.default_rng(3)
    value = np.cumsum(rng.integers(0, 100, (600, 100)) / 100, axis=0)
    time_ns = 1_700_000_000_000_000_000 + (np.arange(600) * 10**9)[:, None] + rng.integers(0, 10**6, (600, 100))
    header = BatchHeader("job-1", 0, "h", "host")
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        for second in range(600):
            writer.write_resources(ResourceBatch(header, table, time_ns[second], ids, value[second]))
            writer.commit()
            if second == 333:
                assert len(open_run(tmp_path / "run").resources()[0].value) == 334
        other = SeriesTable()
        one = other.intern("hw.power", "W", "gauge")
        writer.write_resources(ResourceBatch(BatchHeader("job-1", 5, "h", "nvml"), other, [7], [one], [math.inf]))
    reader = open_run(tmp_path / "run")
    assert len(reader.resources()) == 101
    found = {r.series.attribute("cpu.logical_number"): r for r in reader.resources("system.cpu.time")}
    for i in range(100):
        np.testing.assert_array_equal(found[str(i)].time_ns, time_ns[:, i])
        np.testing.assert_array_equal(found[str(i)].value, value[:, i])
    power = reader.resources(rank=5)
    assert [(r.series.metric, r.series.unit, r.rank, r.value.tolist()) for r in power] == [("hw.power", "W", 5, [math.inf])]
    assert reader.resources("no.such") == []
    # 10 minutes of 100 series; the bar is 10 MB for an hour.
    assert (tmp_path / "run" / "run.sqlite").stat().st_size < 10e6 / 6


def test_raw_iterations_come_back(tmp_path: Path) -> None:
    tables = Tables()
    for i in range(50):
        tables.symbols.intern(f"noise{i}")
    main, step = tables.symbols.intern("main", "train", 3, "t.py", 9), tables.symbols.intern("step", "train")
    path = tables.paths.intern_frames([main, step])
    batch = EventBatch.build(
        BatchHeader("job-1", 2, "h", "probe/1", seq=8),
        tables,
        start_ns=[5, 6],
        name=[step, 0],
        path=[path, 0],
        bytes=[1, -1],
        link=[7, 8],
    )
    with RunWriter.create(tmp_path / "run", meta(2)) as writer:
        assert writer.write_raw(batch, 12) is not None
        assert writer.write_raw(batch, 12) is not None
    reader = open_run(tmp_path / "run")
    assert [(ref.rank, ref.iteration) for ref in reader.raw()] == [(2, 12), (2, 12)]
    loaded = reader.load_raw(reader.raw()[0])
    assert loaded.header == batch.header
    assert [loaded.tables.symbols[i].function for i in loaded.tables.paths.frames(int(loaded.path[0]))] == ["main", "step"]
    assert loaded.tables.symbols[int(loaded.name[0])] == tables.symbols[step]
    assert len(loaded.tables.symbols) == 3
    for key, column in batch.columns.items():
        if key not in ("name", "path"):
            np.testing.assert_array_equal(loaded.columns[key], column)


def test_a_damaged_raw_file_is_named(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        batch = EventBatch.build(BatchHeader("j", 0, "h", "s"), Tables(), start_ns=np.arange(100))
        path = writer.write_raw(batch, 0)
    assert path is not None
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match=path.name):
            open_run(tmp_path / "run").load_raw(open_run(tmp_path / "run").raw()[0])


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 2**20))
@settings(max_examples=1000, deadline=None)
def test_fuzz_raw_files(changes: list[tuple[int, int]], cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / raw_name(0, 1)
        data = bytearray(raw_bytes())
        for position, value in changes:
            data[position % len(data)] = value
        if cut % 5 == 0:
            del data[cut % len(data) :]
        path.write_bytes(data)
        with suppress(InputError):
            load_raw(path)


@cache
def raw_bytes() -> bytes:
    tables = Tables()
    path = tables.paths.intern(0, tables.symbols.intern("f"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / raw_name(0, 1)
        save_raw(file, EventBatch.build(BatchHeader("j", 0, "h", "s"), tables, start_ns=np.arange(30), path=path))
        return file.read_bytes()


def test_a_finished_run_says_how_it_ended(tmp_path: Path) -> None:
    writer = RunWriter.create(tmp_path / "run", meta())
    writer.update(exit_code=3, facts={"cpu.count": 2.0, "python": "3.11"}, endpoints=["http://x"])
    with pytest.raises(TypeError):
        writer.update(no_such_field=1)
    assert open_run(tmp_path / "run").alive
    assert open_run(tmp_path / "run").meta.state == "running"
    writer.close()
    writer.close()
    found = open_run(tmp_path / "run" / "run.json")
    assert (found.meta.state, found.meta.exit_code, found.alive) == ("ended", 3, False)
    assert found.meta.ended_ns > 0
    assert found.meta.facts == {"cpu.count": 2.0, "python": "3.11"}
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["raw", "run.json", "run.sqlite"]


WRITER = """
import sys
from sofa_otel.core.records import Iteration
from sofa_otel.core.run import RunMeta, RunWriter
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.batch import BatchHeader
w = RunWriter.create(sys.argv[1], RunMeta(command=["x"], started_ns=1, job="j", rank=0))
t = SeriesTable(); one = t.intern("m", "1", "gauge")
i = 0
while True:
    w.write(Iteration(job="j", rank=0, level="step", index=i + k, start_ns=i + k, end_ns=i + k + 1, confidence=1.0, source="s")
            for k in range(100))
    w.write_resources(ResourceBatch(BatchHeader("j", 0, "h", "s"), t, [i * 10**9], [one], [1.0]))
    w.commit(); w.update(facts={"committed": float(i + 100)})
    i += 100
    if i == 100: print("go", flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.013, 0.029, 0.051, 0.083, 0.11, 0.17, 0.31])
def test_killed_at_any_moment_it_is_readable(tmp_path: Path, delay_s: float) -> None:
    run = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(run)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        assert open_run(run).alive
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reader = open_run(run)
    assert reader.meta.state == "ended"
    assert reader.meta.exit_code is None
    assert any("cut off" in warning for warning in reader.meta.warnings)
    found = [i.index for i in reader.records(Iteration)]
    assert found == list(range(len(found)))
    assert len(found) >= float(reader.meta.facts["committed"]) >= 100  # nothing that was committed is gone
    assert reader.meta.ended_ns >= len(found)
    assert [r.series.metric for r in reader.resources()] == ["m"]


def test_a_live_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        reader = open_run(tmp_path / "run")
        seen = []
        for i in range(5):
            writer.write([iteration(i)])
            writer.commit()
            seen.append(len(reader.records(Iteration)))
        assert seen == [1, 2, 3, 4, 5]


def fill_up(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_costs_results_but_never_an_exception(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False, capture_output=True
    ).returncode:
        pytest.skip("no tmpfs can be mounted here")
    told: list[str] = []
    try:
        writer = RunWriter.create(small / "run", meta(), warn=told.append)
        writer.write([iteration(0)])
        assert writer.commit()
        fill = small / "fill"
        fill_up(fill)
        for i in range(1, 12_000):
            writer.write([iteration(i)])
        assert not writer.commit()
        assert writer.lossy
        writer.update(exit_code=0)
        assert writer.write_raw(EventBatch.build(BatchHeader("j", 0, "h", "s"), Tables(), start_ns=np.arange(99_999)), 1) is None
        assert writer.write_file("report.html", bytes(100_000)) is None
        assert len(told) == 1
        assert "free some space" in told[0]
        assert len(open_run(small / "run").records(Iteration)) >= 1
        fill.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        writer.close()
        reader = open_run(small / "run")
        assert len(reader.records(Iteration)) == 12_000  # what waited in memory came after all
        assert any("takes data again" in warning for warning in reader.meta.warnings)
        assert reader.meta.exit_code == 0
        assert reader.meta.state == "ended"
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_a_database_that_breaks_under_the_writer_is_survived(tmp_path: Path) -> None:
    told: list[str] = []
    writer = RunWriter.create(tmp_path / "run", meta(), warn=told.append)
    writer._database.close()
    for i in range(60_000):
        writer.write([iteration(i)])
    assert writer.lossy
    assert writer.lost == 10_000
    writer.close()
    assert len(told) == 2
    assert any("60000" in warning for warning in read_meta(tmp_path / "run").warnings)


def test_numpy_numbers_are_taken_and_a_wrong_record_costs_only_itself(tmp_path: Path) -> None:
    told: list[str] = []
    with RunWriter.create(tmp_path / "run", meta(), warn=told.append) as writer:
        good = msgspec.structs.replace(iteration(0), index=np.int64(4), confidence=np.float32(0.5), anomalous=np.bool_(True))
        phases = {Phase.UNKNOWN: np.int64(3)}
        breakdown = PhaseBreakdown(job="j", rank=0, iteration=0, start_ns=1, end_ns=2, phase_ns=phases, exposed_ns={})  # type: ignore[arg-type]
        writer.write([good, msgspec.structs.replace(iteration(0), start_ns="no"), iteration(5), breakdown])
        assert writer.commit()
        assert not writer.lossy
    assert [i.index for i in open_run(tmp_path / "run").records(Iteration)] == [4, 5]
    assert open_run(tmp_path / "run").records(PhaseBreakdown)[0].phase_ns == {Phase.UNKNOWN: 3}
    assert len(told) == 1
    assert writer.lost == 1


def test_ranks_never_share_a_directory(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = RunWriter.create_free(run, meta(0))
    second = RunWriter.create_free(run, meta(3))
    assert (first.directory, second.directory) == (run, tmp_path / "run-r3")
    with pytest.raises(RunTakenError, match="rank 0"):
        free_directory(run, 0)
    with pytest.raises(RunTakenError, match="both taken"):
        free_directory(run, 3)
    assert free_directory(run, 4) == tmp_path / "run-r4"
    for writer in (first, second):
        writer.close()


RACER = """
import sys
from sofa_otel.core.run import RunMeta, RunWriter
rank = int(sys.argv[2])
w = RunWriter.create_free(sys.argv[1], RunMeta(command=["x"], started_ns=1, job="j", rank=rank))
w.close(); print(w.directory.name, rank)
"""


def test_ranks_that_start_together_each_get_their_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = [
        subprocess.Popen([sys.executable, "-c", RACER, str(run), str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(6)
    ]
    said = [process.communicate()[0].split() for process in processes]
    assert len({name for name, _ in said}) == 6
    assert sum(name == "run" for name, _ in said) == 1
    for name, rank in said:
        assert name in ("run", f"run-r{rank}")
        assert read_meta(tmp_path / name).rank == int(rank)


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunTakenError, match=r"thesis\.txt"):
        RunWriter.create(tmp_path, meta())
    with pytest.raises(RunTakenError, match="not a run"):
        free_directory(tmp_path, 1)
    with pytest.raises(UsageError):
        RunWriter.create(tmp_path / "thesis.txt" / "run", meta())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    RunWriter.create(tmp_path / "empty", meta()).close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "sofa/run/v1"}', '{"command": 3}', "\x00\x01"])
def test_a_damaged_description_is_a_typed_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json.*byte \d+"):
        open_run(tmp_path)
    assert not is_run(tmp_path)


def test_no_run_and_no_database(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        open_run(tmp_path / "nothing")
    RunWriter.create(tmp_path / "run", meta()).close()
    (tmp_path / "run" / "run.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(InputError, match=r"run\.sqlite"):
        open_run(tmp_path / "run").records(Iteration)
    (tmp_path / "run" / "run.sqlite").unlink()
    with pytest.raises(InputError, match=r"run\.sqlite"):
        open_run(tmp_path / "run").records(Iteration)


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=30), st.integers(0, 2**20))
@settings(max_examples=150, deadline=None)
def test_fuzz_a_damaged_database(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int) -> None:
    run = tmp_path_factory.mktemp("fuzz") / "run"
    table = SeriesTable()
    series = table.intern("hw.power", "W", "gauge", hw__id="x")
    with RunWriter.create(run, meta()) as writer:
        writer.write(EXAMPLES)
        writer.write(iteration(i) for i in range(200))
        writer.write_resources(ResourceBatch(BatchHeader("j", 0, "h", "s"), table, np.arange(50), [series] * 50, np.arange(50)))
    data = bytearray((run / "run.sqlite").read_bytes())
    for position, value in changes:
        data[position % len(data)] = value
    if cut % 5 == 0:
        del data[cut % len(data) :]
    (run / "run.sqlite").write_bytes(data)
    reader = open_run(run)
    for read in (reader.all_records, reader.resources):
        with suppress(InputError):
            read()


def test_an_older_database_is_read_with_defaults(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", meta()) as writer:
        writer.write([iteration(1)])
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite")
    database.execute("ALTER TABLE iteration DROP COLUMN score")
    database.execute("ALTER TABLE iteration ADD COLUMN of_the_future TEXT")
    database.execute("DROP TABLE straggler")
    database.commit()
    database.close()
    assert open_run(tmp_path / "run").records(Iteration)[0].score == 0.0
    assert open_run(tmp_path / "run").records(Straggler) == []


def test_names(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert default_run_name(now, "job-1", 3) == "sofa-runs/20260102-030405-job-1-r3"
    assert default_run_name(now, "../../etc/passwd", 0) == "sofa-runs/20260102-030405-etc-passwd-r0"
    assert default_run_name(now, "", 0) == "sofa-runs/20260102-030405-job-r0"


def test_prune_deletes_old_runs_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "sofa-runs"
    for i in range(5):
        RunWriter.create(folder / f"run{i}", meta(started_ns=i)).close()
    alive = RunWriter.create(folder / "alive", meta(started_ns=0))
    outside = tmp_path / "outside"
    RunWriter.create(outside, meta(started_ns=0)).close()
    (folder / "link").symlink_to(outside)
    (folder / "run0" / "link").symlink_to(outside)
    (folder / "mine").mkdir()
    (folder / "mine" / "data.csv").write_text("1")
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{}")
    assert [run.path.name for run in list_runs(folder)] == ["run4", "run3", "run2", "run1", "alive", "run0"]
    assert [run.alive for run in list_runs(folder)] == [False] * 4 + [True, False]
    assert sorted(path.name for path in prune(folder, 2)) == ["run0", "run1", "run2"]
    assert sorted(path.name for path in folder.iterdir()) == ["alive", "broken", "link", "mine", "run3", "run4"]
    assert (outside / "run.json").exists()
    assert prune(folder, 10) == []
    assert prune(tmp_path / "nowhere", 0) == []
    with pytest.raises(ValueError, match="negative"):
        prune(folder, -1)
    alive.close()
