"""Metrics out over OTLP: the points that ``/metrics`` serves, as SDK metric data through the SDK's own exporter.

Instruments of the SDK keep a second set of totals: a histogram cannot be observed, its counts would die with the process, and
counters that survive a restart would get a false start time. So points are turned into ``MetricsData`` directly, which is what
the specification calls a MetricProducer; the reasons are in ``docs/decisions``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, Final

from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics import ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from sofa_otel.core import names
from sofa_otel.core.telemetry import Attributes, Histogram, MetricPoint, Resource, Scope
from sofa_otel.exporters.emit.transport import make_exporter, resolve_endpoint

_log: Final = logging.getLogger(__name__)

_Key = tuple[names.Metric, Attributes]
_State = dict[_Key, tuple[float | Histogram, int]]


class OtlpMetrics:
    """Exports ``points`` periodically and once more at the end.

    Args:
        points: The totals; called from the exporting thread.
        resource, scope: Of every request.
        endpoint: Base address (``--otlp URL``); the ``OTEL_EXPORTER_OTLP_*`` variables decide when it is None.
        interval_s: ``OTEL_METRIC_EXPORT_INTERVAL`` (ms) or 15 s by default.
        exporter: Any SDK metric exporter, instead of OTLP. Its temporality preference
            (``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE``) is honoured.
        note: Told once when the backend stops taking metrics, and once when it takes them again.
        environ: Variables to read.

    Raises:
        UsageError: The endpoint or protocol is not usable.
        MissingExtraError: gRPC is wanted and not installed.
    """

    def __init__(
        self,
        points: Callable[[], Iterable[MetricPoint]],
        resource: Resource | None = None,
        scope: Scope | None = None,
        endpoint: str | None = None,
        *,
        interval_s: float | None = None,
        exporter: MetricExporter | None = None,
        note: Callable[[str], None] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._points = points
        resource, scope = resource or Resource(), scope or Scope()
        self._resource = SdkResource(_plain(resource.attributes), resource.schema_url)
        self._scope = InstrumentationScope(scope.name, scope.version, "", _plain(scope.attributes))
        milliseconds = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
        self._interval_s = interval_s or (int(milliseconds) / 1e3 if milliseconds.isdecimal() and int(milliseconds) else 15.0)
        self._exporter: MetricExporter = exporter or make_exporter(resolve_endpoint(endpoint, "metrics", environ), "metrics")
        wanted = self._exporter._preferred_temporality or {}
        self._temporality = {
            names.Instrument.COUNTER: wanted.get(ObservableCounter, AggregationTemporality.CUMULATIVE),
            names.Instrument.HISTOGRAM: wanted.get(HistogramInstrument, AggregationTemporality.CUMULATIVE),
        }
        self._before: _State = {}
        self._note = note
        self._failing = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to export."""
        self._thread = threading.Thread(target=self._run, name="sofa-otlp-metrics", daemon=True)
        self._thread.start()

    def export(self) -> bool:
        """Export the points of this moment; False when the backend did not take them."""
        with self._lock:
            data, after = self._data(list(self._points()))
            if data is None:
                return True
            try:
                taken = self._exporter.export(data) is MetricExportResult.SUCCESS
            except Exception:  # noqa: BLE001 - any SDK exporter may be plugged in
                _log.exception("metric exporter failed")
                taken = False
            if taken:
                # Only now: what a delta lacks because a request was lost must be in the next one.
                self._before = after
            self._tell(taken)
            return taken

    def stop(self, timeout_s: float = 5.0) -> None:
        """A last export, then the end. Idempotent; returns after about ``timeout_s`` also when the backend hangs."""
        if self._ended.is_set():
            return
        self._ended.set()
        last = threading.Thread(target=self.export, name="sofa-otlp-metrics-last", daemon=True)
        last.start()
        last.join(timeout=timeout_s)
        self._exporter.shutdown(timeout_millis=timeout_s * 1e3)
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            self.export()
            due = max(due + self._interval_s, time.monotonic())

    def _tell(self, taken: bool) -> None:
        if taken == self._failing and self._note is not None:
            self._note("the OTLP backend takes metrics again" if taken else "the OTLP backend does not take metrics")
        self._failing = not taken

    def _data(self, points: list[MetricPoint]) -> tuple[MetricsData | None, _State]:
        after: _State = {}
        metrics: list[Metric] = []
        for metric, group in groupby(points, key=lambda point: point.metric):
            temporality = self._temporality.get(metric.instrument, AggregationTemporality.CUMULATIVE)
            data_points: list[Any] = []
            for point in group:
                if temporality is AggregationTemporality.DELTA:
                    key = (metric, point.attributes)
                    after[key] = (point.value, point.time_ns)
                    point = _since(point, self._before.get(key))
                data_points.append(_data_point(point))
            metrics.append(Metric(metric.name, metric.description, metric.unit, _collection(metric, data_points, temporality)))
        if not metrics:
            return None, after
        scope_metrics = ScopeMetrics(self._scope, metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope_metrics], self._resource.schema_url)]), after


def _plain(attributes: Attributes) -> dict[str, Any]:
    return dict(attributes)


def _collection(metric: names.Metric, points: list[Any], temporality: AggregationTemporality) -> Any:
    match metric.instrument:
        case names.Instrument.COUNTER:
            return Sum(points, temporality, True)
        case names.Instrument.HISTOGRAM:
            return HistogramData(points, temporality)
        case _:
            return Gauge(points)


def _data_point(point: MetricPoint) -> NumberDataPoint | HistogramDataPoint:
    attributes = _plain(point.attributes)
    value = point.value
    if isinstance(value, Histogram):
        return HistogramDataPoint(
            attributes,
            point.start_ns,
            point.time_ns,
            value.count,
            value.sum,
            list(value.counts),
            list(value.bounds),
            value.min,  # type: ignore[arg-type]
            value.max,  # type: ignore[arg-type]
        )
    return NumberDataPoint(attributes, point.start_ns, point.time_ns, value)


def _since(point: MetricPoint, before: tuple[float | Histogram, int] | None) -> MetricPoint:
    """The part of a cumulative point that came after ``before``; a counter that fell began anew."""
    if before is None:
        return point
    old, time_ns = before
    new = point.value
    value: float | Histogram
    if isinstance(new, Histogram) and isinstance(old, Histogram):
        counts = tuple(a - b for a, b in zip(new.counts, old.counts, strict=True))
        if min(counts) < 0:
            return point
        value = Histogram(new.bounds, counts, new.sum - old.sum)
    elif isinstance(new, Histogram) or isinstance(old, Histogram) or new < old:
        return point
    else:
        value = new - old
    return MetricPoint(point.metric, point.attributes, value, point.time_ns, time_ns)
