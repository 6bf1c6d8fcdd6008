"""The original SOFA's traces: CSV tables of thirteen columns whatever the event is, told apart by the name and ``copyKind``.

``copyKind`` is CUPTI's: 0 a kernel, 1 host to device, 2 device to host, 8 device to device, 10 device to device over a link.
``tid`` of device rows is the stream. An older table (``time_ms,…``) has six columns and is poorer: every tenth event, whole
milliseconds, kernels by number, and kernels, copies and peer copies each counted from the first of their own kind.
"""

from __future__ import annotations

import csv
import re
from typing import Any, Final

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.kinds import Copy, Kind, Wait
from sofa_otel.core.symbols import Symbol
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.lines import lines
from sofa_otel.exporters.read.sofa_numbers import nanoseconds, whole_number
from sofa_otel.exporters.read.source import ByteSource

COLUMNS: Final = "timestamp,event,duration,deviceId,copyKind,payload,bandwidth,pkt_src,pkt_dst,pid,tid,name,category"
OLD_COLUMNS: Final = "time_ms,event,duration(ms),copyKind,data_B,streamId"
_MILLISECOND: Final = 1_000_000
_EPOCH: Final = 100_000_000 * 10**9
"""Traces that begin before 1973 count from their own beginning."""
_MOST_ROWS: Final = 32_768
_COPIES: Final = {1: (Copy.H2D, "HtoD"), 2: (Copy.D2H, "DtoH"), 8: (Copy.D2D, "DtoD"), 10: (Copy.P2P, "PtoP")}
_DEVICE: Final = re.compile(r"\[gpu\d+\]")
_API: Final = "[CUDA_API]"
_SAMPLE: Final = re.compile(r"\[[\w:./ ]*\](?P<function>.*)\((?P<module>[^()]*)\)$")
_SUMMARY: Final = re.compile(r"mpstat_core|diskstat_dev:|network_bandwidth_|GPUID_|r=\d+\|b=")
_CALL: Final = re.compile(r"(\w+)\(")
_ROW: Final = (
    "start_ns", "duration_ns", "kind", "subkind", "name", "path", "pid", "tid", "device", "peer", "bytes",
)  # fmt: skip


