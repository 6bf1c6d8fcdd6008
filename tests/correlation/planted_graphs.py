"""Planted graphs: made-up runs in which it is known which swarm moves which resource, and runs in which none does.

A resource is built on a fine time grid from what the swarms do and from noise, then sampled as a collector would: finely, or
about once a second as a running counter. The noise is scaled against the signal *as iterations or the sampling show it*, so that
``snr`` means the same in every setting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.names import IterationKind, Phase
from sofa_otel.core.records import Iteration, SwarmWindow
from sofa_otel.core.series import Series

Floats = NDArray[np.float64]
START = 1_700_000_000_000_000_000
GRID = 20
NULLS = ("ar", "walk", "trend", "curve", "sine", "burst", "spikes")


class Stored(NamedTuple):
    """A stored series, as the run directory gives it back."""

    series: Series
    rank: int
    time_ns: NDArray[np.int64]
    value: Floats


@dataclass(frozen=True)
class Case:
    """A run and its truth: ``edges[swarm, metric] = lag in seconds``."""

    name: str
    iterations: list[Iteration]
    windows: list[SwarmWindow]
    series: list[Stored]
    edges: dict[tuple[str, str], float] = field(default_factory=dict)


def ar(rng: np.random.Generator, n: int, rho: float) -> Floats:
    """Stationary AR(1) of unit variance."""
    e = rng.standard_normal(n) * np.sqrt(1 - rho**2)
    out = np.empty(n)
    out[0] = rng.standard_normal()
    for i in range(1, n):
        out[i] = rho * out[i - 1] + e[i]
    return out


def _unit(x: Floats) -> Floats:
    return (x - x.mean()) / (x.std() or 1.0)


class _Nuisance:
    """Draws independent series that share what a null kind says they share."""

    def __init__(self, kind: str, rng: np.random.Generator, n: int, per_unit: float) -> None:
        self.kind, self.rng, self.n, self.per_unit = kind, rng, n, per_unit
        self.period = rng.uniform(4, 25) * per_unit
        self.phase = rng.uniform(0, 2 * np.pi)

    def draw(self) -> Floats:
        """A series over ``n`` iterations; its memory is counted in units of ``per_unit`` iterations."""
        rng, n, at = self.rng, self.n, np.arange(self.n)
        rho = float(rng.choice([0.0, 0.5, 0.8, 0.95])) ** (1 / self.per_unit)
        own = _unit(ar(rng, n, rho))
        if self.kind == "ar":
            return _unit(ar(rng, n, float(rng.uniform(0.8, 0.95)) ** (1 / self.per_unit)))
        if self.kind == "walk":
            return _unit(np.cumsum(rng.standard_normal(n)))
        if self.kind == "trend":
            return _unit(own + rng.choice([-1, 1]) * rng.uniform(2, 8) * at / n)
        if self.kind == "curve":
            return _unit(own + rng.choice([-1, 1]) * rng.uniform(2, 8) * np.exp(-at / n * 3))
        if self.kind == "sine":
            return _unit(own + rng.uniform(0.7, 3) * np.sin(2 * np.pi * at / self.period + self.phase + rng.normal(0, 0.3)))
        if self.kind == "burst":  # every k-th unit something runs that is seen everywhere
            k = max(int(self.period), 2)
            width = max(int(self.per_unit), 1)
            return _unit(own + rng.uniform(1, 4) * (at % k < width))
        if self.kind == "spikes":
            return _unit(0.2 * own + (rng.random(n) < 0.03) * rng.exponential(5, n))
        return own


def make(
    seed: int, *, fine: bool, units: int = 200, swarms: int = 12, resources: int = 8, snr: float = 1.0, null: str = "",
    load: float = 0.0, jitter: float = 0.0,
) -> Case:  # fmt: skip
    """One run.

    Args:
        seed: Of everything random.
        fine: Resource sampled at P/20 to P/6; else about 1 Hz with iterations of 20–300 ms.
        units: Iterations (fine) or sampling intervals (coarse).
        swarms, resources: How many.
        snr: Standard deviation of the planted effect over that of the noise, per unit.
        null: A kind of ``NULLS``: no edges, and what swarms and resources share. Empty: a planted graph.
        load: Strength of a factor that slows all swarms together.
        jitter: Boundary error, as a fraction of the iteration.
    """
    rng = np.random.default_rng(seed)
    period = float(rng.uniform(0.3, 1.5)) if fine else float(np.exp(rng.uniform(np.log(0.02), np.log(0.3))))
    every = period if fine else 1.0
    n = units if fine else int(units / period)
    per_unit = every / period
    nuisance = _Nuisance(null, rng, n, per_unit)
    level = np.array([nuisance.draw() for _ in range(swarms)])
    shared = ar(rng, n, 0.8 ** (1 / per_unit))
    share = rng.dirichlet(np.full(swarms, 3.0)) * swarms / (swarms - swarms // 6)  # the leading ones fill the period
    # What a sampling interval averages away must vary more from iteration to iteration.
    cv = rng.uniform(0.1, 0.35, swarms)
    seconds = period * share[:, None] * np.exp(np.clip(cv[:, None] * level + load * shared, -1.5, 1.5))
    beside = np.arange(swarms) >= swarms - swarms // 6  # loader workers and the like: not part of the closed sum
    duration = seconds[~beside].sum(axis=0)
    edge = np.concatenate([[0.0], np.cumsum(duration)])

    at = (np.arange(n * GRID) + 0.5) * edge[-1] / (n * GRID)
    cell = np.clip(np.searchsorted(edge, at, "right") - 1, 0, n - 1)
    active = _active(seconds[~beside], edge, at, cell)
    step = edge[-1] / (n * GRID)
    sample = float(rng.uniform(period / 20, period / 6)) if fine else every
    ticks = np.arange(0, edge[-1], sample)
    ticks = np.clip(ticks + rng.normal(0, 0.02 * sample, len(ticks)), 0, edge[-1])

    edges: dict[tuple[str, str], float] = {}
    series: list[Stored] = []
    unit = cell if fine else np.arange(len(at)) // max(round(every / step), 1)
    for r in range(resources):
        metric = f"made.up.resource{r}"
        signal = np.zeros(len(at))
        drivers = rng.choice(swarms, int(rng.integers(0, 3)), replace=False) if not null else []
        for s in drivers:
            lag = float(rng.choice([0.0, 0.0, 1.0, 2.0])) * every
            shift = round(lag / step)
            by_rate = rng.random() < 0.5 and not beside[s]
            effect = active[s].astype(float) if by_rate else level[s][cell]
            effect = np.concatenate([np.full(shift, effect.mean()), effect[: len(effect) - shift]])
            signal += rng.choice([1, 1, -1]) * rng.uniform(0.7, 1.3) * effect / (_spread(effect, unit) or 1.0)
            edges[f"{s:016x}", metric] = lag
        rho = float(rng.choice([0.0, 0.5, 0.9])) ** (1 / per_unit)
        noise = (nuisance.draw() if null else _unit(ar(rng, n, rho)))[cell]
        grain = rng.standard_normal(len(at))
        noise = noise / (_spread(noise, unit) or 1.0) + (0.5 / (_spread(grain, unit) or 1.0)) * grain
        wanted = (np.sqrt(max(len(drivers), 1)) if not null else 1.0) / snr
        value = 100 + signal + wanted * noise / (_spread(noise, unit) or 1.0)
        value += rng.uniform(0, 2) * np.sin(2 * np.pi * (at - edge[cell]) / duration[cell] + r)  # the iteration's own profile
        if r % 2 and fine:
            total = np.interp(ticks, at, value)
            series.append(Stored(Series(metric, "1", "gauge"), 0, (START + ticks * 1e9).astype(np.int64), total))
        else:
            run = np.concatenate([[0.0], np.cumsum(value * step)])
            total = np.interp(ticks, np.arange(len(run)) * step, run)
            series.append(Stored(Series(metric, "By", "counter"), 0, (START + ticks * 1e9).astype(np.int64), total))
    shown = edge.copy()
    shown[1:-1] += np.clip(rng.normal(0, jitter, n - 1), -0.45, 0.45) * np.minimum(duration[1:], duration[:-1])
    return Case(f"{null or 'planted'}/{'fine' if fine else 'coarse'}", *_records(shown, seconds, beside, period), series, edges)


def _spread(x: Floats, unit: NDArray[np.int64]) -> float:
    """Standard deviation of the means over units."""
    return float((np.bincount(unit, x) / np.maximum(np.bincount(unit), 1)).std())


def _active(seconds: Floats, edge: Floats, at: Floats, cell: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which swarm of the leading thread runs at each grid point; they run one after another."""
    until = np.cumsum(seconds, axis=0)
    inside = at - edge[cell]
    index = (until[:, cell] <= inside[None, :]).sum(axis=0)
    return np.arange(len(seconds))[:, None] == index[None, :]


def _records(
    edge: Floats, seconds: Floats, beside: NDArray[np.bool_], period: float
) -> tuple[list[Iteration], list[SwarmWindow]]:
    ns = (START + edge * 1e9).astype(np.int64)
    n = len(edge) - 1
    fold = 1 if period >= 0.1 else int(np.ceil(0.2 / period))
    iterations = [
        Iteration(
            job="j", rank=0, level="step", index=i, start_ns=int(ns[i]), end_ns=int(ns[i + 1]), kind=IterationKind.TRAIN,
            confidence=0.9, source="test",
        )
        for i in range(n)
    ]  # fmt: skip
    windows = [
        SwarmWindow(
            job="j", rank=0, iteration=first, iterations=min(fold, n - first), swarm=f"{s:016x}", phase=Phase.UNKNOWN,
            time_ns=int(seconds[s, first : first + fold].sum() * 1e9), calls=1, concurrent=bool(beside[s]),
        )
        for first in range(0, n, fold)
        for s in range(len(seconds))
    ]  # fmt: skip
    return iterations, windows
