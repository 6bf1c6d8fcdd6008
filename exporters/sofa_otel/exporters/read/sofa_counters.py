"""The original SOFA's counters: text files of a number a column, sampled ten times a second, as resource points.

``mpstat.txt`` is ``/proc/stat`` in ticks, ``diskstat.txt`` is ``/proc/diskstats`` in sectors, ``netstat.txt`` is the bytes that
one interface sent and received. ``vmstat.txt`` and ``nvsmi.txt`` are other programs' tables, a line a second, without times: they
begin at the time in ``sofa_time.txt``, which stands beside them.
"""

from __future__ import annotations

import calendar
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Final

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader
from sofa_otel.core.names import Instrument, Metric
from sofa_otel.core.series import ResourceBatch, Series
from sofa_otel.exporters.collect.disk import SECTOR
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.lines import lines
from sofa_otel.exporters.read.sofa_numbers import nanoseconds
from sofa_otel.exporters.read.source import ByteSource

SECOND: Final = 1_000_000_000
_MAX_TIME: Final = 1 << 63
_QUARTER: Final = 900 * SECOND
_MOST_POINTS: Final = 32_768
_MOST_CPUS: Final = 65_536
_TICK_S: Final = 0.01
_MODES: Final = ("user", "nice", "system", "idle", "iowait")
_MEMORY: Final = {"free": "free", "buff": "buffers", "cache": "cached"}
_THREADS: Final = {"r": "runnable", "b": "blocked"}
_STAMP: Final = re.compile(rb"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(\.\d+)?$")
_PARTITION: Final = re.compile(r"(.+?)p?\d+")
"""A device with a number behind it. The kernel lists a device before its partitions."""
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")

_Gauge = tuple[Metric, float, str]
_QUERY: Final[Mapping[str, _Gauge]] = {
    "utilization.gpu": (names.GPU_UTILIZATION, 0.01, "general"),
    "utilization.memory": (names.GPU_UTILIZATION, 0.01, "memory"),
    "utilization.encoder": (names.GPU_UTILIZATION, 0.01, "encoder"),
    "utilization.decoder": (names.GPU_UTILIZATION, 0.01, "decoder"),
    "memory.used": (names.GPU_MEMORY_USAGE, 1 << 20, ""),
    "memory.total": (names.GPU_MEMORY_LIMIT, 1 << 20, ""),
    "temperature.gpu": (names.HW_TEMPERATURE, 1, ""),
    "power.draw": (names.HW_POWER, 1, ""),
    "clocks.sm": (names.GPU_CLOCK, 1e6, ""),
    "clocks.current.sm": (names.GPU_CLOCK, 1e6, ""),
}
"""Columns of ``nvidia-smi --query-gpu``; ``utilization.memory`` is the time in which memory was accessed, not how full it is."""
_DMON: Final[Mapping[str, str]] = {"sm": "general", "mem": "memory", "enc": "encoder", "dec": "decoder"}


