"""Speed and memory of the perf.data importer, beside the plain way: one ``struct`` a record and a dictionary of open calls.

    python benchmarks/import/perf_data.py [FILE] [--calls N] [--format text|json]

Without FILE it writes the recording of an imagined training with the layout of ``perf record -e raw_syscalls:*``: two CPUs, four
threads, rounds of two thousand records. Each reading runs in a process of its own; records (an entry and an exit are two) a CPU
second, and peak RSS beside that of one that only imports the code. With a FILE the other way is ``perf script`` (text, not even
parsed); of a written one it wants formats that only a kernel can give.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.readers import CountingSink, measure

SAMPLE_TYPE = 1 | 2 | 4 | 64 | 128 | 256 | 1024  # IP, TID, TIME, ID, CPU, PERIOD, RAW
ENTER = np.dtype(
    [
        ("head", "<u8"), ("ip", "<u8"), ("pid", "<u4"), ("tid", "<u4"), ("time", "<u8"), ("id", "<u8"), ("cpu", "<u8"),
        ("period", "<u8"), ("raw", "<u4"), ("common", "V8"), ("call", "<i8"), ("args", "<u8", 6), ("pad", "V4"),
    ]
)  # fmt: skip
EXIT = np.dtype([*ENTER.descr[:-2], ("ret", "<i8"), ("pad", "V4")])
ROUND = struct.pack("<IHH", 68, 0, 8)


def ours(path: Path) -> int:
    from sofa_otel.exporters.read.perf_data import read_perf_data
    from sofa_otel.exporters.read.source import ByteSource

    sink = CountingSink()
    with ByteSource(path) as source:
        read_perf_data(source, sink)
    return 2 * sink.rows


def perf_script(path: Path) -> int:
    command = ["perf", "script", "-i", str(path), "--ns", "-F", "pid,tid,cpu,time,event,trace"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        return sum(1 for _ in process.stdout)


def plain(path: Path) -> int:
    data = path.read_bytes()
    start, size = struct.unpack_from("<QQ", data, 40)
    rows: list[tuple[int, ...]] = []
    open_calls: dict[int, tuple[int, ...]] = {}
    here, end, count = start, start + size, 0
    while here < end:
        kind, _, length = struct.unpack_from("<IHH", data, here)
        if kind == 9:
            count += 1
            pid, tid, when, event, cpu = struct.unpack_from("<IIQQI", data, here + 16)
            call, first, second = struct.unpack_from("<qqq", data, here + 76)
            if event == 1:
                open_calls[tid] = when, call, first, second
            elif (begun := open_calls.pop(tid, None)) and begun[1] == call:
                rows.append((begun[0], when - begun[0], call, pid, tid, cpu, begun[2], first))
                if len(rows) >= 65_536:
                    rows.clear()
        here += length
    return count


def nothing(path: Path) -> int:
    import sofa_otel.exporters.read.perf_data  # noqa: F401

    return 0


def attr(config: int) -> bytes:
    flags = 1 << 18
    return struct.pack("<IIQQQQQ", 2, 128, config, 1, SAMPLE_TYPE, 4, flags) + bytes(128 - 48)


def write(path: Path, calls: int) -> None:
    """A file of ``calls`` system calls."""
    names = [("raw_syscalls:sys_enter", attr(443)), ("raw_syscalls:sys_exit", attr(442))]
    description = struct.pack("<II", 2, 128)
    for number, (name, content) in enumerate(names):
        description += content + struct.pack("<II", 1, 64) + name.encode().ljust(64, b"\0") + struct.pack("<Q", number + 1)
    table = b"".join(content + struct.pack("<QQ", 104 + 8 * number, 8) for number, (_, content) in enumerate(names))
    ids = struct.pack("<QQ", 1, 2)
    start = 104 + len(ids) + len(table)
    rng = np.random.default_rng(7)
    with path.open("wb") as file:
        file.write(bytes(start - len(ids) - len(table)) + ids + table)
        now = 10**12
        for _ in range(0, calls, 1000):
            for cpu in range(2):
                file.write(ring(rng, now, cpu, 500))
            file.write(ROUND)
            now += 600 * 3000
        size = file.tell() - start
        file.write(struct.pack("<QQ", start + size + 16, len(description)) + description)
        file.seek(0)
        head = (104, 128 + 16, 104 + len(ids), len(table), start, size, 0, 0)
        file.write(b"PERFILE2" + struct.pack("<8Q", *head) + (1 << 12).to_bytes(32, "little"))


def ring(rng: np.random.Generator, now: int, cpu: int, calls: int) -> bytes:
    """Calls of one CPU's two threads, each an entry and its exit."""
    pairs = np.zeros(calls, np.dtype([("enter", ENTER), ("exit", EXIT)]))
    time_of = now + np.cumsum(rng.integers(1500, 3000, calls))
    call = rng.choice([0, 1, 3, 7, 202, 232, 257], calls)
    for part, kind, size, later in (("enter", 1, ENTER.itemsize, 0), ("exit", 2, EXIT.itemsize, rng.integers(200, 1400, calls))):
        rows = pairs[part]
        rows["head"] = 9 | 1 << 32 | size << 48
        rows["pid"], rows["tid"] = 5060, 5060 + 2 * cpu + (np.arange(calls) // 20) % 2
        rows["time"], rows["id"], rows["cpu"], rows["period"] = time_of + later, kind, cpu, 1
        rows["raw"], rows["call"] = size - 7 * 8 - 4, call
    return pairs.tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--calls", type=int, default=2_000_000)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.data", Path(folder) / "small.data"
        if arguments.file is None:
            write(large, arguments.calls)
            write(small, arguments.calls // 10)
        path = arguments.file or large
        rows = {"ours": measure(ours, path, nothing)}
        if arguments.file is None:
            rows["ours, a tenth"] = measure(ours, small, nothing)
            rows["plain, a tenth"] = measure(plain, small, nothing)
        elif shutil.which("perf"):
            rows["perf script"] = measure(perf_script, path)
        rows["imports only"] = measure(nothing, path)
        size = path.stat().st_size
    for row in rows.values():
        row["records_per_cpu_s"] = row["rows"] / row["cpu_s"]
    if arguments.format == "json":
        print(json.dumps({"bytes": size, "readings": rows}))
        return
    print(f"{size / 1e6:.0f} MB\n{'':16}{'records':>12}{'CPU s':>9}{'M records/s':>13}{'RSS MB':>9}")
    for name, row in rows.items():
        print(f"{name:16}{row['rows']:12,.0f}{row['cpu_s']:9.2f}{row['records_per_cpu_s'] / 1e6:13.3f}{row['rss_mb']:9.0f}")
    other = next((name for name in rows if name.startswith(("plain", "perf"))), "")
    if other:
        ratio = rows["ours"]["records_per_cpu_s"] / rows[other]["records_per_cpu_s"]
        print(f"{ratio:.0f} times as many records a CPU second as {other.partition(',')[0]}")


if __name__ == "__main__":
    main()
