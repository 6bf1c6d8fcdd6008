"""Which iterations leave spans: all while a rank makes up to ten a second, an even share above that, anomalous ones always."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sofa_otel.core.records import AnyRecord, Iteration, SwarmInfo, SwarmWindow
from sofa_otel.core.telemetry import SpanPoint, iteration_spans

MAX_PER_SECOND: Final = 10.0
_SMOOTHING: Final = 0.1
_MAX_INFOS: Final = 4096
_MAX_WAITING: Final = 4096


class _Rank:
    __slots__ = ("credit", "period_s", "second", "taken")

    def __init__(self) -> None:
        self.period_s = 0.0
        self.credit = 1.0
        self.second = -1
        self.taken = 0


class IterationTracer:
    """Turns records into spans within the limit.

    Of a fast rank every iteration has the same chance, by a running remainder instead of a random number, so a run traced twice
    keeps the same ones. The chance is on every span (``sofa.sample.ratio``): counts can be scaled back.

    Args:
        limit: Iterations with spans a second of event time and rank, beside anomalous ones.
    """

    def __init__(self, limit: float = MAX_PER_SECOND) -> None:
        self._limit = limit
        self._ranks: dict[tuple[str, int], _Rank] = {}
        self._infos: dict[tuple[str, int], dict[str, SwarmInfo]] = {}
        self._waiting: list[Iteration] = []

    def spans(self, records: Iterable[AnyRecord]) -> list[SpanPoint]:
        """Spans of the iterations in ``records``. One whose swarm windows are not here yet waits for the next call."""
        iterations, self._waiting = self._waiting, []
        held = len(iterations)
        windows: dict[tuple[str, int], list[SwarmWindow]] = {}
        for record in records:
            key = (record.job, record.rank)
            match record:
                case Iteration():
                    iterations.append(record)
                case SwarmWindow():
                    windows.setdefault(key, []).append(record)
                case SwarmInfo():
                    infos = self._infos.setdefault(key, {})
                    if record.swarm in infos or len(infos) < _MAX_INFOS:
                        infos[record.swarm] = record
        out: list[SpanPoint] = []
        for position, iteration in enumerate(iterations):
            key = (iteration.job, iteration.rank)
            mine = [w for w in windows.get(key, ()) if w.iteration <= iteration.index < w.iteration + w.iterations]
            if not mine and position >= held and len(self._waiting) < _MAX_WAITING:
                self._waiting.append(iteration)
                continue
            ratio = self._ratio(iteration)
            if ratio:
                out += iteration_spans(iteration, mine, self._infos.get(key), ratio)
        return out

    def flush(self) -> list[SpanPoint]:
        """Spans of iterations that still wait for their windows."""
        return self.spans(())

    def _ratio(self, iteration: Iteration) -> float:
        """The share to write on the span, 0 when it is left out."""
        rank = self._ranks.setdefault((iteration.job, iteration.rank), _Rank())
        took = max((iteration.end_ns - iteration.start_ns) / 1e9, 1e-9)
        rank.period_s = rank.period_s + _SMOOTHING * (took - rank.period_s) if rank.period_s else took
        ratio = min(1.0, self._limit * rank.period_s)
        second = iteration.end_ns // 1_000_000_000
        if second != rank.second:
            rank.second, rank.taken = second, 0
        if iteration.anomalous:
            return 1.0
        rank.credit = min(rank.credit + ratio, 2.0)
        if rank.credit < 1.0 or rank.taken >= self._limit:
            return 0.0
        rank.credit -= 1.0
        rank.taken += 1
        return ratio
