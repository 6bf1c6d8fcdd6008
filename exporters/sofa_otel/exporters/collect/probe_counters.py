"""Kernel files that a probe sent as text, read into resource points: all parsing happens on this side of the socket."""

from __future__ import annotations

from collections.abc import Mapping

from sofa_otel.core.series import SeriesTable


class ProcessCounters:
    """Turns the texts of ``/proc/self`` and of the process's cgroup into points.

    Args:
        table: The sink's series.
    """

    def __init__(self, table: SeriesTable) -> None:
        self._table = table

    def points(self, pid: int, texts: Mapping[str, str]) -> tuple[list[int], list[float]]:
        """Series ids and values; what cannot be read is left out."""
        return [], []
