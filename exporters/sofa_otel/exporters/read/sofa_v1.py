"""What SOFA itself recorded: the original's log folder file by file, and our own recordings.

The original kept a file a source, told apart here by content. Files that hold facts about the machine and no time (topology, ring
order, …) are known and give nothing, without a warning, so that a whole folder can be imported.
"""

from __future__ import annotations

import re
from typing import Final

from sofa_otel.core.errors import InputError
from sofa_otel.core.recording import MAGIC
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.sofa_counters import Counters
from sofa_otel.exporters.read.sofa_numbers import nanoseconds
from sofa_otel.exporters.read.sofa_recording import Recording
from sofa_otel.exporters.read.sofa_traces import COLUMNS, OLD_COLUMNS, Traces
from sofa_otel.exporters.read.source import ByteSource

_SECONDS: Final = rb"\d{9,10}\.\d+"
_FORMS: Final = (
    ("mpstat", 0.95, rb"time,cpu,user,nice,system,idle|" + _SECONDS + rb",-?\d+(,\d+){7}\r?$"),
    ("diskstat", 0.9, _SECONDS + rb",[A-Za-z][\w!/.-]*,\d+,\d+(,\d+)*\r?$"),
    ("netstat", 0.85, _SECONDS + rb",\d+,\d+\r?$"),
    ("query", 0.95, rb"timestamp, [^\n]*\[%\]|timestamp, [^\n]*\b(gpu_name|index)\b"),
    ("vmstat", 0.9, rb"procs -+memory"),
    ("dmon", 0.9, rb"# ?(Date +Time +|Time +)?gpu +(pid|sm|pwr)\b"),
    ("cpuinfo", 0.85, _SECONDS + rb" \d+\.\d{6}\r?$"),
    (
        "fact",
        0.7,
        rb"(\S*\s)?(\x1b\[4m)?\s*GPU0\s+.*CPU Affinity|export CUDA_VISIBLE_DEVICES=[\d,]*\s*$|elapsed_time \d+\.\d+\r?$",
    ),
    ("fact", 0.7, _SECONDS + rb"\s*\Z"),
)
"""Kind, how sure its first line makes, and what that is."""
_KNOWN: Final = tuple((kind, sure, re.compile(pattern, re.MULTILINE)) for kind, sure, pattern in _FORMS)
_TIME_FILE: Final = "sofa_time.txt"
_QUERY_FILE: Final = "nvsmi_query.txt"
_NEEDS_BASE: Final = frozenset(("vmstat", "dmon", "query"))


class SofaImporter:
    """Reads recordings of SOFA, old and new."""

    name = "sofa"

    def recognise(self, head: bytes, name: str) -> float:
        """By the magic, the columns, or the form of the first lines."""
        return _kind(head)[1]

    def read(self, source: ByteSource, sink: ImportSink) -> None:
        """Deliver events or points of one file.

        Raises:
            InputError: It is none of the known kinds, or nothing in it can be read.
        """
        kind, _ = _kind(source.head())
        if kind == "recording":
            _recording(source, sink)
        elif kind == "traces":
            _traces(source, sink)
        elif kind in ("fact", "cpuinfo"):
            while source.read():
                pass
        elif kind:
            _counters(source, sink, kind)
        else:
            raise InputError(f"{source.name}, line 1: no file of SOFA", "give a file of SOFA's log folder, or a .sofarec")


def _kind(head: bytes) -> tuple[str, float]:
    if head.startswith(MAGIC):
        return "recording", 1.0
    first = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].rstrip(b"\r")
    if first.startswith((COLUMNS.encode(), OLD_COLUMNS.encode())):
        return "traces", 0.95
    for kind, sure, pattern in _KNOWN:
        if pattern.match(head):
            return kind, sure
    # A recording that was cut out of the middle, or whose first line is damaged: the second line tells as well.
    rest = head.partition(b"\n")[2]
    return next(((kind, sure / 2) for kind, sure, pattern in _KNOWN[:3] if pattern.match(rest)), ("", 0.0))


def _recording(source: ByteSource, sink: ImportSink) -> None:
    recording = Recording(source, sink)
    recording.read()
    if not recording.delivered and (recording.bad or recording.cut_off):
        raise InputError(f"{source.name}, byte {recording.first_bad}: no frame of it is whole", "record again")
    if recording.bad:
        sink.warn(f"{source.name}, byte {recording.first_bad}: {recording.bad:,} damaged frame(s) left out")
    if recording.cut_off:
        sink.warn(f"{source.name}, byte {source.position}: the recording is cut off; what stands before it was read")


def _traces(source: ByteSource, sink: ImportSink) -> None:
    traces = Traces(source, sink, _base(source))
    old = source.head(len(OLD_COLUMNS)) == OLD_COLUMNS.encode()
    traces.read()
    if traces.bad and not traces.rows + traces.summaries + traces.others:
        raise InputError(f"{source.name}, line {traces.first_bad}: no line of it can be read", "record again")
    if traces.bad:
        sink.warn(f"{source.name}, line {traces.first_bad}: {traces.bad:,} damaged line(s) left out")
    if traces.summaries:
        sink.warn(
            f"{source.name}: {traces.summaries:,} rows sum up counters and are left out: import mpstat.txt, … of the same folder"
        )
    if traces.others:
        sink.warn(f"{source.name}: {traces.others:,} rows of a kind that is no event here were left out")
    if old and traces.rows:
        sink.warn(
            f"{source.name}: an old table: every tenth event in whole milliseconds, kernels by number. Kernels, copies and "
            "peer copies are each counted from the first of their own kind: do not compare them with each other"
        )


def _counters(source: ByteSource, sink: ImportSink, kind: str) -> None:
    base = _base(source) if kind in _NEEDS_BASE else 0
    counters = Counters(source, sink, base, queried=(source.path.parent / _QUERY_FILE).is_file())
    counters.read(kind)
    if not counters.points and counters.bad:
        raise InputError(f"{source.name}, line {counters.first_bad}: no line of it can be read", "record again")
    if counters.bad:
        sink.warn(f"{source.name}, line {counters.first_bad}: {counters.bad:,} damaged line(s) left out")
    if kind in _NEEDS_BASE and counters.points and not base:
        sink.warn(f"{source.name}: it says no exact time: put {_TIME_FILE} of the same recording beside it")


def _base(source: ByteSource) -> int:
    """When the recording began, from the file beside; 0 when that is missing."""
    try:
        with (source.path.parent / _TIME_FILE).open("rb") as file:
            return max(nanoseconds(file.read(64).split()[0]), 0)
    except (OSError, ValueError, IndexError):
        return 0
