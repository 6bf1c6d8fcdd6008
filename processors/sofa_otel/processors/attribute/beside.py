"""What is counted beside the leading thread's time: calls, other threads and processes, devices, time outside iterations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.kinds import Kind
from sofa_otel.processors.attribute.breakdown import Facts, Split, device_time
from sofa_otel.processors.attribute.profile import Profile
from sofa_otel.processors.attribute.resources import CPU_USER, LOADER, exposed_resource
from sofa_otel.processors.attribute.rows import Columns, is_sample, take
from sofa_otel.processors.attribute.totals import Totals
from sofa_otel.processors.attribute.windows import Window
from sofa_otel.processors.group.grouper import active


def _where(rows: Columns, facts: Facts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    node = rows["node"]
    return facts.swarm[node].astype(np.int64), facts.tree.phase[node].astype(np.int64)


def sample_totals(totals: Totals, rows: Columns, facts: Facts, split: Split) -> None:
    """Count samples of the leading thread, each in the phase in which most of its node's time went."""
    rows = take(rows, is_sample(rows["kind"]))
    if not len(rows["at"]):
        return
    order = np.lexsort((split.time_ns, split.node))
    nodes = split.node[order]
    last = np.searchsorted(nodes, rows["node"], "right") - 1
    known = (last >= 0) & (nodes[np.maximum(last, 0)] == rows["node"])
    swarm, phase = _where(rows, facts)
    phase = np.where(known, split.phase[order][np.maximum(last, 0)], phase)
    totals.add(swarm, phase, calls=rows["count"])


def event_totals(totals: Totals, rows: Columns, facts: Facts, sampled: NDArray[np.uint32] | None) -> None:
    """Count calls and bytes of events that are no samples.

    Args:
        sampled: Processes whose time is known from samples: their events get no time of their own. None means "no row gets any".
    """
    event = ~is_sample(rows["kind"])
    if not event.any():
        return
    rows = take(rows, event)
    swarm, phase = _where(rows, facts)
    time_ns = None
    if sampled is not None:
        device = (rows["kind"] == Kind.GPU_KERNEL) | (rows["kind"] == Kind.GPU_COPY)
        counts = device | (~np.isin(rows["pid"], sampled) & _works(rows, facts))
        time_ns = np.where(counts, rows["hi"] - rows["lo"], 0)
    totals.add(swarm, phase, time_ns, rows["count"], rows["bytes"])


def _works(rows: Columns, facts: Facts) -> NDArray[np.bool_]:
    """System calls that only wait are no work of their thread."""
    out = np.ones(len(rows["at"]), bool)
    calls = rows["kind"] == Kind.SYSCALL
    for node in np.unique(rows["node"][calls]).tolist():
        if facts.tree.keys[node].function in {"futex", "futex wait", "poll", "sleep", "process"}:
            out[calls & (rows["node"] == node)] = False
    return out


def overlapped(totals: Totals, rows: Columns, window: Window, facts: Facts, profile: Profile) -> dict[int, int]:
    """Time of other threads and processes inside a window, by swarm into ``totals``, by resource as the result."""
    out: dict[int, int] = {}
    touching = (rows["lo"] < window.end_ns) & (rows["hi"] > window.start_ns)
    mine = take(rows, touching & is_sample(rows["kind"]) & active(rows["subkind"]))
    if len(mine["at"]):
        length = np.minimum(mine["hi"], window.end_ns) - np.maximum(mine["lo"], window.start_ns)
        swarm, phase = _where(mine, facts)
        inside = (mine["at"] >= window.start_ns) & (mine["at"] < window.end_ns)
        totals.add(swarm, phase, length, np.where(inside, mine["count"], 0))
        profile.add(mine["node"], length)
        profile.count(mine["node"][inside], mine["count"][inside])
        communication = facts.tree.communication[mine["node"]]
        resource = exposed_resource(phase, mine["subkind"], communication, distributed=facts.tree.distributed)
        resource[resource == LOADER] = CPU_USER
        for code in np.unique(resource).tolist():
            out[code] = int(length[resource == code].sum())
    device = touching & ((rows["kind"] == Kind.GPU_KERNEL) | (rows["kind"] == Kind.GPU_COPY))
    if device.any():
        for code, ns in device_time(window, take(rows, device), facts).items():
            out[code] = out.get(code, 0) + ns
    return out


def outside(
    totals: Totals, beside: Totals, rows: Columns, leads: NDArray[np.bool_], since_ns: int, facts: Facts, profile: Profile
) -> None:
    """Time outside iterations: sample weights as they are, since no wall time is known that they have to add up to."""
    sample = is_sample(rows["kind"])
    for mask, where in ((leads & sample, totals), (~leads & sample & active(rows["subkind"]), beside)):
        mine = take(rows, mask)
        length = mine["hi"] - np.maximum(mine["lo"], since_ns)
        swarm, phase = _where(mine, facts)
        where.add(swarm, phase, length, mine["count"])
        profile.add(mine["node"], length)
        profile.count(mine["node"], mine["count"])
    sampled = np.unique(rows["pid"][sample])
    event_totals(totals, take(rows, leads), facts, sampled)
    event_totals(beside, take(rows, ~leads), facts, sampled)
