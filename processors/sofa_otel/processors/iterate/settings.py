"""DetectorSettings: every number of the iteration detector that somebody may want to change, in one typed object."""

from __future__ import annotations

import msgspec


class DetectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of :class:`~sofa_otel.processors.iterate.detector.IterationDetector`.

    Attributes:
        min_confidence: Up to it nothing is called found.
        min_cycles: Complete cycles needed for a lock when the optimiser was seen in them.
        min_cycles_blind: The same when only regularity speaks.
        fine_ns: Event time between two looks while nothing is locked.
        coarse_ns: The same after the lock.
        hold_cycles, hold_ns: A lock that rests on regularity alone is kept back this long before its iterations are emitted,
            so that a preparatory loop can still be dropped for the training loop that follows it.
        hold_named: The same in cycles for a vote in which an optimiser's name recurs.
        hold_voted: The same for any other vote: inner loops show before the one around them does.
        open_voted: Steps after which a loop around a voted one is not looked for any more.
        max_beats: Beats kept a loop while learning; ``kept_beats`` after the lock.
        max_keys: Loops kept.
        max_accumulation: Micro-batches an optimiser step may be made of.
        min_samples: Samples an iteration without which sampled stacks are useless; from ``sure_samples`` on they are right;
            ``good_samples`` is what is asked for.
        usual_rate_hz: The probe's own rate, asked for again when a higher one is not needed any more.
        max_rate_hz: Highest sampling rate asked for.
        stall_factor, stall_min_s: No end of an iteration for this many periods, and this long, is a stall.
        window_tokens: Bound of the learn window of anonymous streams (system calls, ops, kernels).
    """

    min_confidence: float = 0.45
    min_cycles: int = 4
    min_cycles_blind: int = 6
    fine_ns: int = 25_000_000
    coarse_ns: int = 250_000_000
    hold_cycles: int = 40
    hold_ns: int = 8_000_000_000
    hold_named: int = 10
    hold_voted: int = 256
    open_voted: int = 2048
    max_beats: int = 4096
    kept_beats: int = 96
    max_keys: int = 256
    max_accumulation: int = 64
    min_samples: float = 8.0
    sure_samples: float = 20.0
    good_samples: float = 24.0
    usual_rate_hz: float = 100.0
    max_rate_hz: float = 1000.0
    stall_factor: float = 10.0
    stall_min_s: float = 5.0
    window_tokens: int = 524_288
