"""SampledChooser: the level question where only sampled stacks speak.

Every frame's wraps form levels: sweep a cut through the frame's offsets, and the number of wraps that cross it is constant
inside one loop and jumps at a nested one. A level with regular gaps is a candidate. From there on the witnesses are the same
as for exact loops (optimiser, coverage, names), weaker by what sampling hides: a wrap is missed when an iteration has samples
on one side of the cut only, so periods are measured by counting over long spans, never by differences of two instants.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.records import LoopLevel
from sofa_otel.processors.iterate.keys import KeyTable
from sofa_otel.processors.iterate.levels import accumulation
from sofa_otel.processors.iterate.plan import Plan, Refusal
from sofa_otel.processors.iterate.settings import DetectorSettings
from sofa_otel.processors.iterate.wraps import FrameId, Thread, WrapStore

LOOK_BACK_NS: Final = 10_000_000_000
UNSURE: Final = 0.5
"""Confidence of boundaries that may be wrong by more than a few per cent."""
_MOST_CUTS: Final = 12
_SAME: Final = 0.12


class Level(NamedTuple):
    """A level of one frame.

    Attributes:
        frame, cut: Where.
        ends: Instants of the wraps (between the two samples), ns.
        period: Seconds counted over the span, ns.
        spread: Robust coefficient of variation of the gaps.
        coverage: Share of the window inside runs.
        missed: Share of cycles whose wrap is expected not to be seen, from the samples on either side of the cut.
        samples: Samples an iteration.
    """

    frame: FrameId
    cut: int
    ends: NDArray[np.float64]
    period: float
    spread: float
    coverage: float
    missed: float
    samples: float


def unseen(samples: float) -> float:
    """Chance that a cycle has no sample on one side of the cut, given the mean number in cycles that have one (zero-truncated
    Poisson: m / (1 - exp(-m)) = mean, solved by fixed point)."""
    if samples <= 1.02:
        return 0.95
    m = samples
    for _ in range(60):
        m = samples * (1 - np.exp(-m))
    return float(np.exp(-m))


def _lag(gaps: NDArray[np.float64], lag: int) -> float:
    """Autocorrelation of log gaps."""
    logs = np.log(np.maximum(gaps, 1.0))
    logs = logs - np.median(logs)
    logs = np.clip(logs, -1.5, 1.5)
    return float((logs[lag:] * logs[:-lag]).sum() / max(float((logs * logs).sum()), 1e-12))


def level_of(
    frame: FrameId, cut: int, rows: NDArray[np.int64], interval: float, now: int, sides: tuple[float, float]
) -> Level | None:
    """Measure the wraps over one cut."""
    if len(rows) < 4:
        return None
    ends = (rows[:, 0] + rows[:, 1]) / 2.0
    gaps = np.diff(ends)
    base = float(np.median(gaps[gaps <= 3 * max(float(np.quantile(gaps, 0.3)), 1.0)]))
    multiple = np.maximum(np.rint(gaps / base), 1)
    whole = multiple <= 3
    period = float(gaps[whole].sum() / multiple[whole].sum()) if whole.any() else base
    inside = gaps[multiple == 1]
    if len(inside) < 0.55 * len(gaps):
        return None  # distances are any multiple of anything: most wraps are missed, or there is no period
    if len(gaps) >= 9 and _lag(gaps, 1) < -0.4 and _lag(gaps, 2) > 0.4:
        return None  # two turns of an inner loop in every cycle, not one cycle
    spread = 1.4826 * float(np.median(np.abs(inside - np.median(inside)))) / period
    coverage = float(gaps[whole].sum()) / max(now - float(ends[0]), 1.0)
    missed = unseen(sides[0]) + unseen(sides[1])
    fits = np.abs(gaps / base - multiple) < 0.25
    if len(gaps) >= 12 and float(fits.mean()) >= 0.9 and len(inside) >= 0.8 * len(gaps):
        # Turns that were missed at random would leave gaps of one and a half times the usual one, too: what is missing shows.
        missed = min(missed, 1.0 - len(gaps) / float(multiple.sum()))
    return Level(frame, cut, ends, period, spread, coverage, missed, period / max(interval, 1.0))


class SampledChooser:
    """Chooses frame and cut.

    Args:
        keys: Local numbers and roles.
        settings: Thresholds.
    """

    def __init__(self, keys: KeyTable, settings: DetectorSettings) -> None:
        self._keys = keys
        self._settings = settings

    def choose(self, store: WrapStore, now: int) -> Plan | Refusal:
        """Best plan over all threads."""
        plans: list[Plan] = []
        refusals: list[Refusal] = []
        by_thread: dict[tuple[int, int], list[FrameId]] = {}
        for frame in store.frames:
            by_thread.setdefault((frame.pid, frame.tid), []).append(frame)
        idle = store.idle()
        for key in sorted(by_thread):
            found = self._thread(store, store.threads[key], by_thread[key], now, idle.get(key, 0.0))
            if isinstance(found, Plan):
                plans.append(found)
            elif found.reason:
                refusals.append(found)
        idle = store.idle()
        for plan in list(plans):  # a loader's thread loops too: it leads only if the main thread does nothing
            main = (plan.pid, plan.pid)
            if plan.tid != plan.pid and plan.blind and main in store.threads and idle.get(main, 0.0) < 0.5:
                plans.remove(plan)
        if plans:
            return max(plans, key=lambda plan: (round(plan.score, 1), -plan.pid, plan.tid == plan.pid))
        return max(refusals, key=lambda refusal: refusal.cycles) if refusals else Refusal("")

    def levels(self, store: WrapStore, frames: list[FrameId], interval: float, now: int, since: int = 0) -> list[Level]:
        """All levels of a thread, slow ones first; ``since`` then it has been sampled about as often as now."""
        found: list[Level] = []
        for frame in frames:
            rows = store.frames[frame].rows
            rows = rows[rows[:, 0] >= max(now - LOOK_BACK_NS, since)]
            if len(rows) < 4:
                continue
            wraps = store.frames[frame]
            offsets = np.array(sorted(wraps.occupied), np.int64)
            if len(offsets) < 2:
                continue
            weight = np.cumsum([wraps.occupied[offset][0] for offset in offsets.tolist()])
            cuts = offsets[:-1]
            crossing = (rows[:, 3][:, None] <= cuts) & (cuts < rows[:, 2][:, None])
            counts = crossing.sum(0)
            every = ((wraps.rows[:, 3][:, None] <= cuts) & (cuts < wraps.rows[:, 2][:, None])).sum(0)
            # of cuts with (nearly) the same wraps the one with the fullest sides misses least
            thin = np.minimum(weight[:-1], weight[-1] - weight[:-1]) / np.maximum(every, 1)
            best: dict[int, int] = {}
            for i in np.flatnonzero(counts >= 4).tolist():
                bucket = round(float(np.log(counts[i])) / 0.1)
                if bucket not in best or thin[i] > thin[best[bucket]]:
                    best[bucket] = i
            for bucket in sorted(best, reverse=True)[:_MOST_CUTS]:
                i = best[bucket]
                sides = (float(weight[i]) / max(int(every[i]), 1), float(weight[-1] - weight[i]) / max(int(every[i]), 1))
                level = level_of(frame, int(cuts[i]), rows[crossing[:, i]], interval, now, sides)
                if level is not None:
                    found.append(level)
        found.sort(key=lambda level: -level.period)
        return found

    def _thread(self, store: WrapStore, thread: Thread, frames: list[FrameId], now: int, idle: float) -> Plan | Refusal:
        levels = self.levels(store, frames, thread.interval, now, thread.regime_ns)
        refused = Refusal("")
        groups: list[list[Level]] = []
        for level in levels:
            if level.coverage < 0.6:
                continue
            if groups and groups[-1][0].period < level.period * (1 + _SAME):
                groups[-1].append(level)
            else:
                groups.append([level])
        need = self._settings.min_cycles_blind
        best: Level | None = None
        best_score = -1.0
        blocked: Refusal | None = None
        nest: list[Level] = []
        for group in groups:
            level = max(group, key=lambda item: self._quality(store, item))
            count = len(level.ends) - 1
            score, inside = self._score(store, level)
            wins = score > 0.5 and (best is None or (score >= best_score - 0.3 and not inside))
            trouble = self._trouble(store, level)
            if trouble or count < need:
                if not trouble:
                    trouble = f"{count} steps seen in samples, {need} needed: run {need * level.period / 1e9:.1f} s or longer"
                    nest.append(level)
                refusal = Refusal(trouble, count, level.period)
                if wins and count >= need:
                    blocked = refusal
                refused = max(refused, refusal, key=lambda item: item.cycles)
                continue
            nest.append(level)
            if wins or best is None:
                best, best_score, blocked = level, score, None
        if blocked is not None:
            return blocked
        if best is None:
            return refused
        if idle > 0.75:
            return Refusal(f"the thread of {self._place(store, best)} sleeps {idle:.0%} of the time", len(best.ends))
        turns, hits = self._accumulation(best, thread)
        hidden = self._score(store, best)[1]
        if hidden:  # its own entries are the calls that were seen
            hits = 0
        if turns > 1:
            outer = [level for level in nest if abs(level.period / (turns * best.period) - 1) < _SAME and len(level.ends) > need]
            if outer:
                best, turns = outer[0], 1
        enough = best.samples * turns
        confidence = (
            0.5 + 0.15 * min(1.0, len(best.ends) / 30) + 0.1 * (best.spread < 0.2) + 0.1 * bool(hits) + 0.1 * (enough >= 20)
        )
        same = [other for other in levels if other.frame == best.frame and len(other.ends) >= 4 * len(best.ends)]
        if any(other.coverage > 0.8 and self._trouble(store, other) for other in same):
            confidence = min(confidence, self._settings.min_confidence)  # samples cannot resolve a loop in the same function
        if enough < 1.5 * self._settings.min_samples or best.missed > 0.15:
            confidence = min(confidence, self._settings.min_confidence)
        elif enough < self._settings.sure_samples or best.missed > 0.08:
            confidence = min(confidence, UNSURE)
        rows = [LoopLevel("step", len(best.ends) // turns, turns * best.period / 1e9)]
        rows += [
            LoopLevel("epoch" if level.period > best.period else "micro-batch", len(level.ends), level.period / 1e9)
            for level in nest
            if abs(level.period / best.period - 1) > _SAME
        ]
        return Plan(
            mode="wrap", source="probe:sample", pid=best.frame.pid, tid=best.frame.tid, beat=best.frame.chain,
            cut=best.cut, group=turns, missed=best.missed, period_ns=best.period, confidence=confidence, blind=not hits,
            levels=sorted(rows, key=lambda row: -row.period_s)[:6],
            score=best_score + 0.5 * bool(hits) + 0.001 * min(len(best.ends), 99),
        )  # fmt: skip

    def _trouble(self, store: WrapStore, level: Level) -> str:
        """Why a level cannot be followed in samples; empty when it can."""
        epoch = self._epoch_below(store, level.frame)
        if epoch:
            return f"{epoch} runs once a cycle of {level.period / 1e6:.1f} ms: its steps are too short for this source"
        if level.samples >= self._settings.min_samples and level.missed <= 0.3:
            if level.spread <= 0.3 + min(0.8 / max(level.samples, 0.5), 0.1):
                return ""
            return (
                f"wraps of {self._place(store, level)} are irregular (spread {level.spread:.0%} of {level.period / 1e6:.1f} ms)"
            )
        if level.samples >= 1.5 * self._settings.min_samples:
            return (
                f"{level.missed:.0%} of the turns of {self._place(store, level)} (about {level.period / 1e6:.1f} ms) fall "
                "between samples: raise the sampling rate, or use hooks or raw_syscalls"
            )
        return (
            f"too short for this source: {level.samples:.1f} samples an iteration of about {level.period / 1e6:.1f} ms: raise "
            "the sampling rate, or use hooks or raw_syscalls"
        )

    def _epoch_below(self, store: WrapStore, frame: FrameId) -> str:
        """Name of a function like ``train_epoch`` in which this frame spends most of its time: its loop is over steps."""
        whole = store.frames[frame].samples
        for other, wraps in store.frames.items():
            if (other.pid, other.tid) != (frame.pid, frame.tid) or wraps.samples < 0.5 * whole:
                continue
            parent, code = store.chain_rows[other.chain]
            if parent == frame.chain and self._keys.role(code).scope > 0:
                return self._keys.rows[code].function
        return ""

    def _quality(self, store: WrapStore, level: Level) -> tuple[float, float]:
        """Of cuts with one period the best to follow: few missed, regular, far out."""
        return (round(-level.missed - level.spread, 2), -len(store.codes(level.frame.chain)))

    def _score(self, store: WrapStore, level: Level) -> tuple[float, bool]:
        """Step-likeness, and whether the frame is inside the optimiser's call (only its re-entry counts there)."""
        codes = store.codes(level.frame.chain)
        role = self._keys.role(codes[-1])
        # The program's own ``train_step`` is a step, what is called below it is inside one.
        inside = any(self._keys.role(code).optimiser == 2 for code in (codes[:-1] if role.step else codes))
        scope = 1.0 if role.scope > 0 else -0.4 if role.scope < 0 and not role.step else 0.0
        plumbing = any(self._keys.role(code).loader and self._keys.rows[code].module != "threading" for code in codes[-3:])
        return min(level.coverage, 1.0) + scope + 0.7 * role.user - 0.6 * bool(role.other) - 0.5 * inside - plumbing, inside

    def _accumulation(self, level: Level, thread: Thread) -> tuple[int, int]:
        """(cycles a step, optimiser calls seen): calls that keep a distance of n cycles reveal accumulation. No calls are
        reported while they are too few to tell."""
        hits = np.asarray([hit for hit in thread.hits if hit > level.ends[0]], np.float64)
        if len(hits):  # step and zero_grad are one visit
            hits = hits[np.concatenate([[True], np.diff(hits) > 0.5 * level.period])]
        if len(hits) < 4:
            return 1, 0
        apart = np.diff(np.searchsorted(level.ends, hits))
        if len(apart) < 6:
            return 1, 0
        turns = accumulation(apart, min(16, self._settings.max_accumulation))
        if turns == 1 and len(hits) > 0.3 * len(level.ends) and float(np.mean(apart == 1)) < 0.5:
            return 1, 0  # calls are seen often, but not once a cycle: not the level of the optimiser
        return turns, len(hits)

    def _place(self, store: WrapStore, level: Level) -> str:
        row = self._keys.rows[store.codes(level.frame.chain)[-1]]
        return f"{row.module}.{row.function}"
