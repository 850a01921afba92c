"""What the console's tests share: a console on a scripted engine, at a fixed moment."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import _wait
from textual.pilot import Pilot

from console.app import AvatopApp
from console.config import Config
from console.leave import Leave
from tests.console.fake_client import FakeClient, Stage

SNAPSHOTS = Path(__file__).parent / "snapshots"
COLOURS = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks read the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Console:
    """A running console, its scripted engine and its pilot."""

    def __init__(self, app: AvatopApp, client: FakeClient, pilot: Pilot[Leave]) -> None:
        self.app = app
        self.client = client
        self.pilot = pilot

    async def play(self, events: Any) -> None:
        """Let events happen and the picture follow."""
        self.client.play(events)
        self.app.frames.drawn(0.0)
        await self.settle()

    async def settle(self) -> None:
        await self.think()
        self.app._picture()
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.think()

    async def think(self) -> None:
        """Let what threads work at come back; some are held by a test, and not waited for."""
        await self.pilot.pause()
        end = time.monotonic() + 1
        while self._thinks() and time.monotonic() < end:
            await self.pilot.pause(0.005)
            await self.pilot.pause()

    def _thinks(self) -> bool:
        # A person's own files are watched for as long as the console is open.
        return any(w.group != "own files" and not w.is_finished for w in self.app.workers)

    def lines(self) -> list[str]:
        """The screen as text."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    def text(self) -> str:
        return "\n".join(self.lines())


Opener = Callable[..., AbstractAsyncContextManager[Console]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Open a console: ``async with opened(stage, size=(80, 24)) as console``."""
    # Its pilot looks every 5 ms whether it is idle, not every 20 ms: most of these tests' time.
    monkeypatch.setattr(_wait, "SLEEP_GRANULARITY", 0.005)
    monkeypatch.setattr(_wait, "SLEEP_IDLE", 0.00025)

    @asynccontextmanager
    async def open_console(
        stage: Stage | None = None,
        size: tuple[int, int] = (120, 40),
        seconds: int = 20,
        theme: str = "signature",
        environ: dict[str, str] | None = None,
        lang: str = "en",
        config: Config | None = None,
    ) -> AsyncIterator[Console]:
        stage = stage or Stage()
        client = FakeClient()
        moment = stage.started + seconds
        app = AvatopApp(
            client, theme=theme, lang=lang, config=config,
            environ=COLOURS if environ is None else environ,
            own_fds=False, clock=lambda: moment,
        )  # fmt: skip
        async with app.run_test(size=size) as pilot:
            console = Console(app, client, pilot)
            await console.settle()
            await console.play(stage.history(seconds))
            yield console

    return open_console


async def until(console: Console, true: Callable[[], bool]) -> None:
    """Let threads come back, for at most ten seconds."""
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        await console.pilot.pause(0.01)
    assert true()
    await console.pilot.pause()


def updating() -> bool:
    """Whether text snapshots are written anew instead of compared."""
    return os.environ.get("AVATOP_UPDATE_SNAPSHOTS", "") not in ("", "0")


async def looks_as_it_did(console: Console, name: str) -> None:
    """Compare the screen at the three sizes with ``snapshots/NAME-SIZE.txt``."""
    for width, height in ((80, 24), (120, 40), (200, 50)):
        await console.pilot.resize_terminal(width, height)
        await console.settle()
        text = console.text() + "\n"
        path = SNAPSHOTS / f"{name}-{width}x{height}.txt"
        if updating():
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), path.name
