"""From a ``py-spy record --format chrometrace`` file to samples.

Of py-spy's formats only this one has times that were measured (``raw`` has none, ``speedscope`` writes the nominal period):
every change of a thread's stack is a row of begin and end events at the microsecond of the sample that saw it. Samples that saw
no change are not written; they are put back at the nominal period.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from sofa_otel.core.errors import InputError
from sofa_otel.core.symbols import Symbol

_THREAD: Final = re.compile(r"thread \((\d+)\)")
_PROCESS: Final = re.compile(r"process (\d+)")


class _Args(msgspec.Struct):
    filename: str = ""
    line: int = 0


class _Event(msgspec.Struct):
    name: str
    ph: Literal["B", "E"]
    ts: int
    tid: int = 0
    pid: int = 0
    args: _Args = msgspec.field(default_factory=_Args)


_decoder: Final = msgspec.json.Decoder(list[_Event])


class Run(msgspec.Struct, frozen=True):
    """A stretch of time in which a thread's stack was seen unchanged.

    Attributes:
        tid: Kernel's thread id, 0 where the file does not tell.
        start_us, end_us: From the start of py-spy.
        frames: Outermost first.
    """

    tid: int
    start_us: int
    end_us: int
    frames: tuple[Symbol, ...]


def module_of(file: str) -> str:
    """Stem of a source file, which is all the module name that py-spy gives."""
    return file.rsplit("/", 1)[-1].removesuffix(".py")


def parse_trace(data: bytes) -> list[Run]:
    """Stretches of unchanged stack, by thread in order of time.

    Raises:
        InputError: Not a complete chrometrace file; an end without its begin.
    """
    try:
        events = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise InputError(f"py-spy's output cannot be read: {error}") from error
    stacks: dict[int, list[_Event]] = {}
    since: dict[int, int] = {}
    out: list[Run] = []
    for number, event in enumerate(events):
        stack = stacks.setdefault(event.tid, [])
        if stack and event.ts > since[event.tid]:
            run = _run(stack, since[event.tid], event.ts)
            if run is not None:
                out.append(run)
        since[event.tid] = event.ts
        if event.ph == "B":
            stack.append(event)
        elif stack and stack[-1].name == event.name:
            stack.pop()
        else:
            raise InputError(f"py-spy's output, event {number}: the end of {event.name!r} has no begin")
    return out


def _run(stack: list[_Event], start: int, end: int) -> Run | None:
    tid = 0
    frames = []
    for event in stack:
        if not event.args.filename:
            found = _THREAD.match(event.name)
            if found:
                tid = int(found[1])
                continue
            if _PROCESS.match(event.name):
                continue
        file = event.args.filename
        frames.append(Symbol(event.name, module_of(file), 0, file, event.args.line))
    return Run(tid, start, end, tuple(frames)) if frames else None
