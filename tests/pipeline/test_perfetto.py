"""The Perfetto trace of a run, read back with a parser of its own: tracks, nesting, values, names."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.names import FindingId, Phase, Resource, Severity, SwarmKind
from sofa_otel.core.records import Anomaly, Finding, Iteration, PhaseBreakdown, SwarmInfo, SwarmWindow
from sofa_otel.core.run import RunMeta, RunWriter, open_run
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.emit.perfetto import write_perfetto

T0 = 1_700_000_000_000_000_000


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
        elif kind == 1:
            yield number, struct.unpack_from("<d", data, at)[0]
            at += 8
        else:
            assert kind == 2, f"wire type {kind}"
            size = varint()
            yield number, data[at : at + size]
            at += size
    assert at == len(data)


class Trace:
    """Tracks by name; closed slices, instants and values by track name."""

    def __init__(self, data: bytes) -> None:
        self.tracks: dict[int, str] = {}
        self.parents: dict[int, int] = {}
        self.slices: dict[str, list[tuple[int, int, str, int]]] = {}
        self.instants: dict[str, list[tuple[int, str]]] = {}
        self.values: dict[str, list[tuple[int, float]]] = {}
        event_names: dict[int, str] = {}
        events: list[tuple[int, dict[int, Any]]] = []
        for number, packet in fields(data):
            assert number == 1
            message = dict(fields(packet))
            assert message[10] == 1, "one sequence"
            if 60 in message:
                about = dict(fields(message[60]))
                name = about.get(2) or dict(fields(about[3]))[6]
                self.tracks[about[1]] = name.decode()
                self.parents[about[1]] = about.get(5, 0)
            if 12 in message:
                for _, entry in fields(message[12]):
                    pair = dict(fields(entry))
                    event_names[pair[1]] = pair[2].decode()
            if 11 in message:
                events.append((message[8], dict(fields(message[11]))))
        stacks: dict[str, list[tuple[int, str]]] = {}
        for at, event in sorted(events, key=lambda item: item[0]):
            # Tracks of the second rank are told apart by a prefix.
            other = self.tracks[self.parents[event[11]]].removesuffix(" 0") == self.tracks[self.parents[event[11]]]
            track = ("other " if other else "") + self.tracks[event[11]]
            name = event_names.get(event.get(10, 0), "")
            match event[9]:
                case 1:
                    stacks.setdefault(track, []).append((at, name))
                case 2:
                    stack = stacks[track]
                    start, opened = stack.pop()
                    self.slices.setdefault(track, []).append((start, at, opened, len(stack)))
                case 3:
                    self.instants.setdefault(track, []).append((at, name))
                case 4:
                    self.values.setdefault(track, []).append((at, event[44]))
        assert not any(stacks.values()), "every slice is closed"


def make_run(directory: Path) -> None:
    meta = RunMeta(command=["x"], started_ns=T0, ended_ns=T0 + 10**9, job="j", rank=0, ranks=[0, 1], world_size=2)
    writer = RunWriter.create(directory, meta)
    for rank in (0, 1):
        who = {"job": "j", "rank": rank}
        for index in range(3):
            start = T0 + index * 1000
            writer.write([
                Iteration(**who, level="step", index=index, start_ns=start, end_ns=start + 1000, confidence=1.0, source="s"),
                SwarmWindow(**who, iteration=index, swarm="aa", phase=Phase.MODEL_FORWARD, time_ns=600),
                SwarmWindow(**who, iteration=index, swarm="bb", phase=Phase.DATA_LOADING, time_ns=400),
                SwarmWindow(**who, iteration=index, swarm="bb", time_ns=9000, concurrent=True),
            ])  # fmt: skip
        writer.write([
            SwarmInfo(**who, swarm="aa", caption="matmul", kind=SwarmKind.COMPUTE),
            PhaseBreakdown(
                **who, iteration=0, iterations=3, start_ns=T0, end_ns=T0 + 3000,
                phase_ns={Phase.MODEL_FORWARD: 1800, Phase.DATA_LOADING: 1200}, exposed_ns={Resource.CPU_USER: 3000},
            ),
            Anomaly(**who, kind="slow", time_ns=T0 + 2000, iteration=2, value_s=2.0, reference_s=1.0),
            Finding(
                **who, id=FindingId.LOADER_BOUND, severity=Severity.WARNING, title="waits", metric="m", value=1.0, reference=0.5,
                evidence=["e"], suggestion="s",
            ),
        ])  # fmt: skip
        table = SeriesTable()
        cpu, memory = table.intern("process.cpu.time", "s", "counter", cpu__mode="user"), table.intern("m", "By", "gauge")
        header = BatchHeader("j", rank, "h", "proc")
        times = [T0, T0 + 10**9, T0 + 2 * 10**9, T0]
        writer.write_resources(ResourceBatch(header, table, times, [cpu, cpu, cpu, memory], [1.0, 1.5, 3.5, 7.0]))
    tables = Tables()
    symbols = {name: tables.symbols.intern(name, "m") for name in ("main", "step", "load", "read")}
    one = tables.paths.intern_frames([symbols["main"], symbols["step"]])
    two = tables.paths.intern_frames([symbols["main"], symbols["load"]])
    samples = EventBatch.build(
        BatchHeader("j", 0, "h", "probe/5"), tables, start_ns=np.array([10, 20, 30, 60]) + T0, duration_ns=10, pid=5, tid=5,
        kind=Kind.PYTHON_SAMPLE, path=np.array([one, one, two, two]), name=symbols["step"],
    )  # fmt: skip
    calls = EventBatch.build(
        BatchHeader("j", 0, "h", "perf"), tables, start_ns=np.array([11, 15]) + T0, duration_ns=np.array([3, 0]), pid=5, tid=5,
        kind=Kind.SYSCALL, name=symbols["read"], bytes=[8, 0],
    )  # fmt: skip
    writer.write_raw(samples, 0)
    writer.write_raw(calls, 0)
    writer.commit()
    writer.close()


def test_trace_of_a_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    write_perfetto(open_run(tmp_path / "run"), tmp_path / "out.pftrace")
    data = (tmp_path / "out.pftrace").read_bytes()
    trace = Trace(data)
    assert [name for uuid, name in trace.tracks.items() if not trace.parents[uuid]] == ["j rank 0", "j rank 1"]
    assert sorted(trace.slices["iterations"]) == [(T0 + i * 1000, T0 + i * 1000 + 1000, f"step {i}", 0) for i in range(3)]
    assert sorted(trace.slices["phases"]) == [
        (T0, T0 + 1200, "data_loading", 0),
        (T0 + 1200, T0 + 3000, "model_forward", 0),
    ]
    swarms = sorted(trace.slices["swarms (time in each iteration)"])
    assert swarms[:2] == [(T0, T0 + 400, "bb", 0), (T0 + 400, T0 + 1000, "matmul", 0)]
    assert len(swarms) == 6
    assert (T0, T0 + 1000, "bb", 0) in trace.slices["swarms beside the leading thread"]
    assert trace.instants["findings"][0] == (T0 + 2000, "anomaly: slow")
    assert (T0 + 10**9, "loader-bound: waits") in trace.instants["findings"]
    assert trace.values["process.cpu.time (user)"] == [(T0, 0.5), (T0 + 10**9, 2.0)]
    assert len(trace.slices["other iterations"]) == 3
    assert trace.values["m"][0] == (T0, 7.0)
    assert sorted(trace.slices["5/5 python_sample"]) == [
        (T0, T0 + 20, "step", 1),
        (T0, T0 + 30, "main", 0),
        (T0 + 20, T0 + 30, "load", 1),
        (T0 + 50, T0 + 60, "load", 1),
        (T0 + 50, T0 + 60, "main", 0),
    ]
    assert trace.slices["5/5 syscall"] == [(T0 + 11, T0 + 14, "read", 0)]
    assert trace.instants["5/5 syscall"] == [(T0 + 15, "read")]


def test_gzip_holds_the_same_and_no_half_file_is_left(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    reader = open_run(tmp_path / "run")
    write_perfetto(reader, tmp_path / "out.pftrace")
    write_perfetto(reader, tmp_path / "out.pftrace.gz")
    assert gzip.decompress((tmp_path / "out.pftrace.gz").read_bytes()) == (tmp_path / "out.pftrace").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.pftrace", "out.pftrace.gz", "run"]


def test_a_run_without_anything_is_a_valid_trace(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "run", RunMeta(command=["x"], started_ns=T0, job="j", rank=0)).close()
    write_perfetto(open_run(tmp_path / "run"), tmp_path / "out.pftrace")
    assert Trace((tmp_path / "out.pftrace").read_bytes()).slices == {}
