"""Does every page look as it did: at three sizes, and once in each further theme and language?

The events are a recording's of a GPU server, shipped with the sample data: a pipelined job one of
whose ranks was killed. A make-believe batch and rollout are told in addition, and the checkpoint is
the sample's. Text is compared, and in themes the style of each cell.
AVATOP_UPDATE_SNAPSHOTS=1 writes the snapshots anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.strip import Strip

from console import actions, theme
from console.commands.recordings import load
from console.screens.checkpoint import CheckpointPage
from console.screens.replay import ReplayApp
from engine.messages import JobChanged
from engine.telemetry.replay import ReplayClient
from tests.console.conftest import COLOURS, SNAPSHOTS, Console, updating
from tests.console.fake_client import FakeClient
from tests.console.production_events import a_night, a_rollout

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT / "sample_data" / "recordings" / "rank-killed.zip"
SIZES = ((80, 24), (120, 40), (200, 50))
PAGES = [entry.name for entry in actions.PAGES]
OTHERS = [name for name in theme.names() if name != theme.DEFAULT]


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sample's checkpoint lies is told the same wherever the tests are."""
    monkeypatch.chdir(ROOT)


@asynccontextmanager
async def recorded(state: Path, lang: str = "en") -> AsyncIterator[Console]:
    """The console over the recording's end, everything that pages fetch having arrived."""
    recording = load(RECORDING)
    client = ReplayClient(recording)
    client.seek(recording.end)
    app = ReplayApp(
        client, theme=theme.DEFAULT, lang=lang, own_fds=False, viewer=lambda: 0.0,
        environ={**COLOURS, "AVATOP_STATE_DIR": str(state)},
    )  # fmt: skip
    async with app.run_test(size=SIZES[0]) as pilot:
        console = Console(app, FakeClient(), pilot)
        await fetched(console)
        row = app.model.jobs[1]
        nowhere = dataclasses.replace(row, request={**row.request, "ckpt_dir": "/no/such/weights"})
        for event in (JobChanged(job=nowhere), *a_night(), *a_rollout()):
            app.model.apply(dataclasses.replace(event, t=app.model.now))
        yield console


async def fetched(console: Console) -> None:
    """Until nothing more is to come from threads."""
    app = console.app
    for _ in range(2000):
        await console.pilot.pause(0.005)
        if app.model.connected and not app.seeking and not getattr(app.page, "busy", False):
            break
    await console.settle()


async def opened_page(console: Console, name: str) -> None:
    console.app.action_go(name)
    await fetched(console)
    page = console.app.page
    if isinstance(page, CheckpointPage) and page.place and page.place.folder != "sample_data/ckpt":
        page.choose("sample_data/ckpt")
        await fetched(console)
        found = page.details.weights
        assert found is not None
        assert found.inspection is not None
        # The DiT alone: the sample's other parts may be trained anew.
        dit = tuple(c for c in found.inspection.components if c.name == "dit")
        here = dataclasses.replace(found.inspection, dir="sample_data/ckpt", components=dit)
        tensors = tuple(row for row in found.tensors if row.component == "dit")
        page.details.weights = dataclasses.replace(found, inspection=here, tensors=tensors)
        page.details.update()
        page.table.update()


def compare(name: str, text: str) -> None:
    path = SNAPSHOTS / f"{name}.txt"
    if updating():
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), path.name


async def test_every_page_looks_as_it_did_at_each_size_and_in_each_theme(tmp_path: Path) -> None:
    worn_by: dict[str, list[str]] = {name: [] for name in OTHERS}
    async with recorded(tmp_path) as console:
        for page in PAGES:
            await opened_page(console, page)
            for width, height in SIZES:
                await console.pilot.resize_terminal(width, height)
                await console.settle()
                compare(f"screen-{page}-{width}x{height}", console.text() + "\n")
            await console.pilot.resize_terminal(*SIZES[0])
            for name in OTHERS:
                console.app.set_look(name)
                console.app.notices.expire(float("inf"))
                console.app.page.foot.update()  # else it is drawn anew by whatever comes first
                await console.settle()
                strips = console.app.screen._compositor.render_strips()
                worn_by[name] += [f"-- {page}", *worn(strips)]
            console.app.set_look(theme.DEFAULT)
            console.app.notices.expire(float("inf"))
    for name, lines in worn_by.items():
        compare(f"theme-{name}", "\n".join(lines) + "\n")


@pytest.mark.parametrize("lang", ["zh_CN"])
async def test_every_page_looks_as_it_did_in_another_language(tmp_path: Path, lang: str) -> None:
    async with recorded(tmp_path, lang) as console:
        await console.pilot.resize_terminal(120, 40)
        for name in PAGES:
            await opened_page(console, name)
            compare(f"screen-{name}-{lang}", console.text() + "\n")


def worn(strips: list[Strip]) -> Iterator[str]:
    """Each row's styles: how many cells have which, neighbours alike counted together."""
    for strip in strips:
        runs: list[tuple[str, int]] = []
        for segment in strip:
            style = str(segment.style)
            if runs and runs[-1][0] == style:
                runs[-1] = (style, runs[-1][1] + len(segment.text))
            else:
                runs.append((style, len(segment.text)))
        yield ", ".join(f"{count} {style}" for style, count in runs)
