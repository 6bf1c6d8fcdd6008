"""``/metrics``: the operator's own totals, drawn as Prometheus families at the moment of the scrape.

The SDK's Prometheus route drops exemplars, fails on some views and gives unit ``1`` no ``_ratio``; this one is a translation of
the very points that go out over OTLP, on a registry of its own, so that the two cannot differ.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric as Family
from prometheus_client.utils import floatToGoString

from sofa_otel.core.errors import WorkFailedError
from sofa_otel.core.names import Instrument
from sofa_otel.core.prometheus_names import label_name, label_value, metric_name
from sofa_otel.core.telemetry import Attributes, Histogram, MetricPoint, Resource, Scope

Points = Callable[[], Iterable[MetricPoint]]

_TYPES: Final = {Instrument.COUNTER: "counter", Instrument.GAUGE: "gauge", Instrument.HISTOGRAM: "histogram"}
_INDEX: Final = b"SOFA: metrics are at /metrics\n"


class PointsCollector:
    """A ``prometheus_client`` collector over ``points``.

    Labels are those of the Collector's Prometheus exporter: the attributes, and ``otel_scope_name`` and ``otel_scope_version``;
    the resource is ``target_info``. Of two metrics whose names meet, the later one is left out and counted in ``clashes``.

    Args:
        points: Called for every scrape.
        resource: What ``target_info`` says.
        scope: Instrumentation scope; its labels are left out when its name is empty.
    """

    def __init__(self, points: Points, resource: Resource | None = None, scope: Scope | None = None) -> None:
        self._points = points
        self._target = _labels((resource or Resource()).attributes)
        scope = scope or Scope()
        self._scope = {"otel_scope_name": scope.name, "otel_scope_version": scope.version} if scope.name else {}
        self._scope = {key: value for key, value in self._scope.items() if value}
        self.clashes = 0

    def describe(self) -> Iterable[Family]:
        """Nothing is known before the first scrape."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Families of all points."""
        if self._target:
            target = Family("target", "Target metadata", "info")
            target.add_sample("target_info", self._target, 1)
            yield target
        families: dict[str, tuple[Family, str]] = {}
        for point in self._points():
            full_name = metric_name(point.metric)
            kind = _TYPES[point.metric.instrument]
            known = families.get(full_name)
            if known is None:
                base = full_name.removesuffix("_total") if kind == "counter" else full_name
                known = families[full_name] = (
                    Family(base, point.metric.description or point.metric.name, kind),
                    point.metric.name,
                )
            family, owner = known
            if family.type != kind or owner != point.metric.name:
                self.clashes += 1
                continue
            _add(family, full_name, {**_labels(point.attributes), **self._scope}, point.value)
        yield from (family for family, _ in families.values())


class PrometheusEndpoint:
    """Serves ``/metrics`` from a daemon thread: GET and HEAD, gzip, OpenMetrics where asked for.

    Args:
        points: Called for every scrape, from a thread of the server.
        host: Address to bind; loopback unless told otherwise.
        port: 0 picks one.
        resource, scope: As in :class:`PointsCollector`.
        tries: How many ports from ``port`` on are tried when it is taken.
        note: Told in one line when another port had to be taken.
    """

    def __init__(
        self,
        points: Points,
        host: str = "127.0.0.1",
        port: int = 9464,
        resource: Resource | None = None,
        scope: Scope | None = None,
        *,
        tries: int = 64,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._tries = tries
        self._note = note
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(PointsCollector(points, resource, scope))
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address of the metrics."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/metrics"

    def start(self) -> int:
        """Bind and serve; returns the port.

        Raises:
            WorkFailedError: No port could be bound.
        """
        wanted = self.port
        self._server = self._bind()
        self.port = self._server.server_port
        if wanted not in (0, self.port) and self._note is not None:
            self._note(f"port {wanted} is taken, metrics are at {self.url}")
        self._server.set_app(_app(make_wsgi_app(self._registry)))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.5}, name="sofa-metrics", daemon=True
        )
        self._thread.start()
        return self.port

    def stop(self) -> None:
        """Close the socket; idempotent."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join(timeout=5)

    def _bind(self) -> WSGIServer:
        tries = 1 if self.port == 0 else max(1, min(self._tries, 65536 - self.port))
        reason: OSError | None = None
        for offset in range(tries):
            try:
                return _server(self.host, self.port + offset)
            except OSError as error:
                reason = error
        span = f"port {self.port}" if tries == 1 else f"ports {self.port} to {self.port + tries - 1}"
        raise WorkFailedError(
            f"cannot serve metrics on {self.host}, {span}: {reason}", "choose another with --port, or 0 for any"
        )


class _Handler(WSGIRequestHandler):
    timeout = 15
    """Seconds a connection may idle: a half-open client must not hold a thread for ever."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the trainer's terminal is not ours."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Bind without the base class's reverse name look-up, which can hang for seconds where there is no resolver."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


def _server(host: str, port: int) -> WSGIServer:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    kind = type("_FamilyServer", (_Server,), {"address_family": family})
    server: WSGIServer = kind((host, port), _Handler)
    return server


def _app(metrics: Callable[..., Any]) -> Callable[..., Iterable[bytes]]:
    """Only ``/metrics`` is served by ``metrics``; HEAD is GET without the body."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        method = environ.get("REQUEST_METHOD", "GET")
        if path == "/":
            start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(_INDEX)))])
            return [] if method == "HEAD" else [_INDEX]
        if path != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "0")])
            return []
        if method != "HEAD":
            out: Iterable[bytes] = metrics(environ, start_response)
            return out
        answer: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(metrics({**environ, "REQUEST_METHOD": "GET"}, lambda status, headers: answer.append((status, headers))))
        status, headers = answer[0]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return []

    return app


def _labels(attributes: Attributes) -> dict[str, str]:
    """Prometheus labels; values of keys that become the same label are joined by ``;`` as the specification says."""
    labels: dict[str, str] = {}
    for key, value in sorted(attributes, key=lambda pair: pair[0]):
        name, text = label_name(key), label_value(value)
        labels[name] = f"{labels[name]};{text}" if name in labels else text
    return labels


def _add(family: Family, name: str, labels: dict[str, str], value: float | Histogram) -> None:
    if not isinstance(value, Histogram):
        family.add_sample(name, labels, value)
        return
    for bound, count in zip([*map(floatToGoString, value.bounds), "+Inf"], accumulate(value.counts), strict=True):
        family.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
    family.add_sample(f"{name}_sum", labels, value.sum)
    family.add_sample(f"{name}_count", labels, value.count)
