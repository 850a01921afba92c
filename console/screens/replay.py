"""``avatop replay``: the console over a recording, without an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from console.app import AvatopApp
from console.config import Config
from console.leave import Leave
from engine.client import EngineClient
from engine.telemetry.replay import ReplayClient


class ReplayApp(AvatopApp):
    """Shows a recording. Nothing in it reaches an engine.

    Args:
        client: the recording, its cursor where the first picture shall be.
        viewer: the viewer's own clock, in seconds; what a recorded minute is measured by.
    """

    def __init__(
        self,
        client: ReplayClient,
        *,
        theme: str | None = None,
        lang: str | None = None,
        config: Config | None = None,
        environ: Mapping[str, str] | None = None,
        own_fds: bool = True,
        viewer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            client,
            theme=theme,
            lang=lang,
            config=config,
            environ=environ,
            own_fds=own_fds,
            clock=lambda: client.cursor,
        )
        self.replay = client
        self.viewer = viewer

    def _join(self, client: EngineClient) -> None:
        assert isinstance(client, ReplayClient)
        self.attend(client)
        self._anew(client.cursor)

    def action_quit_console(self) -> None:
        self.exit(Leave("quit"))
