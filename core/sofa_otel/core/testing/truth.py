"""Truth: which iterations an input really holds, and how well a list of boundaries agrees with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """The iterations of an input; none for one that is aperiodic.

    Attributes:
        start_ns, end_ns: UNIX ns of every pass of the loop, in order; validation and checkpoint passes included.
        kind: :class:`IterationKind` of each.
        level: The level that these are (``step``).
        micro_batches: Passes of the inner loop a step.
        note: Where the truth comes from.
    """

    start_ns: list[int] = []
    end_ns: list[int] = []
    kind: list[IterationKind] = []
    level: str = "step"
    micro_batches: int = 1
    note: str = ""

    @property
    def steps(self) -> int:
        """Training steps, warm-up included."""
        return sum(kind in (IterationKind.TRAIN, IterationKind.WARMUP) for kind in self.kind)

    def ends(self) -> NDArray[np.int64]:
        """End of every training step, ``i64`` ns."""
        return np.array(
            [e for e, k in zip(self.end_ns, self.kind, strict=True) if k in (IterationKind.TRAIN, IterationKind.WARMUP)], np.int64
        )

    def period_s(self) -> float:
        """Median duration of the training steps after warm-up, seconds; 0 when there are none."""
        rows = zip(self.start_ns, self.end_ns, self.kind, strict=True)
        durations = [end - start for start, end, kind in rows if kind == IterationKind.TRAIN]
        return float(np.median(durations)) / 1e9 if durations else 0.0


class Agreement(NamedTuple):
    """Precision, recall and their harmonic mean, 0..1."""

    precision: float
    recall: float
    f1: float


def score_boundaries(
    truth_ns: Sequence[int] | NDArray[Any], found_ns: Sequence[int] | NDArray[Any], tolerance_ns: float
) -> Agreement:
    """How well boundaries agree, after one constant offset has been taken out (a detector may cut at another phase of the loop).

    Each boundary is matched at most once, in order.
    """
    truth, found = np.sort(np.asarray(truth_ns, np.int64)), np.sort(np.asarray(found_ns, np.int64))
    if not len(truth) or not len(found):
        equal = float(len(truth) == len(found))
        return Agreement(equal, equal, equal)
    above = np.searchsorted(truth, found)
    neighbours = [
        found - truth[np.clip(above - k, 0, len(truth) - 1)] for k in (0, 1)
    ]  # the cut may lie late or early in the cycle
    offsets = np.unique([np.quantile(gap, [0.1, 0.25, 0.5, 0.75, 0.9]) for gap in neighbours]).astype(np.int64)
    hits = max(_matches(truth, found - offset, tolerance_ns) for offset in [0, *offsets.tolist()])
    precision, recall = hits / len(found), hits / len(truth)
    return Agreement(precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0)


def _matches(truth: NDArray[np.int64], found: NDArray[np.int64], tolerance: float) -> int:
    i = j = hits = 0
    while i < len(truth) and j < len(found):
        gap = int(found[j]) - int(truth[i])
        if abs(gap) <= tolerance:
            hits, i, j = hits + 1, i + 1, j + 1
        elif gap < 0:
            j += 1
        else:
            i += 1
    return hits
