"""One server: the page, the HTTP interface, the gate in front of both."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI

from console.web.api import add_routes
from console.web.door import Door
from console.web.gate import App, Gate
from console.web.page import CSS, page
from console.web.where import Where


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
    """Listen until interrupted or ended by SIGTERM. The main thread's.

    Raises:
        OSError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Files of the working directory become servable once a handler names them: so it is empty.
    with tempfile.TemporaryDirectory(prefix="avatop-web-") as empty:
        before = Path.cwd()
        os.chdir(empty)
        # The server ends in order on it, and raises it once more: what is below has to be done.
        ended = signal.signal(signal.SIGTERM, lambda *_: None)
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
            signal.signal(signal.SIGTERM, ended)
            os.chdir(before)
            door.close()
