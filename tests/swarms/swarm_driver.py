"""Runs planted events through the two stages the way the rank operator does: slices of event time, iterations as they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from swarm_planted import MS, PID

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.records import Iteration, PhaseBreakdown, StackProfile, SwarmInfo, SwarmWindow
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.attribute.attributor import Attributor
from sofa_otel.processors.group.grouper import Grouper

SLICE = 250 * MS


class Run:
    """Records of a run, sorted by type."""

    def __init__(
        self,
        tables: Tables,
        batches: Sequence[EventBatch],
        iterations: Sequence[Iteration] = (),
        *,
        grouper: Grouper | None = None,
        attributor: Attributor | None = None,
        leader: tuple[int, int] | None = (PID, PID),
        delay_slices: int = 4,
        close_every: int = 1,
    ) -> None:
        self.grouper = grouper or Grouper("job", 0, tables)
        self.attributor = attributor or Attributor("job", 0, tables, self.grouper)
        records: list[object] = []
        first = min(int(b.start_ns.min()) for b in batches) // SLICE
        last = max(int(b.end_ns.max()) for b in batches) // SLICE + delay_slices + 1
        done = 0
        for number, piece in enumerate(range(first, last + 1)):
            until = (piece + 1) * SLICE
            for batch in batches:
                self.attributor.feed(batch.take((batch.start_ns >= until - SLICE) & (batch.start_ns < until)), until)
            if number % close_every == 0:
                ready = done
                while ready < len(iterations) and iterations[ready].end_ns <= until - delay_slices * SLICE:
                    ready += 1
                records += self.attributor.close(iterations[done:ready], leader, until)
                done = ready
        records += self.attributor.close(iterations[done:], leader, until)
        records += self.attributor.finish(until)
        self.windows = [r for r in records if isinstance(r, SwarmWindow)]
        self.breakdowns = [r for r in records if isinstance(r, PhaseBreakdown)]
        self.infos = {r.swarm: r for r in records if isinstance(r, SwarmInfo)}
        self.profiles = [r for r in records if isinstance(r, StackProfile)]
        self.records = records

    def time_by_swarm(self, *, inside: bool = True, concurrent: bool = False) -> Counter[str]:
        """Nanoseconds by swarm id."""
        out: Counter[str] = Counter()
        for w in self.windows:
            if (w.iteration >= 0) == inside and w.concurrent == concurrent:
                out[w.swarm] += w.time_ns
        return out

    def phase_ns(self) -> Counter[str]:
        """Nanoseconds by phase over all windows."""
        out: Counter[str] = Counter()
        for b in self.breakdowns:
            out.update({str(k): v for k, v in b.phase_ns.items()})
        return out

    def exposed_ns(self) -> Counter[str]:
        """Nanoseconds by resource over all windows."""
        out: Counter[str] = Counter()
        for b in self.breakdowns:
            out.update({str(k): v for k, v in b.exposed_ns.items()})
        return out


def assert_exact(run: Run) -> None:
    """Every margin of every window sums to its wall time."""
    swarm_ns: Counter[int] = Counter()
    for w in run.windows:
        if not w.concurrent:
            swarm_ns[w.iteration] += w.time_ns
    for b in run.breakdowns:
        wall = b.end_ns - b.start_ns
        assert sum(b.phase_ns.values()) == wall
        assert sum(b.exposed_ns.values()) == wall
        assert sum(b.waits_ns.values()) == wall
        assert swarm_ns[b.iteration] == wall
        assert min([*b.phase_ns.values(), *b.exposed_ns.values()]) >= 0


def shares(run: Run) -> dict[str, float]:
    """Share of leader time by caption."""
    by = run.time_by_swarm()
    total = sum(by.values())
    return {run.infos[swarm].caption: ns / total for swarm, ns in by.items()}


def shuffled(tables: Tables, seed: int) -> Tables:
    """Tables with the same content under other ids."""
    rng = np.random.default_rng(seed)
    out = Tables()
    for symbol in rng.permutation(np.arange(1, len(tables.symbols))).tolist():
        out.symbols.intern_symbol(tables.symbols[symbol])
    for path in rng.permutation(np.arange(1, len(tables.paths))).tolist():
        out.paths.intern_frames(out.symbols.intern_symbol(tables.symbols[s]) for s in tables.paths.frames(path))
    return out
