"""A tiny OTLP/HTTP backend on loopback that keeps what it was sent, and fails on request."""

from __future__ import annotations

import gzip
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class OtlpBackend:
    """Answers with ``statuses`` one after the other, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[Request] = []
        self.refused = 0
        self._statuses = list(statuses)
        self._seen = threading.Condition()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                encoding = self.headers.get("Content-Encoding", "")
                body = gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body) if encoding == "deflate" else body
                with backend._seen:
                    status = backend._statuses.pop(0) if backend._statuses else 200
                    if status == 200:
                        headers = {key.lower(): value for key, value in self.headers.items()}
                        backend.requests.append(Request(self.path, headers, body))
                    else:
                        backend.refused += 1
                    backend._seen.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status in (429, 503):
                    self.send_header("Retry-After", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def wait(self, count: int, timeout_s: float = 20.0) -> bool:
        with self._seen:
            return self._seen.wait_for(lambda: len(self.requests) >= count, timeout_s)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
