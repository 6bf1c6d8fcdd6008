"""Stragglers: which rank the others wait for.

In synchronous training every rank takes equally long; the one that is late is the one that waits *least* in communication. Ranks
are aligned by iteration index; the delay is the median wait of the others less the straggler's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from sofa_otel.core.names import Resource
from sofa_otel.core.records import PhaseBreakdown
from sofa_otel.core.report import StragglerItem

_WAITS: Final = (Resource.COMMUNICATION, Resource.SYNC, Resource.NETWORK)
_LEAST_SHARE: Final = 0.05


def _wait_per_iteration(parts: Sequence[PhaseBreakdown]) -> dict[int, float]:
    out: dict[int, float] = {}
    for part in parts:
        if part.iteration < 0:
            continue
        each = sum(part.exposed_ns.get(resource, 0) for resource in _WAITS) / 1e9 / part.iterations
        for index in range(part.iteration, part.iteration + part.iterations):
            out[index] = each
    return out


def stragglers_of(parts: Mapping[int, Sequence[PhaseBreakdown]], step_s: float) -> list[StragglerItem]:
    """Ranks that others wait for, worst first.

    Args:
        parts: Breakdown records by rank.
        step_s: Median iteration time; a delay below 5 % of it is not reported.
    """
    if len(parts) < 2 or step_s <= 0:
        return []
    waits = {rank: _wait_per_iteration(rows) for rank, rows in parts.items()}
    common = sorted(set.intersection(*(set(w) for w in waits.values())))
    if len(common) < 5:
        return []
    ranks = sorted(waits)
    table = np.array([[waits[rank][index] for index in common] for rank in ranks])
    out = []
    for row, rank in enumerate(ranks):
        others = np.median(np.delete(table, row, axis=0), axis=0)
        delay = others - table[row]
        typical = float(np.median(delay))
        late = delay > _LEAST_SHARE * step_s
        if typical > _LEAST_SHARE * step_s and late.mean() > 0.5:
            total = float(delay[late].sum())
            cause = f"waits {1000 * typical:.1f} ms less per iteration than the other ranks: they wait for it"
            out.append(StragglerItem(rank=rank, iterations=int(late.sum()), delay_s=total, cause=cause))
    return sorted(out, key=lambda item: -item.delay_s)
