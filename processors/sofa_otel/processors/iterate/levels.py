"""Which loop is the training step: the level question, for exact sources (loops and hooks).

A thread's loops form a nest (epoch, step, micro-batch, layers, library internals) and all of them are periodic. The step is
one update of the parameters, so the witnesses are heard in this order:

1. *The optimiser.* A loop whose every cycle holds one call of it is the step loop; if several are (an epoch holds calls too), the
   fastest. If only every n-th cycle holds one, the step is n cycles (gradient accumulation). Two calls a cycle: two optimisers.
2. *Coverage.* Without a visible optimiser (numpy by hand) a step loop covers nearly all of the time, a loop over layers or
   parameters only a part of its step. Of two loops that cover all, the inner one is the step: an epoch is made of steps.
3. *Names and places.* ``train_epoch`` loops over steps, ``update_mini_batch`` is inside one; own code before installed code.

Everything is a question about sorted instants; a look costs tens of microseconds a loop.
"""

from __future__ import annotations

from math import comb
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.records import LoopLevel
from sofa_otel.processors.iterate.anomaly import local_spread
from sofa_otel.processors.iterate.keys import KeyTable
from sofa_otel.processors.iterate.plan import Plan, Refusal
from sofa_otel.processors.iterate.settings import DetectorSettings
from sofa_otel.processors.iterate.trains import HOOK, LOOP, Times, Train, TrainId, TrainStore

LOOK_BACK_NS: Final = 10_000_000_000
LOOK_BACK_BEATS: Final = 64
FASTEST_STEP_NS: Final = 5e5
"""Half a millisecond: faster cycles of Python are the body of something, never told from preparation by regularity alone."""
_ALIKE: Final = 0.1
LEAST_COVERAGE: Final = 0.4
SURE_CALLS: Final = 64
"""Optimiser calls after which two optimisers would have shown by the rhythm of their calls."""
STALE_NS: Final = 100_000_000
OPTIMIZER_HOOK: Final = "optimizer.step"
LOADER_HOOK: Final = "dataloader.next"
_STEADY_CYCLES: Final = 20
_MOST_MICRO_BATCHES: Final = 8
_MOST_LAYERS: Final = 64
_STRUCTURED: Final = 4.0
_IRREGULAR_CONFIDENCE: Final = 0.55


class Loop(NamedTuple):
    """Measurements of one loop in the window up to now.

    Attributes:
        beats: Ends of its cycles in the window.
        period: Median of the durations inside runs, ns.
        spread: Robust coefficient of variation of those.
        coverage: Share of the window that its runs cover.
        run: Share of cycles that lie inside runs.
    """

    train_id: TrainId
    beats: Times
    period: float
    spread: float
    coverage: float
    run: float


class Occupancy(NamedTuple):
    """How the optimiser's calls lie in a loop's cycles: every ``every``-th cycle holds one (in ``share`` of the cases);
    ``calls`` is the median number of calls in a cycle that holds any."""

    every: int
    share: float
    steps: int
    calls: float


