"""One window of iterations, split: every nanosecond of the leading thread gets a swarm, a phase and a resource.

With samples, each sample stands for the time since the one before it; inside an interval whose length a hook measured exactly the
samples only say how it is divided. Without samples the intervals themselves (system calls, collectives, ops) are swept, and what
they leave over is split by the CPU counters. Cells are rounded together, so that every margin sums to the wall time exactly.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Kind
from sofa_otel.core.names import IterationKind
from sofa_otel.processors.attribute.phases import CHECKPOINT, FORWARD, LOADING, PHASES, UNKNOWN, VALIDATION
from sofa_otel.processors.attribute.resources import (
    COMMUNICATION,
    COPY,
    CPU_SYSTEM,
    CPU_USER,
    DISK,
    GPU_COMPUTE,
    IDLE,
    LOADER,
    NETWORK,
    SYNC,
    CpuCounters,
    exposed_resource,
    syscall_resource,
)
from sofa_otel.processors.attribute.rows import Columns, is_sample, take
from sofa_otel.processors.attribute.timeline import (
    GAP,
    LABELS,
    Ints,
    Timeline,
    cover,
    disjoint,
    innermost,
    phase_under,
    timeline,
    to_exact,
)
from sofa_otel.processors.attribute.windows import Window
from sofa_otel.processors.group.tree import ROOT, CallTree

_COVERED: Final = 0.5
_ALL: Final = 0.98


class Facts(NamedTuple):
    """What is known by tree node, and about the rank.

    Attributes:
        swarm: ``i32 [nodes]`` local swarm index.
        tree: Phases, strength of evidence, communication by node.
        cpu: CPU counters of the target.
        seen: Node and wait of the last sample under each timeline label; stands in where a stretch has no sample of its own.
    """

    swarm: NDArray[np.int32]
    tree: CallTree
    cpu: CpuCounters
    seen: dict[int, tuple[int, int]]


class Split(NamedTuple):
    """Leader time of a window in cells, all ``i64`` of equal length; ``time_ns`` sums to the window's length.

    ``wait`` is :class:`~sofa_otel.core.kinds.Wait` of the sample behind a cell, 0 where there was none.
    """

    node: Ints
    phase: Ints
    resource: Ints
    wait: Ints
    time_ns: Ints


class _Part(NamedTuple):
    node: Ints
    phase: Ints
    resource: Ints
    wait: Ints
    weight: NDArray[np.float64]


def split_window(window: Window, lead: Columns, device: Columns, facts: Facts) -> Split:
    """Split the wall time of a window.

    Args:
        window: The iterations.
        lead: Rows of the leading thread that touch the window (and the first ones after it).
        device: Rows of GPU kernels and copies that touch it.
        facts: Facts by node.
    """
    hook = lead["kind"] == Kind.PYTHON_CALL
    comm = lead["kind"] == Kind.COLLECTIVE
    hook_rows = np.flatnonzero(hook)
    axis = timeline(
        window.start_ns,
        window.end_ns,
        (lead["lo"][hook], lead["hi"][hook], facts.tree.phase[lead["node"][hook]].astype(np.int64)),
        (lead["lo"][comm], lead["hi"][comm]),
    )
    kinds = lead["kind"]
    wall = kinds == Kind.PYTHON_SAMPLE
    if not wall.any():
        wall = kinds == Kind.CPU_SAMPLE
    samples = take(lead, wall)
    touching = (samples["lo"] < window.end_ns) & (samples["hi"] > window.start_ns)
    samples = take(samples, touching)
    if len(samples["at"]):
        part = _by_samples(window, samples, axis, lead["node"][hook_rows], facts)
    else:
        part = _by_intervals(window, take(lead, ~is_sample(kinds)), axis, facts)
    part = _on_device(part, window, device, facts) if len(device["at"]) else part
    phase = _by_kind(part.phase, window.kind)
    time_ns = to_exact(part.weight, window.end_ns - window.start_ns)
    return _split_cpu(
        Split(part.node, phase, part.resource, part.wait, time_ns), facts.cpu.system_share(window.start_ns, window.end_ns)
    )


def _by_samples(window: Window, samples: Columns, axis: Timeline, hook_nodes: Ints, facts: Facts) -> _Part:
    node = samples["node"].astype(np.int64)
    instant = np.clip(samples["at"], window.start_ns, window.end_ns - 1)
    length = np.minimum(samples["hi"], window.end_ns) - np.maximum(samples["lo"], window.start_ns)
    label = axis.at(instant)
    weight = length.astype(np.float64)
    target = axis.lengths().astype(np.float64)
    idle = _take_idle(target, weight.sum(), samples)
    covered = np.bincount(label, weight, LABELS)
    weight *= (target / np.where(covered > 0, covered, 1.0))[label]
    sample_phase = phase_under(label, facts.tree.phase[node].astype(np.int64), facts.tree.strength[node])
    communication = facts.tree.communication[node] | (label % 2 == 1)
    resource = exposed_resource(sample_phase, samples["subkind"], communication, distributed=facts.tree.distributed)
    parts = [_Part(node, sample_phase, resource, samples["subkind"].astype(np.int64), weight)]
    for one, row in zip(*np.unique(label[::-1], return_index=True), strict=True):
        facts.seen[int(one)] = (int(node[-1 - row]), int(samples["subkind"][-1 - row]))
    unseen = np.flatnonzero((target > 0) & (covered == 0)).tolist()
    parts += [_without_sample(one, target[one], axis, samples, hook_nodes, facts) for one in unseen]
    if idle > 0:
        parts.append(_Part(_one(ROOT), _one(UNKNOWN), _one(IDLE), _one(0), np.array([idle])))
    return _join(parts)


def _take_idle(target: NDArray[np.float64], covered: float, samples: Columns) -> float:
    """Time that no sample speaks for, taken off the targets outside hooks. A missing piece at an edge is only sampling."""
    whole = target.sum()
    loose = target[2 * GAP :]
    wall = bool((samples["kind"] == Kind.PYTHON_SAMPLE).all())
    if not loose.sum() or covered >= (_COVERED if wall else _ALL) * whole:
        return 0.0
    idle = float(min(max(whole - covered, 0.0), loose.sum()))
    loose *= 1 - idle / loose.sum()
    return idle


def _without_sample(label: int, length: float, axis: Timeline, samples: Columns, hook_nodes: Ints, facts: Facts) -> _Part:
    """A stretch without a sample: as last time under this label, else a hook speaks for itself or the next sample for it."""
    segment = int(np.flatnonzero(axis.label == label)[0])
    place = label // 2
    if label in facts.seen:
        node, wait = facts.seen[label]
    elif place < GAP and axis.source[segment] >= 0:
        node, wait = int(hook_nodes[axis.source[segment]]), 1
    else:
        middle = (int(axis.edges[segment]) + int(axis.edges[segment + 1])) // 2
        row = min(int(np.searchsorted(samples["at"], middle)), len(samples["at"]) - 1)
        node, wait = int(samples["node"][row]), int(samples["subkind"][row])
    one = _one(node)
    phase = phase_under(_one(label), facts.tree.phase[one].astype(np.int64), facts.tree.strength[one])
    communication = facts.tree.communication[one] | (label % 2 == 1)
    resource = exposed_resource(phase, np.array([wait], np.uint8), communication, distributed=facts.tree.distributed)
    return _Part(one, phase, resource, _one(wait), np.array([length]))


def _by_intervals(window: Window, rows: Columns, axis: Timeline, facts: Facts) -> _Part:
    rows = take(rows, (rows["lo"] < window.end_ns) & (rows["hi"] > window.start_ns))
    lo, hi = rows["lo"], rows["hi"]
    edges = np.unique(
        np.concatenate([axis.edges, np.clip(lo, window.start_ns, window.end_ns), np.clip(hi, window.start_ns, window.end_ns)])
    )
    middle = edges[:-1] + np.diff(edges) // 2
    weight = np.diff(edges).astype(np.float64)
    found = innermost(lo, hi, middle)
    node = np.where(found >= 0, rows["node"][np.maximum(found, 0)] if len(lo) else ROOT, ROOT).astype(np.int64)
    label = axis.at(middle)
    phase = phase_under(label, facts.tree.phase[node].astype(np.int64), facts.tree.strength[node])
    resource = np.full(len(node), CPU_USER, np.int64)
    resource[phase == LOADING] = LOADER
    kind = np.where(found >= 0, rows["kind"][np.maximum(found, 0)] if len(lo) else 0, 0)
    for one in np.unique(node[kind == Kind.SYSCALL]).tolist():
        mine = (node == one) & (kind == Kind.SYSCALL)
        name = facts.tree.keys[one].function
        resource[mine] = np.asarray([syscall_resource(name, p) for p in range(len(PHASES))])[phase[mine]]
    resource[kind == Kind.GPU_SYNC] = SYNC
    resource[kind == Kind.DISK] = DISK
    resource[kind == Kind.NET] = NETWORK
    resource[facts.tree.communication[node] | (label % 2 == 1)] = COMMUNICATION
    part = _Part(node, phase, resource, np.zeros(len(node), np.int64), weight)
    return _uncovered(part, found < 0, window, facts)


def _uncovered(part: _Part, bare: NDArray[np.bool_], window: Window, facts: Facts) -> _Part:
    """Time outside every interval: on the CPU as far as the counters say so, else idle."""
    seconds = facts.cpu.between(window.start_ns, window.end_ns)
    bare &= part.resource == CPU_USER
    length = part.weight[bare].sum()
    if not length:
        return part
    # Between the system calls of a thread it computes, unless counters say otherwise or nothing at all is known.
    guess = 0.0 if bare.all() else 1.0
    busy = guess if seconds is None else min(1.0, sum(seconds) * 1e9 / length)
    idle = _Part(
        part.node[bare], part.phase[bare], np.full(int(bare.sum()), IDLE), part.wait[bare], part.weight[bare] * (1 - busy)
    )
    weight = np.where(bare, part.weight * busy, part.weight)
    return _join([part._replace(weight=weight), idle])


def _on_device(part: _Part, window: Window, device: Columns, facts: Facts) -> _Part:
    """Waiting of the host while a device works is the device's: divide it by what the devices did in the window."""
    busy = device_time(window, device, facts)
    total = sum(busy.values())
    waiting = np.isin(part.resource, (SYNC, IDLE))
    length = part.weight[waiting].sum()
    if not total or not length:
        return part
    given = min(1.0, total / length)
    parts = [part._replace(weight=np.where(waiting, part.weight * (1 - given), part.weight))]
    for resource, share in busy.items():
        if share:
            w = part.weight[waiting] * given * share / total
            parts.append(_Part(part.node[waiting], part.phase[waiting], np.full(len(w), resource), part.wait[waiting], w))
    return _join(parts)


