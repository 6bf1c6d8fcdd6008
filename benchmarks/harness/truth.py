"""Compares a report with the step times that the job itself wrote.

The job's file is read after both have ended; SOFA never sees it.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Truth:
    """A job's own account: train steps as int64 ns, final loss, injected cause and its share of the step time."""

    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    epochs_ns: NDArray[np.int64]
    """Ends of epochs where the job lists them, else empty; shape (n, 2)."""
    final_loss: float
    share: float | None

    @property
    def median_s(self) -> float:
        """Median duration of a train step, seconds."""
        return float(np.median(self.end_ns - self.start_ns)) / 1e9

    def at(self, level: str) -> Truth:
        """The truth of a loop level: ``epoch`` gives epochs where they are listed."""
        if level != "epoch" or not len(self.epochs_ns):
            return self
        return Truth(self.epochs_ns[:, 0], self.epochs_ns[:, 1], self.epochs_ns, self.final_loss, self.share)


@dataclass(frozen=True)
class Comparison:
    """How far a rank's iterations are from the truth. Errors are relative; ``f1_10`` is at 10 % of the median step."""

    found: bool
    level: str
    source: str
    confidence: float
    truth_count: int
    count: int
    count_error: float
    truth_median_s: float
    median_s: float
    median_error: float
    locked_after: int
    f1_10: float
    f1_25: float
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def read_truth(path: Path) -> Truth:
    """Read a job's ``--truth`` file."""
    document = json.loads(path.read_text())

    def times(items: list[dict[str, Any]]) -> NDArray[np.int64]:
        return np.array([(i["start_ns"], i["end_ns"]) for i in items if i["kind"] == "train"], np.int64).reshape(-1, 2)

    steps = times(document["steps"])
    return Truth(steps[:, 0], steps[:, 1], times(document.get("epochs", [])), document["final_loss"], document.get("share"))


def boundary_f1(found_ns: NDArray[np.int64], truth_ns: NDArray[np.int64], tolerance_ns: float) -> float:
    """F1 of boundaries within ``tolerance_ns`` after one constant offset. Both arrays sorted, each boundary is matched once."""
    if not len(found_ns) or not len(truth_ns):
        return 0.0
    nearest = truth_ns[np.clip(np.searchsorted(truth_ns, found_ns), 1, len(truth_ns) - 1)] if len(truth_ns) > 1 else truth_ns
    before = truth_ns[np.clip(np.searchsorted(truth_ns, found_ns) - 1, 0, len(truth_ns) - 1)]
    nearest = np.where(np.abs(found_ns - before) < np.abs(found_ns - nearest), before, nearest)
    offsets = np.sort(found_ns - nearest)
    width = np.searchsorted(offsets, offsets + tolerance_ns, side="right") - np.arange(len(offsets))
    best = int(np.argmax(width))
    offset = float(np.median(offsets[best : best + width[best]]))
    hits = i = j = 0
    shifted = found_ns - offset
    while i < len(shifted) and j < len(truth_ns):
        difference = shifted[i] - truth_ns[j]
        if abs(difference) <= tolerance_ns:
            hits, i, j = hits + 1, i + 1, j + 1
        elif difference < 0:
            i += 1
        else:
            j += 1
    return 2.0 * hits / (len(found_ns) + len(truth_ns))


def compare(report: dict[str, Any], truth: Truth, rank: int = 0) -> Comparison:
    """Compare a rank of a report (``sofa/report/v1``) with the truth."""
    iterations = report["iterations"]
    mine = next((r for r in iterations["by_rank"] if r["rank"] == rank), None)
    if mine is None:
        mine = {**iterations, "locked_after": 0} if not iterations["by_rank"] else {"found": False, "reason": f"no rank {rank}"}
    level = mine.get("level", "")
    truth = truth.at(level)
    total = len(truth.start_ns)
    if not mine["found"]:
        return Comparison(
            False, level, "", mine.get("confidence", 0.0), total, 0, 1.0, truth.median_s if total else 0.0, 0.0, 1.0, 0, 0.0, 0.0,
            mine["reason"],
        )  # fmt: skip
    median = mine["duration_s"]["median"] if mine["duration_s"] else 0.0
    lowest = min((r["rank"] for r in iterations["by_rank"]), default=rank)
    items = iterations["items"] if rank == lowest else []
    starts = np.sort(np.array([i["start_ns"] for i in items if i["kind"] in ("train", "warmup")], np.int64))
    step = truth.median_s * 1e9 if total else 0.0
    return Comparison(
        found=True,
        level=level,
        source=mine["source"],
        confidence=mine["confidence"],
        truth_count=total,
        count=mine["count"],
        count_error=(mine["count"] - total) / total if total else float("inf"),
        truth_median_s=truth.median_s if total else 0.0,
        median_s=median,
        median_error=median / truth.median_s - 1.0 if total else float("inf"),
        locked_after=mine.get("locked_after", 0),
        f1_10=boundary_f1(starts, truth.start_ns, 0.10 * step) if len(starts) else float("nan"),
        f1_25=boundary_f1(starts, truth.start_ns, 0.25 * step) if len(starts) else float("nan"),
    )


def median(values: list[float]) -> float:
    """Median, nan for an empty list."""
    return statistics.median(values) if values else float("nan")
