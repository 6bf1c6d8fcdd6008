"""The grouping stage: events in, a swarm for every row, and a description of each swarm.

Rows map to tree nodes by an integer look-up and nodes to swarms by another. The tree is cut anew on a fixed grid of event time
(so batch borders do not matter): every second at first, every four seconds later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Call, Kind, Wait
from sofa_otel.core.names import Phase, SwarmKind
from sofa_otel.core.records import SwarmInfo
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.attribute.phases import NONE, PHASES, Evidence, line_evidence
from sofa_otel.processors.group.catalogue import OTHER_ID, Candidate, Catalogue
from sofa_otel.processors.group.cut import NO_CUT, cut
from sofa_otel.processors.group.describe import Described, Members, describe, group_members, sketches
from sofa_otel.processors.group.keys import FrameKey
from sofa_otel.processors.group.source_lines import SourceLines
from sofa_otel.processors.group.tree import DEVICE, HOST, LEADER, OTHERS, CallTree

HALF_LIFE_S: Final = 60.0
GRID_NS: Final = 1_000_000_000
_EAGER: Final = 16
_SLOW: Final = 4
_FORGET: Final = 1e-3
_NEWS: Final = 0.02
"""A cut is out of date when this share of the weight is in nodes that it does not know."""
_MAX_INDEX: Final = 1_024

IGNORED: Final = -1
"""Node of rows that belong to no swarm (marks, loop jumps, scheduler events)."""

_SAMPLES = (Kind.PYTHON_SAMPLE, Kind.CPU_SAMPLE)
_FACET_OF_KIND = np.full(256, -1, np.int8)
_FACET_OF_KIND[[Kind.PYTHON_SAMPLE, Kind.CPU_SAMPLE]] = LEADER
_FACET_OF_KIND[[Kind.GPU_KERNEL, Kind.GPU_COPY]] = DEVICE
_HOST_KINDS = (
    Kind.SYSCALL, Kind.CPU_OP, Kind.GPU_RUNTIME, Kind.GPU_SYNC, Kind.COLLECTIVE, Kind.NET, Kind.DISK, Kind.SPAN, Kind.PYTHON_CALL,
)  # fmt: skip
_FACET_OF_KIND[list(_HOST_KINDS)] = HOST
_ACTIVE = np.zeros(256, bool)
_ACTIVE[[Wait.UNKNOWN, Wait.ON_CPU, Wait.DISK, Wait.NETWORK]] = True


def active(wait: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Samples in which a thread used something, instead of waiting for another thread or for time to pass."""
    return _ACTIVE[wait]


