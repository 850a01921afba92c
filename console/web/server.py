"""One server: the page, the HTTP interface, the gate in front of both."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI

from console.web.api import add_routes
from console.web.door import Door
from console.web.gate import LOCAL, App, Gate
from console.web.page import CSS, page


@dataclass(frozen=True)
class Where:
    """Where to listen, and by which names. ``token`` None: nobody is asked for one."""

    host: str
    port: int
    token: str | None
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """What to open; with the token, which the first visit takes out of the address bar."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        tail = "" if self.token is None else f"?token={self.token}"
        return f"http://{host}:{self.port}/{tail}"


def where(host: str, port: int, token: str | None, names: Iterable[str]) -> Where:
    """A token of our own making wherever the server can be reached from elsewhere."""
    if token is None and host not in LOCAL:
        token = secrets.token_urlsafe(24)
    return Where(host, port, token, (host, *names))


def build(door: Door, place: Where) -> App:
    """The whole application as ASGI."""
    app = FastAPI(title="avatop", docs_url="/api/docs", redoc_url=None, openapi_url="/api/openapi")
    add_routes(app, door)
    blocks = page(door)
    blocks.queue(max_size=64, default_concurrency_limit=8)
    limits = door.uploads.limits
    mounted = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=place.host,
        server_port=place.port,
        allowed_paths=[str(door.uploads.videos)],
        max_file_size=max(limits.image_bytes, limits.audio_bytes),
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        css=CSS,
    )
    return Gate(mounted, place.token, place.names)


def serve(door: Door, place: Where) -> None:
    """Listen until interrupted.

    Raises:
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Files of the working directory become servable once a handler names them: so it is empty.
    with tempfile.TemporaryDirectory(prefix="avatop-web-") as empty:
        before = Path.cwd()
        os.chdir(empty)
        try:
            config = uvicorn.Config(
                build(door, place),
                host=place.host,
                port=place.port,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
            uvicorn.Server(config).run()
        finally:
            os.chdir(before)
            door.close()
