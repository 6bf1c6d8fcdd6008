"""Damaged inputs for every importer: samples, mutations, and the guards under which they are read.

Shared by the test, which is small and always the same, and by ``benchmarks/import/fuzz.py``, which is large and random.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from reading import DATA, damage, survives

from sofa_otel.core.errors import InputError
from sofa_otel.exporters.read.importer import Importer, detect
from sofa_otel.exporters.read.source import ByteSource

LARGEST = 48 << 10
"""Bytes of a sample: damage anywhere should matter, and a case should take milliseconds."""
SECONDS = 20.0
MEMORY = 3 << 30
_EXTREMES = (
    b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"4294967295", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551616", b"-9223372036854775809", b"1e308", b"1e999", b"NaN", b"Infinity", b"0x7fffffffffffffff",
    b"0.0000000001", b"null", b"true", b"\"\"", b"{}", b"[]", b"",
)  # fmt: skip


class Sample:
    """A file, as it is and as it is inside its compression."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.raw = path.read_bytes()[:LARGEST]
        with ByteSource(path) as source:
            self.importer = detect(source).name
            self.plain = source.read(LARGEST)


class Hang(BaseException):
    """Reading did not end. No exception that an importer could catch."""


@cache
def samples() -> dict[str, list[Sample]]:
    """By importer, every file of the test data that some importer knows."""
    out: dict[str, list[Sample]] = {}
    for path in sorted(DATA.rglob("*")):
        if path.is_file() and path.suffix != ".md" and not path.name.startswith("LICENSE"):
            try:
                sample = Sample(path)
            except InputError:
                continue
            out.setdefault(sample.importer, []).append(sample)
    return out


def mutated(corpus: list[bytes], seed: int) -> bytes:
    """One of the inputs, damaged in a way that ``seed`` decides."""
    rng = random.Random(seed)
    data = rng.choice(corpus)
    match rng.randrange(10):
        case 0 | 1:
            return _numbers(data, rng)
        case 2:
            other = rng.choice(corpus)
            return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        case 3:
            return _lines(data, rng)
        case _:
            return damage(data, rng.randrange(1 << 30))


def _numbers(data: bytes, rng: random.Random) -> bytes:
    """Some numbers become others that nobody expects."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        at = rng.randrange(len(out) + 1)
        digit = next((i for i in range(at, min(at + 200, len(out))) if 48 <= out[i] < 58), None)
        if digit is None:
            if len(out) > at + 8:
                out[at : at + 4] = rng.choice([b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
            continue
        end = digit
        while end < len(out) and 48 <= out[end] < 58:
            end += 1
        out[digit:end] = rng.choice(_EXTREMES)
    return bytes(out)


def _lines(data: bytes, rng: random.Random) -> bytes:
    """Lines change places, are lost and come twice."""
    lines = data.split(b"\n")
    for _ in range(rng.choice([1, 5, 50])):
        at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(3):
            case 0:
                lines[at], lines[to] = lines[to], lines[at]
            case 1 if len(lines) > 1:
                del lines[at]
            case _:
                lines.insert(to, lines[at])
    return b"\n".join(lines)[: 2 * LARGEST]


@contextmanager
def guarded(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """CPU time and address space are bounded inside: a hang is a :class:`Hang`, a blow-up a ``MemoryError``."""

    def stop(number: int, frame: FrameType | None) -> None:
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "?"
        raise Hang(f"still reading after {seconds:.0f} CPU seconds, at {place}")

    before, limits = signal.signal(signal.SIGVTALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, limits[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def attempt(importer: Importer, data: bytes, folder: Path) -> str:
    """What went wrong with one input; empty when nothing did."""
    try:
        with guarded():
            survives(importer, data, folder, "damaged", SECONDS)
    except (Exception, Hang) as error:
        place = error.__traceback__
        where = ""
        while place is not None:
            name = place.tb_frame.f_code.co_filename
            if "sofa_otel" in name:
                where = f" at {Path(name).name}:{place.tb_lineno}"
            place = place.tb_next
        return f"{type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''}{where}"
    return ""


def lines_reached(run: Callable[[], Any]) -> set[tuple[str, int]]:
    """``(file, line)`` of our code that ``run`` executes: some ten times slower than running it."""
    reached: set[tuple[str, int]] = set()

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        return local if "sofa_otel" in frame.f_code.co_filename else None

    sys.settrace(watch)
    try:
        run()
    finally:
        sys.settrace(None)
    return reached
