"""The reading end of the probe's wire format: bytes of one connection in, numpy columns out.

The writing end (``exporters/probe/_sofa_probe/wire.py``) is standard library only and lives in the trainer, so the two share no
code; golden bytes of every version under ``tests/data/probe`` hold them together. Input is untrusted: every length is checked
before it is used, and whatever does not fit raises :class:`InputError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.errors import InputError

MAGIC: Final = b"SOFAPRB\n"
VERSION: Final = 1
MAX_FRAME: Final = 16 << 20

HELLO, IDENTITY, CODES, SYMBOLS, PATHS, SAMPLES, CALLS, COUNTERS, STATS, NOTICE, BYE, RESET = range(1, 13)
CAPTURE: Final = 64
MODES: Final = {"off": 0, "narrow": 1, "wide": 2, "raw": 2}

_HEAD = struct.Struct("<IB")
_HELLO_HEAD = struct.Struct("<8sHBB")
_CAPTURE_HEAD = struct.Struct("<BBHf")

TABLE_COLUMNS: Final[dict[int, tuple[str, ...]]] = {SYMBOLS: ("code", "offset", "line"), PATHS: ("parent", "symbol")}
ROW_COLUMNS: Final[dict[int, tuple[tuple[str, str], ...]]] = {
    SAMPLES: (("time", "i8"), ("weight", "i8"), ("tid", "u4"), ("path", "u4"), ("wait", "u1"), ("flags", "u1")),
    CALLS: (
        ("time", "i8"), ("duration", "i8"), ("bytes", "i8"), ("tid", "u4"), ("symbol", "u4"), ("path", "u4"),
        ("kind", "u1"), ("subkind", "u1"),
    ),
}  # fmt: skip


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """First frame of a connection.

    Attributes:
        version: Wire version of the probe.
        order: ``<`` or ``>``, byte order of all columns that follow.
        pid, ppid: Of the process the probe is in.
        monotonic_ns, epoch_ns: One instant on both clocks.
        start_ns: When the probe was loaded, UNIX ns.
        facts: Python version, redacted ``argv``, and so on.
        variables: Rank variables of the environment.
    """

    version: int
    order: str
    pid: int
    ppid: int
    monotonic_ns: int
    epoch_ns: int
    start_ns: int
    facts: dict[str, str]
    variables: dict[str, str]


class FrameCutter:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and payload of every frame that is complete now.

        Raises:
            InputError: A length is impossible.
        """
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _HEAD.size:
                length, kind = _HEAD.unpack_from(self._buffer, at)
                if not 1 <= length <= MAX_FRAME:
                    raise InputError(f"a probe sent a frame of {length} bytes")
                if len(self._buffer) - at < 4 + length:
                    break
                body = bytes(self._buffer[at + 5 : at + 4 + length])
                at += 4 + length
                yield kind, body
        finally:
            del self._buffer[:at]


def parse_pairs(body: bytes) -> dict[str, str]:
    """Text pairs; an odd last item is ignored."""
    items = body.decode("utf-8", "replace").split("\0")[:-1]
    return dict(zip(items[0::2], items[1::2], strict=False))


def parse_hello(body: bytes) -> Hello:
    """Decode HELLO.

    Raises:
        InputError: Not a probe, or one of a version that is neither this one nor the one before.
    """
    if len(body) < _HELLO_HEAD.size:
        raise InputError("a probe's greeting is cut short")
    magic, version, little, _ = _HELLO_HEAD.unpack_from(body)
    if magic != MAGIC:
        raise InputError("something that is no SOFA probe connected to the probe socket")
    if version not in (VERSION, VERSION - 1):
        raise InputError(
            f"a probe speaks wire version {version}, this agent {VERSION - 1} and {VERSION}",
            "install the same version of sofa-otel beside the trainer and in the agent",
        )
    order = "<" if little else ">"
    rest = struct.Struct(order + "IIqqq")
    if len(body) < _HELLO_HEAD.size + rest.size:
        raise InputError("a probe's greeting is cut short")
    pid, ppid, monotonic_ns, epoch_ns, start_ns = rest.unpack_from(body, _HELLO_HEAD.size)
    pairs = parse_pairs(body[_HELLO_HEAD.size + rest.size :])
    facts = {key: value for key, value in pairs.items() if not key.startswith("env.")}
    return Hello(
        version=version, order=order, pid=pid, ppid=ppid, monotonic_ns=monotonic_ns, epoch_ns=epoch_ns, start_ns=start_ns,
        facts=facts, variables=variables_of(pairs),
    )  # fmt: skip


def variables_of(pairs: dict[str, str]) -> dict[str, str]:
    """The environment variables among text pairs."""
    return {key[4:]: value for key, value in pairs.items() if key.startswith("env.")}


def parse_stamped(body: bytes, order: str, instants: int) -> tuple[tuple[int, ...], dict[str, str]]:
    """COUNTERS (one instant) and STATS (two): instants and text pairs."""
    head = struct.Struct(f"{order}{instants}q")
    if len(body) < head.size:
        raise InputError("a frame of the probe is cut short")
    return head.unpack_from(body), parse_pairs(body[head.size :])


def parse_codes(body: bytes, order: str) -> tuple[int, list[tuple[str, str, str]]]:
    """First id and rows (function, module, file)."""
    first, count = _two(body, order)
    items = body[8:].decode("utf-8", "replace").split("\0")
    if len(items) != 3 * count + 1:
        raise InputError(f"CODES announces {count} rows and holds {(len(items) - 1) / 3:g}")
    return first, [(items[at], items[at + 1], items[at + 2]) for at in range(0, 3 * count, 3)]


def parse_table(kind: int, body: bytes, order: str) -> tuple[int, list[NDArray[np.uint32]]]:
    """First id and ``u32`` columns of SYMBOLS or PATHS."""
    first, count = _two(body, order)
    width = len(TABLE_COLUMNS[kind])
    if len(body) != 8 + 4 * width * count:
        raise InputError(f"a table of {count} rows has {len(body)} bytes")
    block = np.frombuffer(body, order + "u4", width * count, 8).astype(np.uint32).reshape(width, count)
    return first, list(block)


def parse_rows(kind: int, body: bytes, order: str) -> dict[str, NDArray[Any]]:
    """Columns of SAMPLES or CALLS by name."""
    if len(body) < 4:
        raise InputError("a frame of the probe is cut short")
    count = int(np.frombuffer(body, order + "u4", 1)[0])
    columns = [(name, np.dtype(order + code)) for name, code in ROW_COLUMNS[kind]]
    if len(body) != 4 + count * sum(dtype.itemsize for _, dtype in columns):
        raise InputError(f"{count} rows do not make {len(body)} bytes")
    out: dict[str, NDArray[Any]] = {}
    at = 4
    for name, dtype in columns:
        out[name] = np.frombuffer(body, dtype, count, at).astype(dtype.newbyteorder("="))
        at += count * dtype.itemsize
    return out


def _two(body: bytes, order: str) -> tuple[int, int]:
    if len(body) < 8:
        raise InputError("a frame of the probe is cut short")
    first, count = struct.unpack_from(order + "II", body)
    return first, count


def capture(mode: str, rate_hz: float, names: Sequence[tuple[str, str, str, int]], burst: bool = False) -> bytes:
    """A CAPTURE frame for a probe."""
    head = _CAPTURE_HEAD.pack(MODES[mode], burst, 0, rate_hz)
    text = b"".join(str(item).encode("utf-8", "replace") + b"\0" for row in names for item in row)
    body = head + text
    return _HEAD.pack(len(body) + 1, CAPTURE) + body