class Counters:
    """Reads one file of counters.

    Args:
        source: The file.
        sink: Where points go.
        base_ns: What ``sofa_time.txt`` says, 0 when it is not there.
        queried: There is also ``nvsmi_query.txt``, which says better what ``nvsmi.txt`` says about utilisation.
    """

    def __init__(self, source: ByteSource, sink: ImportSink, base_ns: int, *, queried: bool = False) -> None:
        self._source, self._sink, self._base, self._queried = source, sink, base_ns, queried
        self._columns: tuple[list[int], list[int], list[float]] = ([], [], [])
        self._series: dict[tuple[str, ...], int] = {}
        self._clock = "unix"
        self._devices: set[str] = set()
        self.points = 0
        self.bad = 0
        self.first_bad = 0

    def read(self, kind: str) -> None:
        """Everything in a file of that kind; damaged lines are left out and counted in ``bad``."""
        table: dict[str, Callable[[], Callable[[bytes], None]]] = {
            "mpstat": lambda: self._mpstat, "diskstat": lambda: self._diskstat, "netstat": lambda: self._netstat,
            "vmstat": lambda: _Vmstat(self), "dmon": lambda: _Dmon(self, self._queried), "query": lambda: _Query(self),
        }  # fmt: skip
        take = table[kind]()
        for number, line in lines(self._source):
            try:
                take(line)
            except (ValueError, IndexError, OverflowError):
                if not self.bad:
                    self.first_bad = number
                self.bad += 1
        self.flush()

    def put(self, metric: Metric, time_ns: int, value: float, *attributes: str) -> None:
        """A point; ``attributes`` are names and values in turn."""
        if not (math.isfinite(value) and 0 <= time_ns < _MAX_TIME):
            raise ValueError(f"{time_ns} ns: {value}")
        key = (metric.name, *attributes)
        series = self._series.get(key)
        if series is None:
            kind = "counter" if metric.instrument is Instrument.COUNTER else "gauge"
            pairs = tuple(sorted(zip(attributes[::2], attributes[1::2], strict=True)))
            series = self._series[key] = self._sink.series.intern_series(Series(metric.name, metric.unit, kind, pairs))
        times, numbers, values = self._columns
        times.append(time_ns)
        numbers.append(series)
        values.append(value)
        if len(times) >= _MOST_POINTS:
            self.flush()

    def flush(self) -> None:
        """Deliver what was collected."""
        if self._columns[0]:
            self.points += len(self._columns[0])
            header = BatchHeader(self._sink.job, self._sink.rank, self._sink.host, "sofa", self._clock)
            self._sink.resources(ResourceBatch(header, self._sink.series, *self._columns))
            self._columns = ([], [], [])

    def at_second(self, second: int) -> int:
        """Time of a line of a table that has none."""
        if not self._base:
            self._clock = "own"
        return self._base + second * SECOND

    @property
    def base(self) -> int:
        """When the recording began, 0 when not known."""
        return self._base

    def without_clock(self) -> None:
        """The file's times are not those of the epoch."""
        self._clock = "own"

    # -- /proc ----------------------------------------------------------------------------------------------------------------
    def _mpstat(self, line: bytes) -> None:
        if line.startswith(b"time,"):
            return
        fields = line.decode("ascii", "strict").split(",")
        at, cpu = nanoseconds(fields[0]), int(fields[1])
        if cpu == -1:
            return  # the sum of all
        ticks = [_count(field) for field in fields[2:9]]
        if not 0 <= cpu < _MOST_CPUS or len(ticks) < 7:
            raise ValueError(line)
        # Both kinds of interrupt are one cpu.mode.
        for mode, value in zip((*_MODES, "interrupt"), (*ticks[:5], ticks[5] + ticks[6]), strict=True):
            self.put(
                names.SYSTEM_CPU_TIME, at, value * _TICK_S, names.CPU_MODE, mode, names.CPU_LOGICAL_NUMBER, str(cpu)
            )  # fmt: skip

    def _diskstat(self, line: bytes) -> None:
        fields = line.decode("ascii", "strict").split(",")
        at, device = nanoseconds(fields[0]), fields[1]
        counts = [_count(field) for field in fields[2:8]]
        if not device or len(counts) < 2:
            raise ValueError(line)
        if not (partition := _PARTITION.fullmatch(device)) or partition[1] not in self._devices:
            self._devices.add(device)
        if device not in self._devices or not any(counts):
            return  # a partition, whose device counts the same transfers, or an idle device
        # Sectors, then (in later versions) operations, then milliseconds, each read and written.
        for metric, unit, pair in (
            (names.SYSTEM_DISK_IO, SECTOR, counts[:2]),
            (names.SYSTEM_DISK_OPERATIONS, 1, counts[2:4]),
            (names.SYSTEM_DISK_OPERATION_TIME, 1e-3, counts[4:6]),
        ):
            for direction, value in zip(("read", "write"), pair, strict=False):
                self.put(metric, at, value * unit, names.SYSTEM_DEVICE, device, names.DISK_DIRECTION, direction)

    def _netstat(self, line: bytes) -> None:
        fields = line.split(b",")
        at, sent, received = nanoseconds(fields[0]), _count(fields[1]), _count(fields[2])
        self.put(names.SYSTEM_NETWORK_IO, at, sent, names.NETWORK_DIRECTION, "transmit")
        self.put(names.SYSTEM_NETWORK_IO, at, received, names.NETWORK_DIRECTION, "receive")


