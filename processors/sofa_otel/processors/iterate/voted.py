"""VotedChooser: stream and level where only anonymous tokens speak (system calls, ops, kernels)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sofa_otel.core.records import LoopLevel
from sofa_otel.processors.iterate.learn import Anchors, gram_hashes, levels, places_of
from sofa_otel.processors.iterate.plan import Plan, Refusal
from sofa_otel.processors.iterate.settings import DetectorSettings
from sofa_otel.processors.iterate.tokens import DEVICE, OP, SOURCES, SYSCALL, Stream, StreamId, TokenWindow
from sofa_otel.processors.iterate.vote import boundaries, times_at

_FEWEST_TOKENS: Final = 64
_EVERY_NS: Final = 1_000_000_000
_RECENT_NS: Final = 8_000_000_000
FASTEST_NS: Final = 2e6


class VotedChooser:
    """Chooses stream and level.

    Args:
        settings: Thresholds.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings
        self._learned: dict[StreamId, int] = {}
        self._looked_ns = 0

    def state(self) -> list[Any]:
        """Plain values."""
        return [self._looked_ns, [[list(i), n] for i, n in sorted(self._learned.items())]]

    def restore(self, state: list[Any]) -> None:
        """Inverse of :meth:`state`."""
        self._looked_ns = state[0]
        self._learned = {StreamId(*i): n for i, n in state[1]}

    def due(self, window: TokenWindow, now: int) -> bool:
        """Whether any stream has grown by half since it was looked at, or a second has passed for system calls."""
        return any(
            s.base + s.size >= max(_FEWEST_TOKENS, 1.5 * self._learned.get(i, 0))
            or (i.family == SYSCALL and now - self._looked_ns >= _EVERY_NS)
            for i, s in window.streams.items()
        )

    def choose(self, window: TokenWindow, now: int) -> tuple[Plan, Anchors] | Refusal:
        """Best stream and level."""
        self._looked_ns = now
        best: tuple[Plan, Anchors] | None = None
        refused = Refusal("")
        for stream_id, stream in sorted(window.streams.items()):
            self._learned[stream_id] = stream.base + stream.size
            if stream.size < _FEWEST_TOKENS:
                continue
            found = self._stream(stream_id, stream, now)
            if isinstance(found, Refusal):
                refused = max(refused, found, key=lambda refusal: refusal.cycles)
            elif best is None or found[0].score > best[0].score:
                best = found
        return best if best is not None else refused

    def _stream(self, stream_id: StreamId, stream: Stream, now: int) -> tuple[Plan, Anchors] | Refusal:
        tokens, times = stream.arrays()
        if (
            stream_id.family == SYSCALL
        ):  # a program's start makes more calls than minutes of its training: look at the last seconds
            recent = int(np.searchsorted(times, now - _RECENT_NS))
            tokens, times = tokens[recent:], times[recent:]
            if len(tokens) < _FEWEST_TOKENS:
                return Refusal(f"only {len(tokens)} system calls in the last {_RECENT_NS / 1e9:.0f} s")
        found = levels(tokens)
        if not found:
            return Refusal(f"nothing recurs steadily in {len(tokens)} {SOURCES[stream_id.family]} events")
        columns = gram_hashes(tokens)
        rows: list[tuple[Anchors, float, int, float, float]] = []
        for anchors in found:
            places, which = places_of(columns, anchors.hashes)
            centres, _ = boundaries(places - anchors.phases[which], anchors.period)
            if len(centres) < 4:
                continue
            ends = times_at(centres, 0, times)
            gaps = np.diff(ends).astype(np.float64)
            period = float(np.median(gaps))
            spread = 1.4826 * float(np.median(np.abs(gaps - period))) / max(period, 1.0)
            covered = float(gaps[gaps < 3 * period].sum()) / max(float(times[-1] - times[0]), 1.0)
            rows.append((anchors, period, len(centres), spread, covered))
        rows = [row for row in rows if row[4] > 0.4]
        if not rows:
            return Refusal(f"nothing recurs over most of {len(tokens)} {SOURCES[stream_id.family]} events")
        strongest = max(rows, key=lambda row: row[0].voters * row[4])
        chosen = strongest
        for row in sorted(rows, key=lambda row: row[1]):  # outwards while the inner count is constant and small
            inner = row[1] / chosen[1]
            if (
                row[1] > 1.5 * chosen[1]
                and inner <= 16.5
                and abs(inner - round(inner)) < 0.1
                and row[0].voters >= 0.2 * chosen[0].voters
            ):
                chosen = row
        anchors, period, count, spread, covered = chosen
        need = self._settings.min_cycles_blind
        if count - 1 < need:
            return Refusal(f"{count - 1} steps seen, {need} needed: run {need * period / 1e9:.1f} s or longer", count - 1)
        if period < FASTEST_NS:
            return Refusal(f"only a rhythm of {period / 1e6:.2f} ms recurs: inside of a step", count - 1)
        if spread > 0.6:
            return Refusal(f"what recurs varies too much to be steps (spread {spread:.0%} of {period / 1e6:.1f} ms)", count - 1)
        rank = {DEVICE: 0.3, OP: 0.2}.get(stream_id.family, 0.0) + 0.2 * (stream_id.pid == stream_id.tid)
        votes = min(1.0, anchors.voters / 40)
        confidence = 0.45 + 0.15 * votes + 0.15 * min(1.0, count / 20) + 0.1 * (spread < 0.25) + 0.1 * (covered > 0.8)
        if SOURCES[stream_id.family] == "perf:syscall":
            # A step's few system calls may belong to an allocator or a thread pool: a rhythm in them proves nothing by itself.
            confidence = min(confidence, 0.5)
        plan = Plan(
            mode="vote", source=SOURCES[stream_id.family], pid=stream_id.pid, tid=stream_id.tid,
            beat=stream_id.family, period_ns=period, confidence=min(confidence, 0.95), blind=True,
            levels=[LoopLevel("step" if row is chosen else "epoch" if row[1] > period else "micro-batch", row[2], row[1] / 1e9)
                    for row in sorted(rows, key=lambda row: -row[1])][:6],
            score=covered + votes + rank,
        )  # fmt: skip
        return plan, anchors
