"""Exact times and numbers of the original SOFA's text files."""

from __future__ import annotations

import math
from typing import Final

_MOST: Final = 1 << 62


def nanoseconds(text: str | bytes, scale: int = 1_000_000_000) -> int:
    """Decimal digits as integer nanoseconds, exactly; what is finer than a nanosecond is cut off.

    Args:
        text: Plain decimals, or a number with an exponent (which is only as exact as a float64).
        scale: Nanoseconds of the unit: a second's, or a millisecond's.

    Raises:
        ValueError: It is no number, or not one of this world.
    """
    word = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    word = word.strip()
    whole, point, part = word.partition(".")
    digits = len(str(scale)) - 1
    sign = whole.startswith("-")
    if (whole.lstrip("-").isdecimal() and whole.isascii() and part.isascii()) and (part.isdecimal() or not part):
        value = int(whole) * scale if len(whole) < 20 else _MOST
        value += int(part[:digits].ljust(digits, "0")) * (-1 if sign else 1) if point else 0
    else:
        number = float(word) * scale
        if not math.isfinite(number) or not word.isascii() or "_" in word:
            raise ValueError(f"{word!r} is no time")
        value = round(number)
    if not -_MOST < value < _MOST:
        raise ValueError(f"{word!r} is no time")
    return value


def whole_number(text: str, default: int = 0) -> int:
    """An integer that pandas may have written as ``0.000000``; ``default`` where it is none of 63 bits."""
    try:
        value = int(text) if len(text) < 20 else int(float(text))
    except (ValueError, OverflowError):
        try:
            value = int(float(text))
        except (ValueError, OverflowError):
            return default
    return value if -_MOST < value < _MOST else default
