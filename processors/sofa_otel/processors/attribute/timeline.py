"""Intervals on one thread's time axis: exact phases from hooks, innermost calls, device activity. Sweeps over edges."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.processors.attribute.phases import BACKWARD, FORWARD, LOADING, PHASES, STRONG, UNKNOWN

GAP: Final = len(PHASES)
"""Label of time outside every hook."""
SOFT: Final = GAP + 1
"""… between a DataLoader fetch and a backward pass: the forward pass."""
FILL: Final = GAP + 2
"""… before a backward pass, where something else may stand too."""
LABELS: Final = 2 * (FILL + 1)
"""Labels are doubled: ``2·label + inside a collective``."""

Ints = NDArray[np.int64]


class Timeline(NamedTuple):
    """Elementary segments of a window: ``edges i64 [m+1]``, ``label i64 [m]``, ``source i64 [m]`` (hook row or -1)."""

    edges: Ints
    label: Ints
    source: Ints

    def at(self, time_ns: Ints) -> Ints:
        """Label at instants inside the window."""
        return self.label[self.segment(time_ns)]

    def segment(self, time_ns: Ints) -> Ints:
        """Segment index at instants; instants outside take the nearest."""
        return np.clip(np.searchsorted(self.edges, time_ns, "right") - 1, 0, len(self.label) - 1)

    def lengths(self) -> Ints:
        """Nanoseconds by label, summing to the window's length."""
        return np.bincount(self.label, np.diff(self.edges), LABELS).astype(np.int64)


def disjoint(lo: Ints, hi: Ints) -> tuple[Ints, Ints, Ints]:
    """Sort intervals and trim each where the ones before it reach into it; returns ``lo, hi, original index``, none empty."""
    order = np.argsort(lo, kind="stable")
    lo, hi = lo[order], hi[order]
    if len(lo) > 1:
        reach = np.maximum.accumulate(hi)[:-1]
        lo = np.concatenate([lo[:1], np.maximum(lo[1:], reach)])
    keep = hi > lo
    return lo[keep], hi[keep], order[keep]


def cover(lo: Ints, hi: Ints, time_ns: Ints) -> Ints:
    """Index of the disjoint sorted interval that holds each instant, -1 where none does."""
    if not len(lo):
        return np.full(len(time_ns), -1, np.int64)
    found = np.searchsorted(lo, time_ns, "right") - 1
    inside = (found >= 0) & (time_ns < hi[np.maximum(found, 0)])
    return np.where(inside, found, -1).astype(np.int64)


def timeline(start_ns: int, end_ns: int, hooks: tuple[Ints, Ints, Ints], collectives: tuple[Ints, Ints]) -> Timeline:
    """Segments of a window with what hooks say about them.

    Args:
        start_ns, end_ns: The window.
        hooks: ``lo, hi, phase code`` of hook intervals of the thread; may reach out of the window.
        collectives: ``lo, hi`` of collective operations of the thread.
    """
    hook_lo, hook_hi, hook_of = disjoint(hooks[0], hooks[1])
    phase = hooks[2][hook_of]
    comm_lo, comm_hi, _ = disjoint(*collectives)
    edges = np.unique(
        np.concatenate([[start_ns, end_ns], *(np.clip(e, start_ns, end_ns) for e in (hook_lo, hook_hi, comm_lo, comm_hi))])
    )
    middle = edges[:-1] + np.diff(edges) // 2
    inside = cover(hook_lo, hook_hi, middle)
    label = np.full(len(middle), GAP, np.int64)
    if len(hook_lo):
        after = np.searchsorted(hook_lo, middle, "right")
        before_backward = (after < len(phase)) & (phase[np.minimum(after, len(phase) - 1)] == BACKWARD)
        after_loading = (after > 0) & (phase[np.maximum(after - 1, 0)] == LOADING)
        label[before_backward] = FILL
        label[before_backward & after_loading] = SOFT
        label = np.where(inside >= 0, phase[np.maximum(inside, 0)], label)
    source = np.where(inside >= 0, hook_of[np.maximum(inside, 0)], -1) if len(hook_of) else inside
    return Timeline(edges, 2 * label + (cover(comm_lo, comm_hi, middle) >= 0), source)


def phase_under(label: Ints, phase: Ints, strength: NDArray[Any]) -> Ints:
    """Phase of samples, given the label at their instant and what their frames say."""
    place = label // 2
    keep = (strength == STRONG) & (phase != BACKWARD)
    soft = np.where(keep, phase, FORWARD)
    fill = np.where((phase == UNKNOWN) | (phase == BACKWARD), FORWARD, phase)
    found = np.where(place < GAP, place, np.where(place == SOFT, soft, np.where(place == FILL, fill, phase)))
    return np.asarray(found, np.int64)


def innermost(lo: Ints, hi: Ints, time_ns: Ints) -> Ints:
    """Index of the innermost of nested intervals at each instant, -1 where there is none."""
    out = np.full(len(time_ns), -1, np.int64)
    if not len(lo):
        return out
    order = np.lexsort((-hi, lo))
    lo, hi = lo[order], hi[order]
    depth = np.arange(len(lo)) - np.searchsorted(np.sort(hi), lo, "right")
    for level in range(int(depth.max()) + 1):
        rows = np.flatnonzero(depth == level)
        found = cover(lo[rows], hi[rows], time_ns)
        out = np.where(found >= 0, order[rows[np.maximum(found, 0)]], out)
    return out


def to_exact(weight: NDArray[np.float64], total: int) -> Ints:
    """Whole numbers in proportion to ``weight`` that sum to ``total`` exactly (largest remainder; ties to the first)."""
    weight = np.asarray(weight, np.float64)
    whole = weight.sum()
    if not len(weight) or whole <= 0:
        return np.zeros(len(weight), np.int64)
    scaled = weight / whole * total
    out: Ints = np.floor(scaled).astype(np.int64)
    missing = total - int(out.sum())
    if missing > 0:
        order = np.argsort(-(scaled - out), kind="stable")
        out[order[: missing % len(out)]] += 1
        out += missing // len(out)
    elif missing < 0:  # rounding of the floats themselves
        out[int(out.argmax())] += missing
    return out
