"""A sink that keeps everything, and a short way to ask for the last value of a series."""

from __future__ import annotations

from pathlib import Path

from sofa_otel.core.batch import EventBatch
from sofa_otel.core.names import Metric
from sofa_otel.core.series import ResourceBatch, SeriesTable
from sofa_otel.core.symbols import Tables
from sofa_otel.exporters.collector import Target

DATA = Path(__file__).parents[1] / "data"


class KeepingSink:
    def __init__(self) -> None:
        self.tables = Tables()
        self.series = SeriesTable()
        self.batches: list[EventBatch] = []
        self.points: list[ResourceBatch] = []
        self.warnings: list[str] = []

    def events(self, batch: EventBatch) -> None:
        self.batches.append(batch)

    def resources(self, batch: ResourceBatch) -> None:
        self.points.append(batch)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def last(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Value of every series in the last batch."""
        batch = self.points[-1]
        out = {}
        for series_id, value in zip(batch.series.tolist(), batch.value.tolist(), strict=True):
            series = self.series[series_id]
            key = (series.metric, series.attributes)
            assert key not in out, f"two points of {key} in one batch"
            out[key] = value
        return out

    def value(self, metric: Metric, **attributes: str) -> float | None:
        """Last value of one series; attribute dots as ``__``."""
        pairs = tuple(sorted((key.replace("__", "."), value) for key, value in attributes.items()))
        return self.last().get((metric.name, pairs))


def target(pid: int, root: Path | str = "/", **more: object) -> Target:
    return Target(pid=pid, job="job", rank=3, host="node", run_dir="/tmp", root=str(root), **more)  # type: ignore[arg-type]