class Traces:
    """Reads one table.

    Args:
        source: The file.
        sink: Where events go.
        base_ns: What ``sofa_time.txt`` says, 0 when it is not there: where times count from that are not UNIX times.

    Attributes:
        rows: Events delivered. bad: damaged lines, the first of them ``first_bad``. summaries: lines that say what counters did,
            which the counters' own files say better. others: lines of a kind that is no event here.
    """

    def __init__(self, source: ByteSource, sink: ImportSink, base_ns: int = 0) -> None:
        self._source, self._sink, self._tables, self._base = source, sink, sink.tables, base_ns
        self._columns: list[list[int]] = [[] for _ in _ROW]
        self._symbols: dict[str, tuple[int, int]] = {}
        self._clock, self._shift = "", 0
        self._seq = 0
        self.rows = self.bad = self.first_bad = self.summaries = self.others = 0

    def read(self) -> None:
        """Everything."""
        places: dict[str, int] = {}
        old = False
        for number, line in lines(self._source):
            try:
                fields = _fields(line)
                if not places or fields[0] in ("timestamp", "time_ms"):
                    places = {name: i for i, name in enumerate(fields)}
                    old = "time_ms" in places
                    if not old and "timestamp" not in places:  # the first line is damaged: these files have one layout
                        places = {name: i for i, name in enumerate(COLUMNS.split(","))}
                    continue
                if old:
                    self._old(fields, places)
                else:
                    self._event(fields, places)
            except (ValueError, IndexError, KeyError, OverflowError, csv.Error):
                if not self.bad:
                    self.first_bad = number
                self.bad += 1
        self.flush()

    def flush(self) -> None:
        """Deliver what was collected."""
        if not self._columns[0]:
            return
        header = BatchHeader(self._sink.job, self._sink.rank, self._sink.host, "sofa", self._clock, self._seq)
        batch = EventBatch.build(header, self._tables, **dict(zip(_ROW, self._columns, strict=True)))
        self._columns = [[] for _ in _ROW]
        self._seq += 1
        self.rows += len(batch)
        self._sink.events(batch)

    def _add(self, start: int, duration: int, kind: Kind, name: tuple[int, int], subkind: int = 0, **rest: int) -> None:
        if not self._clock:
            absolute = start >= _EPOCH
            self._clock, self._shift = ("unix" if absolute or self._base else "own"), (0 if absolute else self._base)
        row: dict[str, Any] = {
            "start_ns": start + self._shift, "duration_ns": max(duration, 0), "kind": kind, "subkind": subkind, "name": name[0],
            "path": name[1], "device": -1,
        } | rest  # fmt: skip
        for key, column in zip(_ROW, self._columns, strict=True):
            column.append(row.get(key, 0))
        if len(self._columns[0]) >= _MOST_ROWS:
            self.flush()

    # -- thirteen columns ------------------------------------------------------------------------------------------------------
    def _event(self, fields: list[str], places: dict[str, int]) -> None:
        name = fields[places["name"]]
        if _SUMMARY.match(name):
            self.summaries += 1
            return
        start, duration = nanoseconds(fields[places["timestamp"]]), nanoseconds(fields[places["duration"]])
        copy, device = whole_number(fields[places["copyKind"]], -1), _device(fields[places["deviceId"]])
        who = {key: max(whole_number(fields[places[key]]), 0) & 0xFFFFFFFF for key in ("pid", "tid")}
        moved = max(whole_number(fields[places["payload"]]), 0)
        title = _DEVICE.sub("", name, count=1)
        if name.startswith(_API):
            self._add(start, duration, Kind.GPU_RUNTIME, self._symbol(name[len(_API) :], "cuda_runtime"), **who)
        elif copy in _COPIES or (copy >= 0 and "memset" in title.lower()):
            subkind, way = _COPIES.get(copy, (Copy.MEMSET, ""))
            peer = _device(fields[places["pkt_dst"]]) if subkind is Copy.P2P else 0
            symbol = self._symbol(f"Memcpy {way}" if way else "Memset", "copy")
            self._add(
                start, duration, Kind.GPU_COPY, symbol, subkind, device=device, peer=max(peer, 0), bytes=moved, **who
            )  # fmt: skip
        elif copy == 0:
            talks = "nccl" in title.lower()
            symbol = self._symbol(title, "collective" if talks else "kernel")
            self._add(start, duration, Kind.COLLECTIVE if talks else Kind.GPU_KERNEL, symbol, device=device, **who)
        elif name.startswith("network:"):
            self._add(start, duration, Kind.NET, self._symbol(":".join(name.split(":")[:2]), "network"), bytes=moved, **who)
        elif (sample := _SAMPLE.match(name)) is not None:
            self._add(start, duration, Kind.CPU_SAMPLE, self._sampled(name, sample), Wait.ON_CPU, **who)
        elif (call := _CALL.match(name)) is not None:
            self._add(start, duration, Kind.SYSCALL, self._symbol(call[1], "syscall"), **who)
        else:
            self.others += 1

    def _symbol(self, function: str, module: str) -> tuple[int, int]:
        key = f"{module}\0{function}"
        found = self._symbols.get(key)
        if found is None:
            found = self._symbols[key] = (self._tables.symbols.intern_symbol(Symbol(function, module)), 0)
        return found

    def _sampled(self, name: str, sample: re.Match[str]) -> tuple[int, int]:
        """The function that was running, as a path of one frame: SOFA kept no more."""
        found = self._symbols.get(name)
        if found is None:
            module = sample["module"].rpartition("/")[2]
            symbol = self._tables.symbols.intern_symbol(Symbol(sample["function"].partition("+0x")[0] or "[unknown]", module))
            found = self._symbols[name] = (symbol, self._tables.paths.intern(0, symbol))
        return found

    # -- six columns -----------------------------------------------------------------------------------------------------------
    def _old(self, fields: list[str], places: dict[str, int]) -> None:
        start = nanoseconds(fields[places["time_ms"]], _MILLISECOND)
        duration = nanoseconds(fields[places["duration(ms)"]], _MILLISECOND)
        event, copy = whole_number(fields[places["event"]], -1), int(fields[places["copyKind"]])
        stream, moved = whole_number(fields[places["streamId"]]) & 0xFFFFFFFF, max(whole_number(fields[places["data_B"]]), 0)
        if copy in _COPIES:
            subkind, way = _COPIES[copy]
            symbol, device = self._symbol(f"Memcpy {way}", "copy"), event if 0 <= event < 1 << 15 else -1
            self._add(start, duration, Kind.GPU_COPY, symbol, subkind, device=device, tid=stream, bytes=moved)
        elif copy in (-1, 0):
            self._add(start, duration, Kind.GPU_KERNEL, self._symbol(f"kernel {event}", "kernel"), tid=stream)
        else:
            self.others += 1


def _fields(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace")
    return next(csv.reader((text,))) if '"' in text else text.split(",")


def _device(text: str) -> int:
    value = whole_number(text, -1)
    return value if 0 <= value < 1 << 15 else -1
