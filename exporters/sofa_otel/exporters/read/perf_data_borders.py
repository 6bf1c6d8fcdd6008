"""Where the records of ``perf.data`` begin.

A record only says where the next one is: taken literally, that is one step of Python a record. It is a few passes over whole
columns instead (30 M records/s), and the steps are left for where records of unusual kinds stand.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

ATTR: Final = 64
"""The first of the record types that perf itself writes; those before are the kernel's."""

LONGEST_CHAIN: Final = 4
_LAST_KERNEL: Final = 21
_LAST: Final = 84
_LEARN_WORDS: Final = 4096
_MOST_KNOWN: Final = 8


def borders(words: NDArray[np.uint64], size: NDArray[np.uint16]) -> NDArray[np.int64]:
    """First words of the records that begin in ``words``; the last may be longer than what is there, or without a size.

    Most records begin with one of a few header words. Where those stand is found at once; each that ends where the next one
    begins is a border. Only between them it must be walked.
    """
    steps = memoryview(size)  # type: ignore[arg-type]
    count = len(words)
    out = _walk(steps, 0, min(count, _LEARN_WORDS), None)
    here = out[-1] + (steps[out[-1]] >> 3)
    if here >= count or here == out[-1]:
        return np.array(out, np.int64)
    values, often = np.unique(words[out], return_counts=True)
    mask = np.zeros(count, bool)
    for value in values[np.argsort(-often)[:_MOST_KNOWN]]:
        mask |= words == value
    known = np.flatnonzero(mask)
    after = known + (size[known] >> 3)
    breaks = np.flatnonzero(after[:-1] != known[1:])
    if len(breaks) > len(known) // 8:
        return np.array(out + _walk(steps, here, count, None), np.int64)
    parts = [np.array(out, np.int64)]
    while here < count:
        index = int(np.searchsorted(known, here))
        if index < len(known) and known[index] == here:
            stop = int(np.searchsorted(breaks, index))
            last = int(breaks[stop]) if stop < len(breaks) else len(known) - 1
            parts.append(known[index : last + 1])
            here = int(after[last])
            continue
        walked = _walk(steps, here, count, mask)
        parts.append(np.array(walked, np.int64))
        step = steps[walked[-1]] >> 3
        if not step:
            break
        here = walked[-1] + step
    return np.concatenate(parts)


def _walk(size: memoryview, here: int, stop: int, known: NDArray[np.bool_] | None) -> list[int]:
    """Borders from ``here`` on, one after the other: at least one, up to ``stop`` or to a header word that is known."""
    out: list[int] = []
    append = out.append
    while here < stop:
        append(here)
        step = size[here] >> 3
        if not step:
            break
        here += step
        if known is not None and here < stop and known[here]:
            break
    return out


def plausible(words: NDArray[np.uint64], size: NDArray[np.uint16]) -> int:
    """The first word after the first from which a chain of records runs; -1 when there is none."""
    kind = words.view(np.uint32)[::2]
    likely = np.flatnonzero((kind > 0) & (kind <= _LAST))
    if not len(likely):
        return -1
    head, length = words[likely], size[likely]
    kinds, misc = kind[likely], (head >> np.uint64(32)).astype(np.uint16)
    fits = (length >= 8) & (length & 7 == 0) & ((kinds <= _LAST_KERNEL) | (kinds >= ATTR)) & (misc & 7 < 6)
    here = likely[fits]
    good = np.zeros(len(words), bool)
    good[here] = True
    here = here[here > 0]
    first = here
    found = len(words)
    for hop in range(1, LONGEST_CHAIN):
        here = here + (size[here] >> 3)
        inside = here < len(words)
        if hop > 1 and not inside.all():
            found = min(found, int(first[~inside][0]))  # the chain leaves what can be seen, and was good so far
        first, here = first[inside], here[inside]
        keep = good[here]
        first, here = first[keep], here[keep]
    if len(first):
        found = min(found, int(first[0]))
    return found if found < len(words) else -1
