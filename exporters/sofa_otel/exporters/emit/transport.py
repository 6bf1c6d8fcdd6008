"""Ready-made OTLP request bytes over the SDK exporters' own connection.

An SDK span exporter takes spans, not bytes, yet it owns what must not be written twice: endpoint, headers, compression, timeout,
TLS and credential settings of every ``OTEL_EXPORTER_OTLP_*`` variable. This module makes one and hands it the bytes at the seam
just behind its encoder. It is the only place that touches names the SDK does not promise (``docs/decisions``); the tests hold it
against the installed version.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from sofa_otel.core.errors import MissingExtraError, UsageError

Signal = Literal["traces", "metrics"]

_RETRYABLE_HTTP: Final = frozenset((429, 502, 503, 504))
_RETRYABLE_GRPC: Final = frozenset(
    ("CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
)
_GRPC_PORT: Final = 4317


class SendResult(NamedTuple):
    """How a request ended. ``retry``: the same bytes may be sent again later."""

    ok: bool
    retry: bool = False
    reason: str = ""


class Sender(Protocol):
    """Sends OTLP trace requests."""

    def send(self, body: bytes) -> SendResult:
        """Send one request; blocks up to the exporter's timeout. Never raises."""

    def close(self) -> None:
        """Interrupt a send that waits to retry, and release the connection."""


class Endpoint(NamedTuple):
    """Where and how: ``url`` None leaves it to the ``OTEL_EXPORTER_OTLP_*`` variables and their defaults."""

    protocol: Literal["http/protobuf", "grpc"]
    url: str | None


def resolve_endpoint(url: str | None, signal: Signal, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Protocol and full address for a signal.

    The protocol is ``OTEL_EXPORTER_OTLP_<SIGNAL>_PROTOCOL``, else ``OTEL_EXPORTER_OTLP_PROTOCOL``, else gRPC where the address
    says so (scheme ``grpc`` or ``grpcs``, or port 4317), else HTTP.

    Args:
        url: Base address as given on a command line; the signal's path is added for HTTP where it has none.
        signal: ``traces`` or ``metrics``.
        environ: Variables to read.

    Raises:
        UsageError: A protocol that the SDK does not speak, or an address that is not one.
    """
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    source, protocol = next(((name, environ[name].strip()) for name in variables if environ.get(name, "").strip()), ("", ""))
    if protocol not in ("", "grpc", "http/protobuf"):
        raise UsageError(f"{source}={protocol} is not supported", "set it to http/protobuf or grpc")
    address = (
        url or environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""
    )
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"OTLP endpoint {address!r} is not an address: {error}", "give http://HOST:4318") from error
    if not protocol:
        protocol = "grpc" if parts.scheme in ("grpc", "grpcs") or port == _GRPC_PORT else "http/protobuf"
    if url is None:
        return Endpoint("grpc" if protocol == "grpc" else "http/protobuf", None)
    if not parts.scheme or not parts.netloc:
        raise UsageError(f"OTLP endpoint {url!r} is not an address", "give http://HOST:4318, or grpc://HOST:4317")
    if protocol == "grpc":
        return Endpoint("grpc", url.replace("grpc", "http", 1) if parts.scheme in ("grpc", "grpcs") else url)
    path = f"/v1/{signal}"
    return Endpoint("http/protobuf", url if parts.path.rstrip("/").endswith(path) else url.rstrip("/") + path)


def make_exporter(endpoint: Endpoint, signal: Signal) -> Any:
    """The SDK's own exporter for a signal; gRPC is imported only when it is asked for (14 MB).

    Raises:
        MissingExtraError: gRPC is wanted and not installed.
    """
    # Without any handler Python prints an exporter's retries on stderr, which is the trainer's terminal.
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    kind = "trace_exporter.OTLPSpanExporter" if signal == "traces" else "metric_exporter.OTLPMetricExporter"
    module, name = kind.split(".")
    package = "grpc" if endpoint.protocol == "grpc" else "http"
    try:
        found = getattr(importlib.import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}"), name)
    except ImportError as error:
        raise MissingExtraError("run", "OTLP over gRPC") from error
    return found(endpoint=endpoint.url)


def make_sender(endpoint: Endpoint) -> Sender:
    """A sender of trace requests."""
    exporter = make_exporter(endpoint, "traces")
    return _GrpcSender(exporter) if endpoint.protocol == "grpc" else _HttpSender(exporter)


class _HttpSender:
    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        client = getattr(exporter, "_client", None)
        # SDK ≥ 1.4x keeps a client that retries within the timeout; before, the exporter itself posted once.
        self._post = getattr(client, "export", None) or exporter._export

    def send(self, body: bytes) -> SendResult:
        try:
            answer = self._post(body)
        except Exception as error:  # noqa: BLE001 - the transport is whatever the user plugged in
            return SendResult(False, True, f"{type(error).__name__}: {error}")
        status = getattr(answer, "status_code", None)
        if getattr(answer, "success", None) or getattr(answer, "ok", None):
            return SendResult(True)
        reason = getattr(answer, "reason", None) or getattr(answer, "error", None) or "no answer"
        return SendResult(
            False, status is None or status in _RETRYABLE_HTTP, f"HTTP {status}: {reason}" if status else str(reason)
        )

    def close(self) -> None:
        self._exporter.shutdown()


class _GrpcSender:
    def __init__(self, exporter: Any) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self._exporter = exporter
        self._parse = ExportTraceServiceRequest.FromString

    def send(self, body: bytes) -> SendResult:
        try:
            self._exporter._client.Export(
                request=self._parse(body), metadata=self._exporter._headers, timeout=self._exporter._timeout
            )
        except Exception as error:  # noqa: BLE001 - grpc.RpcError, without importing grpc here
            code = getattr(getattr(error, "code", lambda: None)(), "name", "")
            return SendResult(False, code in _RETRYABLE_GRPC, f"gRPC {code or type(error).__name__}")
        return SendResult(True)

    def close(self) -> None:
        self._exporter.shutdown()
