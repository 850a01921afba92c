"""``GET /metrics`` on this host alone: 127.0.0.1, no other address, no writing, nothing else."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from typing import Any, Final

from engine.metrics.text import CONTENT_TYPE

HOST: Final = "127.0.0.1"
PORT: Final = 9477
_TIMEOUT: Final = 10.0
_NAMES: Final = frozenset({"127.0.0.1", "localhost"})


class MetricsServer:
    """Serves what ``page`` returns; each request on a thread of its own.

    Args:
        port: 0 takes any free one (see ``port``).

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, page: Callable[[], str], port: int = PORT) -> None:
        class Handler(_Handler):
            make = staticmethod(page)

        self._server = http.server.ThreadingHTTPServer((HOST, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="avatop-metrics", daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/metrics"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


class _Handler(http.server.BaseHTTPRequestHandler):
    make: Callable[[], str]
    timeout = _TIMEOUT
    server_version = "avatop"
    sys_version = ""

    def do_GET(self) -> None:
        # A web page that rebinds its name to this address must not read along.
        name = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host", "")
        if name not in _NAMES:
            self._answer(403, "only for this host\n")
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(404, "the metrics are at /metrics\n")
        else:
            self._answer(200, self.make(), CONTENT_TYPE)

    def _answer(self, code: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Scrapes are not worth a line each."""
