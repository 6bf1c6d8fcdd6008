"""Frames: the call chains of ``perf script`` as call paths. Lines repeat, so each is taken apart once."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sofa_otel.core.symbols import NO_PATH, Symbol, Tables

_MOST: Final = 100_000
_MOST_CHAINS: Final = 50_000
"""Lines and chains that are remembered (some 50 MB); beyond that they are forgotten all at once."""

_FRAME: Final = re.compile(
    rb"[ \t]*([0-9a-f]+) (.*?)(?:\+0x([0-9a-f]+))?"
    rb"(?: \((inlined|(?:/|\[|anon_inode|memfd:|SYSV|socket:|\.\.?/).*)\))?(?: \[[^\]]*\])?\s*"
)
_DSO_OFFSET: Final = re.compile(rb"\+0x([0-9a-f]+)$")
_JIT: Final = re.compile(rb"perf-(\d+)\.map$|jitted-(\d+)-\d+\.so$")
_INLINED: Final = b"inlined"
_ABSOLUTE: Final = 1 << 40
"""Addresses from here on are the process's own, not the file's."""

_NAMELESS: Final = frozenset({b"[unknown]", b"??", b""})


class Frame(NamedTuple):
    """A line of a call chain.

    Attributes:
        function: As perf wrote it, without offset.
        address: Relative to the file (older versions of perf: absolute).
        within: Offset in the function, -1 when not told.
        dso: Path of the file, empty when not told; ``inlined`` for what the next frame has swallowed.
    """

    function: bytes
    address: int
    within: int
    dso: bytes


def parse_frame(line: bytes) -> Frame | None:
    """Take a line of a call chain apart; None when it is none."""
    found = _FRAME.fullmatch(line)
    if found is None or len(found[1]) > 16:
        return None
    return Frame(found[2].strip(), int(found[1], 16), int(found[3][-15:], 16) if found[3] else -1, found[4] or b"")


class Frames:
    """Interns chains.

    Args:
        tables: Where symbols and paths go.

    Attributes:
        process: Process ids that names of generated code tell (``/tmp/perf-123.map``), set by the last chain, 0 when none did.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lines: dict[bytes, int] = {}
        self._inlined = 0
        self._paths: dict[tuple[int, ...], tuple[int, int]] = {}
        self._pid_of: dict[int, int] = {}
        self._modules: dict[int, bytes] = {}
        self.process = 0

    def chain(self, lines: list[bytes]) -> tuple[int, int]:
        """``(path, innermost symbol)`` of a chain, innermost line first; lines that are no frames are left out."""
        known = self._lines
        ids = tuple([known[line] if line in known else self._line(line) for line in lines])
        found = self._paths.get(ids)
        if found is None:
            found = self._new_chain(ids, lines)
        self.process = self._pid_of.get(found[0], 0)
        return found

    def _new_chain(self, ids: tuple[int, ...], lines: list[bytes]) -> tuple[int, int]:
        symbols: list[int] = []
        module = b""
        pid = 0
        for symbol, line in zip(reversed(ids), reversed(lines), strict=True):
            if symbol >= 0:
                module = self._modules.get(symbol, b"")
                if symbol:
                    symbols.append(symbol)
                if b"/tmp/" in line and not pid and (jit := _JIT.search(line.rstrip().rstrip(b")"))):
                    pid = int((jit[1] or jit[2])[:7])
            elif frame := parse_frame(line):
                symbols.append(self._intern(frame._replace(dso=module), relative=False))
        path = self._tables.paths.intern_frames(symbols)
        found = path, symbols[-1] if symbols else NO_PATH
        if pid:
            self._pid_of[path] = pid
        if len(self._paths) >= _MOST_CHAINS:
            self._paths.clear()
            self._pid_of.clear()
        self._paths[ids] = found
        return found

    def _line(self, line: bytes) -> int:
        """Symbol id of a line; 0 when it is no frame. One that was inlined has a negative number of its own: which file it is in
        says the frame around it."""
        frame = parse_frame(line)
        if frame is not None and frame.dso == _INLINED:
            self._inlined -= 1
            symbol = self._inlined
        else:
            symbol = 0 if frame is None else self._intern(frame, relative=True)
        if len(self._lines) >= _MOST:
            self._lines.clear()
        self._lines[line] = symbol
        return symbol

    def _intern(self, frame: Frame, *, relative: bool) -> int:
        symbol = symbol_of(frame, relative=relative)
        number = self._tables.symbols.intern_symbol(symbol)
        if len(self._modules) < _MOST:
            self._modules[number] = frame.dso
        return number


def symbol_of(frame: Frame, *, relative: bool = True) -> Symbol:
    """Symbol of a frame. Its offset is where the function begins, for a nameless one the address itself: samples of one function
    are one symbol.

    Args:
        frame: The frame.
        relative: Whether the address may be one of the file's.
    """
    text = frame.function
    if text.startswith(b"py::"):
        function, _, file = text[4:].decode("utf-8", "replace").partition(":")
        return Symbol(function, file=file)
    path = frame.dso
    address = frame.address
    if offset := _DSO_OFFSET.search(path):
        path, address = path[: offset.start()], int(offset[1][-15:], 16)
    module = _module(path)
    in_file = relative and address < _ABSOLUTE and path[:1] in {b"/", b"."} and module[:1] != "["
    if text in _NAMELESS:
        return Symbol("[unknown]", module, address if in_file else 0)
    known_start = in_file and 0 <= frame.within <= address
    return Symbol(text.decode("utf-8", "replace"), module, address - frame.within if known_start else 0)


def _module(path: bytes) -> str:
    name = path.removesuffix(b" (deleted)")
    if _JIT.search(name):
        return "[jit]"
    if name.startswith(b"[kernel.kallsyms]"):
        return "[kernel.kallsyms]"
    if name.startswith((b"//anon", b"anon_inode")):
        return "[anon]"
    if name.startswith(b"["):
        return name.decode("utf-8", "replace")
    return name.rsplit(b"/", 1)[-1].decode("utf-8", "replace")
