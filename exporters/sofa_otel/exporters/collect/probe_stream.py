"""One probe's conversation: keeps its tables, maps them to the sink's, and turns its frames into batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader, EventBatch
from sofa_otel.core.errors import InputError
from sofa_otel.core.identity import Identity, detect_identity
from sofa_otel.core.kinds import Kind, Wait
from sofa_otel.core.series import ResourceBatch
from sofa_otel.exporters.collect import probe_wire as wire
from sofa_otel.exporters.collect.probe_counters import GroupOwner, ProcessCounters
from sofa_otel.exporters.collector import Sink, Target

MAX_IDS = 1 << 20
STEP_NS = 50_000_000


class _Ids:
    """A growing ``u32`` column indexed by a probe's ids, 0 for "none"."""

    def __init__(self) -> None:
        self._rows = [0]
        self._array: NDArray[np.uint32] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> int:
        return self._rows[index]

    def extend(self, first: int, values: list[int]) -> None:
        """Append ``values`` that start at id ``first``."""
        if first != len(self._rows) or first + len(values) > MAX_IDS:
            raise InputError(f"a probe's table goes on at {first}, expected {len(self._rows)}")
        self._rows += values
        self._array = None

    def map(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The column's values at ``ids``."""
        if self._array is None:
            self._array = np.asarray(self._rows, np.uint32)
        if ids.size and int(ids.max()) >= len(self._array):
            raise InputError(f"a probe refers to id {int(ids.max())} of {len(self._array) - 1}")
        return self._array[ids]


class ProbeStream:
    """Decodes one connection.

    Attributes:
        hello: The probe's greeting, None before it came.
        variables, identity: Rank variables of the process's environment, and what they say.
        stats: The probe's last own account (``samples``, ``dropped``, ``cpu_ns``, ``rate_hz`` …).
        notices: What the probe told, the last 64.
        said_bye: The process ended in order.
        events: Rows delivered.

    Args:
        target: Gives job, rank and host where the process itself does not.
        sink: Takes the batches.
        owner: Which process speaks for the control group, shared by all streams.
        next_seq: Next sequence number of a source, counted across connections of the same process.
    """

    def __init__(self, target: Target, sink: Sink, next_seq: Callable[[str], int], owner: GroupOwner) -> None:
        self.hello: wire.Hello | None = None
        self.variables: dict[str, str] = {}
        self.identity = Identity()
        self.stats: dict[str, str] = {}
        self.notices: deque[str] = deque(maxlen=64)
        self.said_bye = False
        self.events = 0
        self._target, self._sink, self._next_seq = target, sink, next_seq
        self._cutter = wire.FrameCutter()
        self._offset = 0
        self._counters = ProcessCounters(sink.series, owner)
        self._reset()

    def _reset(self) -> None:
        self._codes: list[tuple[str, str, str]] = [("", "", "")]
        self._symbols, self._paths, self._leaves = _Ids(), _Ids(), _Ids()

    @property
    def rank(self) -> int:
        """The process's own rank where its environment tells one, else the target's."""
        return self._target.rank if self.identity.rank is None else self.identity.rank

    @property
    def pid(self) -> int:
        """Process id, 0 before HELLO."""
        return self.hello.pid if self.hello else 0

    def number(self, key: str) -> float:
        """A figure of the probe's last account, 0 when absent or nonsense."""
        try:
            return float(self.stats.get(key, "0"))
        except ValueError:
            return 0.0

    def feed(self, data: bytes) -> None:
        """Take bytes of the connection.

        Raises:
            InputError: The stream is not a probe's; the connection should be ended.
        """
        for kind, body in self._cutter.feed(data):
            if self.hello is None:
                if kind != wire.HELLO:
                    raise InputError(f"a probe's first frame is of type {kind}, expected HELLO")
                self._greet(wire.parse_hello(body))
            else:
                self._take(kind, body, self.hello)

    def _greet(self, hello: wire.Hello) -> None:
        self.hello = hello
        self._identify(hello.variables)
        self._offset = hello.epoch_ns - hello.monotonic_ns

    def _identify(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.identity = detect_identity(variables)

    def _take(self, kind: int, body: bytes, hello: wire.Hello) -> None:
        order = hello.order
        if kind == wire.SAMPLES:
            self._samples(wire.parse_rows(kind, body, order))
        elif kind == wire.CALLS:
            self._calls(wire.parse_rows(kind, body, order))
        elif kind == wire.CODES:
            first, rows = wire.parse_codes(body, order)
            if first != len(self._codes) or first + len(rows) > MAX_IDS:
                raise InputError(f"a probe's code table goes on at {first}, expected {len(self._codes)}")
            self._codes += rows
        elif kind == wire.SYMBOLS:
            self._add_symbols(*wire.parse_table(kind, body, order))
        elif kind == wire.PATHS:
            self._add_paths(*wire.parse_table(kind, body, order))
        elif kind == wire.RESET:
            self._reset()
        elif kind == wire.COUNTERS:
            (time_ns,), texts = wire.parse_stamped(body, order, 1)
            self._points(time_ns, texts)
        elif kind == wire.STATS:
            (monotonic_ns, epoch_ns), self.stats = wire.parse_stamped(body, order, 2)
            # The two clocks drift together; only a step of the epoch clock is followed.
            if abs(epoch_ns - monotonic_ns - self._offset) > STEP_NS:
                self._offset = epoch_ns - monotonic_ns
        elif kind == wire.IDENTITY:
            self._identify(wire.variables_of(wire.parse_pairs(body)))
        elif kind == wire.NOTICE:
            text = body.decode("utf-8", "replace")[:500]
            self.notices.append(text)
            if not text.startswith("HOT "):
                self._sink.warn(f"probe of process {hello.pid}: {text}")
        elif kind == wire.BYE:
            self.said_bye = True

    def _add_symbols(self, first: int, columns: list[NDArray[np.uint32]]) -> None:
        intern = self._sink.tables.symbols.intern
        found = []
        for code, offset, line in zip(*(column.tolist() for column in columns), strict=True):
            if code >= len(self._codes):
                raise InputError(f"a probe refers to code {code} of {len(self._codes) - 1}")
            function, module, file = self._codes[code]
            found.append(intern(function, module or _stem(file), offset, file, line))
        self._symbols.extend(first, found)

    def _add_paths(self, first: int, columns: list[NDArray[np.uint32]]) -> None:
        parents, symbols = columns
        leaves = self._symbols.map(symbols).tolist()
        intern = self._sink.tables.paths.intern
        if first != len(self._paths):
            raise InputError(f"a probe's path table goes on at {first}, expected {len(self._paths)}")
        found: list[int] = []
        for parent, leaf in zip(parents.tolist(), leaves, strict=True):
            if parent >= first + len(found):
                raise InputError(f"a probe's path {first + len(found)} has parent {parent}")
            above = self._paths[parent] if parent < first else found[parent - first]
            found.append(intern(above, leaf))
        self._paths.extend(first, found)
        self._leaves.extend(first, leaves)

    def _samples(self, rows: Mapping[str, NDArray[Any]]) -> None:
        wait = rows["wait"]
        self._deliver(
            start_ns=rows["time"] + self._offset,
            duration_ns=rows["weight"],
            kind=Kind.PYTHON_SAMPLE,
            subkind=np.where(wait <= max(Wait), wait, Wait.UNKNOWN),
            name=self._leaves.map(rows["path"]),
            path=self._paths.map(rows["path"]),
            tid=rows["tid"],
        )

    def _calls(self, rows: Mapping[str, NDArray[Any]]) -> None:
        self._deliver(
            start_ns=rows["time"] + self._offset,
            duration_ns=rows["duration"],
            kind=np.where(rows["kind"] == Kind.COLLECTIVE, Kind.COLLECTIVE, Kind.PYTHON_CALL),
            subkind=rows["subkind"],
            name=self._symbols.map(rows["symbol"]),
            path=self._paths.map(rows["path"]),
            tid=rows["tid"],
            bytes=rows["bytes"],
        )

    def _deliver(self, **columns: Any) -> None:
        if len(columns["start_ns"]):
            batch = EventBatch.build(self.header(), self._sink.tables, pid=self.pid, **columns)
            self.events += len(batch)
            self._sink.events(batch)

    def _points(self, time_ns: int, texts: Mapping[str, str]) -> None:
        series, values = self._counters.points(self.pid, time_ns, texts)
        if series:
            stamps = np.full(len(series), time_ns + self._offset, np.int64)
            self._sink.resources(ResourceBatch(self.header(), self._sink.series, stamps, series, values))

    def header(self) -> BatchHeader:
        """Header of the next batch: the process's own rank where its environment tells one."""
        source = f"probe/{self.pid}"
        return BatchHeader(
            job=self._target.job, rank=self.rank, host=self._target.host, source=source, seq=self._next_seq(source)
        )  # fmt: skip


def _stem(file: str) -> str:
    return file.rsplit("/", 1)[-1].removesuffix(".py")
