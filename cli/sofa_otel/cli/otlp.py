"""Sends what a session finds to an OTLP endpoint: spans of iterations and swarms, and every metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sofa_otel.core.records import AnyRecord
from sofa_otel.core.telemetry import Resource
from sofa_otel.core.totals import Totals
from sofa_otel.exporters.emit.otlp_metrics import OtlpMetrics
from sofa_otel.exporters.emit.otlp_spans import OtlpSpans
from sofa_otel.exporters.emit.sampling import MAX_PER_SECOND, IterationTracer


class Otlp:
    """A listener of the session with an exporter for each signal.

    Args:
        totals: Where metrics come from.
        resource: Resource of every request.
        endpoint: Base address; ``OTEL_EXPORTER_OTLP_*`` variables refine it.
        sample_ratio: Share of iterations whose spans are sent.
        note: Told when the backend stops or resumes taking data.
        environ: Variables to read.
    """

    def __init__(
        self,
        totals: Totals,
        resource: Resource,
        endpoint: str,
        sample_ratio: float,
        note: Callable[[str], None],
        environ: Mapping[str, str],
    ) -> None:
        # An address that itself comes from the OTEL variables is left to the rules that hold for them.
        base = None if endpoint == environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() else endpoint
        self._tracer = IterationTracer(MAX_PER_SECOND * sample_ratio)
        self._spans = OtlpSpans(resource, endpoint=base, note=note, environ=environ)
        self._metrics = OtlpMetrics(totals.points, resource, endpoint=base, note=note, environ=environ)

    def start(self) -> None:
        """Begin to send."""
        self._spans.start()
        self._metrics.start()

    def records(self, records: Sequence[AnyRecord]) -> None:
        """Queue the spans of ``records``; returns at once."""
        self._spans.export(self._tracer.spans(records))

    def stop(self) -> str:
        """Send the rest; a sentence about what was lost, empty when nothing was."""
        self._spans.export(self._tracer.flush())
        stats = self._spans.stop()
        self._metrics.stop()
        if not stats.dropped:
            return ""
        return f"{stats.dropped} spans did not reach the OTLP endpoint: {stats.last_error or 'the queue was full'}"
