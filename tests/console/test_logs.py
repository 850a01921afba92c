"""Does the log follow until one scrolls up, hold still then, filter, and find?"""

from __future__ import annotations

from engine.messages import LogLine
from tests.console.conftest import Console, Opener
from tests.console.fake_client import Stage


def lines(first: int, last: int, level: str = "INFO") -> list[LogLine]:
    return [LogLine(level=level, source="engine", text=f"line {n:04d}") for n in range(first, last)]


def shown(console: Console) -> list[str]:
    """Texts of the log lines on the screen."""
    strips = console.app.overview.logs._lines[1:]
    texts = ["".join(segment.text for segment in strip) for strip in strips]
    return [text.split("line ")[1][:4] for text in texts if "line " in text]


async def test_following_really_stops_when_one_scrolls_up(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        logs = console.app.overview.logs
        await console.play(lines(0, 100))
        assert shown(console)[-1] == "0099"
        logs.focus()
        await console.press("up")
        held = shown(console)
        assert held[-1] == "0098"
        assert not logs.following
        await console.play(lines(100, 200))
        assert shown(console) == held
        assert "held, 101 newer" in console.text()
        await console.press("end")
        assert shown(console)[-1] == "0199"
        assert logs.following


async def test_the_view_holds_while_old_lines_leave(opened: Opener) -> None:
    from console.state import LOG_LINES

    async with opened(Stage(log_rate=0), size=(80, 24), seconds=2) as console:
        await console.play(lines(0, 100))
        console.app.overview.logs.focus()
        await console.press("home")
        for start in range(0, LOG_LINES + 200, 4000):  # the mailbox keeps 4,096 at a time
            await console.play(lines(start, start + 4000))
        assert len(console.app.overview.logs.rows()) <= LOG_LINES
        assert shown(console)


async def test_level_filter(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        await console.play([*lines(0, 50), *lines(50, 52, "WARNING"), *lines(52, 53, "DEBUG")])
        console.app.overview.logs.focus()
        assert "0052" not in shown(console)
        await console.press("l")
        assert shown(console) == ["0050", "0051"]
        await console.press("l")
        assert "No line of level ERROR or above." in console.text()
        await console.press("l")
        assert shown(console)[-1] == "0052"


async def test_search_finds_older_and_newer(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        logs = console.app.overview.logs
        await console.play(lines(0, 300))
        logs.focus()
        await console.press("slash", *"line 01", "enter")
        assert shown(console)
        assert logs.current is not None
        first = logs.current
        await console.press("n")
        assert logs.current == first - 1
        await console.press("N")
        assert logs.current == first
        assert not logs.following


async def test_typing_a_search_triggers_no_commands(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        console.app.overview.logs.focus()
        await console.press("slash", "s", "q", "c", "question_mark", "backspace", "tab")
        assert console.app.screen is console.app.overview
        assert console.app.overview.logs.prompt.text == "sqc"
        assert console.client.sent == []
        await console.press("escape")
        assert console.app.overview.logs.prompt.text is None


async def test_a_search_without_result_says_so(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        await console.play(lines(0, 10))
        console.app.overview.logs.focus()
        await console.press("slash", "z", "z", "enter")
        assert "No further match of 'zz' above." in console.text()


async def test_prints_become_whole_lines(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        print("line 9001 from", "python")
        await console.settle()
        assert "line 9001 from python" in console.text()
