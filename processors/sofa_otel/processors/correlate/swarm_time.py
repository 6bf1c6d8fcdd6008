"""Swarm time: how much time each swarm has used up to any instant, so that any unit of time can be asked for its part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind
from sofa_otel.core.records import Iteration, SwarmWindow

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True)
class SwarmTime:
    """Time by swarm over a rank's training iterations.

    Attributes:
        swarms: Ids, in the order of the columns.
        start_ns, end_ns: Blocks: an iteration, or the iterations that share a window. Ascending, never overlapping.
        iterations: Iterations in each block.
        seconds: ``(blocks, swarms)``, of the leading thread and of those beside it together.
    """

    swarms: list[str]
    start_ns: Times
    end_ns: Times
    iterations: Floats
    seconds: Floats

    def until(self, time_ns: Times) -> tuple[Floats, Floats, Floats]:
        """Used up to each instant, spread evenly within a block.

        Returns:
            Seconds by swarm ``(instants, swarms)``, iterations, and seconds covered by blocks.
        """
        span = self.end_ns - self.start_ns
        block = np.searchsorted(self.start_ns, time_ns, "right") - 1
        at = np.maximum(block, 0)
        part = np.where(block < 0, 0.0, np.clip((time_ns - self.start_ns[at]) / span[at], 0.0, 1.0))
        out = []
        for each in (self.seconds, self.iterations[:, None], span[:, None] / 1e9):
            before = np.vstack([np.zeros((1, each.shape[1])), np.cumsum(each, axis=0)])
            out.append(before[at] + part[:, None] * each[at])
        return out[0], out[1][:, 0], out[2][:, 0]


def swarm_time(iterations: Sequence[Iteration], windows: Sequence[SwarmWindow]) -> SwarmTime:
    """Swarm time of one rank; windows outside training iterations are left out (another regime, another mean)."""
    train = {one.index: one for one in iterations if one.kind is IterationKind.TRAIN}
    rows = [
        row for row in windows if row.iteration in train and (row.iterations == 1 or row.iteration + row.iterations - 1 in train)
    ]
    spans = sorted({(train[row.iteration].start_ns, row.iteration, row.iterations) for row in rows})
    blocks: list[tuple[int, int]] = []
    start: list[int] = []
    end: list[int] = []
    for start_ns, first, count in spans:
        end_ns = train[first + count - 1].end_ns
        if end_ns > start_ns and (not end or start_ns >= end[-1]):
            blocks.append((first, count))
            start.append(start_ns)
            end.append(end_ns)
    where = {block: i for i, block in enumerate(blocks)}
    swarms = sorted({row.swarm for row in rows})
    column = {swarm: i for i, swarm in enumerate(swarms)}
    flat = np.fromiter((where.get((row.iteration, row.iterations), -1) for row in rows), np.int64, len(rows))
    flat = np.where(flat < 0, -1, flat * len(swarms) + np.fromiter((column[row.swarm] for row in rows), np.int64, len(rows)))
    used = np.fromiter((row.time_ns for row in rows), np.float64, len(rows)) / 1e9
    keep = flat >= 0
    cells = np.bincount(flat[keep], used[keep], minlength=len(blocks) * len(swarms))
    seconds = np.asarray(cells, np.float64).reshape(len(blocks), len(swarms))
    counts = np.array([count for _, count in blocks], np.float64)
    return SwarmTime(swarms, np.array(start, np.int64), np.array(end, np.int64), counts, seconds)
