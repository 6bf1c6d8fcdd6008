"""ResourceBatch: counters and gauges as three columns, with the series they belong to interned beside them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.batch import BatchHeader

Attributes = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """A metric stream: name and unit as in the semantic conventions, kind ``gauge`` or ``counter``, sorted attributes."""

    metric: str
    unit: str
    kind: str
    attributes: Attributes = ()

    def attribute(self, key: str) -> str:
        """Value of an attribute, empty when absent."""
        return next((value for name, value in self.attributes if name == key), "")


class SeriesTable:
    """Append-only table of series."""

    __slots__ = ("_ids", "_rows")

    def __init__(self) -> None:
        self._rows: list[Series] = []
        self._ids: dict[Series, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, series_id: int) -> Series:
        return self._rows[series_id]

    def intern(self, metric: str, unit: str, kind: str, **attributes: str) -> int:
        """Id of a series, new or known. Attribute names use ``__`` for the dot (``network__io__direction``)."""
        pairs = tuple(sorted((key.replace("__", "."), value) for key, value in attributes.items()))
        return self.intern_series(Series(metric, unit, kind, pairs))

    def intern_series(self, series: Series) -> int:
        """Id of ``series``, new or known."""
        found = self._ids.get(series)
        if found is None:
            found = len(self._rows)
            self._rows.append(series)
            self._ids[series] = found
        return found


class ResourceBatch:
    """Points of resource series: ``time_ns i64``, ``series u32``, ``value f64``."""

    __slots__ = ("header", "series", "table", "time_ns", "value")

    def __init__(self, header: BatchHeader, table: SeriesTable, time_ns: Any, series: Any, value: Any) -> None:
        self.header = header
        self.table = table
        self.time_ns: NDArray[np.int64] = np.asarray(time_ns, np.int64)
        self.series: NDArray[np.uint32] = np.asarray(series, np.uint32)
        self.value: NDArray[np.float64] = np.asarray(value, np.float64)
        if not len(self.time_ns) == len(self.series) == len(self.value):
            raise ValueError("time_ns, series and value differ in length")

    def __len__(self) -> int:
        return len(self.time_ns)
