"""The wire format: golden bytes hold both ends together, and nothing that arrives can break the reader."""

from __future__ import annotations

import importlib
import struct
import sys
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Call, Kind, Wait
from sofa_otel.core.series import SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.collect import probe_wire
from sofa_otel.exporters.collect.probe import probe_folder
from sofa_otel.exporters.collect.probe_counters import GroupOwner
from sofa_otel.exporters.collect.probe_stream import ProbeStream
from sofa_otel.exporters.collector import Target

GOLDEN = Path(__file__).parents[1] / "data" / "probe"


class Sink:
    def __init__(self) -> None:
        self.tables, self.series = Tables(), SeriesTable()
        self.batches: list[Any] = []
        self.points: list[Any] = []
        self.warnings: list[str] = []

    def events(self, batch: Any) -> None:
        self.batches.append(batch)

    def resources(self, batch: Any) -> None:
        self.points.append(batch)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def stream_of(sink: Sink) -> ProbeStream:
    target = Target(pid=0, job="job", rank=0, host="host", run_dir="/tmp")
    counts: dict[str, int] = {}

    def next_seq(source: str) -> int:
        counts[source] = counts.get(source, -1) + 1
        return counts[source]

    return ProbeStream(target, sink, next_seq, GroupOwner())


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    """The writing end, imported from its folder without starting anything."""
    sys.path.insert(0, str(probe_folder()))
    try:
        return importlib.import_module("_sofa_probe.wire")
    finally:
        sys.path.remove(str(probe_folder()))


def conversation(wire: ModuleType) -> bytes:
    """One frame of every kind, as a probe would send them."""
    samples = (array("q", (5_000, 15_000)), array("q", (10_000, 10_000)), array("I", (7, 8)), array("I", (2, 1)), array("B", (1, 5)), array("B", (0, 1)))  # noqa: E501  # fmt: skip
    calls = (array("q", (20_000,)), array("q", (300,)), array("q", (64,)), array("I", (7,)), array("I", (3,)), array("I", (0,)), array("B", (11,)), array("B", (3,)))  # noqa: E501  # fmt: skip
    return b"".join((
        wire.hello(7, 6, 1_000, 1_000_000_000_000_001_000, 999, [("python", "3.13.0"), ("env.RANK", "2"), ("env.WORLD_SIZE",
        "4")]), wire.codes(1, [("train", "__main__", "/a/train.py"), ("step", "", "/a/mödel.py"), ("all_reduce",
        "torch.distributed", "")]), wire.table(wire.SYMBOLS, 1, (array("I", (1, 2, 3)), array("I", (10, 20, 0)), array("I", (3,
        9, 0)))), wire.table(wire.PATHS, 1, (array("I", (0, 1)), array("I", (1, 2)))), wire.rows(wire.SAMPLES, samples),
        wire.rows(wire.CALLS, calls), wire.stamped(wire.COUNTERS, (30_000,), [("self/io", "read_bytes: 11\nwrite_bytes: 12\n"),
        ("cgroup/cpu.max", "150000 100000\n")]), wire.stamped(wire.STATS, (31_000, 1_000_000_000_000_031_000), [("dropped",
        "3"), ("cpu_ns", "1000")]), wire.frame(wire.NOTICE, b"hello"), wire.frame(200, b"of a later version"),
        wire.frame(wire.RESET), wire.frame(wire.IDENTITY, wire.pairs([("env.RANK", "3"), ("env.WORLD_SIZE", "4")])),
        wire.frame(wire.BYE, b"exit"),
    ))  # fmt: skip


def test_the_probe_writes_the_golden_bytes(probe: ModuleType) -> None:
    assert conversation(probe) == (GOLDEN / f"wire-v{probe.VERSION}.bin").read_bytes()


