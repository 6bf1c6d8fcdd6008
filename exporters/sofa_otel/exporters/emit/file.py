"""OTLP as JSON lines: a request a line, as the OpenTelemetry file exporter writes and the Collector's ``otlpjsonfile`` reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from sofa_otel.core.otlp import json_form
from sofa_otel.core.telemetry import MetricPoint, Resource, Scope, SpanPoint

_BATCH = 2048


class OtlpFile:
    """Appends to ``path``; every line is whole, so a reader may follow the file and a kill costs at most the last line.

    Args:
        path: Made when it is not there.
        resource, scope: Of every line.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, resource: Resource | None = None, scope: Scope | None = None) -> None:
        self._resource = resource
        self._scope = scope
        self._file = path.open("ab", buffering=0)

    def spans(self, spans: Iterable[SpanPoint]) -> None:
        """Write spans, at most 2,048 a line."""
        batch: list[SpanPoint] = []
        for span in spans:
            batch.append(span)
            if len(batch) == _BATCH:
                self._line(json_form.encode_spans(batch, self._resource, self._scope))
                batch = []
        if batch:
            self._line(json_form.encode_spans(batch, self._resource, self._scope))

    def metrics(self, points: Iterable[MetricPoint]) -> None:
        """Write points as one line."""
        self._line(json_form.encode_metrics(points, self._resource, self._scope))

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def __enter__(self) -> OtlpFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _line(self, line: bytes) -> None:
        data = line + b"\n"
        while data:
            data = data[self._file.write(data) :]
