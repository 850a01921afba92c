"""Does the overview show what matters, at every size, and survive what comes in?"""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.messages import DevicesDrained, LogLine, RankChanged
from tests.console.conftest import Opener, updating
from tests.console.fake_client import Stage

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = [(80, 24), (120, 40), (200, 50)]


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize(
    ("name", "stage"), [("gpus4", Stage(gpus=4)), ("cpu2", Stage(gpus=0, cpu_ranks=2))]
)
async def test_the_overview_looks_as_it_did(
    opened: Opener, size: tuple[int, int], name: str, stage: Stage
) -> None:
    """Text snapshots; AVATOP_UPDATE_SNAPSHOTS=1 writes them anew."""
    async with opened(stage, size=size, seconds=45) as console:
        text = console.text() + "\n"
    path = SNAPSHOTS / f"overview-{name}-{size[0]}x{size[1]}.txt"
    if updating():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("gpus", [1, 2, 8, 16])
async def test_every_device_is_on_the_screen(
    opened: Opener, size: tuple[int, int], gpus: int
) -> None:
    async with opened(Stage(gpus=gpus), size=size, seconds=8) as console:
        text = console.text()
        for gpu in range(gpus):
            assert f"GPU {gpu} " in text
        assert "Jobs" in text
        assert "Log" in text
        assert "help" in console.lines()[-1]
        assert "running" in text


async def test_resizing_keeps_working(opened: Opener) -> None:
    async with opened(Stage(gpus=8), seconds=8) as console:
        for size in ((200, 50), (80, 24), (40, 10), (20, 5), (300, 90), (80, 24)):
            await console.pilot.resize_terminal(*size)
            await console.settle()
            assert len(console.lines()) == size[1]
        assert "GPU 7 " in console.text()


async def test_without_work_the_screen_says_what_to_do(opened: Opener) -> None:
    async with opened(Stage(gpus=0, jobs=0), seconds=3) as console:
        assert "No job yet. Press s to submit one." in console.text()
        title = next(line for line in console.lines() if line.startswith(" host"))
        assert "CPU" in title  # what its percent are of
        assert "n/a" not in title


async def test_garbage_in_logs_is_shown_and_harmless(opened: Opener) -> None:
    texts = [
        "\x1b[2J\x1b[31mred",
        "[bold]not markup[/]",
        "数字人 ok",
        "\udcff\x00\x07",
        "x" * 100_000,
    ]
    async with opened(Stage(gpus=1), seconds=3) as console:
        await console.play(
            [
                LogLine(level="INFO", source="rank", rank=0, text=text, stream="stdout")
                for text in texts
            ]
        )
        text = console.text()
        assert "\x1b" not in text
        assert "␛[2J␛[31mred" in text
        assert "[bold]not markup[/]" in text
        assert "数字人 ok" in text


async def test_a_dead_rank_is_unmistakable(opened: Opener) -> None:
    async with opened(Stage(gpus=0, cpu_ranks=2), seconds=5) as console:
        await console.play([
            RankChanged(job=17, rank=1, pid=9, device="cpu", device_uuid=None, phase="died",
                        reason="rank 1 was killed by SIGKILL", exit_code=-9)])  # fmt: skip
        text = console.text()
        assert "✗ died" in text
        assert "dead rank" in text


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_a_drained_device_is_marked_until_it_has_work_again(
    opened: Opener, size: tuple[int, int]
) -> None:
    async with opened(Stage(gpus=4), size=size, seconds=4) as console:
        await console.play([DevicesDrained(devices=("GPU-0002",))])
        found = [line.partition("GPU 2 ")[2] for line in console.lines()]
        assert any("⊘ drained" in rest for rest in found)
        assert "⊘ drained GPU 2" in console.text()  # beside the jobs that may wait for it
        await console.press("2")
        assert "⊘ drained GPU 2" in console.text()
        await console.play([DevicesDrained(devices=())])
        assert "drained" not in console.text()


@pytest.mark.parametrize("environ", [
    {"TERM": "linux", "LANG": "C.UTF-8"},
    {"TERM": "xterm-256color", "AVATOP_ASCII": "1"},
    {"TERM": "dumb"},
])  # fmt: skip
async def test_ascii_terminals_get_ascii(opened: Opener, environ: dict[str, str]) -> None:
    async with opened(Stage(gpus=4), theme="", environ=environ, seconds=20) as console:
        for key in ("", "question_mark", "escape", "c", "escape", "tab", "z"):
            if key:
                await console.press(key)
            assert console.text().isascii()
        assert console.app.look.name in ("mono", "ansi16", "signature")


async def test_no_color_means_no_colour(opened: Opener) -> None:
    environ = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}
    async with opened(Stage(gpus=2), theme="", environ=environ) as console:
        assert console.app.look.name == "mono"
        strips = [s for part in console.app.overview.parts for s in part._lines]
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        assert all(style.color is None or style.color.is_default for style in styles)
        assert "● running" in console.text()


async def test_the_picture_is_an_svg_of_what_is_seen(opened: Opener) -> None:
    async with opened(Stage(gpus=1)) as console:
        drawn = console.app.picture()
        assert drawn.startswith("<svg")
        assert "avatop" in drawn
        await console.press("c")
        assert "Cancel" in console.app.picture()


async def test_devices_are_chosen_and_zoomed(opened: Opener) -> None:
    async with opened(Stage(gpus=3), seconds=30) as console:
        console.app.overview.devices.focus()
        await console.press("down", "enter")
        assert "GPU 1: memory, GiB" in console.text()
        assert "plan" in console.text()
        await console.press("plus", "left", "end", "minus", "tab")
        assert "GPU 2: memory, GiB" in console.text()
        await console.press("escape")
        assert "pipeline" in console.text()


async def test_help_and_palette_come_from_the_registry(opened: Opener) -> None:
    from console import actions
    from console.screens.help import Help

    async with opened(size=(80, 24)) as console:
        await console.press("question_mark")
        help_ = console.app.screen
        assert isinstance(help_, Help)
        text = " ".join("".join(s.text for s in line) for line in help_.body.content(80))
        said = " ".join(text.split())  # a long sentence takes several lines
        assert [a.help for a in actions.ACTIONS if a.help not in said] == []
        top = list(console.lines())
        await console.press("end")
        assert list(console.lines()) != top
        await console.press("escape")
        titles = [c.title for c in console.app.get_system_commands(console.app.screen)]
        assert "submit (s)" in titles
        assert "theme: light" in titles


async def test_keys_that_come_before_the_palette_s_list_is_laid_out_harm_nothing(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textual.command import CommandList

    async with opened(size=(80, 24)) as console:
        await console.press("ctrl+p")
        for _ in range(1000):
            if console.app.screen.query_one(CommandList).highlighted is not None:
                break
            await console.pilot.pause(0.01)
        monkeypatch.setattr(CommandList, "_index_to_line", {})  # as in that moment
        await console.press("pageup", "pagedown", "escape")
        assert console.app._exception is None
