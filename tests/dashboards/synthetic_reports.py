"""Reports of several kinds, made up from a seed: what page and terminal have to cope with."""

from __future__ import annotations

import numpy as np

from sofa_otel.core.names import CorrelationStatus, FindingId, IterationKind, Phase, Resource, Severity, SwarmKind
from sofa_otel.core.records import Gain, LoopLevel, SwarmMember, SwarmRelation
from sofa_otel.core.report import (
    Bottleneck,
    Breakdown,
    CollectorSummary,
    CorrelationItem,
    Duration,
    FindingItem,
    Flame,
    FlameNode,
    IterationItem,
    Iterations,
    RankIterations,
    RankTrack,
    Report,
    ResourceLane,
    RunCost,
    RunSummary,
    StragglerItem,
    Swarm,
)

T0 = 1_790_000_000_000_000_000
SPLIT = {
    Phase.DATA_LOADING: 0.41,
    Phase.MODEL_FORWARD: 0.21,
    Phase.MODEL_BACKWARD: 0.27,
    Phase.OPTIMIZER_UPDATE: 0.08,
    Phase.UNKNOWN: 0.03,
}
CAPTIONS = [
    ("DataLoader.__next__ wait (data loading)", SwarmKind.INPUT, Phase.DATA_LOADING),
    ("conv2d forward (model forward)", SwarmKind.COMPUTE, Phase.MODEL_FORWARD),
    ("autograd backward (model backward)", SwarmKind.COMPUTE, Phase.MODEL_BACKWARD),
    ("Adam.step update (optimizer update)", SwarmKind.COMPUTE, Phase.OPTIMIZER_UPDATE),
    ("all_reduce gradients (model backward)", SwarmKind.COMMUNICATION, Phase.MODEL_BACKWARD),
    ("torch.save checkpoint (checkpoint save)", SwarmKind.CHECKPOINT, Phase.CHECKPOINT_SAVE),
    ("batch_norm forward (model forward)", SwarmKind.COMPUTE, Phase.MODEL_FORWARD),
    ("augment images (data loading)", SwarmKind.INPUT, Phase.DATA_LOADING),
    ("futex wait (unknown)", SwarmKind.IDLE, Phase.UNKNOWN),
    ("other", SwarmKind.OTHER, Phase.UNKNOWN),
]


def empty() -> Report:
    """A run in which nothing was seen at all."""
    none = Iterations(
        found=False,
        reason="the program ran .1 s and 0 steps were seen: run 30 s or longer",
        level="",
        source="",
        confidence=0.0,
        count=0,
        warmup=0,
        duration_s=None,
        levels=[],
        by_rank=[],
        items=[],
    )
    return Report(
        run=RunSummary(
            command=["true"],
            started_ns=T0,
            ended_ns=T0 + 100_000_000,
            exit_code=0,
            job="",
            rank=0,
            world_size=1,
            ranks=[],
            warnings=[],
            collectors=[],
            cost=RunCost(),
            endpoints=[],
        ),
        iterations=none,
        swarms=[],
        breakdown=Breakdown(total_s=0.0, exposed={}, shares={}, bottleneck=None, windows={}),
        correlations=[],
        stragglers=[],
        communication={},
        topology={},
        network={},
        disk={},
        gpu={},
        features={},
        findings=[],
    )


def _duration(values: np.ndarray) -> Duration:
    p10, median, p90 = (float(v) for v in np.percentile(values, (10, 50, 90)))
    return Duration(median, float(values.mean()), p10, p90, float(values.std() / values.mean()))


def _flame(caption: str, seconds: float, seed: int, depth: int = 9) -> FlameNode:
    random = np.random.default_rng(seed)

    def grow(name: str, value: float, level: int) -> FlameNode:
        node = FlameNode(name=name, value=value)
        if level < depth and value > seconds * 0.01:
            for part, share in enumerate(random.dirichlet(np.ones(random.integers(1, 4))) * 0.95):
                node.children.append(
                    grow(f"step_{level}_{part} (model/layer_{part}.py:{10 * level + part})", value * share, level + 1)
                )
        return node

    return grow(f"<module> (train.py:{seed + 40})", seconds, 0) if caption else FlameNode(name="", value=seconds)


