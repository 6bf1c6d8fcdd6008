"""Terminal cells: padding, wrapping, bars and colour for text that must also be right without any of them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sofa_otel.dashboards.report import thin, view

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = str.maketrans(
    {"–": "-", "−": "-", "·": "|", "→": ">", "▲": "!", "●": "*", "◆": "#", "…": "~", "µ": "u", "°": "", "×": "x", "─": "-",
     "≤": "<=", "≥": ">=", "�": "?", "²": "2"}
)  # fmt: skip
_ASCII_LEVELS: Final = " .:-=+*#"


class Style(NamedTuple):
    """What the terminal can show."""

    color: bool = False
    ascii: bool = False

    def paint(self, text: str, code: str) -> str:
        """Text in an SGR style, or as it is where the terminal has no colour."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text

    def bold(self, text: str) -> str:
        """Strong text."""
        return self.paint(text, "1")

    def dim(self, text: str) -> str:
        """Text that steps back."""
        return self.paint(text, "2")

    def tint(self, text: str, color: str) -> str:
        """Text in the nearest terminal colour to ``#rrggbb``."""
        return self.paint(text, f"38;5;{ansi(color)}")

    def bar(self, share: float, cells: int, color: str) -> str:
        """A bar of ``share`` (0..1) of ``cells``, padded to ``cells``; something is drawn for every share above zero."""
        share = min(1.0, max(0.0, share if math.isfinite(share) else 0.0))
        if self.ascii:
            full = max(round(share * cells), share > 0)
            return self.tint("#" * full, color) + " " * (cells - full)
        eighths = max(round(share * cells * 8), share > 0)
        text = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
        return self.tint(text, color) + " " * (cells - len(text))

    def spark(self, values: Sequence[float], cells: int) -> str:
        """A line of block characters, each the largest of its values; the scale starts at zero."""
        points = [value if math.isfinite(value) else 0.0 for value in thin.maxima(values, cells).tolist()]
        top = max(points, default=0.0)
        levels = _ASCII_LEVELS if self.ascii else _LEVELS
        return "".join(levels[min(7, round(value / top * 7))] if top > 0 else levels[0] for value in points)

    def finish(self, lines: Iterable[str]) -> str:
        """The lines as one text without trailing space, in ASCII where asked for."""
        text = "\n".join(line.rstrip() for line in lines).replace("\u00a0", " ") + "\n"
        return text.translate(_ASCII).encode("ascii", "replace").decode() if self.ascii else text


def ansi(color: str) -> int:
    """The nearest of the 256 terminal colours to ``#rrggbb``: greys from their ramp, others from the cube."""
    channels = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    if max(channels) - min(channels) < 28:
        return 232 + min(23, max(0, round((sum(channels) / 3 - 8) / 10)))
    steps = (0, 95, 135, 175, 215, 255)
    red, green, blue = (min(range(6), key=lambda step: abs(steps[step] - channel)) for channel in channels)
    return 16 + 36 * red + 6 * green + blue


def cells(text: str) -> int:
    """Columns that text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """Text of at most ``width`` columns; an ellipsis says that something is missing."""
    if cells(text) <= width:
        return text
    return head(text, width - 1) + "…" if width > 1 else "…" * width


def head(text: str, width: int, least: int = 0) -> str:
    """The beginning of text that fits into ``width`` columns, but ``least`` characters at least."""
    used = 0
    for at, char in enumerate(text):
        used += cells(char)
        if used > width:
            return text[: max(at, least)]
    return text


def left(text: str, width: int) -> str:
    """Text cut and padded on the right."""
    text = cut(text, width)
    return text + " " * (width - cells(text))


def right(text: str, width: int) -> str:
    """Text padded on the left (figures are never cut)."""
    return " " * (width - cells(text)) + text


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Text in lines of at most ``width`` columns; words longer than a line are broken.

    Args:
        first, rest: What the first and the following lines begin with.
    """
    lines: list[str] = []
    line, empty = first, True
    for word in view.glue(" ".join(text.split())).split(" "):
        while True:
            space = "" if empty else " "
            if cells(line) + len(space) + cells(word) <= width:
                line += space + word
                empty = False
                break
            if empty:  # a word longer than a line
                piece = head(word, width - cells(line), 1)
                lines.append(line + piece)
                word = word[len(piece) :]
            else:
                lines.append(line)
            line, empty = rest, True
            if not word:
                break
    if not empty or not lines:
        lines.append(line)
    return lines
