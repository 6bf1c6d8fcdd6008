"""Swarms and the bottleneck of a run, summed up for the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeVar

import numpy as np

from sofa_otel.core.names import Phase, Resource
from sofa_otel.core.records import PhaseBreakdown, StackProfile, SwarmInfo, SwarmWindow
from sofa_otel.core.report import Bottleneck, Breakdown, Flame, FlameNode, Swarm

SLICES = 60
_FLAME_PATHS = 3000


class _Spanning(Protocol):
    @property
    def iteration(self) -> int: ...


R = TypeVar("R", bound=_Spanning)


def counted(rows: Sequence[R], train: AbstractSet[int]) -> list[R]:
    """Rows of training iterations; all rows where none were found."""
    return [row for row in rows if row.iteration in train] if train else list(rows)


def swarms_of(windows: Sequence[SwarmWindow], infos: Sequence[SwarmInfo], train: AbstractSet[int]) -> list[Swarm]:
    """Swarms, largest first.

    Once iterations were found only time inside training iterations counts (start-up, warm-up and validation would hide what a
    step is made of). ``time_s`` and ``share`` are of the leading thread; time of threads and processes beside it is in
    ``concurrent_s``.

    Args:
        windows, infos: One rank's records.
        train: Indices of training iterations; empty when none were found.
    """
    windows = counted(windows, train)
    known = {info.swarm: info for info in infos}
    time_ns: dict[str, int] = defaultdict(int)
    beside_ns: dict[str, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    inside: dict[str, dict[tuple[int, int], int]] = defaultdict(lambda: defaultdict(int))
    spans: dict[int, int] = {}
    for window in windows:
        calls[window.swarm] += window.calls
        if window.concurrent:
            beside_ns[window.swarm] += window.time_ns
            continue
        time_ns[window.swarm] += window.time_ns
        if window.iteration >= 0:
            inside[window.swarm][window.iteration, window.iterations] += window.time_ns
            spans[window.iteration] = max(spans.get(window.iteration, 0), window.iterations)
    first = min(spans, default=0)
    last = max((i + n for i, n in spans.items()), default=0)
    iterations = sum(spans.values())
    lead_total = sum(time_ns.values()) or 1
    out = []
    for swarm in {**time_ns, **beside_ns}:
        total = time_ns[swarm]
        info = known.get(swarm)
        if info is None:
            continue
        per_slice, trend = _trend(inside[swarm], first, last)
        out.append(
            Swarm(
                id=swarm, caption=info.caption, kind=info.kind, phase=info.phase, time_s=total / 1e9, share=total / lead_total,
                calls=calls[swarm], per_iteration_s=sum(inside[swarm].values()) / 1e9 / iterations if iterations else 0.0,
                trend=trend, members=list(info.members), relations=list(info.relations), per_window_s=per_slice,
                concurrent_s=beside_ns[swarm] / 1e9,
            )
        )  # fmt: skip
    out.sort(key=lambda swarm: (-swarm.time_s, -swarm.concurrent_s, swarm.id))
    return out


def _trend(cells: dict[tuple[int, int], int], first: int, last: int) -> tuple[list[float], float]:
    """Seconds per iteration in equal slices of the run, and the relative change from its first to its last third."""
    count = min(SLICES, last - first)
    if count < 3:
        return [], 0.0
    total, width = np.zeros(count), (last - first) / count
    for (iteration, _), t in cells.items():
        total[min(int((iteration - first) / width), count - 1)] += t / 1e9
    per = total / width
    third = max(count // 3, 1)
    before, after = float(per[:third].mean()), float(per[-third:].mean())
    return [float(x) for x in per], (after - before) / before if before > 0 else 0.0


def breakdown_of(parts: Sequence[PhaseBreakdown], windows: dict[str, float], train: AbstractSet[int]) -> Breakdown:
    """Exposed time of the training iterations ``train`` by resource and by phase."""
    parts = counted(parts, train)
    exposed: dict[Resource, float] = dict.fromkeys(Resource, 0.0)
    phases: dict[Phase, float] = dict.fromkeys(Phase, 0.0)
    for part in parts:
        if part.iteration < 0:
            continue
        for resource, ns in part.exposed_ns.items():
            exposed[resource] += ns / 1e9
        for phase, ns in part.phase_ns.items():
            phases[phase] += ns / 1e9
    total = sum(exposed.values())
    shares = {resource: (s / total if total else 0.0) for resource, s in exposed.items()}
    bottleneck = None
    if total:
        top = max(shares, key=lambda resource: shares[resource])
        count = sum(part.iterations for part in parts if part.iteration >= 0)
        evidence = [
            f"{exposed[top]:.2f} s of {total:.2f} s in {count} iterations of the leading thread",
            f"{1000 * exposed[top] / max(count, 1):.2f} ms per iteration",
        ]
        bottleneck = Bottleneck(top, shares[top], evidence)
    return Breakdown(total_s=total, exposed=exposed, shares=shares, bottleneck=bottleneck, windows=windows, phases=phases)


def flames_of(profiles: Sequence[StackProfile]) -> list[Flame]:
    """One flame graph per swarm, biggest first."""
    by_swarm: dict[str, list[StackProfile]] = defaultdict(list)
    for profile in sorted(profiles, key=lambda p: -p.time_ns)[:_FLAME_PATHS]:
        by_swarm[profile.swarm].append(profile)
    out = []
    for swarm, members in by_swarm.items():
        root = FlameNode(name="all", value=0.0)
        index: dict[int, dict[str, FlameNode]] = {id(root): {}}
        for profile in members:
            node, seconds = root, profile.time_ns / 1e9
            node.value += seconds
            for frame in profile.frames:
                children = index[id(node)]
                child = children.get(frame)
                if child is None:
                    child = children[frame] = FlameNode(name=frame, value=0.0)
                    node.children.append(child)
                    index[id(child)] = {}
                child.value += seconds
                node = child
        out.append(Flame(swarm=swarm, root=root))
    out.sort(key=lambda flame: -flame.root.value)
    return out