class _Vmstat:
    """``vmstat -w 1``: the first line at once, then one a second. Its rates are rounded shares of what mpstat has exactly."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._names: list[str] = []
        self._second = 0

    def __call__(self, line: bytes) -> None:
        words = line.decode("ascii", "strict").split()
        if words[0].startswith("procs"):
            return
        if not words[0].isdecimal():
            self._names = words
            return
        if len(words) < len(self._names) or not self._names:
            raise ValueError(line)
        row = dict(zip(self._names, words, strict=False))
        at = self._counters.at_second(self._second)
        self._second += 1
        for column, state in _MEMORY.items():
            if column in row:
                self._counters.put(names.SYSTEM_MEMORY_USAGE, at, _count(row[column]) * 1024, names.MEMORY_STATE, state)
        for column, state in _THREADS.items():
            if column in row:
                self._counters.put(names.HOST_THREADS, at, _count(row[column]), names.THREAD_STATE, state)


class _Dmon:
    """``nvidia-smi dmon -s u``: a line a GPU and second."""

    def __init__(self, counters: Counters, queried: bool) -> None:
        self._counters = counters
        self._tasks = {column: task for column, task in _DMON.items() if not queried or column in ("enc", "dec")}
        self._names: list[str] = []
        self._second, self._last = -1, 1 << 62

    def __call__(self, line: bytes) -> None:
        words = line.decode("ascii", "strict").split()
        if words[0].startswith("#"):
            if "gpu" in words:
                self._names = [word for word in words if word != "#"]
            return
        if len(words) < len(self._names) or not self._names:
            raise ValueError(line)
        row = dict(zip(self._names, words, strict=False))
        gpu = int(row["gpu"])
        if gpu <= self._last:
            self._second += 1
        self._last = gpu
        at = self._counters.at_second(self._second)
        for column, task in self._tasks.items():
            if _NUMBER.fullmatch(row.get(column, "-")):
                self._counters.put(
                    names.GPU_UTILIZATION, at, float(row[column]) / 100, *_gpu(str(gpu)), names.GPU_TASK, task
                )  # fmt: skip


class _Query:
    """``nvidia-smi --query-gpu=… --format=csv``. Its times are the machine's local time: ``sofa_time.txt`` tells the zone."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._names: list[str] = []
        self._zone: int | None = None

    def __call__(self, line: bytes) -> None:
        fields = [field.strip() for field in line.decode("utf-8", "strict").split(",")]
        if "timestamp" in fields:
            self._names = [field.partition(" ")[0] for field in fields]
            return
        if len(fields) != len(self._names):
            raise ValueError(line)
        row = dict(zip(self._names, fields, strict=True))
        at = self._time(row["timestamp"])
        who = _gpu(row.get("index", "0"), row.get("uuid", ""), row.get("name", row.get("gpu_name", "")))
        for column, (metric, unit, task) in _QUERY.items():
            found = _NUMBER.match(row.get(column, ""))
            if found is not None:
                self._counters.put(metric, at, float(found[0]) * unit, *who, *((names.GPU_TASK, task) if task else ()))

    def _time(self, text: str) -> int:
        if not _STAMP.match(text.encode()):
            raise ValueError(text)
        stamp, _, part = text.partition(".")
        local = calendar.timegm(time.strptime(stamp, "%Y/%m/%d %H:%M:%S")) * SECOND + int(part[:9].ljust(9, "0"))
        if self._zone is None:
            # nvidia-smi starts within a second of sofa_time.txt, and zones differ by quarters of an hour.
            base = self._counters.base
            self._zone = round((local - base) / _QUARTER) * _QUARTER if base else 0
            if not base:
                self._counters.without_clock()
        return local - self._zone


def _gpu(index: str, uuid: str = "", model: str = "") -> tuple[str, ...]:
    """Attributes of a device; without its UUID it is known by its number."""
    about: tuple[str, ...] = (names.HW_ID, uuid if uuid.startswith("GPU-") else f"gpu{int(index)}", names.HW_TYPE, "gpu")
    return (*about, names.HW_NAME, model) if model else about


def _count(text: str | bytes) -> int:
    value = int(text)
    if not 0 <= value < 1 << 64:
        raise ValueError(text)
    return value
