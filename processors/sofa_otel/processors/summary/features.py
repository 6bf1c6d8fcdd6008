"""Performance feature vector: every figure that a rule or a tuner looks at, by name.

Figures are over the training window (first to last iteration), not over start-up. Shares are 0..1 of the leading thread's wall
time. A feature that could not be measured is absent: absence is never read as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from sofa_otel.core import names
from sofa_otel.core.names import Phase, Resource
from sofa_otel.core.records import PhaseBreakdown
from sofa_otel.core.report import Breakdown, Iterations
from sofa_otel.processors.summary.counters import Counters, Match


def having(key: str, *values: str) -> Match:
    """Match series whose attribute ``key`` is one of ``values``."""
    return lambda series: series.attribute(key) in values


def feature_vector(
    iterations: Iterations, breakdown: Breakdown, parts: Sequence[PhaseBreakdown], counters: Counters, elapsed_s: float
) -> dict[str, float]:
    """Features of one rank, by name."""
    out: dict[str, float] = {"elapsed_time": elapsed_s, "window_s": counters.seconds}
    if iterations.duration_s is not None:
        d = iterations.duration_s
        out |= {
            "iteration_time_s": d.median,
            "iteration_mean_s": d.mean,
            "iteration_cv": d.cv,
            "iterations": float(iterations.count),
        }
    if breakdown.total_s:
        out |= {f"share_{resource}": breakdown.shares[resource] for resource in Resource}
        out |= {f"phase_{phase}": breakdown.phases.get(phase, 0.0) / breakdown.total_s for phase in Phase}
        waits: dict[str, int] = {}
        for part in parts:
            if part.iteration >= 0:
                for wait, ns in part.waits_ns.items():
                    waits[wait] = waits.get(wait, 0) + ns
        out |= {f"wait_{wait}": ns / 1e9 / breakdown.total_s for wait, ns in waits.items()}
    out |= _cpu(counters)
    out |= _memory(counters)
    out |= _disk(counters)
    out |= _network(counters)
    out |= _gpu(counters)
    return out


def _cpu(counters: Counters) -> dict[str, float]:
    out: dict[str, float] = {}
    seconds = counters.seconds
    user = counters.rate(names.PROCESS_CPU_TIME, having(names.CPU_MODE, "user"))
    system = counters.rate(names.PROCESS_CPU_TIME, having(names.CPU_MODE, "system"))
    if counters.has(names.PROCESS_CPU_TIME):
        out |= {"cpu_used": user + system, "cpu_user": user, "cpu_system": system}
    cpus = {s.attribute(names.CPU_LOGICAL_NUMBER) for s, _, _ in counters.series(names.SYSTEM_CPU_TIME.name)} - {""}
    if cpus:
        out["num_cores"] = float(len(cpus))
        modes = {
            m: counters.increase(names.SYSTEM_CPU_TIME, having(names.CPU_MODE, m))
            for m in ("user", "system", "iowait", "idle", "steal")
        }
        total = counters.increase(names.SYSTEM_CPU_TIME)
        if total:
            out |= {f"host_cpu_{mode}": value / total for mode, value in modes.items()}
            out["cpu_util"] = 1.0 - (modes["idle"] + modes["iowait"]) / total
    granted = counters.least(names.CGROUP_CPU_LIMIT)
    if granted:
        out["cpu_granted"] = granted
    elif cpus:
        out["cpu_granted"] = float(len(cpus))
    if counters.has(names.PROCESS_RUN_DELAY):
        delay = counters.rate(names.PROCESS_RUN_DELAY)
        out["run_delay"] = delay
        if delay + user + system > 0:
            out["run_delay_share"] = delay / (delay + user + system)
    if (runnable := counters.mean(names.PROCESS_RUNNABLE)) is not None:
        out["runnable"] = runnable
        if out.get("cpu_granted"):
            out["runnable_per_cpu"] = runnable / out["cpu_granted"]
    if (threads := counters.mean(names.PROCESS_THREAD_COUNT)) is not None:
        out["threads"] = threads
    elapsed = counters.largest_increase(names.CGROUP_CPU_PERIODS, having(names.PERIOD_STATE, "elapsed"))
    if elapsed:
        throttled = counters.largest_increase(names.CGROUP_CPU_PERIODS, having(names.PERIOD_STATE, "throttled"))
        out["cpu_throttled_periods"] = min(throttled / elapsed, 1.0)
        # The kernel adds up the time of every CPU's run queue: more than a second in a second is possible.
        out["cpu_throttled_share"] = min(counters.largest_increase(names.CGROUP_CPU_THROTTLED) / seconds, 1.0)
    for resource in ("cpu", "memory", "io"):
        match: Match = lambda s, r=resource: (  # type: ignore[misc]  # noqa: E731
            s.attribute(names.PRESSURE_RESOURCE) == r and s.attribute(names.PRESSURE_KIND) == "some"
        )
        if counters.has(names.PRESSURE_TIME, match):
            out[f"pressure_{resource}"] = min(counters.rate(names.PRESSURE_TIME, match), 1.0)
    return out


def _memory(counters: Counters) -> dict[str, float]:
    out: dict[str, float] = {}
    if (used := counters.mean(names.PROCESS_MEMORY_USAGE)) is not None:
        out["memory_used_bytes"] = used
    usage, limit = counters.greatest_mean(names.CGROUP_MEMORY_USAGE), counters.least(names.CGROUP_MEMORY_LIMIT)
    if usage is not None and limit:
        out["memory_limit_share"] = usage / limit
    if counters.has(names.PROCESS_PAGING_FAULTS):
        out["major_faults"] = counters.rate(names.PROCESS_PAGING_FAULTS, having(names.PAGING_FAULT_TYPE, "major"))
    return out


def _disk(counters: Counters) -> dict[str, float]:
    out: dict[str, float] = {}
    for direction in ("read", "write"):
        if counters.has(names.PROCESS_DISK_IO):
            out[f"disk_{direction}"] = counters.rate(names.PROCESS_DISK_IO, having(names.DISK_DIRECTION, direction))
    busy = [
        counters.rate(names.SYSTEM_DISK_IO_TIME, having(names.SYSTEM_DEVICE, device))
        for device in {s.attribute(names.SYSTEM_DEVICE) for s, _, _ in counters.series(names.SYSTEM_DISK_IO_TIME.name)}
    ]
    if busy:
        out["disk_busy"] = min(max(busy), 1.0)
    return out


def _network(counters: Counters) -> dict[str, float]:
    out: dict[str, float] = {}
    real: Match = lambda s: s.attribute(names.NETWORK_INTERFACE) != "lo"  # noqa: E731
    for direction, short in (("receive", "rx"), ("transmit", "tx")):
        match: Match = lambda s, d=direction: s.attribute(names.NETWORK_DIRECTION) == d and real(s)  # type: ignore[misc]  # noqa: E731
        if counters.has(names.SYSTEM_NETWORK_IO, match):
            out[f"net_{short}"] = counters.rate(names.SYSTEM_NETWORK_IO, match)
    if counters.has(names.TCP_RETRANSMITS):
        out["tcp_retransmits"] = counters.rate(names.TCP_RETRANSMITS)
    return out


def _gpu(counters: Counters) -> dict[str, float]:
    out: dict[str, float] = {}
    general: Match = lambda s: s.attribute(names.GPU_TASK) in {"", "general"}  # noqa: E731
    devices = {s.attribute(names.HW_ID) for s, _, _ in counters.series(names.GPU_UTILIZATION.name)}
    out["num_gpus"] = float(len(devices))
    if devices and (util := counters.mean(names.GPU_UTILIZATION, general)) is not None:
        out["gpu_sm_util"] = util / len(devices)
    if devices and (used := counters.mean(names.GPU_MEMORY_UTILIZATION)) is not None:
        out["gpu_mem_util"] = used / len(devices)
    if (throttle := counters.mean(names.GPU_THROTTLE)) is not None:
        out["gpu_throttled"] = throttle / max(len(devices), 1)
    return out
