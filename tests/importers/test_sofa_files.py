"""SOFA's own files, the original's and ours: exact times, every counter where it belongs, damage reported by line."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from reading import DATA, Gathered, damage, read, survives

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Copy, Kind, Wait
from sofa_otel.core.recording import RecordingWriter
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.read.importer import detect
from sofa_otel.exporters.read.sofa_numbers import nanoseconds
from sofa_otel.exporters.read.sofa_v1 import SofaImporter
from sofa_otel.exporters.read.source import ByteSource

SOFA = DATA / "sofa"
Point = tuple[str, dict[str, str], int, float]


def points_of(found: Gathered) -> list[Point]:
    return [
        (found.series[int(s)].metric, dict(found.series[int(s)].attributes), int(t), float(v))
        for batch in found.points
        for s, t, v in zip(batch.series, batch.time_ns, batch.value, strict=True)
    ]


def read_text(folder: Path, text: str, name: str = "file.txt") -> Gathered:
    path = folder / name
    path.write_text(text)
    with ByteSource(path) as source:
        assert detect(source).name == "sofa"
    return read(SofaImporter(), path)


@pytest.mark.parametrize("path", [path for path in sorted(SOFA.iterdir()) if path.name != "LICENSE"], ids=lambda path: path.name)
def test_every_file_of_a_log_folder_is_known(path: Path) -> None:
    with ByteSource(path) as source:
        assert detect(source).name == "sofa"
    found = read(SofaImporter(), path)
    if path.name.startswith(("nvlink", "xring", "sofa_time", "cpuinfo")):
        assert not points_of(found) + found.batches + found.warnings
    elif path.suffix == ".txt":
        assert points_of(found)
        assert not found.warnings
        assert not found.batches


def test_cpu_time_is_told_by_cpu_and_mode() -> None:
    points = points_of(read(SofaImporter(), SOFA / "mpstat.txt"))
    assert len(points) == 5 * 8 * 6, "five samples, eight CPUs without their sum, six modes"
    assert points[:6] == [
        ("system.cpu.time", {"cpu.logical_number": "0", "cpu.mode": mode}, 1558851477_074614800, pytest.approx(ticks / 100))
        for mode, ticks in (
            ("user", 3471284), ("nice", 1336), ("system", 1462319), ("idle", 270202465), ("iowait", 58672), ("interrupt", 397703),
        )
    ]  # fmt: skip


def test_disks_are_told_in_bytes_and_without_partitions(tmp_path: Path) -> None:
    points = points_of(read(SofaImporter(), SOFA / "diskstat.txt"))
    assert {attributes["system.device"] for _, attributes, _, _ in points} == {"loop0", "vda", "vdb"}
    assert (
        "system.disk.io",
        {"system.device": "vda", "disk.io.direction": "read"},
        1558851477_079363800,
        34104503 * 512.0,
    ) in points
    later = "1600000000.5,nvme0n1,8,16,1,2,500,1000\n1600000000.5,nvme0n1p1,8,16,1,2,500,1000\n1600000000.5,dm-0,8,0,1,0,5,0\n"
    points = points_of(read_text(tmp_path, later))
    assert {attributes["system.device"] for _, attributes, _, _ in points} == {"nvme0n1", "dm-0"}
    assert [(metric, value) for metric, attributes, _, value in points if attributes["system.device"] == "nvme0n1"] == [
        ("system.disk.io", 4096), ("system.disk.io", 8192), ("system.disk.operations", 1), ("system.disk.operations", 2),
        ("system.disk.operation_time", 0.5), ("system.disk.operation_time", 1.0),
    ]  # fmt: skip


def test_network_bytes_sent_come_before_those_received() -> None:
    assert points_of(read(SofaImporter(), SOFA / "netstat.txt"))[:2] == [
        ("system.network.io", {"network.io.direction": "transmit"}, 1558851477_085721000, 3695096067.0),
        ("system.network.io", {"network.io.direction": "receive"}, 1558851477_085721000, 25128720313.0),
    ]


def test_local_times_of_nvidia_smi_are_set_by_the_time_file(tmp_path: Path) -> None:
    gpu = {"hw.id": "gpu0", "hw.type": "gpu", "hw.name": "Tesla P100-SXM2-16GB"}
    points = points_of(read(SofaImporter(), SOFA / "nvsmi_query.txt"))
    assert points[0] == ("hw.gpu.utilization", {**gpu, "hw.gpu.task": "general"}, 1558851477_118000000, 0.06)
    assert points[1] == ("hw.gpu.utilization", {**gpu, "hw.gpu.task": "memory"}, 1558851477_118000000, 0.0)
    alone = read_text(tmp_path, (SOFA / "nvsmi_query.txt").read_text())
    assert "sofa_time.txt" in alone.warnings[0]
    assert alone.points[0].header.clock == "own"
    more = (
        "timestamp, index, uuid, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W], clocks.sm [MHz]\n"
        "2024/01/02 03:04:05.006, 1, GPU-ab, 50 %, 10 MiB, 16 MiB, [Not Supported], 1480 MHz\n"
    )
    points = points_of(read_text(tmp_path, more))
    assert [(metric, attributes["hw.id"], value) for metric, attributes, _, value in points] == [
        ("hw.gpu.utilization", "GPU-ab", 0.5), ("hw.gpu.memory.usage", "GPU-ab", 10 << 20),
        ("hw.gpu.memory.limit", "GPU-ab", 16 << 20), ("sofa.gpu.clock.frequency", "GPU-ab", 1480e6),
    ]  # fmt: skip


def test_tables_without_times_begin_at_the_time_file(tmp_path: Path) -> None:
    base = 1558851477_069053888
    points = points_of(read(SofaImporter(), SOFA / "vmstat.txt"))
    assert ("system.memory.usage", {"system.memory.state": "cached"}, base, 19153132 * 1024.0) in points
    assert ("sofa.host.threads", {"sofa.thread.state": "runnable"}, base, 3.0) in points
    # Utilisation is in nvsmi_query.txt beside it, more often and with its own times.
    points = points_of(read(SofaImporter(), SOFA / "nvsmi.txt"))
    assert {attributes["hw.gpu.task"] for _, attributes, _, _ in points} == {"encoder", "decoder"}
    assert [at - base for _, attributes, at, _ in points if attributes["hw.id"] == "gpu1"] == [0, 0, 10**9, 10**9]
    found = read_text(
        tmp_path,
        "# gpu   sm  mem  enc  dec  jpg  ofa\n# Idx    %    %    %    %    %    %\n    0   97   40    -    0    0    0\n",
    )
    assert [value for _, _, _, value in points_of(found)] == [0.97, 0.40, 0.0]
    assert found.points[0].header.clock == "own"
    assert "sofa_time.txt" in found.warnings[0]


def test_old_gpu_trace_gives_kernels_and_copies(tmp_path: Path) -> None:
    data = (SOFA / "gputrace.csv.gz").read_bytes()
    beside = read(SofaImporter(), SOFA / "gputrace.csv.gz").rows  # … of sofa_time.txt
    (tmp_path / "gputrace.csv.gz").write_bytes(data)
    found = read(SofaImporter(), tmp_path / "gputrace.csv.gz")
    rows = found.rows
    text = gzip.decompress(data).decode()
    table = [[int(field) for field in line.split(",")] for line in text.splitlines() if not line.startswith("time")]
    assert len(rows) == len(table)
    assert (rows.header.clock, beside.header.clock) == ("own", "unix")
    assert ((beside.start_ns - rows.start_ns) == 1558851477_069053888).all()
    kernels, copies = [row for row in table if row[3] == -1], [row for row in table if row[3] != -1]
    assert sorted(rows.start_ns[rows.kind == Kind.GPU_KERNEL]) == sorted(row[0] * 10**6 for row in kernels)
    assert rows.duration_ns.sum() == sum(row[2] for row in table) * 10**6
    subkinds = {1: Copy.H2D, 2: Copy.D2H, 8: Copy.D2D, 10: Copy.P2P}
    copied = rows.take(rows.kind == Kind.GPU_COPY)
    got = zip(copied.start_ns, copied.subkind, copied.bytes, copied.tid, copied.device, strict=True)
    assert sorted(tuple(map(int, row)) for row in got) == sorted(
        (row[0] * 10**6, int(subkinds[row[3]]), row[4], row[5], row[1]) for row in copies
    )
    assert "every tenth" in found.warnings[0]


TRACE = """timestamp,event,duration,deviceId,copyKind,payload,bandwidth,pkt_src,pkt_dst,pid,tid,name,category
1548903852.071722,19.566950,0.000006,-1,-1,0,0,-1,-1,7125,7126,[cycles:]native_write_msr_safe+0xa([kernel.kallsyms]),0
1548903852.071999,19.5,0.000006,-1,-1,0,0,-1,-1,7125,7126,"[cpu_clock:u:]void f(int, char)+0x1f(/usr/lib/libm.so.6)",0
1548903852.1,17,0.000123,1,0,0,0,0,0,1,7,"[gpu1]void gemm<float, 1>(int)",0
1548903852.2,17,0.000001,1,1,4096,11.5,0,1,1,7,[gpu1]CUDA_COPY_H2D_4096B,0
1548903852.3,17,0.000001,1.000000,10,512,0,1,2,1,9,[gpu1][CUDA_COPY_P2P]from_gpu1_to_gpu2_512B,0
1548903852.35,17,0.000002,1,0,64,0,0,0,1,9,[gpu1][CUDA memset],0
1548903852.4,17,0.000002,-1,0,0,0,0,0,1,-1,[CUDA_API]cudaLaunchKernel,0
1548903852.5,17,0.000002,0,0,0,0,0,0,1,9,[gpu0]ncclAllReduceRingKernel,0
1548903852.6,100017,0.001,-1,-1,1000,128000000.0,1,2,-1,-1,network:tcp:1_to_2_with_1000,0
1548903852.7,-1,2.998793,-1,-1,-1,-1,-1,-1,-1,-1,restart_syscall(<...resuminginterruptednanosleep...>)=0,0
1548903852.8,-1,0.02,0.0,-1,-1,-1,-1,-1,-1,-1,mpstat_core0 (usr|sys|idl|iow|irq): |  8|  8| 83|  0|  0|,0
1548903852.9,-1,0.02,-1,-1,-1,-1,-1,-1,-1,-1,starting_block=7,0
"""


def test_traces_of_thirteen_columns(tmp_path: Path) -> None:
    found = read_text(tmp_path, TRACE, "trace.csv")
    rows, symbols = found.rows, found.tables.symbols
    assert rows.header.clock == "unix"
    got = [
        (
            int(rows.start_ns[i]) - 1548903852 * 10**9, int(rows.duration_ns[i]), Kind(rows.kind[i]), int(rows.subkind[i]),
            *symbols[int(rows.name[i])][:2], *(int(rows.columns[key][i]) for key in ("pid", "tid", "device", "peer", "bytes")),
        )
        for i in range(len(rows))
    ]  # fmt: skip
    assert got == [
        (71722000, 6000, Kind.CPU_SAMPLE, Wait.ON_CPU, "native_write_msr_safe", "[kernel.kallsyms]", 7125, 7126, -1, 0, 0),
        (71999000, 6000, Kind.CPU_SAMPLE, Wait.ON_CPU, "void f(int, char)", "libm.so.6", 7125, 7126, -1, 0, 0),
        (100000000, 123000, Kind.GPU_KERNEL, 0, "void gemm<float, 1>(int)", "kernel", 1, 7, 1, 0, 0),
        (200000000, 1000, Kind.GPU_COPY, Copy.H2D, "Memcpy HtoD", "copy", 1, 7, 1, 0, 4096),
        (300000000, 1000, Kind.GPU_COPY, Copy.P2P, "Memcpy PtoP", "copy", 1, 9, 1, 2, 512),
        (350000000, 2000, Kind.GPU_COPY, Copy.MEMSET, "Memset", "copy", 1, 9, 1, 0, 64),
        (400000000, 2000, Kind.GPU_RUNTIME, 0, "cudaLaunchKernel", "cuda_runtime", 1, 0, -1, 0, 0),
        (500000000, 2000, Kind.COLLECTIVE, 0, "ncclAllReduceRingKernel", "collective", 1, 9, 0, 0, 0),
        (600000000, 1000000, Kind.NET, 0, "network:tcp", "network", 0, 0, -1, 0, 1000),
        (700000000, 2998793000, Kind.SYSCALL, 0, "restart_syscall", "syscall", 0, 0, -1, 0, 0),
    ]
    assert [found.tables.paths.frames(int(path)) for path in rows.path[:2]] == [[int(rows.name[0])], [int(rows.name[1])]]
    assert len(found.warnings) == 2
    relative = read_text(tmp_path, TRACE.replace("15489038", ""), "relative.csv")
    assert relative.rows.header.clock == "own"
    assert int(relative.rows.start_ns[0]) == 52_071722000
    (tmp_path / "sofa_time.txt").write_text("1548903800.0\n")
    relative = read_text(tmp_path, TRACE.replace("15489038", ""), "relative.csv")
    assert relative.rows.header.clock == "unix"
    assert int(relative.rows.start_ns[0]) == 1548903852_071722000


def test_damaged_lines_are_counted_and_named(tmp_path: Path) -> None:
    lines = (SOFA / "mpstat.txt").read_text().splitlines()
    lines[9] = lines[9].replace(",", ";")
    lines[20] = lines[20][:30]
    found = read_text(tmp_path, "\n".join(lines), "mpstat.txt")
    assert found.warnings == ["mpstat.txt, line 10: 2 damaged line(s) left out"]
    assert len(points_of(found)) == (5 * 8 - 2) * 6
    with pytest.raises(InputError, match=r"only\.txt, line 1"):
        read_text(tmp_path, "1558851477.0,1,2\n".replace(",1,", ",1," + "9" * 30), "only.txt")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1558851477.0746148", 1558851477_074614800), ("0.1", 10**8), ("-0.5", -5 * 10**8), ("7", 7 * 10**9), ("1e-06", 1000)],
)
def test_decimals_are_exact(text: str, wanted: int) -> None:
    assert nanoseconds(text) == nanoseconds(text.encode()) == wanted


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "", "x", "9" * 5000, "1.2.3", "٣"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|could not convert"):
        nanoseconds(text)


# -- our own recordings --------------------------------------------------------------------------------------------------------


def recorded(path: Path, batches: int = 4) -> tuple[EventBatch, ResourceBatch]:
    tables, series = Tables(), SeriesTable()
    name, path_id = (
        tables.symbols.intern("read", "syscall"),
        tables.paths.intern(0, tables.symbols.intern("f", "m", 7, "a.py", 1)),
    )
    header = BatchHeader("j", 2, "h", "probe/1", "unix", 5)
    events = EventBatch.build(header, tables, start_ns=np.arange(1, 300), duration_ns=3, kind=4, name=name, path=path_id, link=9)
    gauge = series.intern("system.cpu.time", "s", "counter", cpu__mode="user")
    points = ResourceBatch(header, series, [5, 6], [gauge, gauge], [0.5, 1.5])
    writer = RecordingWriter(path)
    for _ in range(batches):
        writer.events(events)
        writer.resources(points)
    writer.close()
    return events, points


@pytest.mark.parametrize("packed", [False, True])
def test_recordings_come_back_exactly(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "run.sofarec"
    events, points = recorded(path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with ByteSource(path) as source:
        assert detect(source).name == "sofa"
    found = read(SofaImporter(), path)
    assert [batch.header for batch in found.batches] == [events.header] * 4
    for key, column in events.columns.items():
        if key not in ("name", "path"):
            np.testing.assert_array_equal(found.batches[3].columns[key], column)
    assert found.tables.symbols[int(found.batches[0].name[0])].function == "read"
    assert points_of(found) == [("system.cpu.time", {"cpu.mode": "user"}, t, v) for t, v in ((5, 0.5), (6, 1.5))] * 4
    assert found.points[0].header == points.header
    assert not found.warnings


def test_damaged_recordings_keep_the_other_frames(tmp_path: Path) -> None:
    path = tmp_path / "run.sofarec"
    recorded(path)
    data = bytearray(path.read_bytes())
    data[8 + 40] ^= 0xFF
    path.write_bytes(data)
    found = read(SofaImporter(), path)
    assert len(found.batches) == 3
    assert found.warnings == ["run.sofarec, byte 8: 1 damaged frame(s) left out"]
    path.write_bytes(data[:-5])
    assert "cut off" in read(SofaImporter(), path).warnings[1]
    path.write_bytes(data[:30])
    with pytest.raises(InputError, match=r"run\.sofarec"):
        read(SofaImporter(), path)


def test_hostile_files_cost_little(tmp_path: Path) -> None:
    path = tmp_path / "run.sofarec"
    recorded(path, 2)
    samples = {one.name: one.read_bytes() for one in SOFA.iterdir()} | {"run.sofarec": path.read_bytes(), "t.csv": TRACE.encode()}
    for name, data in samples.items():
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read() if name.endswith(".gz") else data
        for seed in range(60):
            survives(SofaImporter(), damage(plain, seed), tmp_path, name)
    query = (SOFA / "nvsmi_query.txt").read_bytes()
    found = survives(SofaImporter(), query.replace(b"2019/05/26 14:17:57.222", b"9999/05/26 14:17:57.222"), tmp_path, "late.txt")
    assert found is not None
    assert len(points_of(found)) == 32 - 4
    survives(SofaImporter(), b"time,cpu,user,nice,system,idle" + b"," * 5_000_000, tmp_path, "long.txt")
