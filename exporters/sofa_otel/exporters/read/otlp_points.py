"""ResourcePoints: OTLP metrics of files as resource points: what hosts, processes and devices did while the job ran.

Metrics of other kinds (an application's own, and what our suite concluded) are no resources and are counted as left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as MetricMessage

from sofa_otel.core import names
from sofa_otel.core.batch import BatchHeader
from sofa_otel.core.otlp.decode import attributes_of
from sofa_otel.core.otlp.json_events import ERRORS
from sofa_otel.core.otlp.json_form import read_pairs
from sofa_otel.core.otlp.json_types import JData, JMetric, JMetrics
from sofa_otel.core.series import ResourceBatch, Series
from sofa_otel.core.telemetry import Value
from sofa_otel.exporters.read.importer import ImportSink
from sofa_otel.exporters.read.otlp_rows import Losses

_RESOURCES: Final = ("system.", "process.", "hw.", "container.", "k8s.")
_OURS: Final = frozenset(metric.name for metric in names.OURS)
_MOST_POINTS: Final = 32_768
_DELTA: Final = 1
_NOT_RECORDED: Final = 1
_MAX_TIME: Final = (1 << 63) - 1
_DECODER: Final = msgspec.json.Decoder(JMetrics)

Pairs = Iterable[tuple[str, Value]]


class ResourcePoints:
    """Collects points and delivers them in batches.

    Args:
        sink: Where they go.
        losses: Told about what is left out.

    Attributes:
        points: Points delivered.
    """

    def __init__(self, sink: ImportSink, losses: Losses) -> None:
        self._sink = sink
        self._losses = losses
        self._header: BatchHeader | None = None
        self._columns: tuple[list[int], list[int], list[float]] = ([], [], [])
        self._totals: dict[tuple[BatchHeader, int], float] = {}
        self.points = 0

    def message(self, header: BatchHeader, data: bytes, place: str) -> None:
        """One serialised ``Metric``."""
        try:
            metric = MetricMessage.FromString(data)
        except DecodeError:
            self._losses.add("metrics are damaged and left out", place)
            return
        kind = metric.WhichOneof("data")
        if kind not in ("gauge", "sum") or not _is_resource(metric.name):
            self._losses.add("metrics that are no resource series are left out", place)
            return
        values = getattr(metric, kind)
        counter, delta = kind == "sum" and values.is_monotonic, kind == "sum" and values.aggregation_temporality == _DELTA
        for point in values.data_points:
            value = getattr(point, point.WhichOneof("value") or "as_double")
            if not point.flags & _NOT_RECORDED:
                self._add(
                    header, (metric.name, metric.unit), attributes_of(point.attributes), point.time_unix_nano, float(value),
                    counter=counter, delta=delta,
                )  # fmt: skip

    def document(self, headers: Any, body: bytes | memoryview, place: str) -> None:
        """A JSON document; ``headers`` makes a header of a resource's attributes."""
        try:
            request = _DECODER.decode(body)
        except ERRORS:
            self._losses.add("documents of metrics are damaged and left out", place)
            return
        for of_resource in request.resource_metrics or ():
            try:
                about = dict(read_pairs(of_resource.resource.attributes)) if of_resource.resource else {}
            except ERRORS:
                about = {}
            for scope in of_resource.scope_metrics or ():
                for metric in scope.metrics or ():
                    self._metric(headers(about), metric, place)

    def _metric(self, header: BatchHeader, metric: JMetric, place: str) -> None:
        data = metric.gauge or metric.sum
        if data is None or not _is_resource(metric.name or ""):
            self._losses.add("metrics that are no resource series are left out", place)
            return
        counter = metric.sum is not None and bool(data.is_monotonic)
        for point in data.data_points or ():
            try:
                value = float(point.as_double if point.as_double is not None else int(point.as_int or 0))
                self._add(
                    header, (metric.name or "", metric.unit or ""), read_pairs(point.attributes), int(point.time_unix_nano or 0),
                    value, counter=counter, delta=metric.sum is not None and _delta(data),
                )  # fmt: skip
            except ERRORS:
                self._losses.add("metric points are damaged and left out", place)

    def _add(
        self,
        header: BatchHeader,
        metric: tuple[str, str],
        about: Pairs,
        time_ns: int,
        value: float,
        *,
        counter: bool,
        delta: bool,
    ) -> None:
        if not (0 < time_ns <= _MAX_TIME and math.isfinite(value)):
            return
        pairs = sorted((key, _text(word)) for key, word in about if key not in (names.JOB_ID, names.RANK))
        kind = "counter" if counter or delta else "gauge"
        series = self._sink.series.intern_series(Series(*metric, kind, tuple(pairs)))
        if delta:
            # Resource counters only ever grow: what was told as differences is added up.
            value += self._totals.get((header, series), 0.0)
            self._totals[header, series] = value
        if header != self._header or len(self._columns[0]) >= _MOST_POINTS:
            self.flush()
            self._header = header
        times, numbers, values = self._columns
        times.append(time_ns)
        numbers.append(series)
        values.append(value)

    def flush(self) -> None:
        """Deliver what was collected."""
        if self._header is not None and self._columns[0]:
            self.points += len(self._columns[0])
            self._sink.resources(ResourceBatch(self._header, self._sink.series, *self._columns))
        self._columns = ([], [], [])


def _is_resource(name: str) -> bool:
    return name not in _OURS and (name.startswith(_RESOURCES) or name in names.ALL)


def _delta(data: JData) -> bool:
    return data.aggregation_temporality in (_DELTA, str(_DELTA), "AGGREGATION_TEMPORALITY_DELTA")


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
