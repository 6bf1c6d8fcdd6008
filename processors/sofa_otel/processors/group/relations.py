"""Edges between swarms: who calls whom, who shares a module, who works in the same phase. They never change identity."""

from __future__ import annotations

from typing import Final

from sofa_otel.core.names import Phase
from sofa_otel.core.records import SwarmRelation

_MOST: Final = 6


def relate(
    ids: list[str], callers: list[dict[str, float]], modules: list[str], phases: list[Phase], shares: list[float]
) -> dict[str, list[SwarmRelation]]:
    """Relations of every swarm, strongest first, at most six of a kind.

    Args:
        ids: Swarm ids.
        callers: For each swarm, the swarms that call it and the share of the weight that came through them.
        modules, phases, shares: Module of the name-giving frame, dominant phase and share of each swarm.

    Returns:
        Edges by swarm id. ``weight`` is the share behind a call edge, and the smaller of the two shares for the others.
    """
    edges: dict[str, dict[tuple[str, str], float]] = {swarm: {} for swarm in ids}
    for swarm, by in zip(ids, callers, strict=True):
        for caller, weight in by.items():
            edges[swarm]["caller", caller] = weight
            if caller in edges:
                edges[caller]["callee", swarm] = weight
    for i, one in enumerate(ids):
        for j, two in enumerate(ids):
            if i == j:
                continue
            both = min(shares[i], shares[j])
            if phases[i] is phases[j] and phases[i] is not Phase.UNKNOWN:
                edges[one]["phase", two] = both
            if modules[i] and modules[i] == modules[j]:
                edges[one]["module", two] = both
    return {swarm: _strongest(found) for swarm, found in edges.items()}


def _strongest(found: dict[tuple[str, str], float]) -> list[SwarmRelation]:
    out: list[SwarmRelation] = []
    for kind in ("caller", "callee", "phase", "module"):
        mine = sorted(((-w, swarm) for (k, swarm), w in found.items() if k == kind))[:_MOST]
        out += [SwarmRelation(kind, swarm, round(-w, 6)) for w, swarm in mine]
    return out
