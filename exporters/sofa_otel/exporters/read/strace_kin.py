"""Threads of one process among those whose beginning was not recorded (``strace -p``): who wakes whom shares an address space."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Futex
from sofa_otel.exporters.read.strace_lines import Lines
from sofa_otel.exporters.read.strace_scan import Places

_PRIVATE: Final = re.compile(rb"futex\((0x[0-9a-f]+), FUTEX_\w+_PRIVATE")
_WOKE: Final = re.compile(rb"\) += [1-9]")
_SOON_NS: Final = 2_000_000
_MOST: Final = 512
"""Wake-ups looked at in a block."""


def kin(lines: Lines, rows: NDArray[Any], ends: Places, born: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs of threads of one process.

    Processes that were forked have their futexes at the same addresses, so an address alone proves nothing: the sleeper must be
    the only one on it that wakes when it is woken.

    Args:
        lines: A block.
        rows, ends: Its calls (:meth:`.CallReader.read`).
        born: By thread id, whether its beginning is in the recording.
    """
    known = (rows["line"] >= 0) & (ends >= 0) & ~born[rows["tid"]] & (rows["duration"] > 0)
    waits: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(known & (rows["subkind"] == Futex.WAIT)).tolist():
        if address := _PRIVATE.search(_text(lines, int(rows["line"][row]))):
            waits.setdefault(address[1], []).append(row)
    if not waits:
        return []
    slept = {address: rows[found] for address, found in waits.items()}
    out: set[tuple[int, int]] = set()
    for row in np.flatnonzero(known & (rows["subkind"] == Futex.WAKE))[:_MOST].tolist():
        address = _PRIVATE.search(_text(lines, int(rows["line"][row])))
        sleepers = slept.get(address[1]) if address else None
        if sleepers is None or not _WOKE.search(_text(lines, int(ends[row]))):
            continue
        begin, end = int(rows["start"][row]), int(rows["start"][row] + rows["duration"][row]) + _SOON_NS
        until = sleepers["start"] + sleepers["duration"]
        woken = np.unique(sleepers["tid"][(sleepers["start"] <= begin) & (until >= begin) & (until <= end)])
        if len(woken) == 1 and woken[0] != rows["tid"][row]:
            out.add((int(rows["tid"][row]), int(woken[0])))
    return sorted(out)


def _text(lines: Lines, row: int) -> bytes:
    return lines.scan.data[int(lines.scan.start[row]) : int(lines.scan.end[row])]
