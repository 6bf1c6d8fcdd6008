"""Decimal microseconds as whole nanoseconds: exact, for thousands at a time.

``ts`` of a trace has up to 19 digits; a float64 keeps 16 of them. Digits are therefore weighed as integers.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LIMIT: Final = 1 << 61
"""Nanoseconds from here on are no time (the year 2043 is 1 << 61 in UNIX nanoseconds)."""

_DECIMALS: Final = 3
_MOST: Final = 18
_WEIGHT: Final = np.array([10**power for power in range(_MOST + 1)], np.int64)
_NUMBER: Final = re.compile(rb'"?\s*([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?\s*"?')
_COMMA, _DOT, _ZERO = 44, 46, 48
_WIDEST: Final = 64
_FEW: Final = 3
"""Numbers of one shape from which on it pays to take them together."""


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
        # As the times of a trace mostly are.
        value, odd = _of_one_shape(data.reshape(len(ends), -1)[:, :-1], text[: width[0]].find(b".") % (int(width[0]) + 1))
        if not odd.any():
            return Times(value, np.ones(len(ends), bool))
    dots = np.flatnonzero(data == _DOT)
    dot = width.copy()
    number = np.searchsorted(ends, dots)
    dot[number] = dots - starts[number]
    value = np.zeros(len(ends), np.int64)
    odd = width > 0
    shape = np.where(width < _WIDEST, width * _WIDEST + dot, 0)
    for one in np.flatnonzero(np.bincount(shape) >= _FEW).tolist():
        wide, at = divmod(one, _WIDEST)
        rows = np.flatnonzero(shape == one)
        if wide:
            value[rows], odd[rows] = _of_one_shape(sliding_window_view(data, wide)[starts[rows]], at)
    good = (width > 0) & ~odd
    for row in np.flatnonzero(odd).tolist():
        exact = nanoseconds(text[starts[row] : ends[row]])
        value[row], good[row] = exact or 0, exact is not None
    good &= np.abs(value) < LIMIT
    value[~good] = 0
    return Times(value, good)


def _of_one_shape(grid: NDArray[np.uint8], dot: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values of digits with the dot in one place, a number a row, and which rows are something else."""
    value = np.zeros(len(grid), np.int64)
    odd = np.zeros(len(grid), bool)
    for column in range(grid.shape[1]):
        if column == dot:
            odd |= grid[:, column] != _DOT
            continue
        digit = grid[:, column] - np.uint8(_ZERO)
        odd |= digit > 9
        power = dot - column + _DECIMALS - 1 + (column > dot)
        if power >= _MOST:
            odd |= digit > (1 if power == _MOST else 0)
        if 0 <= power <= _MOST:
            value += digit * _WEIGHT[power]
        elif power == -1:
            value += digit >= 5
    return value, odd
