"""Step marks that the program wrote itself: counted for comparison, and followed only when the user says so."""

from __future__ import annotations

from typing import Final

import numpy as np

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.kinds import Kind
from sofa_otel.core.records import Detection, Iteration, LoopLevel, StepMarks
from sofa_otel.processors.iterate.detector import DetectorOutput

_MOST: Final = 65_536


class MarkCounter:
    """Remembers a rank's marks: the same step is marked on the host and once more on every stream of the device.

    Args:
        job, rank: Key of the records.
    """

    def __init__(self, job: str, rank: int) -> None:
        self._job, self._rank = job, rank
        self._host: dict[int, tuple[int, int]] = {}
        self._device: dict[int, tuple[int, int]] = {}

    def feed(self, batch: EventBatch) -> None:
        """Take note of the marks in a batch."""
        rows = np.flatnonzero(batch.kind == Kind.MARK)
        for row in rows.tolist():
            side = self._host if batch.device[row] < 0 else self._device
            if len(side) < _MOST:
                start = int(batch.start_ns[row])
                side.setdefault(int(batch.name[row]), (start, start + int(batch.duration_ns[row])))

    def spans(self) -> list[tuple[int, int]]:
        """(start, end) of every mark, ns, by time; the host's where it has any."""
        return sorted((self._host or self._device).values())

    def record(self) -> StepMarks | None:
        """What is known, None without marks."""
        starts = np.array([start for start, _ in self.spans()], np.int64)
        if not len(starts):
            return None
        period = float(np.median(np.diff(starts))) / 1e9 if len(starts) > 1 else 0.0
        return StepMarks(job=self._job, rank=self._rank, count=len(starts), period_s=period)

    def iterations(self) -> DetectorOutput:
        """The marks as iterations, for a user who trusts them."""
        out = DetectorOutput()
        spans = self.spans()
        if not spans:
            reason = "the input holds no step marks: leave --trust-marks out"
            out.detections.append(Detection(job=self._job, rank=self._rank, found=False, reason=reason))
            return out
        for index, (start, end) in enumerate(spans):
            out.iterations.append(
                Iteration(
                    job=self._job, rank=self._rank, level="step", index=index, start_ns=start, end_ns=end, confidence=1.0,
                    source="marks",
                )
            )  # fmt: skip
        period = float(np.median([end - start for start, end in spans])) / 1e9
        out.detections.append(
            Detection(
                job=self._job, rank=self._rank, found=True, reason="marks are trusted", level="step", source="marks",
                confidence=1.0, levels=[LoopLevel("step", len(spans), period)],
            )
        )  # fmt: skip
        return out