def measure(train_id: TrainId, train: Train, now: int) -> Loop | None:
    """Look at a loop's newest beats; None with fewer than four, or when its runs cover little of the time."""
    times = train.times
    if len(times) < 4 or now - times[-1] > 2 * LOOK_BACK_NS + 8 * (times[-1] - times[-4]):
        return None
    back = max(LOOK_BACK_NS, int(now - times[-min(LOOK_BACK_BEATS, len(times))]))
    beats = times[np.searchsorted(times, now - back) :]
    if len(beats) < 4:
        return None
    gaps = np.sort(np.diff(beats))  # plain sorting: numpy's quantile and median cost ten times as much on such short arrays
    count = len(gaps)
    most = int(np.searchsorted(gaps, 3 * max(int(gaps[int(0.3 * (count - 1))]), 1), side="right"))
    inside = gaps[:most]
    coverage = float(inside.sum()) / max(now - int(beats[0]), 1)
    period = float(inside[most // 2])
    if coverage < LEAST_COVERAGE:
        return None
    away = np.sort(np.abs(inside - period))
    spread = 1.4826 * float(away[most // 2]) / max(period, 1.0)
    return Loop(train_id, beats, period, spread, coverage, most / count)


def occupancy(beats: Times, calls: Times) -> Occupancy | None:
    """Spacing of the cycles that hold a call; None when fewer than three do."""
    edges = np.searchsorted(calls, beats, side="right")
    held = np.diff(edges)
    where = np.flatnonzero(held)
    if len(where) < 3:
        return None
    spacing = np.diff(where)
    values, counts = np.unique(spacing, return_counts=True)
    best = int(np.argmax(counts))
    return Occupancy(int(values[best]), float(counts[best]) / len(spacing), len(where), float(np.median(held[where])))


class LevelChooser:
    """Chooses the step level from a store of trains.

    Args:
        keys: Local numbers and roles.
        settings: Thresholds.
    """

    def __init__(self, keys: KeyTable, settings: DetectorSettings) -> None:
        self._keys = keys
        self._settings = settings

    def choose(
        self, store: TrainStore, now: int, idle: dict[tuple[int, int], float], hits: dict[tuple[int, int], list[int]]
    ) -> Plan | Refusal:
        """Best plan over all threads.

        Args:
            store: Beats up to ``now``.
            now: Event time.
            idle: Share of time each thread slept or waited, where samples tell.
            hits: Instants at which samples found each thread in an optimiser.
        """
        plans: list[Plan] = []
        refusals: list[Refusal] = []
        for pid, tid in store.threads():
            found = self._thread(store, pid, tid, now, idle.get((pid, tid), 0.0), hits.get((pid, tid), []))
            if isinstance(found, Plan):
                plans.append(found)
            elif found.reason:
                refusals.append(found)
        if plans:
            return max(plans, key=lambda plan: (not plan.blind, round(plan.score, 2), -plan.pid, plan.tid == plan.pid))
        if refusals:
            return max(refusals, key=lambda refusal: refusal.cycles)
        return Refusal("")

    # -- one thread ------------------------------------------------------------------------------------------------------------
    def _thread(self, store: TrainStore, pid: int, tid: int, now: int, idle: float, hits: list[int]) -> Plan | Refusal:
        trains = store.of_thread(pid, tid)
        hooks: dict[str, tuple[TrainId, Train]] = {}
        for train_id, train in trains:
            if train.family == HOOK:  # one train for each optimiser where the source tells them apart: the busiest one counts
                name = self._keys.rows[train_id.key].function
                if name not in hooks or train.total >= hooks[name][1].total:
                    hooks[name] = (train_id, train)
        loops = []
        for train_id, train in trains:
            if train.family == LOOP:
                found = measure(train_id, train, now)
                if found is not None:
                    loops.append(found)
        step_hook = hooks.get(OPTIMIZER_HOOK)
        if step_hook is not None:
            return self._by_hook(step_hook, hooks.get(LOADER_HOOK), loops, trains, now)
        markers = [(i, t) for i, t in trains if t.family == LOOP and self._keys.role(i.key).optimiser == 2]
        if markers:
            plan = self._by_marker(markers, loops, trains, now)
            if plan is not None:
                return plan
        return self._by_coverage(loops, trains, np.asarray(hits, np.int64), now, idle)

    def _by_hook(
        self,
        step: tuple[TrainId, Train],
        loader: tuple[TrainId, Train] | None,
        loops: list[Loop],
        trains: list[tuple[TrainId, Train]],
        now: int,
    ) -> Plan | Refusal:
        """The optimiser's own hook: exact steps. The question left is whether a cycle holds one call or several."""
        train_id, train = step
        calls = train.times
        need = self._settings.min_cycles
        if len(calls) < need:
            return Refusal(f"{len(calls)} optimiser steps seen, {need} needed: run it longer", len(calls))
        group, sure = self._calls_a_cycle(calls, loader, loops)
        if not group:
            return Refusal(f"{len(calls)} optimiser steps seen, 8 needed where no loop is in sight: run it longer", len(calls))
        gaps = np.diff(calls[::group][-LOOK_BACK_BEATS:]).astype(np.float64)
        if len(gaps) < need - 1:
            return Refusal(f"{len(gaps) + 1} steps of {group} optimisers seen, {need} needed: run it longer", len(gaps) + 1)
        return Plan(
            mode="marker", source="probe:hook", pid=train_id.pid, tid=train_id.tid, beat=train_id.key, markers=[train_id.key],
            blind=not sure, group=group, period_ns=float(np.median(gaps)), confidence=0.97 if len(gaps) >= 6 else 0.9,
            usual=self._usual(trains, calls[-LOOK_BACK_BEATS:]),
            levels=self._levels(loops, float(np.median(gaps)), now), score=10.0,
        )  # fmt: skip

    def _calls_a_cycle(self, calls: Times, loader: tuple[TrainId, Train] | None, loops: list[Loop]) -> tuple[int, bool]:
        """1, or the number of optimisers that take turns in every cycle of the step loop, and whether that is sure; 0 when it is
        too early to say."""
        cycles = [loop.beats for loop in loops if self._keys.role(loop.train_id.key).user and loop.coverage > 0.5]
        if loader is not None and len(loader[1].times) >= 4:
            cycles.append(loader[1].times)
        group = 0
        for beats in cycles:
            counts = np.diff(np.searchsorted(calls, beats[-LOOK_BACK_BEATS:], side="right"))
            counts = counts[counts > 0]
            if len(counts) < 3:
                continue
            usual = int(np.median(counts))
            if usual == 1:
                return 1, True
            if usual <= 4 and float(np.mean(counts == usual)) >= 0.9:
                group = max(group, usual)
        if not group and len(calls) >= 8:
            turns = _alternation(calls)
            return turns, turns > 1 or len(calls) >= SURE_CALLS
        return group, True

    def _by_marker(
        self, markers: list[tuple[TrainId, Train]], loops: list[Loop], trains: list[tuple[TrainId, Train]], now: int
    ) -> Plan | None:
        """Loops inside the optimiser's code tell when it ran."""
        calls = np.sort(np.concatenate([train.times for _, train in markers]))
        steps: list[tuple[Loop, Occupancy]] = []
        for loop in loops:
            role = self._keys.role(loop.train_id.key)
            if role.optimiser == 2 or role.loader or (role.scope < 0 and loop.coverage < 0.9) or loop.coverage < 0.5:
                continue
            seen = occupancy(loop.beats, calls)
            if seen is not None and seen.share >= 0.7 and seen.every <= self._settings.max_accumulation:
                steps.append((loop, seen))
        if not steps:
            return None

        def order(item: tuple[Loop, Occupancy]) -> tuple[bool, bool, int, int, int]:
            loop, seen = item  # loops of one rhythm (a generator and its consumer): the one that was followed from the start
            rhythm = -round(float(np.log(loop.period)) / _ALIKE)
            return (seen.every == 1, self._keys.role(loop.train_id.key).user, rhythm, len(loop.beats), -seen.every)

        loop, seen = max(steps, key=order)
        cycles = seen.steps
        if cycles < self._settings.min_cycles + (seen.every > 1):
            return None
        edges = np.searchsorted(calls, loop.beats, side="right")
        ends = loop.beats[1:][np.diff(edges) > 0]
        period = float(np.median(np.diff(ends)))
        usual = self._usual(trains, ends)
        return Plan(
            mode="loop", source="probe:loop", pid=loop.train_id.pid, tid=loop.train_id.tid, beat=loop.train_id.key,
            markers=sorted(i.key for i, _ in markers), group=seen.every, period_ns=period,
            confidence=min(0.95, 0.75 + 0.2 * seen.share), usual=usual,
            levels=self._levels(loops, period, now), score=8.0 + loop.coverage,
        )  # fmt: skip

    def _by_coverage(
        self, loops: list[Loop], trains: list[tuple[TrainId, Train]], hits: Times, now: int, idle: float
    ) -> Plan | Refusal:
        """No optimiser in sight: what covers the time, regularly, is the step."""
        need = self._settings.min_cycles_blind
        best: Loop | None = None
        best_score = -1.0
        refused = Refusal("")
        for loop in sorted(loops, key=lambda item: -item.period):
            role = self._keys.role(loop.train_id.key)
            if role.loader or role.other:
                continue
            if loop.coverage < 0.6 or loop.run < 0.5:
                continue
            count = len(loop.beats)
            if not role.user and (loop.period < 4 * FASTEST_STEP_NS or count <= need + 2):
                continue  # installed code loops a lot while it is imported
            if loop.period < FASTEST_STEP_NS or now - loop.beats[-1] > max(4 * loop.period, STALE_NS):
                continue
            score = loop.coverage + role.scope + 0.7 * role.user
            even = self._regular(loop)
            if not even and any(layers_of_steps(loop.beats, around.times) for _, around in self._own(trains)):
                continue  # a loop over layers
            if not (even or (role.user and self._steady(loop))):
                varies = f"spread {loop.spread:.0%} of {_seconds(loop.period)}"
                why = f"cycles of {self._place(loop)} vary too much to be steps ({varies})"
                refused = max(refused, Refusal(why, count), key=lambda refusal: refusal.cycles)
                continue
            if count - 1 < need:
                why = f"{count - 1} steps seen, {need} needed: run {_seconds(need * loop.period)} or longer"
                refused = max(refused, Refusal(why, count - 1), key=lambda refusal: refusal.cycles)
                continue
            alike = best is not None and abs(np.log(loop.period / best.period)) < _ALIKE
            if alike and best is not None and len(best.beats) >= count and role.user <= self._keys.role(best.train_id.key).user:
                continue
            if best is None or score >= best_score - 0.3:
                best, best_score = loop, score
        counted = self._by_counting(trains, now)
        if counted is not None and (best is None or best.period > 1.5 * counted.period):
            best, best_score = counted, max(best_score, 1.0)
        else:
            counted = None
        if best is None:
            return refused
        around = None if counted else self._micro_batches(best, trains, now)
        if around is not None:
            if len(around.beats) < self._settings.min_cycles:
                return Refusal(
                    f"{len(around.beats)} steps of micro-batches seen, {self._settings.min_cycles} needed", len(around.beats)
                )
            best = around
        if idle > 0.75:
            return Refusal(
                f"the thread of {self._place(best)} sleeps {idle:.0%} of the time: a waiting loop, not training", len(best.beats)
            )
        if best_score < 0.5:
            return Refusal(f"only inner loops are regular ({self._place(best)} every {_seconds(best.period)})", len(best.beats))
        confidence = 0.55 + 0.1 * (best_score >= 1.5) + 0.1 * min(1.0, len(best.beats) / 40) + 0.1 * (best.spread < 0.15)
        uneven = counted is None and not self._regular(best)
        if uneven or counted is not None:
            confidence = _IRREGULAR_CONFIDENCE
        train_id = best.train_id
        group, seen = spacing(best.beats, hits, self._settings.max_accumulation)
        if group > 1:
            outer = [
                loop
                for loop in loops
                if loop.coverage > 0.6 and len(loop.beats) > need and abs(loop.period / best.period / group - 1) < 0.15
            ]
            if outer:
                best, group = outer[0], 1
        period = group * best.period
        return Plan(
            mode="loop", source="probe:loop", pid=train_id.pid, tid=train_id.tid, beat=best.train_id.key, group=group,
            guided=group > 1, period_ns=period, confidence=min(0.95, confidence + 0.1 * seen), blind=not seen,
            usual=self._usual(trains, best.beats), levels=self._levels(loops, period, now), score=best_score,
            counted=counted is not None, uneven=uneven,
        )  # fmt: skip

    def _by_counting(self, trains: list[tuple[TrainId, Train]], now: int) -> Loop | None:
        """The step loop of a machine so busy that no two steps take alike: an own loop that makes the same number of turns in
        every cycle of the own loop around it (the batches of an epoch). Counting does not mind the clock."""
        own = self._own(trains)
        for train_id, train in own:
            if self._keys.role(train_id.key).scope < 0 or len(train.times) <= _STEADY_CYCLES:
                continue
            gaps = np.diff(train.times)
            if now - train.times[-1] > max(LOOK_BACK_NS, 8 * int(gaps.max())):
                continue
            period = float(np.median(gaps))
            if period >= FASTEST_STEP_NS and any(batches_of_epochs(train.times, around.times) for _, around in own):
                return Loop(train_id, train.times, period, local_spread(gaps.astype(np.float64)), 1.0, 1.0)
        return None

    def _own(self, trains: list[tuple[TrainId, Train]]) -> list[tuple[TrainId, Train]]:
        """Loops of the program's own code that may be steps or epochs, slowest first."""
        own = []
        for train_id, train in trains:
            role = self._keys.role(train_id.key)
            if train.family == LOOP and role.user and not role.loader and not role.other and len(train.times) >= 4:
                own.append((train_id, train))
        return sorted(own, key=lambda item: len(item[1].times))

    def _micro_batches(self, inner: Loop, trains: list[tuple[TrainId, Train]], now: int) -> Loop | None:
        """The loop around ``inner`` if that looks like gradient accumulation although no optimiser was seen yet: PyTorch, the
        same function, 2 to 8 turns in every cycle, and no loader that begins anew (that would be an epoch)."""
        rows = self._keys.rows
        if not any(rows[i.key].module.split(".")[0] == "torch" for i, _ in trains):
            return None
        if any(self._keys.role(i.key).loader and t.times[-1] > inner.beats[0] for i, t in trains):
            return None
        place = rows[inner.train_id.key]
        for train_id, train in trains:
            row = rows[train_id.key]
            if train_id == inner.train_id or (row.function, row.file) != (place.function, place.file) or not len(train.times):
                continue
            beats = train.times[train.times >= inner.beats[0]]
            turns = int((inner.beats > train.times[-1]).sum())
            if len(beats) < 2 and turns <= 8 and now - train.times[-1] < 16 * inner.period:
                return Loop(train_id, beats, inner.period, inner.spread, inner.coverage, 1.0)  # too early to say
            counts = np.diff(np.searchsorted(inner.beats, beats, side="right"))
            if len(counts) and 2 <= counts[0] <= 8 and (counts == counts[0]).all():
                period = float(np.median(np.diff(beats)))
                return Loop(train_id, beats, period, inner.spread, inner.coverage, 1.0)
        return None

    # -- pieces ------------------------------------------------------------------------------------------------------------------
    def _regular(self, loop: Loop) -> bool:
        gaps = np.diff(loop.beats)
        near = float(np.mean((gaps > 0.5 * loop.period) & (gaps < 2 * loop.period)))
        return loop.spread <= 0.35 and near >= 0.75

    def _steady(self, loop: Loop) -> bool:
        """Steps of varying length (sequences, a busy machine): the program's own loop, turned often, that fills the time."""
        gaps = np.diff(loop.beats)
        near = float(np.mean((gaps > loop.period / 3) & (gaps < 3 * loop.period)))
        return len(loop.beats) > _STEADY_CYCLES and loop.coverage >= 0.85 and loop.spread <= 0.6 and near >= 0.8

    def _place(self, loop: Loop) -> str:
        row = self._keys.rows[loop.train_id.key]
        return f"{row.function}:{row.line}"

    def _usual(self, trains: list[tuple[TrainId, Train]], ends: Times) -> list[int]:
        """Loops and hooks that beat in at least half of the cycles; the rest is foreign (validation, an epoch's end)."""
        usual = []
        for train_id, train in trains:
            held = np.diff(np.searchsorted(train.times, ends)) > 0
            if held.size and float(np.mean(held)) >= 0.5:
                usual.append(train_id.key)
        return usual

    def _levels(self, loops: list[Loop], period: float, now: int) -> list[LoopLevel]:
        """The nest around the step, outermost first."""
        del now
        rows: list[tuple[float, int, str]] = [(period, 0, "step")]
        for loop in loops:
            if loop.coverage >= 0.5:
                name = "epoch" if loop.period > 1.5 * period else "micro-batch" if loop.period < 0.67 * period else ""
                if name:
                    rows.append((loop.period, len(loop.beats), name))
        rows.sort(reverse=True)
        return [LoopLevel(name, count, length / 1e9) for length, count, name in rows[:6]]


class Nesting(NamedTuple):
    """How a loop lies in another one.

    Attributes:
        turns: Turns of the inner loop in most cycles of the outer one.
        fill: Share of those cycles between the first turn and the last.
        by_place: Variance of the turns' logarithms between places in the cycle over that within a place (an F ratio): near 1
            for turns that differ by chance, large where each place has work of its own (layers).
    """

    turns: int
    fill: float
    by_place: float


def nesting(inner: Times, outer: Times) -> Nesting | None:
    """Look at two loops; None unless ``inner`` turns equally often (three times or more) in at least 70 % of the cycles.

    The turn that holds the outer loop's own (validation, a loader that begins anew) is left out.
    """
    outer = outer[outer >= inner[0]]
    if len(outer) < 4 or 4 * len(outer) > len(inner) + 4:
        return None
    edges = np.searchsorted(inner, outer, side="right")
    counts = np.diff(edges)
    turns = int(np.median(counts))
    alike = counts == turns
    if turns < 3 or float(np.mean(alike)) < 0.7 or int(alike.sum()) < 3:
        return None
    rows = np.array([np.diff(inner[edge : edge + turns]) for edge in edges[:-1][alike].tolist()], np.float64)
    logs = np.log(np.maximum(rows, 1.0))
    logs -= logs.mean(1, keepdims=True)
    cycles, places = logs.shape
    between = cycles * float((logs.mean(0) ** 2).sum()) / (places - 1)
    within = float(((logs - logs.mean(0)) ** 2).sum()) / ((cycles - 1) * (places - 1))
    return Nesting(turns, float(rows.sum()) / float(np.diff(outer)[alike].sum()), between / max(within, 1e-9))


def batches_of_epochs(inner: Times, outer: Times) -> bool:
    """Whether the inner loop's turns look like the batches of an epoch: more than micro-batches, and no two places alike."""
    seen = nesting(inner, outer)
    return seen is not None and seen.turns > _MOST_MICRO_BATCHES and seen.fill >= 0.5 and seen.by_place <= _STRUCTURED


def layers_of_steps(inner: Times, outer: Times) -> bool:
    """Whether the inner loop's turns look like layers: few, and each place in the cycle has a length of its own."""
    seen = nesting(inner, outer)
    return seen is not None and seen.turns <= _MOST_LAYERS and seen.by_place > _STRUCTURED


def spacing(beats: Times, hits: Times, most: int) -> tuple[int, bool]:
    """Cycles between optimiser calls that only samples saw (most calls are missed), and whether such calls were seen at all.

    Sampled calls keep distances that are multiples of n cycles when the step is n cycles; by chance they would in one case of n.
    """
    hits = hits[(hits > beats[0]) & (hits <= beats[-1])]
    if len(hits) < 3:
        return 1, False
    cycle = np.unique(np.searchsorted(beats, hits))
    apart = np.diff(cycle)
    if len(apart) < 6:
        return 1, len(apart) >= 3 and float(np.mean(apart == 1)) >= 0.7
    return accumulation(apart, most), True


def accumulation(apart: NDArray[np.int64], most: int) -> int:
    """n, when distances between optimiser calls (in cycles) are multiples of n clearly more often than by chance; else 1."""
    total = len(apart)
    for n in range(most, 1, -1):
        good = int((apart % n == 0).sum())
        if good < 0.65 * total or float(np.mean(apart == n)) < 0.3:
            continue
        chance = sum(comb(total, k) * (1 / n) ** k * (1 - 1 / n) ** (total - k) for k in range(good, total + 1))
        if chance < 0.005:
            return n
    return 1


def _alternation(calls: Times) -> int:
    """2 when odd and even gaps between calls differ (rank test): two optimisers take turns and no loop is in sight."""
    gaps = np.diff(calls).astype(np.float64)[4:][-LOOK_BACK_BEATS:]
    if len(gaps) < 16:
        return 1
    ranks = np.argsort(np.argsort(gaps)).astype(np.float64)
    odd, even = ranks[::2], ranks[1::2]
    n, m = len(odd), len(even)
    score = (float(odd.sum()) - n * (n + m - 1) / 2) / np.sqrt(n * m * (n + m + 1) / 12)
    apart = abs(float(np.median(gaps[::2]) / np.median(gaps[1::2])) - 1)
    return 2 if abs(score) > 3.0 and apart > 0.05 else 1


def _seconds(ns: float) -> str:
    return f"{ns / 1e9:.1f} s" if ns >= 1e9 else f"{ns / 1e6:.1f} ms"


Counts = NDArray[np.int64]
