"""MOJO, austin's binary format, versions 1 to 4: a stream of events in which strings and frames are told once, then by number.

After https://github.com/P403n1x87/austin/wiki/The-MOJO-file-format. Numbers are of variable length, the sign in the second
highest bit of the first byte; references count within a process.
"""

from __future__ import annotations

from typing import Final

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import NO_PATH
from sofa_otel.exporters.read.austin_samples import COLLECTING, Samples
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.source import ByteSource

MAGIC: Final = b"MOJ"
_NEWEST: Final = 4
(
    _METADATA, _STACK, _FRAME, _INVALID, _FRAME_REF, _KERNEL, _GC, _IDLE, _TIME, _MEMORY, _STRING, _STRING_REF, _REPEAT, _TASK,
    _WAITER,
) = range(1, 16)  # fmt: skip
_UNKNOWN_STRING: Final = 1
_LONGEST: Final = 1 << 16
_CHUNK: Final = 1 << 18
_DEEPEST: Final = 4096


class _Short(Exception):
    """The event goes on behind what is there."""


class _Damaged(Exception):
    """This cannot be an event."""


def read_mojo(source: ByteSource, sink: ImportSink) -> None:
    """Deliver a row a sample.

    Raises:
        InputError: It is of a version that is not known, or no sample can be read.
    """
    reader = _Reader(sink)
    source.read(len(MAGIC))
    data, here, ended = b"", 0, False
    base = len(MAGIC)
    begun = False
    skipped, first = 0, -1
    while True:
        if not ended and len(data) - here < _LONGEST:
            chunk = source.read(_CHUNK)
            ended = not chunk
            base += here
            data, here = data[here:] + chunk, 0
        if here >= len(data):
            if ended:
                break
            continue
        try:
            if not begun:
                version, here = _number(data, here)
                if not 1 <= version <= _NEWEST:
                    raise InputError(f"{source.name}, byte 3: MOJO version {version} is not known", "convert it to text")
                reader.version, begun = version, True
                continue
            here = reader.event(data, here)
        except (_Short, _Damaged) as error:
            if isinstance(error, _Short) and not ended and len(data) - here < _LONGEST:
                continue
            if first < 0:
                first = base + here
            after = data.find(reader.beginning, here + 1) if begun else -1
            skip = (after if after >= 0 else len(data)) - here
            skipped += skip
            here += skip
            reader.lose()
    reader.complete()
    if not reader.samples.samples:
        raise InputError(f"{source.name}, byte {max(first, 0)}: no sample can be read", "record again")
    reader.samples.finish(source.name)
    if source.damage:
        sink.warn(f"{source.name}, byte {base + here}: it ends early ({source.damage})")
    if skipped:
        sink.warn(f"{source.name}, byte {first}: {skipped} bytes are damaged or cut off and were left out")
    if reader.unknown:
        sink.warn(f"{source.name}: {reader.unknown} frames whose names were lost are called [unknown]")


