"""Speed and memory of the trace importer, beside json.load and, where it is installed, HolisticTraceAnalysis.

    python benchmarks/import/kineto.py [TRACE] [--mb N] [--hta PYTHON] [--format text|json]

TRACE (by default a small public one) is repeated until it has N MB, each time later by its own length: once as it stands, with
PyTorch's white space, and once without any. Each reading runs in a process of its own; CPU seconds a GB, peak RSS, and the peak
of a process that only imports the code. ``--hta`` names an interpreter that has the package HolisticTraceAnalysis (measured
is its JSON parser, a part of what it does to open a trace).
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.readers import measure, rows_of

SAMPLE = Path(__file__).parents[2] / "tests/data/importers/kineto_base_last.json.gz"
TIME = re.compile(rb'("ts"\s*:\s*)(\d+)')
HTA = """
import sys, time, resource
from hta.common.trace_parser import parse_trace_dataframe
from hta.configs.parser_config import ParserConfig
began = time.process_time()
_, rows, _ = parse_trace_dataframe(sys.argv[1], ParserConfig.get_default_cfg())
print(len(rows), time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def ours(path: Path) -> int:
    from sofa_otel.exporters.read.kineto import KinetoImporter

    return rows_of(KinetoImporter(), path)


def json_load(path: Path) -> int:
    with path.open("rb") as file:
        return len(json.load(file)["traceEvents"])


def idle(path: Path) -> int:
    import sofa_otel.exporters.read.kineto  # noqa: F401

    return 0


def parts(text: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before the events, the events, what stands behind them."""
    begin = text.index(b"[", text.index(b'"traceEvents"')) + 1
    depth, at = 1, begin
    for found in re.finditer(rb'"(?:[^"\\]++|\\.)*+"|[\[\]]', text[begin:]):
        depth += {b"[": 1, b"]": -1}.get(found[0], 0)
        if not depth:
            at = begin + found.start()
            break
    return text[:begin], text[begin:at], text[at:]


def later(events: bytes, separator: bytes) -> Iterator[bytes]:
    """The events again and again, each time after the time before."""
    pieces = TIME.split(events)
    times = [int(piece) for piece in pieces[2::3]]
    span = max(times) - min(times) + 1
    for count in range(1 << 30):
        pieces[2::3] = [b"%d" % (one + count * span) for one in times]
        yield b"".join(pieces) if not count else separator + b"".join(pieces)


def write(path: Path, trace: bytes, size: int, separator: bytes) -> None:
    head, events, tail = parts(trace)
    with path.open("wb") as file:
        file.write(head)
        for text in later(events.rstrip(), separator):
            file.write(text)
            if file.tell() >= size:
                break
        file.write(tail)


def measure_hta(python: str, path: Path) -> dict[str, float]:
    ran = subprocess.run([python, "-c", HTA, str(path)], capture_output=True, text=True, check=True)
    rows, spent, rss = ran.stdout.split()[-3:]
    return {"rows": int(rows), "cpu_s": float(spent), "rss_mb": float(rss)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--mb", type=int, default=300)
    parser.add_argument("--hta", default="", metavar="PYTHON")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    raw = options.trace.read_bytes()
    trace = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    compact = json.dumps(json.loads(trace), separators=(",", ":")).encode()
    results: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        for style, text, separator in (("white space", trace, b",\n"), ("compact", compact, b",")):
            write(path, text, options.mb * 1_000_000, separator)
            size = path.stat().st_size
            readings = {"idle": idle, "ours": ours, "json.load": json_load}
            found = {name: measure(read, path, idle) for name, read in readings.items()}
            if options.hta:
                found["hta"] = measure_hta(options.hta, path)
            for one in found.values():
                one["cpu_s_per_gb"] = one["cpu_s"] / size * 1e9
            found["ours"]["ratio"] = found["json.load"]["cpu_s"] / found["ours"]["cpu_s"]
            found["ours"]["rows_per_cpu_s"] = found["ours"]["rows"] / found["ours"]["cpu_s"]
            results[style] = found
    if options.format == "json":
        print(json.dumps({"mb": options.mb, "trace": options.trace.name, **results}, indent=1))
        return
    for style, found in results.items():
        print(f"{style}: {options.mb} MB of {options.trace.name}; importing the code alone: {found['idle']['rss_mb']:.0f} MB")
        for name in found:
            if name != "idle":
                f = found[name]
                print(f"  {name:10s} {f['cpu_s_per_gb']:6.1f} CPU s/GB  {f['rss_mb']:6.0f} MB  {f['rows']:,.0f} rows")
        print(f"  ratio      {found['ours']['ratio']:6.1f}  ({found['ours']['rows_per_cpu_s'] / 1e6:.2f} M rows/s)")


if __name__ == "__main__":
    main()
