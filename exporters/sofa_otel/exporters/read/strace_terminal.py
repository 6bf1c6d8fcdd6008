"""What gets between strace's lines on a terminal: its own remarks, and the output of the program that it watches.

Both may stand in the middle of the line of a call. Torn calls are put together; each line keeps its number.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from sofa_otel.exporters.read.strace_scan import Scan, text_word

_REMARK: Final = re.compile(rb"(?:strace: )?Process \d+ (?:attached|detached)(?: with \d+ threads)?$")
_REMARK_ENDS: Final = np.array([text_word(b"attached"), text_word(b"detached"), text_word(b" threads")])
_REST: Final = re.compile(rb"\) += | <unfinished \.\.\.>$")
_REST_STARTS: Final = text_word(b")"), text_word(b" <unfini")
_BEGUN: Final = re.compile(rb"(?:\[pid[ \d]+(?:<[^>]*>)?\] )? *\d[\d.:]+ [^a-z]*[a-z]\w*\((?!.* (?:= |<unfinished \.\.\.>$))")
_FAR: Final = 100
"""Lines a program may print inside a call."""


def is_torn(scan: Scan) -> bool:
    """Whether :func:`mend` has something to do."""
    starts = scan.first
    torn = (starts & np.uint64(0xFF) == _REST_STARTS[0]).any() or (starts == _REST_STARTS[1]).any()
    return bool(torn or np.isin(scan.word(scan.end - 8), _REMARK_ENDS).any())


def mend(text: bytes) -> tuple[bytes, bytes]:
    """``(text, rest)``: whole lines, and the beginning of a line that goes on in the text to come."""
    lines = text.split(b"\n")
    rest = lines.pop()
    for i, line in enumerate(lines):
        if line.endswith((b"tached", b"threads")) and (found := _REMARK.search(line)):
            head = line[: found.start()]
            lines[i] = b""
            if not head:
                continue
            if i + 1 < len(lines):
                lines[i + 1] = head + lines[i + 1]
            else:
                rest = head + rest
        elif line.startswith((b")", b" <unf")) and _REST.match(line):
            for j in range(i - 1, max(i - _FAR, -1), -1):
                if lines[j].startswith((b")", b" <unf")):
                    break
                if _BEGUN.match(lines[j]):
                    lines[j] += line
                    lines[i] = b""
                    break
    return b"".join(line + b"\n" for line in lines), rest