class _Reader:
    """Events in, samples out.

    Attributes:
        beginning: The bytes with which the next sample of this process would begin.
        unknown: Frames that were never introduced.
    """

    def __init__(self, sink: ImportSink) -> None:
        self.samples = Samples(sink)
        self._tables = sink.tables
        self.version = 0
        self.beginning = bytes([_STACK])
        self.unknown = 0
        self._strings: dict[tuple[int, int], str] = {}
        self._frames: dict[tuple[int, int], int] = {}
        self._last: dict[tuple[int, int], int] = {}
        self._lost = False
        self.lose()

    def lose(self) -> None:
        """Forget the sample that is being read."""
        self._thread: tuple[int, int] | None = None

    def _begin(self, pid: int, tid: int) -> None:
        self._thread = pid, tid
        self._path, self._depth, self._time, self._memory = NO_PATH, 0, -1, 0
        self._idle = self._collecting = self._in_task = self._measured = False

    def complete(self) -> None:
        """Deliver the sample that is being read."""
        if self._thread is None or not (self._measured or self._time >= 0):
            return
        pid, tid = self._thread
        path = self._path
        self._last[pid, tid] = path
        if self._collecting:
            path = self._tables.paths.intern(path, self._tables.symbols.intern_symbol(COLLECTING))
        idle = self._idle if self.samples.metadata.get("mode") == "full" else None
        self.samples.add(pid, tid, path, self._time if self._time >= 0 else None, self._memory, idle)
        self.lose()

    def event(self, data: bytes, here: int) -> int:
        """Read the event at ``here``; where the next one begins.

        Raises:
            _Short: It is not whole.
            _Damaged: It is none.
        """
        kind = data[here]
        here += 1
        if kind == _FRAME_REF:
            key, here = _number(data, here)
            self._append(key)
        elif kind == _STACK:
            begin = here
            pid, here = _number(data, here)
            head = here
            if self.version >= 3:
                _, here = _number(data, here)
            name, here = _string(data, here)
            try:
                tid = int(name, 16)
            except ValueError:
                raise _Damaged from None
            self.complete()
            self._begin(max(pid, 0), tid)
            self.beginning = data[begin - 1 : head]
        elif kind in (_TIME, _MEMORY):
            value, here = _number(data, here)
            if kind == _TIME:
                self._time = max(value, 0)
            else:
                self._memory, self._measured = value, True
            self._in_task = False
        elif kind == _FRAME:
            here = self._introduce(data, here)
        elif kind == _STRING:
            key, here = _number(data, here)
            self._strings[self._pid, key], here = _string(data, here)
        elif kind == _METADATA:
            key_text, here = _string(data, here)
            value_text, here = _string(data, here)
            self.samples.note(key_text, value_text)
        elif kind == _KERNEL:
            name, here = _string(data, here)
            self._push(self._tables.symbols.intern_symbol(self.samples.symbol("kernel", name, 0)))
        elif kind == _GC:
            self._collecting = True
        elif kind == _IDLE:
            self._idle = True
        elif kind == _REPEAT:
            self._path = self._last.get(self._thread, NO_PATH) if self._thread else NO_PATH
        elif kind in (_TASK, _WAITER):
            _, here = _number(data, here)
            _, here = _number(data, here)
            self._in_task = self._in_task or kind == _TASK
        elif kind == _STRING_REF:
            _, here = _number(data, here)
        elif kind != _INVALID:
            raise _Damaged
        return here

    @property
    def _pid(self) -> int:
        return self._thread[0] if self._thread else 0

    def _introduce(self, data: bytes, here: int) -> int:
        numbers = []
        for _ in range(4 if self.version == 1 else 7):
            number, here = _number(data, here)
            numbers.append(number)
        key, file, scope, line = numbers[:4]
        pid = self._pid
        symbol = self.samples.symbol(self._text(pid, file), self._text(pid, scope), line)
        self._frames[pid, key] = self._tables.symbols.intern_symbol(symbol)
        return here

    def _text(self, pid: int, key: int) -> str:
        return "[unknown]" if key == _UNKNOWN_STRING else self._strings.get((pid, key), "[unknown]")

    def _append(self, key: int) -> None:
        symbol = self._frames.get((self._pid, key))
        if symbol is None:
            self.unknown += 1
            symbol = self._tables.symbols.intern("[unknown]")
        self._push(symbol)

    def _push(self, symbol: int) -> None:
        # The stacks of suspended tasks stand behind their thread's own, and are not what it was doing.
        if self._thread is not None and not self._in_task and self._depth < _DEEPEST:
            self._depth += 1
            self._path = self._tables.paths.intern(self._path, symbol)


def _number(data: bytes, here: int) -> tuple[int, int]:
    end = here + 11
    try:
        byte = data[here]
        value, shift, sign = byte & 0x3F, 6, byte & 0x40
        while byte & 0x80:
            here += 1
            if here >= end:
                raise _Damaged
            byte = data[here]
            value |= (byte & 0x7F) << shift
            shift += 7
    except IndexError:
        raise _Short from None
    return -value if sign else value, here + 1


def _string(data: bytes, here: int) -> tuple[str, int]:
    end = data.find(b"\0", here, here + _LONGEST)
    if end < 0:
        raise _Short if len(data) - here < _LONGEST else _Damaged
    return data[here:end].decode("utf-8", "replace"), end + 1