def rich(
    *,
    count: int = 240,
    ranks: int = 1,
    swarms: int = 10,
    step: float = 0.152,
    seed: int = 7,
    lane_points: int = 300,
    extra_metrics: int = 0,
) -> Report:
    """A loader-bound training with validation, checkpoints, slow steps, lanes, flames, correlations and findings."""
    random = np.random.default_rng(seed)
    durations = step * (1 + 0.03 * random.standard_normal(count)).clip(0.8, 1.4)
    durations[: min(3, count)] *= (3.1, 1.6, 1.2)[: min(3, count)]
    slow = random.choice(np.arange(5, count), max(2, count // 60), replace=False)
    durations[slow] *= random.uniform(1.6, 3.2, len(slow))
    items, phases, at = [], [], T0 + 2_100_000_000
    for index, duration in enumerate(durations.tolist()):
        kind = IterationKind.WARMUP if index < 3 else IterationKind.TRAIN
        if index and index % 80 == 0:
            kind, duration = IterationKind.VALIDATION, duration * 4
        elif index and index % 110 == 0:
            kind, duration = IterationKind.CHECKPOINT, duration * 2.5
        end = at + round(duration * 1e9)
        anomalous = index in slow and kind is IterationKind.TRAIN
        score = 8.0 if anomalous else 0.3
        items.append(IterationItem(index=index, start_ns=at, end_ns=end, kind=kind, anomalous=anomalous, score=score))
        if kind is IterationKind.VALIDATION:
            phases.append({Phase.DATA_LOADING: duration * 0.2, Phase.VALIDATION: duration * 0.8})
        elif kind is IterationKind.CHECKPOINT:
            phases.append({Phase.MODEL_FORWARD: duration * 0.4, Phase.CHECKPOINT_SAVE: duration * 0.6})
        else:
            split = {phase: share * random.uniform(0.85, 1.15) for phase, share in SPLIT.items()}
            if anomalous:
                split[Phase.DATA_LOADING] *= 4
            scale = duration / sum(split.values())
            phases.append({phase: share * scale for phase, share in split.items()})
        at = end
    total = float(durations.sum())
    train = _duration(np.array([(i.end_ns - i.start_ns) / 1e9 for i in items if i.kind is IterationKind.TRAIN]))
    tracks, by_rank = [], []
    for rank in range(ranks):
        lag = 1 + 0.06 * (rank % 7 == 1)
        column = [round((i.end_ns - i.start_ns) / 1e9 * lag * float(random.uniform(0.98, 1.02)), 6) for i in items]
        tracks.append(RankTrack(rank=rank, start_ns=[i.start_ns for i in items], duration_s=column))
        by_rank.append(
            RankIterations(
                rank=rank,
                found=True,
                reason="",
                level="step",
                source="probe:loop",
                confidence=0.97,
                count=count,
                warmup=3,
                duration_s=_duration(np.array(column)),
                locked_after=4,
            )
        )
    return Report(
        run=RunSummary(
            command=["python", "examples/train_digits.py", "--epochs", "3", "--workers", "2", "--token", "[redacted]"],
            started_ns=T0,
            ended_ns=at + 1_400_000_000,
            exit_code=0,
            job="digits-cnn",
            rank=0,
            world_size=ranks,
            ranks=list(range(ranks)),
            warnings=["perf_syscalls: not permitted here (perf_event_paranoid = 3): system calls are not in this report"],
            collectors=[
                CollectorSummary(name="probe", events=481_204, dropped=0, cpu_s=0.31),
                CollectorSummary(name="proc", events=1_204, dropped=0, cpu_s=0.04),
                CollectorSummary(name="network", events=604, dropped=12, cpu_s=0.02),
            ],
            cost=RunCost(step_ratio=1.004, cpu_s=0.62, rss_bytes=71_000_000),
            endpoints=[],
        ),
        iterations=Iterations(
            found=True,
            reason="",
            level="step",
            source="probe:loop",
            confidence=0.97,
            count=count,
            warmup=3,
            duration_s=train,
            levels=[LoopLevel("epoch", max(1, count // 80), step * 80), LoopLevel("step", count, step)],
            by_rank=by_rank,
            items=items,
        ),
        swarms=_swarms(swarms, total, count, random),
        breakdown=_breakdown(total),
        correlations=_correlations(min(swarms, 6)),
        stragglers=[StragglerItem(rank=1, iterations=count // 3, delay_s=total * 0.05, cause="CPU quota of its pod")]
        if ranks > 1
        else [],
        communication={
            "kinds": {"h2d": {"bytes": 3_210_000_000, "time_s": 1.9, "bandwidth_Bps": 1.69e9}},
            "collectives": [{"name": "all_reduce", "calls": count * 4, "bytes": 9_400_000_000, "time_s": 3.4}]
            if ranks > 1
            else [],
        },
        topology={},
        network={"flows": [{"src": "10.0.0.4", "dst": "10.0.0.9", "bytes": 9_100_000_000, "fraction": 0.97}]}
        if ranks > 1
        else {},
        disk={"read_bytes": 412_000_000, "write_bytes": 88_000_000},
        gpu={},
        features={"iteration_time": train.median, "cpu_util": 0.62, "loader_share": 0.41, "cores_granted": 2.0},
        findings=_findings(),
        lanes=_lanes(T0, at, ranks, lane_points, random, extra=extra_metrics),
        flames=[Flame(swarm=f"{n:016x}", root=_flame("x", total * 0.4 / (n + 1), n)) for n in range(swarms)],
        phase_items=phases,
        rank_tracks=tracks if ranks > 1 else [],
    )


def _swarms(count: int, total: float, steps: int, random: np.random.Generator) -> list[Swarm]:
    shares = np.sort(random.dirichlet(np.full(count, 0.8)))[::-1]
    out = []
    for n, share in enumerate(shares.tolist()):
        caption, kind, phase = CAPTIONS[n % len(CAPTIONS)]
        if n >= len(CAPTIONS):
            caption = f"{caption} #{n}"
        trend = (0.0, 0.14, -0.05, 0.002, 0.6)[n % 5]
        window = share * total / steps * (1 + trend * np.linspace(-0.5, 0.5, 60)) * random.uniform(0.9, 1.1, 60)
        out.append(
            Swarm(
                id=f"{n:016x}",
                caption=caption,
                kind=kind,
                phase=phase,
                time_s=share * total,
                share=share,
                calls=steps * (n + 1),
                per_iteration_s=share * total / steps,
                trend=trend,
                members=[SwarmMember("__next__", "torch.utils.data.dataloader", 0.7), SwarmMember(f"helper_{n}", "train", 0.3)],
                relations=[SwarmRelation("caller", f"{(n + 1) % count:016x}", 0.4)],
                per_window_s=[round(float(v), 6) for v in window],
            )
        )
    return out


def _breakdown(total: float) -> Breakdown:
    shares = {
        Resource.LOADER: 0.41,
        Resource.CPU_USER: 0.34,
        Resource.CPU_SYSTEM: 0.06,
        Resource.SYNC: 0.08,
        Resource.DISK: 0.02,
        Resource.COMMUNICATION: 0.05,
        Resource.IDLE: 0.04,
    }
    return Breakdown(
        total_s=total,
        exposed={r: s * total for r, s in shares.items()},
        shares=shares,
        bottleneck=Bottleneck(
            Resource.LOADER,
            0.41,
            ["the main thread waits in DataLoader.__next__ in 41 % of its time", "both loader workers are busy 98 % of the time"],
        ),
        windows={"usr": 0.62, "sys": 0.08, "iow": 0.02, "gpu": 0.0, "net": 0.01, "idl": 0.27},
        phases={p: s * total for p, s in SPLIT.items()} | {Phase.CHECKPOINT_SAVE: 0.01 * total, Phase.VALIDATION: 0.02 * total},
    )


def _findings() -> list[FindingItem]:
    return [
        FindingItem(
            id=FindingId.LOADER_BOUND,
            severity=Severity.CRITICAL,
            title="The data loader holds every step up",
            evidence=[
                "62.3 ms of each 152 ms step (41 %) is spent waiting in DataLoader.__next__",
                "2 loader workers are busy 98 % of the time; 2.0 of 8 granted cores stay idle",
            ],
            suggestion="Raise num_workers from 2 to 6, or move augment() out of __getitem__.",
            predicted_gain=Gain(1.31, 1.48, 1.62),
            metric="sofa.iteration.bottleneck.share",
            value=0.41,
            reference=0.1,
        ),
        FindingItem(
            id=FindingId.CHECKPOINT_STALL,
            severity=Severity.WARNING,
            title="Checkpoints stop the training for 230 ms",
            evidence=["2 checkpoints, each 2.5 steps long"],
            suggestion="Save asynchronously, or less often.",
            predicted_gain=None,
        ),
        FindingItem(
            id=FindingId.CPU_QUOTA,
            severity=Severity.INFO,
            title="The CPU quota was reached in 3 % of all periods",
            evidence=[],
            suggestion="No action needed below 10 %.",
            predicted_gain=None,
            metric="sofa.cgroup.cpu.throttled.time",
            value=0.9,
            reference=3.0,
        ),
    ]


def _correlations(count: int) -> list[CorrelationItem]:
    statuses = list(CorrelationStatus)
    metrics = ["process.cpu.time", "process.disk.io", "system.network.io"]
    return [
        CorrelationItem(
            swarm=f"{n:016x}",
            resource=metrics[(n + k) % 3],
            lag_s=0.012 * k,
            strength=(0.9 - 0.11 * n) * (-1 if k else 1),
            status=statuses[(n + k) % 3],
            tests={"ols": 0.001, "partial": 0.03},
        )
        for n in range(count)
        for k in range(2)
    ]


def _lanes(start: int, end: int, ranks: int, points: int, random: np.random.Generator, *, extra: int) -> list[ResourceLane]:
    kinds: list[tuple[str, str, dict[str, str], float]] = [
        ("process.cpu.time", "s", {"cpu.mode": "user"}, 2.1),
        ("process.cpu.time", "s", {"cpu.mode": "system"}, 0.3),
        ("process.memory.usage", "By", {}, 2.4e9),
        ("process.disk.io", "By", {"disk.io.direction": "read"}, 11e6),
        ("system.network.io", "By", {"network.interface.name": "eth0", "network.io.direction": "transmit"}, 3.2e6),
        ("sofa.pressure.time", "s", {"sofa.pressure.resource": "cpu", "sofa.pressure.kind": "some"}, 0.2),
        ("process.thread.count", "{thread}", {}, 14.0),
    ]
    kinds += [("hw.temperature", "Cel", {"hw.id": f"GPU-{n}"}, 60.0 + n) for n in range(extra)]
    time = np.linspace(start, end, points).astype(np.int64).tolist()
    return [
        ResourceLane(
            metric=metric,
            unit=unit,
            attributes=attributes,
            rank=rank,
            time_ns=time,
            value=(level * (1 + 0.3 * np.sin(np.arange(points) / 9 + rank) + 0.1 * random.standard_normal(points))).tolist(),
        )
        for metric, unit, attributes, level in kinds
        for rank in range(ranks)
    ]


EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\x1b[31m\u202e{{7*7}}'\"&amp;"


def hostile() -> Report:
    """Every string is an attack on the page or the terminal."""
    base = rich(count=40, swarms=3)
    bad = FlameNode(name=EVIL, value=1.0, children=[FlameNode(name=EVIL + "x" * 400, value=0.6)])
    run = base.run
    return Report(
        run=RunSummary(
            command=[EVIL, "python"],
            started_ns=run.started_ns,
            ended_ns=run.ended_ns,
            exit_code=-9,
            job=EVIL,
            rank=0,
            world_size=1,
            ranks=[0],
            warnings=[EVIL, "w" * 500],
            collectors=[CollectorSummary(name=EVIL, events=1, dropped=2, cpu_s=float("nan"))],
            cost=RunCost(),
            endpoints=[EVIL],
        ),
        iterations=base.iterations,
        swarms=[
            Swarm(
                id=EVIL,
                caption=EVIL * 3,
                kind=SwarmKind.OTHER,
                phase=Phase.UNKNOWN,
                time_s=1.0,
                share=float("nan"),
                calls=1,
                per_iteration_s=float("inf"),
                trend=float("nan"),
                members=[SwarmMember(EVIL, EVIL, 1.0)],
                relations=[SwarmRelation(EVIL, EVIL, 1.0)],
                per_window_s=[float("nan"), 1.0],
            )
        ],
        breakdown=base.breakdown,
        correlations=[
            CorrelationItem(swarm=EVIL, resource=EVIL, lag_s=0.0, strength=2.0, status=CorrelationStatus.CANDIDATE, tests={})
        ],
        stragglers=[StragglerItem(rank=0, iterations=1, delay_s=0.0, cause=EVIL)],
        communication={EVIL: {EVIL: EVIL}},
        topology={EVIL: [EVIL]},
        network={"flows": [{"src": EVIL, "dst": EVIL}]},
        disk={EVIL: 1},
        gpu={},
        features={EVIL: float("nan")},
        findings=[
            FindingItem(
                id=FindingId.GIL_BOUND,
                severity=Severity.WARNING,
                title=EVIL,
                evidence=[EVIL],
                suggestion=EVIL,
                predicted_gain=Gain(1.0, 1.0, 1.0),
                metric=EVIL,
                value=1.0,
                reference=float("nan"),
            )
        ],
        lanes=[
            ResourceLane(
                metric=EVIL, unit=EVIL, attributes={EVIL: EVIL}, rank=0, time_ns=[T0, T0 + 10**9], value=[1.0, float("nan")]
            )
        ],
        flames=[Flame(swarm=EVIL, root=bad)],
        phase_items=base.phase_items,
    )


def quiet() -> Report:
    """Iterations, but nothing that stands out and no resource that dominates."""
    base = rich(count=80, swarms=5)
    whole = base.breakdown
    from msgspec.structs import replace

    return replace(base, findings=[], correlations=[], breakdown=replace(whole, bottleneck=None), disk={}, communication={})


def huge() -> Report:
    """The size that must still open at once: 5,000 iterations, 64 swarms, 64 ranks."""
    return rich(count=5000, ranks=64, swarms=64, step=0.4, lane_points=600, extra_metrics=3)