class Grouper:
    """Swarms of one rank.

    Args:
        job, rank: Go into the records.
        tables: Symbol and path tables that every batch uses.
        catalogue: Known swarms of earlier runs, so that ids continue.

    Attributes:
        tree: The calling-context tree; facts about nodes are columns of it.
        catalogue: Identity of swarms.
        swarm_ids: Id by local swarm index; index 0 is *other*.
        generation: Number of cuts so far.
    """

    def __init__(self, job: str, rank: int, tables: Tables, catalogue: Catalogue | None = None) -> None:
        self._job = job
        self._rank = rank
        self.tree = CallTree(tables)
        self.catalogue = catalogue if catalogue is not None else Catalogue()
        self.swarm_ids: list[str] = [OTHER_ID]
        self._index: dict[str, int] = {OTHER_ID: 0}
        self._described: dict[int, Described] = {}
        self._sources = SourceLines()
        self._lines_read = 0
        self._cut = NO_CUT
        self._node_swarm = np.zeros(1, np.int32)
        self._leader: tuple[int, int] | None = None
        self._first_epoch = 0
        self._epoch = 0
        self._cut_epoch = 0
        self._phase_ns = np.zeros((1, len(PHASES)))
        self.generation = 0

    # -- events ----------------------------------------------------------------------------------------------------------------
    def set_leader(self, pid: int, tid: int) -> None:
        """Say which thread runs the training loop; until then main threads of non-worker processes are taken for it."""
        self._leader = (pid, tid)

    def feed(self, batch: EventBatch) -> NDArray[np.int32]:
        """Take events in; rows need not be sorted, batches come in event time.

        Returns:
            Tree node of every row, :data:`IGNORED` where a row belongs to no swarm.
        """
        if not len(batch):
            return np.empty(0, np.int32)
        start = batch.start_ns
        first, last = int(start.min()) // GRID_NS, int(start.max()) // GRID_NS
        if first == last or last <= self._epoch:
            self._advance(last)
            return self._feed_epoch(batch)
        nodes = np.empty(len(batch), np.int32)
        epoch = np.maximum(start // GRID_NS, self._epoch)
        for one in np.unique(epoch).tolist():
            rows = np.flatnonzero(epoch == one)
            self._advance(one)
            nodes[rows] = self._feed_epoch(batch.take(rows))
        return nodes

    def _feed_epoch(self, batch: EventBatch) -> NDArray[np.int32]:
        kind, wait = batch.kind, batch.subkind
        nodes = np.full(len(batch), IGNORED, np.int32)
        hook = (kind == Kind.PYTHON_CALL) & (wait == Call.HOOK)
        known = np.flatnonzero((_FACET_OF_KIND[kind] >= 0) & ((kind != Kind.PYTHON_CALL) | hook))
        if not len(known):
            return nodes
        sample = (kind == Kind.PYTHON_SAMPLE) | (kind == Kind.CPU_SAMPLE)
        subkind = np.where(sample, 0, wait)[known].astype(np.uint8)
        found = self.tree.nodes_of(kind[known], subkind, batch.name[known], batch.path[known])
        nodes[known] = found
        self._weigh(kind[known], wait[known], batch.pid[known], batch.tid[known], found, batch.duration_ns[known])
        return nodes

    def _weigh(
        self,
        kind: NDArray[np.uint8],
        wait: NDArray[np.uint8],
        pid: NDArray[np.uint32],
        tid: NDArray[np.uint32],
        nodes: NDArray[np.int32],
        duration: NDArray[np.int64],
    ) -> None:
        """Add rows that belong to swarms to the weights of the tree."""
        facet = _FACET_OF_KIND[kind]
        sample = facet == LEADER
        busy = active(wait)
        lead = sample & self._is_leader(pid, tid, nodes)
        for which, rows in ((LEADER, lead), (OTHERS, sample & ~lead & busy), (HOST, facet == HOST), (DEVICE, facet == DEVICE)):
            if rows.any():
                self.tree.add(which, nodes[rows], duration[rows] + 1)
        blocked = lead & ~busy
        self.tree.add_blocked(nodes[blocked], duration[blocked])

    def restart(self, rows: Mapping[str, NDArray[Any]], *, keep_ids: bool) -> None:
        """Forget what was before the training loop: from here on only ``rows`` and what follows count.

        Args:
            rows: Columns ``kind, subkind, pid, tid, node`` and ``lo, hi`` (ns) of the rows since the first iteration.
            keep_ids: Records with ids were made already; else ids that start-up gave are given anew, by what the loop is.
        """
        if not keep_ids:
            self.catalogue.forget(set(self.swarm_ids))
            self.swarm_ids = [OTHER_ID]
            self._index = {OTHER_ID: 0}
            self._described = {}
            self._phase_ns = self._phase_ns[:1] * 0
            self._cut = NO_CUT
        self.tree.decay(_FORGET)
        self._weigh(rows["kind"], rows["subkind"], rows["pid"], rows["tid"], rows["node"], rows["hi"] - rows["lo"])
        self.recut()

    def _is_leader(self, pid: NDArray[np.uint32], tid: NDArray[np.uint32], nodes: NDArray[np.int32]) -> NDArray[np.bool_]:
        if self._leader is not None:
            return np.asarray((pid == self._leader[0]) & (tid == self._leader[1]))
        return np.asarray((pid == tid) & ~self.tree.worker[nodes])

    def _advance(self, epoch: int) -> None:
        if epoch <= self._epoch:
            return
        if not self._epoch:
            self._first_epoch = self._epoch = self._cut_epoch = epoch
            return
        due = 1 if epoch - self._first_epoch <= _EAGER else _SLOW
        if epoch - self._cut_epoch >= due:
            self.recut()
            self._cut_epoch = epoch
        self.tree.decay(0.5 ** ((epoch - self._epoch) / HALF_LIFE_S))
        self._epoch = epoch

    # -- swarms ----------------------------------------------------------------------------------------------------------------
    def recut(self) -> None:
        """Cut the tree now. Called on the grid; callers only need it before the first second is over."""
        self._read_lines()
        self._cut = result = cut(self.tree, self._cut)
        members = group_members(self.tree, result)
        texts = [self._key_text(group.top) for group in result.groups]
        candidates = [
            Candidate(text, self._key_text(group.around), sketch)
            for text, group, sketch in zip(texts, result.groups, sketches(result, members), strict=True)
        ]
        ids = self.catalogue.resolve(candidates)
        index = np.zeros(len(ids) + 1, np.int32)  # the last one is for -1, "no group"
        for position, swarm in enumerate(ids):
            index[position] = self._index_of(swarm)
        self._node_swarm = index[result.owner]
        self._describe(members, ids)
        self.generation += 1

    def _index_of(self, swarm: str) -> int:
        found = self._index.get(swarm)
        if found is None:
            if len(self.swarm_ids) >= _MAX_INDEX:
                return 0
            found = self._index[swarm] = len(self.swarm_ids)
            self.swarm_ids.append(swarm)
            self._phase_ns = np.concatenate([self._phase_ns, np.zeros((1, len(PHASES)))])
        return found

    def node_swarms(self) -> NDArray[np.int32]:
        """Local swarm index of every tree node; nodes made after the last cut have their caller's."""
        if not len(self._cut.owner):
            self.recut()
        made = len(self._node_swarm)
        lead = self.tree.weights[:, LEADER]
        if made < len(self.tree) and lead[made:].sum() > _NEWS * lead.sum():
            self.recut()
            made = len(self._node_swarm)
        if made < len(self.tree):
            grown = np.zeros(len(self.tree), np.int32)
            grown[:made] = self._node_swarm
            parent = self.tree.parent
            for node in range(made, len(self.tree)):
                grown[node] = grown[parent[node]]
            self._node_swarm = grown
        return self._node_swarm

    def assign(self, batch: EventBatch) -> NDArray[np.uint32]:
        """Local swarm index of every row (an index into :attr:`swarm_ids`), by the current cut; 0 is *other*."""
        subkind = np.where(np.isin(batch.kind, _SAMPLES), 0, batch.subkind).astype(np.uint8)
        nodes = self.tree.nodes_of(batch.kind, subkind, batch.name, batch.path)
        return self.node_swarms()[nodes].astype(np.uint32)

    def note_phases(self, swarm: NDArray[np.int64], phase: NDArray[np.int64], time_ns: NDArray[np.int64]) -> None:
        """Tell which phases swarms really worked in (attribution knows it from hooks); the dominant one goes into captions."""
        np.add.at(self._phase_ns, (swarm, phase), time_ns)

    def infos(self) -> list[SwarmInfo]:
        """A record for every swarm seen so far."""
        out = [SwarmInfo(job=self._job, rank=self._rank, swarm=OTHER_ID, caption="other", kind=SwarmKind.OTHER)]
        for index, found in sorted(self._described.items()):
            kind, phase, caption = found.name(self.phase_of(index))
            out.append(
                SwarmInfo(
                    job=self._job,
                    rank=self._rank,
                    swarm=self.swarm_ids[index],
                    caption=caption,
                    kind=kind,
                    phase=phase,
                    members=found.members,
                    relations=found.relations,
                )
            )
        return out

    def phase_of(self, index: int) -> Phase | None:
        """Dominant phase of a swarm by :meth:`note_phases`, None when not known."""
        row = self._phase_ns[index]
        return PHASES[int(row.argmax())] if row.any() else None

    def _describe(self, members: list[Members], ids: list[str]) -> None:
        known = {swarm: self._described[i].phase_or(self.phase_of(i)) for swarm, i in self._index.items() if i in self._described}
        for swarm, found in describe(self.tree, self._cut, members, ids, self._sources, known).items():
            index = self._index.get(swarm, 0)
            if index:
                self._described[index] = found
                entry = self.catalogue.entry(swarm)
                if entry is not None:
                    entry.caption = found.name(self.phase_of(index))[2]

    def _key_text(self, key: FrameKey) -> str:
        if not key.line:
            return key.text
        found = self._sources.get(key.file, key.line)
        return key.text if found is None else f"{key.module}!{key.function}:{found.text}#{found.ordinal}"

    def _read_lines(self) -> None:
        """Let the text of inline lines speak for their phase where no frame does."""
        for node in range(self._lines_read, len(self.tree)):
            key = self.tree.keys[node]
            if key.line and self.tree.evidence[node].strength == NONE:
                found = self._sources.get(key.file, key.line)
                if found is not None:
                    said = line_evidence(found.text)
                    self.tree.set_evidence(node, Evidence(said.phase, said.strength))
        self._lines_read = len(self.tree)