def device_time(window: Window, device: Columns, facts: Facts) -> dict[int, int]:
    """Nanoseconds in which some device computed, communicated or copied: a sweep in that order, so nothing counts twice."""
    lo, hi = np.clip(device["lo"], window.start_ns, window.end_ns), np.clip(device["hi"], window.start_ns, window.end_ns)
    comm = facts.tree.communication[device["node"]]
    copy = device["kind"] == Kind.GPU_COPY
    edges = np.unique(np.concatenate([lo, hi]))
    middle = edges[:-1] + np.diff(edges) // 2
    left = np.diff(edges)
    out: dict[int, int] = {}
    for resource, mask in ((GPU_COMPUTE, ~comm & ~copy), (COMMUNICATION, comm), (COPY, copy & ~comm)):
        d_lo, d_hi, _ = disjoint(lo[mask], hi[mask])
        hit = cover(d_lo, d_hi, middle) >= 0
        out[resource] = int(left[hit].sum())
        left = np.where(hit, 0, left)
    return out


def _by_kind(phase: Ints, kind: IterationKind) -> Ints:
    if kind is IterationKind.VALIDATION:
        return np.where((phase == UNKNOWN) | (phase == FORWARD), VALIDATION, phase)
    if kind is IterationKind.CHECKPOINT:
        return np.where(phase == UNKNOWN, CHECKPOINT, phase)
    return phase


def _split_cpu(split: Split, system: float) -> Split:
    if system <= 0:
        return split
    on_cpu = split.resource == CPU_USER
    part = np.where(on_cpu, np.rint(split.time_ns * system), 0).astype(np.int64)
    extra = np.flatnonzero(part > 0)
    return Split(
        np.concatenate([split.node, split.node[extra]]),
        np.concatenate([split.phase, split.phase[extra]]),
        np.concatenate([split.resource, np.full(len(extra), CPU_SYSTEM)]),
        np.concatenate([split.wait, split.wait[extra]]),
        np.concatenate([split.time_ns - part, part[extra]]),
    )


def _one(value: int) -> Ints:
    return np.array([value], np.int64)


def _join(parts: list[_Part]) -> _Part:
    return _Part(
        np.concatenate([p.node for p in parts]),
        np.concatenate([p.phase for p in parts]),
        np.concatenate([p.resource for p in parts]),
        np.concatenate([p.wait for p in parts]),
        np.concatenate([p.weight for p in parts]),
    )