@pytest.mark.parametrize("version", [1])
def test_golden_bytes_of_every_version_are_read(version: int) -> None:
    sink = Sink()
    stream = stream_of(sink)
    for byte in (GOLDEN / f"wire-v{version}.bin").read_bytes():
        stream.feed(bytes([byte]))
    samples, calls = sink.batches
    symbols = sink.tables.symbols
    assert samples.start_ns.tolist() == [1_000_000_000_000_005_000, 1_000_000_000_000_015_000]
    assert samples.subkind.tolist() == [Wait.ON_CPU, Wait.NETWORK]
    leaves = [symbols[i] for i in samples.name]
    assert leaves == [("step", "mödel", 20, "/a/mödel.py", 9), ("train", "__main__", 10, "/a/train.py", 3)]
    frames = sink.tables.paths.frames(int(samples.path[0]))
    assert [symbols[i].function for i in frames] == ["train", "step"]
    assert samples.header.rank == 2
    assert (samples.header.source, samples.header.seq, calls.header.seq) == ("probe/7", 0, 1)
    assert calls.kind.tolist() == [Kind.COLLECTIVE]
    assert (calls.duration_ns[0], calls.bytes[0], symbols[int(calls.name[0])].function) == (300, 64, "all_reduce")
    (points,) = sink.points
    values = {sink.series[int(s)].metric: v for s, v in zip(points.series, points.value, strict=True)}
    assert values["sofa.cgroup.cpu.limit"] == 1.5
    assert stream.rank == 3
    assert stream.said_bye
    assert stream.number("dropped") == 3


def test_both_ends_mean_the_same_numbers(probe: ModuleType) -> None:
    kernel, monitor, hooks = (importlib.import_module(f"_sofa_probe.{name}") for name in ("kernel", "monitor", "hooks"))
    for name in Wait.__members__:
        assert getattr(kernel, name) == Wait[name], name
    for name in (
        "HELLO",
        "IDENTITY",
        "CODES",
        "SYMBOLS",
        "PATHS",
        "SAMPLES",
        "CALLS",
        "COUNTERS",
        "STATS",
        "NOTICE",
        "BYE",
        "RESET",
        "CAPTURE",
    ):
        assert getattr(probe, name) == getattr(probe_wire, name), name
    assert (monitor.PYTHON_CALL, monitor.ENTRY, monitor.LOOP) == (Kind.PYTHON_CALL, Call.ENTRY, Call.LOOP)
    assert (hooks.COLLECTIVE, hooks.HOOK) == (Kind.COLLECTIVE, Call.HOOK)


def test_requests_reach_the_probe(probe: ModuleType) -> None:
    control = probe.Control()
    data = probe_wire.capture("narrow", 250.0, [("f", "m", "/x.py", 7)]) + probe_wire.capture("raw", 0, [], burst=True)
    got = [item for at in range(len(data)) for item in control.feed(data[at : at + 1])]
    assert got == [(1, 0, 250.0, [("f", "m", "/x.py", "7")]), (2, 1, 0.0, [])]
    with pytest.raises(ValueError, match="control frame"):
        control.feed(b"\xff\xff\xff\xff\x00")


@pytest.mark.parametrize("version", [0, 9])
def test_only_this_version_and_the_one_before_are_spoken_to(probe: ModuleType, version: int) -> None:
    data = bytearray(probe.hello(7, 6, 1, 2, 3, []))
    struct.pack_into("<H", data, 13, version)
    stream = stream_of(Sink())
    if version == probe.VERSION - 1:
        stream.feed(bytes(data))
        assert stream.pid == 7
    else:
        with pytest.raises(InputError, match="wire version 9"):
            stream.feed(bytes(data))


@settings(max_examples=2000, deadline=None)
@given(data=st.data())
def test_damaged_conversations_only_raise_input_errors(data: Any) -> None:
    raw = bytearray((GOLDEN / "wire-v1.bin").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    insert = data.draw(st.binary(max_size=40))
    sink = Sink()
    stream = stream_of(sink)
    try:
        stream.feed(bytes(raw[:cut]) + insert + bytes(raw[cut:]))
    except InputError:
        pass
    for batch in sink.batches:
        assert batch.path.max(initial=np.uint32(0)) < len(sink.tables.paths)
        assert batch.name.max(initial=np.uint32(0)) < len(sink.tables.symbols)
