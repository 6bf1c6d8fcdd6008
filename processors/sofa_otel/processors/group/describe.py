"""Describing the swarms of a cut: members, kind, caption and relations, from one pass over the tree."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import Phase, SwarmKind
from sofa_otel.core.records import SwarmMember, SwarmRelation
from sofa_otel.processors.attribute.phases import PHASES
from sofa_otel.processors.group.caption import caption_of, kind_of
from sofa_otel.processors.group.catalogue import OTHER_ID, sketch_of
from sofa_otel.processors.group.cut import Cut
from sofa_otel.processors.group.keys import FrameKey
from sofa_otel.processors.group.relations import relate
from sofa_otel.processors.group.source_lines import SourceLine, SourceLines
from sofa_otel.processors.group.tree import LEADER, ROOT, CallTree

_MEMBERS: Final = 8
_CRUMB: Final = 1e-5
_LEAST: Final = 0.01


Members = dict[tuple[str, str], float]
"""Share by (module, function)."""


class Described(NamedTuple):
    """What is known about a swarm apart from its id."""

    key: FrameKey
    top: FrameKey
    line: SourceLine | None
    phase: Phase
    communication: bool
    blocked: float
    members: list[SwarmMember]
    relations: list[SwarmRelation]

    def phase_or(self, seen: Phase | None) -> Phase:
        """``seen`` if given, else the phase that the frames speak for."""
        return self.phase if seen is None else seen

    def name(self, seen: Phase | None) -> tuple[SwarmKind, Phase, str]:
        """Kind, phase and caption, given the phase that attribution saw it in."""
        phase = self.phase_or(seen)
        kind = kind_of(self.key, phase, communication=self.communication, blocked=self.blocked)
        return kind, phase, caption_of(self.key, self.top, self.line, kind, phase)


def _own(tree: CallTree) -> NDArray[np.float64]:
    """Own weights as shares of their facet, added up: comparable within a group."""
    weights = tree.weights
    totals = weights.sum(0)
    return np.asarray((weights / np.where(totals > 0, totals, 1.0)).sum(1))


def group_members(tree: CallTree, cut: Cut) -> list[Members]:
    """Share by (module, function) of every group; lines count for their function."""
    own = _own(tree)
    out: list[Members] = [{} for _ in cut.groups]
    for node in np.flatnonzero((cut.owner >= 0) & (own > _CRUMB)).tolist():
        found = out[cut.owner[node]]
        key = tree.keys[node]
        found[key.module, key.function] = found.get((key.module, key.function), 0.0) + float(own[node])
    for found in out:
        total = sum(found.values()) or 1.0
        for one in found:
            found[one] /= total
    return out


def sketches(cut: Cut, members: list[Members]) -> list[tuple[int, ...]]:
    """Sketch of the members of every group; a line swarm has none (its function is shared with its neighbours)."""
    return [
        () if group.key.line else sketch_of({f"{m}!{f}" for (m, f), share in mine.items() if share >= _LEAST})
        for group, mine in zip(cut.groups, members, strict=True)
    ]


def describe(
    tree: CallTree, cut: Cut, members: list[Members], ids: list[str], sources: SourceLines, seen: dict[str, Phase]
) -> dict[str, Described]:
    """Describe every group of a cut.

    Args:
        members: Of each group, as :func:`group_members` gives them.
        ids: Swarm id of each group.
        seen: Phase that attribution saw a swarm in, by id; overrides what its frames say.
    """
    count = len(cut.groups)
    own = _own(tree)
    inside = cut.owner >= 0
    owner = cut.owner[inside]
    phases = np.zeros((count, len(PHASES)))
    np.add.at(phases, (owner, tree.phase[inside]), own[inside])
    total = np.bincount(owner, own[inside], count)
    comm = np.bincount(owner, own[inside] * tree.communication[inside], count)
    lead = np.bincount(owner, tree.weights[inside, LEADER], count)
    blocked = np.bincount(owner, tree.blocked[inside], count)
    found: list[Described] = []
    for i, (group, mine) in enumerate(zip(cut.groups, members, strict=True)):
        best = sorted(mine.items(), key=lambda item: (-item[1], item[0]))[:_MEMBERS]
        found.append(
            Described(
                key=group.key,
                top=group.top,
                line=sources.get(group.key.file, group.key.line) if group.key.line else None,
                phase=PHASES[int(phases[i].argmax())],
                communication=bool(comm[i] > 0.5 * total[i]),
                blocked=float(blocked[i] / lead[i]) if lead[i] else 0.0,
                members=[SwarmMember(function, module, round(share, 6)) for (module, function), share in best],
                relations=[],
            )
        )
    edges = relate(
        ids, _callers(tree, cut, ids), [one.key.module for one in found],
        [seen.get(swarm, one.phase) for swarm, one in zip(ids, found, strict=True)], [group.share for group in cut.groups],
    )  # fmt: skip
    return {swarm: one._replace(relations=edges[swarm]) for swarm, one in zip(ids, found, strict=True)}


def _callers(tree: CallTree, cut: Cut, ids: list[str]) -> list[dict[str, float]]:
    parent = tree.parent
    weight = tree.inclusive(_own(tree))
    whole = float(weight[ROOT]) or 1.0
    out: list[dict[str, float]] = []
    for group in cut.groups:
        mine: dict[str, float] = {}
        for node in group.nodes:
            outer = int(cut.owner[parent[node]]) if parent[node] != ROOT else -1
            caller = OTHER_ID if outer < 0 else ids[outer]
            if caller not in {OTHER_ID, ids[cut.owner[node]]}:
                mine[caller] = mine.get(caller, 0.0) + float(weight[node]) / whole
        out.append(mine)
    return out
