"""Serves one page on loopback, so that a user at the other end of SSH can look at it."""

from __future__ import annotations

import getpass
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click

from sofa_otel.core.errors import WorkFailedError


def serve_page(page: str, port: int) -> None:
    """Serve ``page`` until Ctrl-C; prints the address and the ``ssh -L`` line on stderr.

    Raises:
        WorkFailedError: The port is taken.
    """
    body = page.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/", "/index.html", "/report.html"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the terminal is the user's."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise WorkFailedError(f"cannot serve on port {port}: {error.strerror}", "choose another with --port, or 0") from error
    port = server.server_address[1]
    click.echo(f"http://127.0.0.1:{port}/   (Ctrl-C ends)", err=True)
    click.echo(f"from elsewhere: ssh -L {port}:127.0.0.1:{port} {getpass.getuser()}@{socket.gethostname()}", err=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
