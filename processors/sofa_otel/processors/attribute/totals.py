"""Time, calls and bytes by (swarm, phase): a small sum that becomes :class:`SwarmWindow` records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.records import SwarmWindow
from sofa_otel.processors.attribute.phases import PHASES

_PHASES = len(PHASES)


class Totals:
    """Sums by swarm and phase, exact integers."""

    def __init__(self) -> None:
        self._sums: dict[int, list[int]] = {}

    def add(
        self, swarm: NDArray[Any], phase: NDArray[Any], time_ns: NDArray[Any] | None = None, calls: Any = None, moved: Any = None
    ) -> None:
        """Add rows: ``time_ns``, ``calls`` and ``moved`` (bytes) are columns of the same length, or None for zero."""
        if not len(swarm):
            return
        code, inverse = np.unique(swarm.astype(np.int64) * _PHASES + phase, return_inverse=True)
        for place, column in enumerate((time_ns, calls, moved)):
            if column is None:
                continue
            sums = np.zeros(len(code), np.int64)
            np.add.at(sums, inverse, np.asarray(column, np.int64))
            for one, value in zip(code.tolist(), sums.tolist(), strict=True):
                if value:
                    self._sums.setdefault(one, [0, 0, 0])[place] += value

    def records(
        self, job: str, rank: int, iteration: int, iterations: int, ids: list[str], *, concurrent: bool
    ) -> Iterator[SwarmWindow]:
        """A record for every swarm and phase with anything in it, in a fixed order."""
        for code, (time_ns, calls, moved) in sorted(self._sums.items()):
            yield SwarmWindow(
                job=job, rank=rank, iteration=iteration, iterations=iterations, swarm=ids[code // _PHASES],
                phase=PHASES[code % _PHASES], time_ns=time_ns, calls=calls, bytes=moved, concurrent=concurrent,
            )  # fmt: skip
