"""The top-down cut of a calling-context tree into swarms.

A node is small enough to be one swarm at 1–12 % of the weight; a larger one is opened and its children are looked at; what is
left over between them goes to the opened node itself or, when too little, to its callers. A chain of frames in which each holds
≥ 90 % of the one before is one thing and takes the name of its innermost frame. A Python leaf that is still too large is opened
by source line: C calls are invisible in a Python stack, the executing line is all there is to tell them apart. Thresholds have
hysteresis: what was a swarm (or open) in the last cut stays so a little longer.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.processors.group.keys import FrameKey
from sofa_otel.processors.group.tree import ROOT, CallTree

FLOOR: Final = 0.01
CEILING: Final = 0.12
CHAIN: Final = 0.90
OTHER: Final = 0.05
MAX_SWARMS: Final = 64
_PROGRAM: Final = frozenset({"<module>", "main", "run", "train", "fit", "loop", "train_loop", "training_loop", "train_epoch"})
"""Frames that are the program itself: a swarm is something that they call."""
_DUST: Final = 1e-6
_STAY: Final = 0.75  # hysteresis: thresholds move by a quarter in favour of the last decision


class Group(NamedTuple):
    """A swarm-to-be.

    Attributes:
        key: Innermost frame of its chain: where the time goes.
        host: Key of the opened frame around it; tells equal keys apart.
        top: Outermost frame of its chain (equal to ``key`` when there is no chain). Identity is taken from it: how far a
            chain reaches inwards depends on a few samples, and where the cut went through it on a few per cent.
        nodes: Nodes whose subtrees (down to the next group) belong to it.
        share: Largest share over the facets.
    """

    key: FrameKey
    host: FrameKey
    top: FrameKey
    nodes: tuple[int, ...]
    share: float

    @property
    def around(self) -> FrameKey:
        """What tells it apart from a swarm of the same top: the end of its chain, else the opened frame it is called from."""
        return self.host if self.top.identity == self.key.identity else self.key


class Cut(NamedTuple):
    """Result of a cut: groups, largest first; ``owner i32 [nodes]`` group position of every node, -1 for *other*."""

    groups: list[Group]
    owner: NDArray[np.int32]
    opened: frozenset[int]


class _Anchor(NamedTuple):
    """A node that becomes (part of) a swarm."""

    key: FrameKey
    host: FrameKey
    share: float


NO_CUT: Final = Cut([], np.empty(0, np.int32), frozenset())


def cut(tree: CallTree, before: Cut = NO_CUT, limit: int = MAX_SWARMS - 1) -> Cut:
    """Cut the tree; the floor is lowered until at most 5 % of every facet are left without a swarm (or ``limit`` is reached)."""
    inclusive = tree.inclusive(tree.weights)
    totals = inclusive[ROOT].copy()
    if tree.import_node is not None:  # start-up, once: it must not decide what is large in the loop
        totals = np.maximum(totals - inclusive[tree.import_node], 0.0)
        totals[totals < _DUST * inclusive[ROOT]] = 0.0
    present = totals > 0
    if not present.any():
        return Cut([], np.full(len(tree), -1, np.int32), frozenset())
    shares = inclusive[:, present] / totals[present]
    floor = FLOOR
    result = _cut_once(tree, shares, floor, before, limit)
    for _ in range(4):
        if len(result.groups) >= limit or _left_over(tree, result, present) <= OTHER:
            break
        floor /= 2
        result = _cut_once(tree, shares, floor, before, limit)
    return result


def _left_over(tree: CallTree, result: Cut, present: NDArray[np.bool_]) -> float:
    own = tree.weights[:, present]
    whole = own.sum(0)
    return float((own[result.owner < 0].sum(0) / np.where(whole > 0, whole, 1.0)).max())


def _cut_once(tree: CallTree, shares: NDArray[np.float64], floor: float, before: Cut, limit: int) -> Cut:
    share = shares.max(1)
    parent = tree.parent
    was_group = {node for group in before.groups for node in group.nodes}
    children = _children(parent, share, floor * _STAY)
    anchors: dict[int, _Anchor] = {}
    hosts: dict[int, FrameKey] = {ROOT: tree.keys[ROOT]}
    visit = [ROOT]
    for node in visit:  # grows while it is read: a breadth-first walk over the opened nodes
        for child in children.get(node, ()):
            if tree.keys[child].line:
                continue
            own_floor = floor * _STAY if child in was_group else floor
            if share[child] < own_floor:
                continue
            ceiling = CEILING / _STAY if child in was_group else CEILING * _STAY if child in before.opened else CEILING
            if share[child] > ceiling and _can_open(tree, shares, share, child, children.get(child, ()), floor):
                visit.append(child)
            else:
                anchors[child] = _Anchor(_chain_end(tree, shares, child, children), tree.keys[node], float(share[child]))
        for line in _lines(tree, shares, share, node, children.get(node, ()), floor):
            anchors[line] = _Anchor(tree.keys[line], tree.keys[node], float(share[line]))
        hosts[node] = tree.keys[parent[node]]
    _keep_rest(tree, shares, floor, visit, anchors, hosts)
    return _collect(tree, share, shares, anchors, frozenset(visit), before, floor, limit)


def _children(parent: NDArray[np.int32], share: NDArray[np.float64], least: float) -> dict[int, list[int]]:
    out: dict[int, list[int]] = {}
    for node in np.flatnonzero(share >= least).tolist():
        if node != ROOT:
            out.setdefault(int(parent[node]), []).append(node)
    return out


def _can_open(
    tree: CallTree,
    shares: NDArray[np.float64],
    share: NDArray[np.float64],
    node: int,
    children: list[int] | tuple[int, ...],
    floor: float,
) -> bool:
    if any(not tree.keys[child].line and share[child] >= floor for child in children):
        return True
    return bool(_lines(tree, shares, share, node, children, floor))


def _lines(
    tree: CallTree,
    shares: NDArray[np.float64],
    share: NDArray[np.float64],
    node: int,
    children: list[int] | tuple[int, ...],
    floor: float,
) -> list[int]:
    """Line children that become swarms: only where the frame's own time is too much for one, and no single line holds it all."""
    lines = [child for child in children if tree.keys[child].line]
    if not lines:
        return []
    own = shares[lines].sum(0)
    if own.max() <= CEILING or shares[lines][:, int(own.argmax())].max() >= CHAIN * own.max():
        return []
    return [line for line in lines if share[line] >= floor]


