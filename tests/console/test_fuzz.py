"""Random keys, sizes and words from outside: does the console hold, and is its picture true?

After each round the terminal shows, cell by cell, what a fresh full repaint shows.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.drivers import headless_driver
from textual.pilot import Pilot

from console import actions
from console.app import AvatopApp
from console.screens.base import Page
from console.screens.replay import ReplayApp
from engine.telemetry.recording import open_recording
from engine.telemetry.replay import ReplayClient
from tests.console.conftest import COLOURS
from tests.console.fake_client import T0, FakeClient, Stage
from tests.console.fuzz import Terminal, hostile, huge
from tests.console.production_events import a_night, a_rollout
from tests.e2e.harness import until
from tests.telemetry.recordings import record

SIZES = ((80, 24), (120, 40), (200, 50), (40, 12), (20, 5), (97, 31), (1, 1))
_TYPED = "abgjknpqrstxzKN019/?:* \\é数\u200b"
KEYS = (
    *dict.fromkeys(key for action in actions.ACTIONS for key in action.keys),
    *("escape", "enter", "tab", "up", "down", "backspace", "left", "right", "delete"),
)


@pytest.fixture(autouse=True)
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves the test: no exit, no files but in its own folder, no clock of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "AVATOP_STATE_DIR", "AVATOP_CACHE_DIR", "XDG_CONFIG_HOME",
                 "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):  # fmt: skip
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(headless_driver, "HeadlessDriver", Terminal)
    monkeypatch.setattr(AvatopApp, "exit", lambda *_a, **_k: None)
    monkeypatch.setattr(AvatopApp, "_second", lambda _self: None)
    monkeypatch.setattr(AvatopApp, "watch_own_files", lambda _self: None)


class Fuzzed:
    """A console in an emulated terminal, and the chance that drives it."""

    def __init__(self, app: AvatopApp, pilot: Pilot[Any], rng: random.Random) -> None:
        self.app, self.pilot, self.rng = app, pilot, rng

    @property
    def terminal(self) -> Terminal:
        driver = self.app._driver
        assert isinstance(driver, Terminal)
        return driver

    def drawn(self) -> list[str]:
        """A fresh full repaint, as text."""
        update = self.app.screen._compositor.render_update(
            full=True, screen_stack=self.app._background_screens
        )
        rows = getattr(update, "strips", ())
        text = ("".join(s.text for strip in row for s in strip).rstrip() for row in rows)
        return [unicodedata.normalize("NFC", line) for line in text]

    async def settled(self) -> None:
        """Until the terminal shows what would be painted anew; a wrong cell would stay wrong."""
        for _ in range(400):
            await self.pilot.pause()
            if self.app._exception is not None:
                raise self.app._exception
            seen, drawn = self.terminal.cells(), self.drawn()
            if seen == drawn:
                break
        assert not difference(seen, drawn)
        assert self.terminal.foreign == ""

    async def repainted(self) -> None:
        """Painting everything anew changes no cell and no colour."""
        for _ in range(5):  # what a thread of a page brings in between is no fault
            before = self.terminal.cells(), self.terminal.colours()
            self.app.action_redraw()
            await self.settled()
            if before == (self.terminal.cells(), self.terminal.colours()):
                return
        assert before == (self.terminal.cells(), self.terminal.colours())

    async def press(self, count: int) -> None:
        """A burst of keys, as one who leans on the keyboard."""
        for _ in range(count):
            if self.rng.random() < 0.2:
                typed = self.rng.choice(_TYPED)
                key = typed if typed.isalnum() else "space"
                self.app.post_message(events.Key(key, typed))
            else:
                key = self.rng.choice(KEYS)
                self.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await self.pilot.pause()

    async def resize(self) -> None:
        width, height = self.rng.choice(SIZES)
        self.terminal.resized(width, height)
        await self.pilot.resize_terminal(width, height)

    async def page(self, name: str) -> None:
        """Leave dialogs, then show a page."""
        for _ in range(8):
            if isinstance(self.app.screen, Page):
                break
            self.app.screen.dismiss(None)
            await self.pilot.pause()
        self.app.action_go(name)
        await self.pilot.pause()


def difference(seen: list[str], drawn: list[str]) -> str:
    """The rows that differ, for a person."""
    pairs = zip(seen, drawn, strict=True)
    return "\n".join(f"{n}: {a!r}\n   {b!r}" for n, (a, b) in enumerate(pairs) if a != b)[:2000]


@asynccontextmanager
async def fuzzed(seed: int, size: tuple[int, int] = (100, 30)) -> AsyncIterator[Fuzzed]:
    client, moment = FakeClient(), [T0]
    app = AvatopApp(client, theme="signature", lang="en", environ=COLOURS, own_fds=False,
                    clock=lambda: moment[0])  # fmt: skip
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        client.play([*Stage(log_rate=3).history(20), *a_night(), *a_rollout()])
        moment[0] += 20
        app._picture()
        await pilot.pause()
        yield Fuzzed(app, pilot, random.Random(seed))


@pytest.mark.parametrize("seed", [1, 2])
async def test_ten_minutes_of_keys_and_sizes(seed: int) -> None:
    """Twice 300 seconds of a working host under a cat on the keyboard."""
    stage = Stage(log_rate=5)
    async with fuzzed(seed) as it:
        client = it.app.client
        assert isinstance(client, FakeClient)
        for at in range(12):
            client.play(e for s in range(25) for e in stage.tick(T0 + 21 + at * 25 + s))
            it.app._picture()
            if at % 4 == 0:
                await it.resize()
            if at % 2 == 0:
                await it.page(actions.PAGES[(at // 2 + 5 * seed) % len(actions.PAGES)].name)
            await it.press(8)
            await it.settled()
        await it.repainted()


async def test_words_from_outside_stay_words() -> None:
    async with fuzzed(4) as it:
        client = it.app.client
        assert isinstance(client, FakeClient)
        for at, page in enumerate(actions.PAGES):
            await it.page(page.name)
            client.play(hostile(it.rng, at))
            it.app._picture()
            await it.press(3)
            await it.settled()
        await it.repainted()


async def test_lines_and_names_of_10_mb() -> None:
    async with fuzzed(5) as it:
        client = it.app.client
        assert isinstance(client, FakeClient)
        client.play(huge())
        it.app._picture()
        for page in actions.PAGES:
            await it.page(page.name)
            await it.settled()


async def test_a_recording_under_random_keys(tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    record(folder, Stage(gpus=2), 30, until, segment_seconds=25.0, preview_seconds=0.0)
    client = ReplayClient(open_recording(folder))
    app = ReplayApp(client, theme="signature", lang="en", environ=COLOURS, own_fds=False,
                    viewer=lambda: 0.0)  # fmt: skip
    async with app.run_test(size=(100, 30)) as pilot:
        await app.workers.wait_for_complete()
        it = Fuzzed(app, pilot, random.Random(6))
        for at in range(12):
            await it.press(5)
            await app.workers.wait_for_complete()
            if at % 4 == 3:
                await it.resize()
            await it.settled()
