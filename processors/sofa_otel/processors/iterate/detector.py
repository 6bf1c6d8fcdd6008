"""IterationDetector: iterations of one rank from whatever its sources see, on-line, without marks.

Learn wide, track narrow. While nothing is locked the detector looks at what it has every 25 ms of event time; a look asks
each kind of source for its best level (:mod:`levels` for loops and hooks). Once a plan is chosen the cycles seen so far are
told from the first one on, and from then on tracking only needs the chosen beats. A plan that rests on regularity alone is
kept back for a while, so that a preparatory loop can still give way to the training loop.

The result depends only on the events and their times: a look happens at multiples of 25 ms (250 ms once locked) of event
time, however the input is cut.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from sofa_otel.core.batch import EventBatch, concat
from sofa_otel.core.codec import decode_batch, encode_batch
from sofa_otel.core.kinds import Call, Kind
from sofa_otel.core.names import IterationKind
from sofa_otel.core.records import Anomaly, CaptureRequest, Detection, Iteration
from sofa_otel.core.symbols import Symbol, Tables
from sofa_otel.processors.iterate import snapshot
from sofa_otel.processors.iterate.anchors import Anchors
from sofa_otel.processors.iterate.anomaly import SLOW_RATIO, local_spread
from sofa_otel.processors.iterate.keys import KeyTable
from sofa_otel.processors.iterate.levels import LevelChooser
from sofa_otel.processors.iterate.numbering import Numbering
from sofa_otel.processors.iterate.phases import Cycle
from sofa_otel.processors.iterate.plan import Plan, Refusal
from sofa_otel.processors.iterate.rates import SamplingRate
from sofa_otel.processors.iterate.roles import role_of
from sofa_otel.processors.iterate.sampled import UNSURE, SampledChooser
from sofa_otel.processors.iterate.settings import DetectorSettings
from sofa_otel.processors.iterate.tokens import StreamId, TokenWindow
from sofa_otel.processors.iterate.track import BeatTracker
from sofa_otel.processors.iterate.trains import TrainStore
from sofa_otel.processors.iterate.vote import VoteTracker
from sofa_otel.processors.iterate.voted import VotedChooser
from sofa_otel.processors.iterate.wraps import WrapStore
from sofa_otel.processors.iterate.wraptrack import WrapTracker

_PLAIN: Final = (
    "_committed", "_locked_ns", "_locked_after", "_now", "_first_ns", "_next_look", "_next_sampled", "_looked", "_against",
    "_candidate", "_uncommitted", "_stalled", "_hot", "events",
)  # fmt: skip
_PATIENCE = 5.0
_SAMPLED_LOOK_NS = 100_000_000
_WRAPS = 8192
_LOOKS = 10
_FEWEST_SHARE = 0.4
_MOST_LONG = 0.04


class DetectorOutput(msgspec.Struct):
    """What one call concluded."""

    iterations: list[Iteration] = []
    detections: list[Detection] = []
    anomalies: list[Anomaly] = []
    requests: list[CaptureRequest] = []


class IterationDetector:
    """Finds and follows the iterations of one rank.

    Args:
        job, rank: Key of the records.
        tables: Tables of the batches that will be fed.
        settings: Thresholds.
    """

    def __init__(self, job: str, rank: int, tables: Tables, settings: DetectorSettings | None = None) -> None:
        self._job = job
        self._rank = rank
        self._tables = tables
        self._settings = settings or DetectorSettings()
        self._keys = KeyTable()
        self._store = TrainStore(self._keys, self._settings.max_keys)
        self._wraps = WrapStore(self._keys, tables, self._settings.max_keys)
        self._chooser = LevelChooser(self._keys, self._settings)
        self._sampled = SampledChooser(self._keys, self._settings)
        self._voted = VotedChooser(self._settings)
        self._window = TokenWindow(tables, self._settings.window_tokens)
        self._anchors: Anchors | None = None
        self._rate = SamplingRate(self._settings)
        self._numbering = Numbering(job, rank)
        self._tracker: BeatTracker | WrapTracker | VoteTracker | None = None
        self._refusal = Refusal("")
        self._told: Plan | None = None  # what the iterations that were emitted last rest on
        self._committed = False
        self._locked_ns = 0
        self._locked_after = 0
        self._now = 0
        self._first_ns = 0
        self._next_look = 0
        self._next_sampled = 0
        self._looked = False
        self._against = 0
        self._candidate: float | None = None
        self._uncommitted = True
        self._stalled = False
        self._hot = ""
        self._pending: EventBatch | None = None
        self.events = 0

    @property
    def leader(self) -> tuple[int, int] | None:
        """(pid, tid) that runs the training loop; None before a lock."""
        return (self._tracker.plan.pid, self._tracker.plan.tid) if self._tracker else None

    @property
    def plan(self) -> Plan | None:
        """What is followed now."""
        return self._tracker.plan if self._tracker else None

    # -- input -----------------------------------------------------------------------------------------------------------------
    def feed(self, batch: EventBatch, until_ns: int) -> DetectorOutput:
        """Take rows that completed before ``until_ns``; rows need not be sorted by completion."""
        out = DetectorOutput()
        self.events += len(batch)
        if self._pending is not None and len(self._pending):
            batch = concat(batch.header, self._tables, [self._pending, batch])
        self._pending = None
        done = batch.completed_ns
        if len(done) and np.any(np.diff(done) < 0):
            order = np.argsort(done, kind="stable")
            batch, done = batch.take(order), done[order]
        if not self._now:
            if not len(batch):
                return out
            self._first_ns = int(done[0])
            self._now = int(done[0]) // self._settings.fine_ns * self._settings.fine_ns
        at = 0
        while True:
            width = self._settings.coarse_ns if self._tracker and self._committed else self._settings.fine_ns
            edge = (self._now // width + 1) * width
            if edge > until_ns:
                break
            end = int(np.searchsorted(done, edge))
            self._step(batch.take(slice(at, end)) if end > at else None, edge, out)
            at = end
        if at < len(batch):
            self._pending = batch.take(slice(at, len(batch)))
        return out

    def on_timer(self, now_ns: int) -> DetectorOutput:
        """Notice a stall: no end of an iteration for ten periods."""
        out = DetectorOutput()
        tracker = self._tracker
        if tracker is None or not tracker.last_ns or self._stalled:
            return out
        waited, usual = now_ns - tracker.last_ns, self._numbering.durations.median or tracker.plan.period_ns
        if waited > max(self._settings.stall_factor * usual, self._settings.stall_min_s * 1e9):
            self._stalled = True
            out.anomalies.append(self._numbering.stall(now_ns, waited, usual))
        return out

    def finish(self, end_ns: int) -> DetectorOutput:
        """The stream has ended: decide on what is there."""
        out = DetectorOutput()
        rest = self._pending
        self._pending = None
        self._step(rest, max(end_ns, self._now), out)
        self._last_look(out)
        if self._tracker is not None:
            self._tell(self._tracker.plan, self._advance(self._now, final=True), out, final=True)
        out.detections.append(self.verdict())
        return out

    # -- state -----------------------------------------------------------------------------------------------------------------
    def to_bytes(self) -> bytes:
        """The state; at most 256 KB after a lock. Feeding goes on identically after :meth:`from_bytes`."""
        plan = self._tracker.plan if self._tracker is not None and self._committed else None
        packer = snapshot.Packer(self._keys)
        wraps, chains = snapshot.pack_wraps(self._wraps, self._tables, plan, packer)
        trains = snapshot.pack_trains(self._store, plan, packer)
        tracked = snapshot.pack_plan(self._tracker.plan, packer, chains) if self._tracker is not None else None
        told = snapshot.pack_plan(self._told, packer, chains) if self._told is not None else None
        anchors = self._anchors
        state = {
            "version": snapshot.STATE_VERSION, "job": self._job, "rank": self._rank, "trains": trains, "wraps": wraps,
            "plan": tracked, "told": told, "tracker": self._tracker.state() if self._tracker is not None else None,
            "anchors": [anchors.hashes.tobytes(), anchors.phases.tobytes(), *anchors[2:]] if anchors is not None else None,
            "window": self._window.state(), "voted": self._voted.state(), "rate": self._rate.state(),
            "numbering": self._numbering.state(), "refusal": msgspec.to_builtins(self._refusal),
            "plain": [getattr(self, name) for name in _PLAIN],
            "pending": encode_batch(self._pending) if self._pending is not None and len(self._pending) else None,
            "keys": packer.rows(),
        }  # fmt: skip
        return snapshot.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, tables: Tables, settings: DetectorSettings | None = None) -> IterationDetector:
        """A detector that goes on where ``data`` was taken; symbols it needs are interned in ``tables``.

        Raises:
            InputError: Not a state, or one of another version.
        """
        state = snapshot.decode(data)
        self = cls(state["job"], state["rank"], tables, settings)
        for row in state["keys"]:
            self._keys.intern(Symbol(*row))
        snapshot.unpack_trains(self._store, state["trains"])
        snapshot.unpack_wraps(self._wraps, tables, state["wraps"])
        self._window.restore(state["window"])
        self._window.sampled = {pid for pid, _ in self._wraps.threads}
        self._voted.restore(state["voted"])
        self._rate.restore(state["rate"])
        self._numbering.restore(state["numbering"])
        self._refusal = msgspec.convert(state["refusal"], Refusal)
        for name, value in zip(_PLAIN, state["plain"], strict=True):
            setattr(self, name, value)
        if state["anchors"] is not None:
            hashes, phases, *rest = state["anchors"]
            self._anchors = Anchors(np.frombuffer(hashes, np.uint64), np.frombuffer(phases, np.float64), *rest)
        if state["plan"] is not None:
            plan = msgspec.convert(state["plan"], Plan)
            if plan.mode == "vote":
                self._tracker = VoteTracker.restored(plan, state["tracker"])
            else:
                self._tracker = WrapTracker(plan) if plan.mode == "wrap" else BeatTracker(plan, self._keys)
                self._tracker.restore(state["tracker"])
        if state["told"] is not None:
            self._told = msgspec.convert(state["told"], Plan)
        self._pending = decode_batch(state["pending"], tables) if state["pending"] else None
        return self

    # -- one look ----------------------------------------------------------------------------------------------------------------
    def _step(self, batch: EventBatch | None, edge: int, out: DetectorOutput) -> None:
        if batch is not None:
            self._note_hot(batch)
            self._store.add(batch, self._settings.max_beats)
            self._wraps.add(batch, _WRAPS)
            if self._tracker is None or not self._committed or self._tracker.plan.mode == "vote":
                self._window.add(batch, set(self._wraps.threads))
        self._now = edge
        if self._tracker is None:
            if batch is not None and edge >= self._next_look:
                self._learn(edge, out)
            return
        cycles = self._advance(edge)
        if cycles:
            self._stalled = False
        self._tell(self._tracker.plan, cycles, out)
        if batch is not None and edge >= self._next_look:
            self._doubt(edge, out)
        if self._committed:
            plan = self._tracker.plan
            before = self._tracker.last_ns - int(4 * plan.period_ns)
            self._store.prune(before, self._settings.kept_beats)
            self._wraps.prune(before, self._settings.kept_beats)

    def _note_hot(self, batch: EventBatch) -> None:
        """Remember the program's own loop that turns too fast to be followed, for the reason of a refusal."""
        for row in np.flatnonzero((batch.kind == Kind.PYTHON_CALL) & (batch.subkind == Call.HOT)).tolist():
            symbol = self._tables.symbols[int(batch.name[row])]
            if role_of(symbol).user:
                turn = batch.duration_ns[row] / 1e6
                self._hot = f"the loop at {symbol.function}:{symbol.line} turns every {turn:.2f} ms, too fast to be followed"

    def _advance(self, now: int, *, final: bool = False) -> list[Cycle]:
        tracker = self._tracker
        if isinstance(tracker, WrapTracker):
            return tracker.advance(self._wraps, now, final=final)
        if isinstance(tracker, VoteTracker):
            quiet = now - tracker.last_ns > _PATIENCE * tracker.plan.period_ns
            mine = StreamId(tracker.plan.pid, tracker.plan.tid, tracker.plan.beat)
            self._window.follow(mine if self._committed and not quiet else None)
            return tracker.advance(self._window, final=final, forget=self._committed and not self._open(tracker.plan))
        if tracker is None:
            return []
        thread = self._wraps.threads.get((tracker.plan.pid, tracker.plan.tid))
        return tracker.advance(self._store, now, thread.hits if thread else [])

    def _choose(self, now: int) -> Plan | Refusal:
        """Exact sources first; sampled stacks where those have nothing to say."""
        exact = self._chooser.choose(self._store, now, self._wraps.idle(), self._wraps.hits())
        self._looked = False
        if isinstance(exact, Plan) or now < self._next_sampled:
            return exact
        self._looked, self._next_sampled = True, now + _SAMPLED_LOOK_NS
        sampled = self._sampled.choose(self._wraps, now)
        if isinstance(sampled, Plan):
            loops = [t for _, t in self._store.of_thread(sampled.pid, sampled.tid) if len(t.times) and t.times[-1] > now - 2e9]
            if loops and exact.cycles:
                return exact  # the loop itself will tell soon, and exactly
            return sampled
        refused = sampled if sampled.cycles > exact.cycles else exact
        voting = self._tracker is None or self._tracker.plan.mode == "vote"
        if voting and self._window.streams and self._voted.due(self._window, now, followed=self._tracker is not None):
            voted = self._voted.choose(self._window, now)
            if not isinstance(voted, Refusal):
                plan, self._anchors = voted
                again = self._candidate is not None and abs(np.log(plan.tokens / self._candidate)) < 0.3
                self._candidate = plan.tokens
                if again or plan.named:  # twice in a row, the window longer: no chance rhythm, no inner loop of the start
                    return plan
                voted = Refusal(f"a rhythm of {plan.period_ns / 1e6:.1f} ms in {plan.source} events, not yet confirmed")
            else:
                self._candidate = None
            refused = voted if voted.cycles > refused.cycles or not refused.reason else refused
        return refused

    def _learn(self, now: int, out: DetectorOutput) -> None:
        found = self._choose(now)
        if isinstance(found, Refusal):
            if found.reason:
                self._refusal = found
        elif found.confidence > self._settings.min_confidence:
            self._lock(found, now, out)
            return
        self._next_look = now + self._settings.fine_ns
        self._ask(self._rate.searching(now, self._interval()), out)

    def _last_look(self, out: DetectorOutput) -> None:
        """What a vote over everything held says at the end; fewer cycles are enough, and a level further out may show."""
        plan = self._tracker.plan if self._tracker is not None else None
        if not self._window.streams or (plan is not None and (self._committed or plan.mode != "vote")):
            return
        voted = self._voted.choose(self._window, self._now, final=True)
        if isinstance(voted, Refusal):
            if plan is not None and plan.blind:
                self._unlock()
                self._refusal = voted
            elif plan is None and (voted.cycles > self._refusal.cycles or not self._refusal.reason):
                self._refusal = voted
            return
        found, anchors = voted
        if found.confidence <= self._settings.min_confidence:
            if plan is None:
                self._refusal = Refusal(f"a rhythm of {found.period_ns / 1e6:.1f} ms in {found.source} events, too weak to trust")
            return
        same = plan is not None and (found.pid, found.tid, found.beat) == (plan.pid, plan.tid, plan.beat)
        if plan is None or not same or not 0.9 < found.other_level(plan) < 1.1:
            self._anchors = anchors
            self._lock(found, self._now, out)

    def _interval(self) -> float:
        threads = [thread.interval for thread in self._wraps.threads.values() if thread.interval > 0]
        return min(threads, default=0.0)

    def _interval_of(self, plan: Plan) -> float:
        thread = self._wraps.threads.get((plan.pid, plan.tid))
        return thread.usual if thread is not None else 0.0

    @staticmethod
    def _ask(request: CaptureRequest | None, out: DetectorOutput) -> None:
        if request is not None:
            out.requests.append(request)

    def _lock(self, plan: Plan, now: int, out: DetectorOutput) -> None:
        old = self._tracker.plan if self._tracker is not None else None
        after = self._tracker.last_ns if self._tracker is not None and self._committed else 0
        kept = self._numbering.held
        self._numbering.drop_held()
        self._tracker = self._tracker_of(plan, after)
        self._uncommitted = not self._committed
        self._committed = not plan.blind
        cycles = self._advance(now)
        same = old is not None and old.mode == plan.mode == "wrap"
        if same and old is not None and kept and cycles and 0.6 < plan.period_ns * plan.group / (old.period_ns * old.group) < 1.6:
            # the same level seen better from here on: what was kept back from before still counts
            cycles = [cycle for cycle in kept if cycle.end_ns <= cycles[0].start_ns + 0.3 * plan.period_ns] + cycles
        self._against = 0
        alike = old is not None and 0.5 < plan.period_ns * plan.group / (old.period_ns * old.group) < 2.0
        if not self._locked_ns or (self._uncommitted and not alike and self._told is None):
            self._locked_ns = now
            self._locked_after = sum(1 for cycle in cycles if cycle.kind == IterationKind.TRAIN)
        self._tell(plan, cycles, out)
        out.detections.append(self.verdict())
        if self._committed:
            self._narrow(plan, out)

    def _tracker_of(self, plan: Plan, after: int) -> BeatTracker | WrapTracker | VoteTracker:
        if plan.mode == "vote" and self._anchors is not None:
            return VoteTracker(plan, self._anchors, after)
        self._window.only = None
        if not plan.blind:
            self._window.streams.clear()
        return WrapTracker(plan, after) if plan.mode == "wrap" else BeatTracker(plan, self._keys, after)

    def _doubt(self, now: int, out: DetectorOutput) -> None:
        """Is there something better than the plan? Asked while it is blind, and when its beats stay away."""
        tracker = self._tracker
        if tracker is None:
            return
        self._next_look = now + self._settings.coarse_ns // (1 if self._committed else 5)
        plan = tracker.plan
        sampled = plan.mode == "wrap"
        self._ask(self._rate.locked(plan.period_ns * plan.group, self._interval(), sampled=sampled), out)
        patience = (_PATIENCE + 5 * sampled) * plan.period_ns * plan.group
        silent = now - tracker.last_ns > (max(patience, 500e6) if self._committed else max(patience, 150e6))
        voted = plan.mode == "vote"
        if not silent and (not plan.blind or (voted and self._committed and not self._open(plan))):
            return
        found = self._choose(now)
        refused = isinstance(found, Refusal) or found.confidence <= self._settings.min_confidence
        if sampled and not self._committed and not silent and (isinstance(found, Refusal) or refused or found.mode == "wrap"):
            self._waver(plan, found, now, out)
            return
        if isinstance(found, Refusal) or refused:
            return
        same = (found.mode, found.pid, found.tid, found.beat, found.cut, found.group, found.blind, found.uneven) == (
            plan.mode, plan.pid, plan.tid, plan.beat, plan.cut, plan.group, plan.blind, plan.uneven,
        )  # fmt: skip
        if voted and found.mode == "vote" and not 0.7 < found.other_level(plan) < 1.4:
            if self._committed and not silent and found.other_level(plan) < 1.0:
                return
            self._lock(found, now, out)
            return
        if same:
            return
        exact = sampled and found.mode != "wrap"
        alike = sampled and found.mode == "wrap" and abs(found.period_ns * found.group / (plan.period_ns * plan.group) - 1) < 0.2
        better = (
            silent
            or (not self._committed and found.group > 1 and not found.blind)
            or (not self._committed and (exact or (found.score > plan.score + 0.3 and not alike)))
            or (plan.blind and not found.blind and not alike)
            or (not self._committed and plan.uneven and not found.uneven)
        )
        if better:
            self._lock(found, now, out)

    def _waver(self, plan: Plan, found: Plan | Refusal, now: int, out: DetectorOutput) -> None:
        """Sampled levels look different as more is seen. A faster level or one that the optimiser speaks for is taken at once,
        anything else when ten looks in a row agree that the plan is wrong."""
        if not self._looked:
            return
        if isinstance(found, Refusal) or found.confidence <= self._settings.min_confidence:
            self._against += isinstance(found, Refusal) and 0 < found.period_ns < 0.7 * plan.period_ns * plan.group
            if self._against >= _LOOKS:
                self._refusal = found if isinstance(found, Refusal) else self._refusal
                self._unlock()
            return
        ratio = found.period_ns * found.group / (plan.period_ns * plan.group)
        if not found.blind or ratio < 0.7:
            self._lock(found, now, out)
        elif 0.7 <= ratio <= 1.4:
            self._against = 0
        else:
            self._against += 1
            if self._against >= _LOOKS:
                self._lock(found, now, out)

    def _tell(self, plan: Plan, cycles: list[Cycle], out: DetectorOutput, *, final: bool = False) -> None:
        held = self._numbering.held
        if not self._committed and not final:
            self._numbering.hold(cycles)
            span = held[-1].end_ns - held[0].start_ns if held else 0
            voted = plan.mode == "vote"
            least = (
                self._settings.hold_cycles
                if not voted
                else self._settings.hold_named
                if plan.named
                else self._settings.hold_voted
            )
            if len(held) < least or (span < self._settings.hold_ns and not plan.named):
                return
            if self._irregular(held):
                self._unlock()
                return
            if voted and not plan.named and self._further_out(plan, out):
                return
            cycles = []
            self._committed = True
            self._narrow(plan, out)
        if final and not self._committed and (self._too_little(held + cycles) or self._irregular(held + cycles)):
            self._unlock()
            return
        if cycles or held or final:
            iterations, anomalies = self._numbering.release(plan, cycles)
            out.iterations += iterations
            out.anomalies += anomalies
            if iterations:
                self._told = plan

    def _open(self, plan: Plan) -> bool:
        """Whether a loop around a voted one may still turn up."""
        return plan.mode == "vote" and not plan.named and self._numbering.trained < self._settings.open_voted

    def _further_out(self, plan: Plan, out: DetectorOutput) -> bool:
        """Before iterations of a voted level are told: does everything held speak for another one?"""
        voted = self._voted.choose(self._window, self._now)
        if isinstance(voted, Refusal) or voted[0].confidence <= self._settings.min_confidence:
            return False
        if voted[0].other_level(plan) < 1.25:
            return False
        self._anchors = voted[1]
        self._lock(voted[0], self._now, out)
        return True

    def _too_little(self, cycles: list[Cycle]) -> bool:
        """Whether a loop that only regularity speaks for is too small a part of what ran since it began."""
        if not cycles:
            return True
        if self._tracker is not None and self._tracker.plan.mode == "vote":
            return False  # the chooser has asked for more than that
        covered = sum(cycle.end_ns - cycle.start_ns for cycle in cycles)
        whole = self._now - cycles[0].start_ns
        if covered >= _FEWEST_SHARE * whole and len(cycles) >= self._settings.min_cycles_blind:
            return False
        self._refusal = Refusal(
            f"a loop of {len(cycles)} cycles ran for {covered / 1e9:.1f} s of {whole / 1e9:.1f} s: too little to be training",
            len(cycles),
        )
        return True

    def _rough(self, plan: Plan, period: float, spread: float) -> str:
        """Why sampled boundaries of this period (ns) are not to be trusted; empty when they are."""
        if plan.mode != "wrap":
            return ""
        samples = period / max(self._interval_of(plan), 1.0)
        rough = f"{samples:.1f} samples an iteration of {period / 1e6:.1f} ms"
        if samples < 1.5 * self._settings.min_samples:
            return f"too short for this source: {rough}; raise the sampling rate, or use hooks or raw_syscalls"
        long = self._numbering.durations.long
        if long > _MOST_LONG:  # a step may be slow; so many are likelier to be two, and a boundary that no sample saw
            return f"boundaries are unsure: {long:.0%} of the iterations take {SLOW_RATIO} times the usual and more, at {rough}"
        return f"boundaries are unsure at {rough}" if spread > 0.35 or samples < self._settings.sure_samples else ""

    def _irregular(self, cycles: list[Cycle]) -> bool:
        """Whether cycles that looked regular at the lock turned out not to be."""
        if self._tracker is not None and self._tracker.plan.counted:
            return False
        spans = np.array([cycle.end_ns - cycle.start_ns for cycle in cycles if cycle.kind == IterationKind.TRAIN], np.float64)
        spread = local_spread(spans)
        middle = float(np.median(spans)) if len(spans) else 0.0
        rough = self._rough(self._tracker.plan, middle, spread) if self._tracker is not None else ""
        # A loop that is seen exactly may well have steps of varying length; guessed boundaries may not.
        exact = self._tracker is not None and self._tracker.plan.mode not in ("wrap", "vote")
        voted = self._tracker is not None and self._tracker.plan.mode == "vote"
        named = self._tracker is not None and self._tracker.plan.named
        most = 0.8 if named else 0.75 if voted else 0.6 if exact and len(spans) >= 20 else 0.45
        if len(spans) and spread <= most and not rough.startswith("too short") and not (rough and spread > 0.35):
            return False
        reason = f"{len(spans)} cycles of {middle / 1e6:.1f} ms vary too much to be steps (spread {spread:.0%})"
        self._refusal = Refusal(rough or reason, len(spans))
        return True

    def _unlock(self) -> None:
        """The lock was a mistake that nobody has been told iterations of."""
        self._tracker, self._against, self._committed = None, 0, False
        self._locked_ns = self._locked_ns if self._told is not None else 0
        self._numbering.drop_held()

    # -- output ------------------------------------------------------------------------------------------------------------------
    def _narrow(self, plan: Plan, out: DetectorOutput) -> None:
        """Ask for what the tracker needs: the chosen loop, the optimiser's, and own loops that are not faster than a few a step
        (an epoch's end, validation); nothing for sampled stacks, which only know a rate."""
        if plan.mode == "wrap":
            return
        if plan.mode == "vote":
            if plan.source == "perf:syscall" and self._anchors is not None:
                names = [(name, "syscall", "", 0) for name in self._window.used(plan.pid, plan.tid)]
                reason = f"locked on system calls, period {plan.period_ns / 1e6:.1f} ms"
                out.requests.append(
                    CaptureRequest(source="perf_syscalls", mode="narrow", pid=plan.pid, names=names, reason=reason)
                )
            return
        rows = {plan.beat: 0, **dict.fromkeys(plan.markers[:4], 0)}
        mine = self._store.of_thread(plan.pid, plan.tid)
        beat = next((train.total for i, train in mine if i.key == plan.beat), 1)
        for train_id, train in mine:
            if self._keys.role(train_id.key).user and train.total <= 4 * beat:
                rows[train_id.key] = 0
        names = [(row.function, row.module, row.file, row.line) for row in (self._keys.rows[key] for key in rows)]
        reason = f"locked on {plan.source}, period {plan.period_ns / 1e6:.1f} ms"
        request = CaptureRequest(
            source="probe", mode="narrow", pid=plan.pid, names=names[:64], rate_hz=self._rate.settle(), reason=reason
        )
        out.requests.append(request)

    def verdict(self) -> Detection:
        """What is known now, with the reason when nothing is."""
        plan = self._tracker.plan if self._tracker is not None else self._told
        if plan is None:
            reason = self._refusal.reason or self._hot or f"no repeated loop, hook or call in {self.events} events"
            return Detection(job=self._job, rank=self._rank, found=False, reason=reason)
        period = (self._numbering.durations.median or plan.period_ns * (plan.group if plan.mode == "wrap" else 1)) / 1e9
        note = self._rough(plan, period * 1e9, self._numbering.durations.spread)
        confidence = min(plan.confidence, UNSURE) if note else plan.confidence
        levels = [msgspec.structs.replace(level, period_s=period) if level.name == "step" else level for level in plan.levels]
        return Detection(
            job=self._job, rank=self._rank, found=True, reason=note, level="step", source=plan.source,
            confidence=round(confidence, 3), levels=levels, locked_ns=self._locked_ns, locked_after=self._locked_after,
        )  # fmt: skip
