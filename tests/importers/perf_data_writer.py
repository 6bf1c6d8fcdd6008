"""Writes small ``perf.data`` files, for what no recording of this machine shows."""

from __future__ import annotations

import struct
from collections.abc import Sequence

IP, TID, TIME, ADDR, READ, CALLCHAIN, ID, CPU, PERIOD, STREAM, RAW = (1 << bit for bit in range(11))
IDENTIFIER = 1 << 16
EXEC = 1 << 13
USER, KERNEL = 2, 1
ROUND = struct.pack("<IHH", 68, 0, 8)


def attr(
    kind: int, config: int, sample_type: int, *, every: int = 1, freq: bool = False, read_format: int = 0, clockid: int = -1
) -> bytes:
    flags = 1 << 18 | freq << 10 | (clockid >= 0) << 25
    head = struct.pack("<IIQQQQQ", kind, 128, config, every, sample_type, read_format, flags)
    return head.ljust(92, b"\0") + struct.pack("<i", max(clockid, 0)) + bytes(32)


def record(kind: int, body: bytes, misc: int = 0) -> bytes:
    body += bytes(-len(body) % 8)
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *(value & 0xFFFFFFFFFFFFFFFF for value in values))


def trailer(pid: int, tid: int, time: int) -> bytes:
    """Trailer of other records where samples have TID and TIME."""
    return struct.pack("<IIQ", pid, tid, time)


def mmap(pid: int, start: int, length: int, offset: int, path: str, time: int) -> bytes:
    name = path.encode() + b"\0"
    name += bytes(-len(name) % 8)
    return record(1, struct.pack("<IIQQQ", pid, pid, start, length, offset) + name + trailer(pid, pid, time))


def comm(pid: int, time: int, *, new_program: bool) -> bytes:
    return record(3, struct.pack("<II", pid, pid) + b"python\0\0" + trailer(pid, pid, time), EXEC if new_program else 0)


def fork(pid: int, parent: int, time: int) -> bytes:
    return record(7, struct.pack("<IIIIQ", pid, parent, pid, parent, time) + trailer(parent, parent, time))


def leave(pid: int, tid: int, time: int) -> bytes:
    return record(4, struct.pack("<IIIIQ", pid, pid, tid, tid, time) + trailer(pid, tid, time))


def cpu_sample(pid: int, tid: int, time: int, *chain: int, period: int = 1_000_000) -> bytes:
    """Of an event with IP, TID, TIME, PERIOD and CALLCHAIN."""
    body = words(chain[0]) + struct.pack("<II", pid, tid) + words(time, period, len(chain), *chain)
    return record(9, body, USER)


def call_sample(number: int, pid: int, tid: int, time: int, call: int, *values: int) -> bytes:
    """Of an event with IDENTIFIER, TID, TIME and RAW: entry (six arguments) or exit (result) of a system call."""
    raw = struct.pack("<Qq", 0, call) + words(*values)
    return record(9, words(number) + struct.pack("<IIQI", pid, tid, time, len(raw) + 4) + raw + bytes(4), KERNEL)


def text_feature(value: str) -> bytes:
    return struct.pack("<I", 64) + value.encode().ljust(64, b"\0")


def described(attrs: Sequence[tuple[bytes, Sequence[int], str]]) -> bytes:
    out = struct.pack("<II", len(attrs), len(attrs[0][0]))
    for data, ids, name in attrs:
        out += data + struct.pack("<I", len(ids)) + text_feature(name) + words(*ids)
    return out


def file_of(attrs: Sequence[tuple[bytes, Sequence[int], str]], data: bytes, features: dict[int, bytes] | None = None) -> bytes:
    """A file of these events (attr, ids, name) and records."""
    features = {12: described(attrs)} | (features or {})
    ids_at = 104
    ids = b"".join(words(*numbers) for _, numbers, _ in attrs)
    attrs_at = ids_at + len(ids)
    table = b""
    at = ids_at
    for content, numbers, _ in attrs:
        table += content + words(at, 8 * len(numbers))
        at += 8 * len(numbers)
    data_at = attrs_at + len(table)
    bits = sum(1 << number for number in features)
    head = b"PERFILE2" + words(104, len(attrs[0][0]) + 16, attrs_at, len(table), data_at, len(data), 0, 0)
    head += bits.to_bytes(32, "little")
    at = data_at + len(data) + 16 * len(features)
    sections, contents = b"", b""
    for number in sorted(features):
        sections += words(at, len(features[number]))
        contents += features[number]
        at += len(features[number])
    return head + ids + table + data + sections + contents


def pipe_of(attrs: Sequence[tuple[bytes, Sequence[int], str]], data: bytes) -> bytes:
    """What ``perf record -o -`` writes of the same."""
    out = b"PERFILE2" + words(16)
    for content, numbers, name in attrs:
        out += record(64, content + words(*numbers))
        if numbers:
            out += record(78, words(2, numbers[0]) + name.encode() + b"\0")
    return out + data
