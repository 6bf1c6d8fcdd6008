"""Calling-context tree of normalised frames, with decayed weights: what the swarm cut is made from.

A call path of the event tables (every bytecode offset is a path of its own there) maps to one node here; rows then use an integer
look-up. Weights live in *facets*, columns that are never added up, because they count different things: the training loop's own
samples, samples of other threads and processes, host events without samples, device events.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.symbols import NO_PATH, Tables
from sofa_otel.processors.attribute.phases import NOTHING, Evidence, combine, frame_evidence, is_communication, is_distributed
from sofa_otel.processors.group.boilerplate import IMPORT_KEY, is_boilerplate, is_import, is_worker_root
from sofa_otel.processors.group.keys import FrameKey, family_key, frame_key, is_python

ROOT: Final = 0
LEADER, OTHERS, HOST, DEVICE = 0, 1, 2, 3
FACETS: Final = 4
MAX_NODES: Final = 16_384
MAX_DEPTH: Final = 160
_KEY_BITS: Final = 24
_FRAME, _SKIP, _IMPORT, _WORKER = range(4)
_SHIFT: Final = 8  # kind and subkind in front of a symbol id


class CallTree:
    """Nodes in order of creation, so a parent's id is always smaller than its child's.

    Attributes:
        keys: Frame key of each node.
        evidence: Phase evidence of each node's path.
        weights: ``f64 [nodes, FACETS]`` nanoseconds (or counts) that ended *in* the node, decayed.
        blocked: ``f64 [nodes]`` part of the leader facet spent blocked.
        distributed: Whether any frame showed that gradients are averaged between ranks.
    """

    def __init__(self, tables: Tables, max_nodes: int = MAX_NODES) -> None:
        self._tables = tables
        self._max_nodes = max_nodes
        self.keys: list[FrameKey] = [FrameKey("", "")]
        self.evidence: list[Evidence] = [NOTHING]
        self._depth: list[int] = [0]
        self._parent: list[int] = [ROOT]
        self._comm: list[bool] = [False]
        self._worker: list[bool] = [False]
        self._children: dict[int, int] = {}
        self._known_keys: list[FrameKey] = [self.keys[ROOT]]
        self._key_ids: dict[tuple[str, str, int], int] = {self.keys[ROOT].identity: 0}
        self._node_keys: list[int] = [0]
        self._symbol_codes: list[int] = []
        self._import_node = -1
        self._weights = np.zeros((64, FACETS))
        self._blocked = np.zeros(64)
        self.distributed = False
        self._frame_nodes: list[int] = [ROOT]
        self._leaf_nodes = np.full(64, -1, np.int32)
        self._family_nodes: dict[int, int] = {}
        self._arrays: (
            tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]] | None
        ) = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def weights(self) -> NDArray[np.float64]:
        return self._weights[: len(self)]

    @property
    def blocked(self) -> NDArray[np.float64]:
        return self._blocked[: len(self)]

    @property
    def parent(self) -> NDArray[np.int32]:
        return self._columns()[0]

    @property
    def phase(self) -> NDArray[np.uint8]:
        """Phase code of each node."""
        return self._columns()[1]

    @property
    def strength(self) -> NDArray[np.uint8]:
        """Strength of the phase evidence of each node."""
        return self._columns()[2]

    @property
    def communication(self) -> NDArray[np.bool_]:
        """Whether a node is inside communication between ranks."""
        return self._columns()[3]

    @property
    def worker(self) -> NDArray[np.bool_]:
        """Whether a node is below the main loop of a helper process."""
        return self._columns()[4]

    def _columns(self) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
        if self._arrays is None or len(self._arrays[0]) != len(self):
            self._arrays = (
                np.asarray(self._parent, np.int32),
                np.asarray([e.phase for e in self.evidence], np.uint8),
                np.asarray([e.strength for e in self.evidence], np.uint8),
                np.asarray(self._comm, bool),
                np.asarray(self._worker, bool),
            )
        return self._arrays

    # -- rows → nodes ----------------------------------------------------------------------------------------------------------
    def nodes_of(
        self, kind: NDArray[np.uint8], subkind: NDArray[np.uint8], name: NDArray[np.uint32], path: NDArray[np.uint32]
    ) -> NDArray[np.int32]:
        """Node of each row: by its stack where it has one, else by its family. ~100 M rows/s once the paths are known."""
        paths = len(self._tables.paths)
        if len(self._leaf_nodes) < paths:
            grown = np.full(max(paths, 2 * len(self._leaf_nodes)), -1, np.int32)
            grown[: len(self._leaf_nodes)] = self._leaf_nodes
            self._leaf_nodes = grown
        nodes = self._leaf_nodes[path]
        unknown = nodes < 0
        if unknown.any():
            for one in np.unique(path[unknown]).tolist():
                self._leaf_nodes[one] = ROOT if one == NO_PATH else self._leaf_node(one)
            nodes = self._leaf_nodes[path]
        bare = path == NO_PATH
        if bare.any():
            code = (name[bare].astype(np.int64) << (2 * _SHIFT)) | (kind[bare].astype(np.int64) << _SHIFT) | subkind[bare]
            distinct, inverse = np.unique(code, return_inverse=True)
            nodes[bare] = np.asarray([self._family_node(one) for one in distinct.tolist()], np.int32)[inverse]
        return nodes

    def _family_node(self, code: int) -> int:
        found = self._family_nodes.get(code)
        if found is None:
            symbol = self._tables.symbols[code >> (2 * _SHIFT)]
            key = family_key((code >> _SHIFT) & 0xFF, code & 0xFF, symbol)
            place = self._key_id(key)
            known = self._children.get(place)
            found = self._family_nodes[code] = self._child(ROOT, place) if known is None else known
        return found

    def _symbol_code(self, symbol_id: int) -> int:
        """Key id of a symbol times four, plus how it enters the tree."""
        codes = self._symbol_codes
        if symbol_id >= len(codes):
            codes += [-1] * (len(self._tables.symbols) - len(codes))
        code = codes[symbol_id]
        if code < 0:
            key = frame_key(self._tables.symbols[symbol_id])
            role = _WORKER if is_worker_root(key) else _IMPORT if is_import(key) else _SKIP if is_boilerplate(key) else _FRAME
            code = codes[symbol_id] = 4 * self._key_id(IMPORT_KEY if role == _IMPORT else key) + role
        return code

    def _key_id(self, key: FrameKey) -> int:
        found = self._key_ids.get(key.identity)
        if found is None:
            found = self._key_ids[key.identity] = len(self._known_keys)
            self._known_keys.append(key)
        return found

    def _frame_node(self, path: int) -> int:
        """Node of a path's frames. ~1 M new paths/s: what makes an import of many distinct stacks slow or fast."""
        known = self._frame_nodes
        if path < len(known):
            return known[path]
        parent_of, leaf_of, children = self._tables.paths.parent, self._tables.paths.leaf, self._children
        for this in range(len(known), path + 1):  # a parent's id is smaller than its child's
            base = known[parent_of(this)]
            code = self._symbol_code(leaf_of(this))
            role = code & 3
            if role == _SKIP or base == self._import_node:
                known.append(base)
                continue
            node = children.get(((base if role == _FRAME else ROOT) << _KEY_BITS) | (code >> 2))
            if node is None:
                node = self._child(base if role == _FRAME else ROOT, code >> 2)
                if role == _IMPORT:
                    self._import_node = node
                elif role == _WORKER:
                    self._worker[node] = True
                    self._arrays = None
            known.append(node)
        return known[path]

    def _leaf_node(self, path: int) -> int:
        node = self._frame_node(path)
        symbol_id = self._tables.paths.leaf(path)
        code = self._symbol_code(symbol_id)
        symbol = self._tables.symbols[symbol_id]
        if code & 3 != _FRAME or symbol.line <= 0 or not is_python(symbol) or self._node_keys[node] != code >> 2:
            return node
        key = self._known_keys[code >> 2]
        line = self._key_id(FrameKey(key.module, key.function, symbol.line, symbol.file))
        found = self._children.get((node << _KEY_BITS) | line)
        return self._child(node, line) if found is None else found

    def _child(self, parent: int, key_id: int) -> int:
        key = self._known_keys[key_id]
        place = (parent << _KEY_BITS) | key_id
        if self._node_keys[parent] == key_id or len(self) >= self._max_nodes or self._depth[parent] >= MAX_DEPTH:
            self._children[place] = parent  # direct recursion is one frame; beyond the bounds a frame is its caller
            return parent
        found = self._children[place] = len(self)
        self.keys.append(key)
        self._node_keys.append(key_id)
        own = NOTHING if key.line else frame_evidence(key.module, key.function)
        self.evidence.append(combine(self.evidence[parent], own))
        self._depth.append(self._depth[parent] + 1)
        self._parent.append(parent)
        self._comm.append(self._comm[parent] or is_communication(key.module, key.function))
        self._worker.append(self._worker[parent])
        self.distributed = self.distributed or is_distributed(key.module)
        if found >= len(self._weights):
            self._weights = np.concatenate([self._weights, np.zeros_like(self._weights)])
            self._blocked = np.concatenate([self._blocked, np.zeros_like(self._blocked)])
        return found

    def set_evidence(self, node: int, evidence: Evidence) -> None:
        """Set what a node's source line says about its phase (lines are read later than nodes are made)."""
        if self.evidence[node] != evidence:
            self.evidence[node] = evidence
            self._arrays = None

    # -- weights ---------------------------------------------------------------------------------------------------------------
    @property
    def import_node(self) -> int | None:
        """The node of import statements, if any was seen."""
        return self._import_node if self._import_node >= 0 else None

    def add(self, facet: int, nodes: NDArray[np.int32], weight: NDArray[Any]) -> None:
        """Add weights of rows to a facet. Sums of integers below 2^53: exact, so independent of the order of rows."""
        self._weights[: len(self), facet] += np.bincount(nodes, weight, len(self))

    def add_blocked(self, nodes: NDArray[np.int32], weight: NDArray[Any]) -> None:
        """Add the blocked part of the leader facet."""
        self._blocked[: len(self)] += np.bincount(nodes, weight, len(self))

    def decay(self, factor: float) -> None:
        """Let the past count less."""
        self._weights *= factor
        self._blocked *= factor

    def inclusive(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over subtrees of a column or matrix of own weights."""
        total = own.copy()
        depth = np.asarray(self._depth, np.int32)
        parent = self.parent
        order = np.argsort(depth, kind="stable")
        borders = np.searchsorted(depth[order], np.arange(1, int(depth.max()) + 2))
        for level in range(len(borders) - 1, 0, -1):
            rows = order[borders[level - 1] : borders[level]]
            np.add.at(total, parent[rows], total[rows])
        return total

    def frames(self, node: int) -> list[int]:
        """Nodes from the outermost frame to ``node``."""
        out: list[int] = []
        while node != ROOT:
            out.append(node)
            node = self._parent[node]
        return out[::-1]
