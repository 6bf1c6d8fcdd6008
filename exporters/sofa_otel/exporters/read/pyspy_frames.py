"""Frames as py-spy writes them, and as other tools do in folded stacks."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sofa_otel.core.symbols import Symbol
from sofa_otel.exporters.collect.pyspy_trace import module_of

_PLACED: Final = re.compile(r"^(.*) \((.*?)(?::(\d{1,9}))?\)$", re.S)
_PROCESS: Final = re.compile(r"^process (\d{1,10})(?::|$)")
_THREAD: Final = re.compile(r"^thread \((0x[0-9a-fA-F]{1,16}|\d{1,20})\)(?:: (.*))?$", re.S)
_ADDRESS: Final = re.compile(r"^0x[0-9a-fA-F]+$")
_SOURCE: Final = (".py", ".pyx", ".pyw", ".pyi")
_KERNEL: Final = "_[k]"
_ANNOTATIONS: Final = (_KERNEL, "_[j]", "_[i]")
MAIN: Final = "MainThread"


class Owner(NamedTuple):
    """Whose stack it is, as far as its prefix tells: 0 and empty where it does not."""

    pid: int = 0
    tid: int = 0
    name: str = ""


def number_of(text: str) -> int:
    """A decimal (leading zeros or not) or ``0x…`` number."""
    return int(text, 16) if text[:2].lower() == "0x" else int(text)


def owner_of(frames: list[str]) -> tuple[Owner, int]:
    """``(owner, frames that only name it)`` of a stack of py-spy's, outermost first. Of nested processes the last one counts."""
    pid = tid = 0
    name = ""
    for index, frame in enumerate(frames):
        process = _PROCESS.match(frame)
        thread = None if process else _THREAD.match(frame)
        if process:
            pid = int(process[1])
        elif thread:
            tid, name = number_of(thread[1]), thread[2] or ""
        else:
            return Owner(pid, tid, name), index
    return Owner(pid, tid, name), len(frames)


def join_split(parts: list[str]) -> list[str]:
    """Put together what a ``;`` in a command line or a thread's name has split."""
    out: list[str] = []
    index = 0
    while index < len(parts):
        part = parts[index]
        index += 1
        if part.startswith("process ") and _PROCESS.match(part):
            end = index
            while not (part.endswith('"') and part.count('"') > 1) and end < len(parts):
                part += ";" + parts[end]
                end += 1
            if part.endswith('"'):
                index = end
            else:
                part = parts[index - 1]
        elif part.startswith("thread (") and _THREAD.match(part):
            while index < len(parts) and not parts[index].endswith(")") and not _PROCESS.match(parts[index]):
                part += ";" + parts[index]
                index += 1
        out.append(part)
        if not _PROCESS.match(part) and not _THREAD.match(part):
            return out + parts[index:]
    return out


def placed_symbol(name: str, file: str, line: int) -> Symbol:
    """A frame whose file is known: Python source, or the object (or C source) of a native one."""
    if file.endswith(_SOURCE) or file.startswith("<"):
        return Symbol(name, module_of(file), 0, file, line)
    module = file.rsplit("/", 1)[-1]
    if _ADDRESS.match(name):
        return Symbol("[unknown]", module)  # an address of that one process: nothing to know it by
    return Symbol(name, module, 0, file if line else "", line)


def symbol_of(text: str) -> Symbol:
    """A frame of a folded stack."""
    if text.endswith(_ANNOTATIONS):
        name = text[: -len(_KERNEL)]
        return Symbol(name, "[kernel.kallsyms]" if text.endswith(_KERNEL) else "")
    found = _PLACED.match(text)
    if found is None:
        return Symbol("[unknown]" if _ADDRESS.match(text) else text)
    return placed_symbol(found[1], found[2], int(found[3] or 0))
