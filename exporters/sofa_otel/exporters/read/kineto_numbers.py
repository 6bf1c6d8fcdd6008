"""Decimal microseconds as whole nanoseconds: exact, for thousands at a time.

``ts`` of a trace has up to 19 digits; a float64 keeps 16 of them. Digits are therefore weighed as integers.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LIMIT: Final = 1 << 61
"""Nanoseconds from here on are no time (the year 2043 is 1 << 61 in UNIX nanoseconds)."""

_DECIMALS: Final = 3
_MOST: Final = 18
_WEIGHT: Final = np.array([10**power for power in range(_MOST + 1)], np.int64)
_NUMBER: Final = re.compile(rb'"?\s*([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?\s*"?')
_COMMA, _DOT, _MINUS, _ZERO = 44, 46, 45, 48


class Times(NamedTuple):
    """``value i64`` in ns and ``good bool``; a value that is not good is 0."""

    value: NDArray[np.int64]
    good: NDArray[np.bool_]


def nanoseconds(text: bytes) -> int | None:
    """One number in µs as ns, the nearest; None when it is none or no time."""
    found = _NUMBER.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        return None
    whole, fraction = found[2], found[3] or b""
    if len(whole) + len(fraction) > 400:
        return None
    value = int(whole + fraction)
    power = int(found[4] or 0) - len(fraction) + _DECIMALS
    if value and power > _MOST:
        return None
    value = value * 10**power if power >= 0 else (value + 10**-power // 2) // 10**-power
    return None if value >= LIMIT else -value if found[1] == b"-" else value


def all_nanoseconds(text: bytes) -> Times:
    """Numbers in µs, each ended by a comma, as ns.

    Strings (``"12.5"``), signs and exponents are understood; what is empty or anything else is not good.
    """
    text = text.replace(b'"', b"")
    if not text:
        return Times(np.zeros(0, np.int64), np.zeros(0, bool))
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == _COMMA)
    starts = np.concatenate([[0], ends[:-1] + 1])
    width = ends - starts
    if width[0] and (width == width[0]).all():
        grid = data.reshape(len(ends), int(width[0]) + 1)
        dots = np.flatnonzero(grid[0] == _DOT)
        if len(dots) < 2:
            found = _even(grid[:, :-1], int(dots[0]) if len(dots) else int(width[0]))
            if found is not None:
                return Times(found, np.ones(len(ends), bool))
    return _uneven(text, data, starts, ends)


def _even(grid: NDArray[np.uint8], dot: int) -> NDArray[np.int64] | None:
    """Numbers of one shape (as ``ts`` mostly are); None when one of them has another."""
    columns = [column for column in range(grid.shape[1]) if column != dot]
    powers = [dot - column + _DECIMALS - 1 + (column > dot) for column in columns]
    if powers[0] > _MOST or powers[-1] < 0:
        return None
    digits = grid[:, columns] - np.uint8(_ZERO)
    if (digits > 9).any() or (powers[0] == _MOST and (digits[:, 0] > 1).any()):
        return None
    if dot < grid.shape[1] and (grid[:, dot] != _DOT).any():
        return None
    value = np.zeros(len(grid), np.int64)
    for column, power in enumerate(powers):
        value += digits[:, column] * _WEIGHT[power]
    return value


def _uneven(text: bytes, data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Times:
    place = np.arange(len(data))
    number = np.repeat(np.arange(len(ends)), ends - starts + 1)
    dots = np.flatnonzero(data == _DOT)
    dot = ends.copy()
    dot[number[dots]] = dots
    digit = (data - np.uint8(_ZERO)).astype(np.int64)
    is_digit = digit <= 9
    power = dot[number] - place + (_DECIMALS - 1) + (place > dot[number])
    weight = _WEIGHT[np.clip(power, 0, _MOST)]
    weight[(power < 0) | ~is_digit] = 0
    value = np.add.reduceat(digit * weight, starts)
    value += np.bincount(number[is_digit & (power == -1) & (digit >= 5)], minlength=len(ends))
    minus = starts[data[starts] == _MINUS]
    strange = ~is_digit
    strange[minus] = strange[dots] = strange[ends] = False
    strange |= is_digit & ((power > _MOST) | ((power == _MOST) & (digit > 1)))
    value[number[minus]] *= -1
    good = np.add.reduceat(is_digit, starts, dtype=np.int64) > 0
    odd = np.bincount(number[dots], minlength=len(ends)) > 1
    odd[number[strange]] = True
    for row in np.flatnonzero(odd).tolist():
        exact = nanoseconds(text[starts[row] : ends[row]])
        value[row], good[row] = exact or 0, exact is not None
    good &= np.abs(value) < LIMIT
    value[~good] = 0
    return Times(value, good)
