"""The text of a source line, for swarms that are lines: what a user recognises, and what survives an edit above it.

Reading is a courtesy: files that are not there (another container), large or strange fail silently and the line number is used.
String literals are blanked, because a caption leaves the machine and a literal may be a secret.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Final, NamedTuple

_MAX_BYTES: Final = 2_000_000
_MAX_FILES: Final = 8
_LITERAL: Final = re.compile(r"""[rbfuRBFU]{0,2}("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")


class SourceLine(NamedTuple):
    """A line's text without literals and comments, and how many equal lines stand before it in the file."""

    text: str
    ordinal: int


class SourceLines:
    """Reads lines of Python files, keeping the last few files."""

    def __init__(self) -> None:
        self._files: dict[str, list[str]] = {}

    def get(self, file: str, line: int) -> SourceLine | None:
        """The line, or None when it cannot be read."""
        lines = self._read(file)
        if not 0 < line <= len(lines) or not lines[line - 1]:
            return None
        text = lines[line - 1]
        return SourceLine(text, lines[: line - 1].count(text))

    def _read(self, file: str) -> list[str]:
        found = self._files.get(file)
        if found is None:
            found = [_clean(line) for line in _load(file).splitlines()]
            if len(self._files) >= _MAX_FILES:
                self._files.pop(next(iter(self._files)))
            self._files[file] = found
        return found


def _load(file: str) -> str:
    try:
        path = Path(file)
        info = path.stat()
        if not path.is_absolute() or not stat.S_ISREG(info.st_mode) or info.st_size > _MAX_BYTES:
            return ""
        return path.read_text("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _clean(line: str) -> str:
    text = _LITERAL.sub("'…'", line)
    return " ".join(text.split("#", 1)[0].split())