def _chain_end(tree: CallTree, shares: NDArray[np.float64], node: int, children: dict[int, list[int]]) -> FrameKey:
    while True:
        facet = int(shares[node].argmax())
        best = next(
            (c for c in children.get(node, ()) if not tree.keys[c].line and shares[c, facet] >= CHAIN * shares[node, facet]), None
        )
        if best is None:
            return tree.keys[node]
        node = best


def _keep_rest(
    tree: CallTree,
    shares: NDArray[np.float64],
    floor: float,
    opened: list[int],
    anchors: dict[int, _Anchor],
    hosts: dict[int, FrameKey],
) -> None:
    """Give an opened node its own swarm when what its swarms leave over is enough; else leave it to its callers."""
    parent = tree.parent
    rest = {node: shares[node].copy() for node in opened}
    for node in anchors:
        rest[int(parent[node])] -= shares[node]
    for node in sorted(opened, reverse=True):
        if node == ROOT:
            continue
        if rest[node].max() >= floor:
            anchors[node] = _Anchor(tree.keys[node], hosts[node], float(rest[node].max()))
            rest[int(parent[node])] -= shares[node]
        else:
            rest[int(parent[node])] -= shares[node] - rest[node]


def _collect(
    tree: CallTree,
    share: NDArray[np.float64],
    shares: NDArray[np.float64],
    anchors: dict[int, _Anchor],
    opened: frozenset[int],
    before: Cut,
    floor: float,
    limit: int,
) -> Cut:
    parent = tree.parent
    members: dict[tuple[tuple[str, str, int], tuple[str, str, int]], list[int]] = {}
    for node in sorted(anchors):
        anchor = anchors[node]
        members.setdefault((anchor.key.identity, anchor.host.identity), []).append(node)
    tops = {group.nodes[0]: group.top for group in before.groups}
    groups = []
    for nodes in members.values():
        first = anchors[nodes[0]]
        top = _chain_top(tree, share, nodes[0], opened, tops)
        groups.append(Group(first.key, first.host, top, tuple(nodes), sum(anchors[node].share for node in nodes)))
    groups += _modules(tree, shares, anchors, opened, floor)
    groups.sort(key=lambda group: (-group.share, group.key.identity, group.host.identity))
    del groups[limit:]
    owner = np.full(len(tree), -1, np.int32)
    for position, group in enumerate(groups):
        owner[list(group.nodes)] = position
    nearest = np.where(owner >= 0, np.arange(len(tree)), parent)
    while True:  # pointer jumping: what has a group points at itself, so the nearest one is where a walk ends
        further = nearest[nearest]
        if (further == nearest).all():
            return Cut(groups, owner[nearest], opened)
        nearest = further


def _chain_top(
    tree: CallTree, share: NDArray[np.float64], node: int, opened: frozenset[int], before: dict[int, FrameKey]
) -> FrameKey:
    """Outermost caller that does little else: what a person looks for in the program. Not the program itself.

    With hysteresis: the last answer stays as long as it is right within a margin.
    """
    if node in opened or tree.keys[node].line:
        return tree.keys[node]
    loose, usual, strict = (_climb(tree, share, node, threshold) for threshold in (CHAIN - 0.1, CHAIN, CHAIN + 0.05))
    last = before.get(node)
    return last if last is not None and last in [tree.keys[one] for one in loose[len(strict) - 1 :]] else tree.keys[usual[-1]]


def _climb(tree: CallTree, share: NDArray[np.float64], node: int, threshold: float) -> list[int]:
    parent = tree.parent
    out = [node]
    while parent[parent[node]] != ROOT and share[node] >= threshold * share[parent[node]]:
        node = int(parent[node])
        if tree.keys[node].function in _PROGRAM:
            break
        out.append(node)
    return out


def _modules(
    tree: CallTree,
    shares: NDArray[np.float64],
    anchors: dict[int, _Anchor],
    opened: frozenset[int],
    floor: float,
) -> list[Group]:
    """Outermost frames that are too small each, put together by module (flat profiles, address-only samples)."""
    loose = [int(n) for n in np.flatnonzero(tree.parent == ROOT) if n != ROOT and n not in anchors and n not in opened]
    by_module: dict[str, list[int]] = {}
    for node in loose:
        by_module.setdefault(tree.keys[node].module, []).append(node)
    out = []
    for module, nodes in sorted(by_module.items()):
        total = float(shares[nodes].sum(0).max())
        if total >= floor:
            key = FrameKey(module, "*")
            out.append(Group(key, tree.keys[ROOT], key, tuple(nodes), total))
    return out
