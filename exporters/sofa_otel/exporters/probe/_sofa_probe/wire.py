"""The probe's wire format: length-prefixed frames of plain columns, cheap to write from pure Python and exact to read with numpy.

A frame is ``u32 length`` (of what follows), ``u8 type``, payload. Integers are in the byte order that HELLO names. Unknown types
are skipped by both sides. Identifiers in SYMBOLS, PATHS and samples are the connection's own, start at 1 and grow; RESET starts
them anew. The reader is ``sofa_otel.exporters.collect.probe_wire``; bytes of every version are kept in ``tests/data/probe``.
"""

import struct
import sys
from array import array

MAGIC = b"SOFAPRB\n"
VERSION = 1
LITTLE = sys.byteorder == "little"

HELLO = 1
"""8s magic, u16 version, u8 little, u8 0, u32 pid, u32 ppid, i64 monotonic ns, i64 epoch ns, i64 start ns, then text pairs."""
IDENTITY = 2
"""Text pairs: environment variables that tell rank and job, after a change."""
CODES = 3
"""u32 first id, u32 count, then ``function NUL module NUL file NUL`` for each."""
SYMBOLS = 4
"""u32 first id, u32 count, then columns u32 code, u32 offset, u32 line."""
PATHS = 5
"""u32 first id, u32 count, then columns u32 parent, u32 symbol. A parent's id is smaller."""
SAMPLES = 6
"""u32 count, then columns i64 time, i64 weight, u32 tid, u32 path, u8 wait, u8 flags (1: late)."""
CALLS = 7
"""u32 count, then columns i64 time, i64 duration, i64 bytes, u32 tid, u32 symbol, u32 path, u8 kind, u8 subkind."""
COUNTERS = 8
"""i64 monotonic ns, then text pairs (name of a kernel file, its text)."""
STATS = 9
"""i64 monotonic ns, i64 epoch ns, then text pairs."""
NOTICE = 10
"""Text for the user."""
BYE = 11
"""Text: why."""
RESET = 12
"""Tables start anew."""
CAPTURE = 64
"""Agent to probe: u8 mode (0 off, 1 narrow, 2 wide), u8 bursts, u16 0, f32 rate, then text quadruples function, module, file,
line."""

_HEAD = struct.Struct("<IB")
_HELLO = struct.Struct("<8sHBBIIqqq")
_CAPTURE = struct.Struct("<BBHf")
MAX_CONTROL = 1 << 20


def frame(kind, *parts):
    """One frame, ready to send."""
    body = b"".join(parts)
    return _HEAD.pack(len(body) + 1, kind) + body


def text(value):
    """Bytes of a string that may hold anything but the separator."""
    return str(value).replace("\0", " ").encode("utf-8", "surrogateescape")


def pairs(items):
    """``key NUL value NUL`` for each item."""
    return b"".join([text(key) + b"\0" + text(value) + b"\0" for key, value in items])


def hello(pid, ppid, monotonic_ns, epoch_ns, start_ns, items):
    """The first frame of every connection."""
    head = _HELLO.pack(MAGIC, VERSION, LITTLE, 0, pid, ppid, monotonic_ns, epoch_ns, start_ns)
    return frame(HELLO, head, pairs(items))


def stamped(kind, times, items):
    """A frame that begins with instants and goes on with text pairs."""
    return frame(kind, array("q", times).tobytes(), pairs(items))


def codes(first, rows):
    """CODES: rows of (function, module, file)."""
    body = [text(item) + b"\0" for row in rows for item in row]
    return frame(CODES, array("I", (first, len(rows))).tobytes(), *body)


def table(kind, first, columns):
    """SYMBOLS or PATHS from arrays of ``I``."""
    return frame(kind, array("I", (first, len(columns[0]))).tobytes(), *[column.tobytes() for column in columns])


def rows(kind, columns):
    """SAMPLES or CALLS from arrays."""
    return frame(kind, array("I", (len(columns[0]),)).tobytes(), *[column.tobytes() for column in columns])


class Control:
    """Cuts the agent's byte stream into CAPTURE requests; anything else is skipped, nonsense ends the stream."""

    def __init__(self):
        self._buffer = b""

    def feed(self, data):
        """List of (mode, bursts, rate_hz, names) in ``data``; raises ValueError for a stream that cannot be ours."""
        self._buffer += data
        found = []
        while len(self._buffer) >= 5:
            length, kind = _HEAD.unpack_from(self._buffer)
            if not 1 <= length <= MAX_CONTROL:
                raise ValueError("control frame of %d bytes" % length)
            if len(self._buffer) < 4 + length:
                break
            body = self._buffer[5 : 4 + length]
            self._buffer = self._buffer[4 + length :]
            if kind == CAPTURE and len(body) >= _CAPTURE.size:
                mode, bursts, _, rate = _CAPTURE.unpack_from(body)
                items = body[_CAPTURE.size :].decode("utf-8", "surrogateescape").split("\0")[:-1]
                names = [tuple(items[at : at + 4]) for at in range(0, len(items) - 3, 4)]
                found.append((mode, bursts, rate, names))
        return found
