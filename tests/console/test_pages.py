"""Can pages be gone to and come back from, and do tables, dialogs and long work behave?"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from textual import events

from console import actions
from console.app import AvatopApp
from console.screens.dialog import Choice, Dialog
from console.screens.typed import TypedConfirm
from console.screens.working import Outcome, Report, Working
from engine.messages import AlertChanged, Cancel
from tests.console.conftest import Console, Opener
from tests.console.fake_client import Stage
from tests.console.sample_page import ENTRY, SamplePage

Paged = Callable[..., AbstractAsyncContextManager[tuple[Console, SamplePage]]]


@pytest.fixture
def paged(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> Paged:
    """A console with a further page, which is open."""
    monkeypatch.setattr(actions, "PAGES", (*actions.PAGES[:1], ENTRY))

    @asynccontextmanager
    async def go(
        size: tuple[int, int] = (100, 30),
    ) -> AsyncIterator[tuple[Console, SamplePage]]:
        async with opened(Stage(gpus=1), size=size, seconds=3) as console:
            console.app.action_go("sample")
            await console.settle()
            page = console.app.page
            assert isinstance(page, SamplePage)
            yield console, page

    return go


async def test_pages_are_gone_to_and_keep_what_was_done_there(paged: Paged) -> None:
    async with paged() as (console, page):
        assert "9 sample" in console.lines()[1]
        await console.press("down", "down")
        await console.press("1")
        assert console.app.screen is console.app.overview
        console.app.action_go("sample")
        await console.settle()
        assert console.app.page is page
        assert page.table.item == 2
        assert "square" in console.text()


async def test_a_page_that_is_hidden_is_drawn_anew_when_it_returns(paged: Paged) -> None:
    async with paged() as (console, _page):
        await console.press("1")
        await console.play(Stage(gpus=2).history(3))
        assert "GPU 1" in console.text()


async def test_number_keys_do_nothing_behind_a_dialog(paged: Paged) -> None:
    async with paged() as (console, page):
        await console.press("question_mark", "1", "escape")
        assert console.app.page is page


async def test_the_filter_takes_words_exclusions_and_comparisons(paged: Paged) -> None:
    async with paged() as (console, page):
        await console.press("slash")
        page.table.post_message(events.Paste("odd number>30"))
        await console.press("space", "exclamation_mark", "3", "3")
        assert page.table.shown() == [31, 35, 37, 39]
        assert console.app.page is page  # digits were text
        await console.press("enter")
        assert "4 of 40 rows" in console.text()
        await console.press("escape")
        assert len(page.table.shown()) == 40
        await console.press("slash", "x", "x", "enter")
        assert "No row has these words; Esc takes them away." in console.text()


async def test_the_cursor_stays_on_its_row_when_rows_move(paged: Paged) -> None:
    async with paged() as (console, page):
        await console.press("down", "down", "down")
        page.table.numbers = [*range(100, 120), *range(40)]
        assert page.table.item == 3
        page.table.numbers = [100, 101]  # its row is gone: the nearest place
        assert page.table.item == 101


async def test_held_rows_keep_their_places_and_new_ones_come_last(paged: Paged) -> None:
    async with paged() as (_console, page):
        page.table.shown()
        page.table.held = True
        page.table.numbers = [99, *reversed(range(40))]
        assert page.table.shown() == [*range(40), 99]


async def test_rows_are_ordered_by_a_column_and_turned_around(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.numbers = [3, 1, 2]
        await console.press("o")
        assert page.table.shown() == [1, 2, 3]
        assert "number↑" in console.text()
        await console.press("O")
        assert page.table.shown() == [3, 2, 1]


async def test_several_rows_are_marked(paged: Paged) -> None:
    async with paged() as (console, page):
        assert page.table.selected() == [0]
        await console.press("space", "down", "space")
        assert page.table.selected() == [0, 2]
        assert "2 marked" in console.text()
        await console.press("escape")
        assert page.table.selected() == [3]


async def test_an_empty_table_says_what_to_do(paged: Paged) -> None:
    async with paged() as (console, page):
        page.table.numbers = []
        page.table.update()
        await console.settle()
        assert "Press c to count." in console.text()
        assert "n/a" in console.text()


async def test_outside_text_in_details_is_shown_and_not_obeyed(paged: Paged) -> None:
    async with paged() as (console, _page):
        assert "␛[31mtext from outside" in console.text()
        assert "\x1b" not in console.text()


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5)])
async def test_a_page_fits_small_terminals(paged: Paged, size: tuple[int, int]) -> None:
    async with paged(size) as (console, _page):
        assert len(console.lines()) == size[1]


async def test_the_safe_choice_has_the_focus(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        answers: list[object] = []
        app = console.app
        choices = [Choice("keep", "Keep it"), Choice("end", "End rank 2 (pid 4711)", danger=True)]
        app.push_screen(Dialog(app.model, app.paint, "End it?", ["Why."], choices), answers.append)
        await console.settle()
        await console.press("enter")
        assert answers == ["keep"]


async def test_a_typed_confirmation_wants_its_word(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        answers: list[object] = []
        app = console.app
        form = TypedConfirm(
            app.model, app.paint, "End a stranger's process?", ["It is lost."], "4711"
        )
        app.push_screen(form, answers.append)
        await console.settle()
        await console.press(*"4712", "enter")
        assert "That is not 4711; nothing was done." in console.text()
        assert answers == []
        await console.press("backspace", "1", "enter")
        assert answers == [True]


async def test_long_work_tells_how_far_it_is_and_ends_when_asked(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        begun, seen = threading.Event(), []
        app = console.app

        def job(report: Report) -> str:
            report.tell(0.25, "tensor 3")
            begun.set()
            while not report.cancelled:
                threading.Event().wait(0.01)
            return "partly"

        ended = threading.Event()

        def done(outcome: Outcome | None) -> None:
            seen.append(outcome)
            ended.set()

        app.push_screen(Working(app.model, app.paint, "Verify", job), done)
        await console.settle()
        assert begun.wait(10)
        app.screen.body.update()  # type: ignore[attr-defined]
        await console.settle()
        assert "25 %" in console.text()
        assert "tensor 3" in console.text()
        await console.press("escape")
        while not ended.is_set():
            await console.pilot.pause()
        assert seen[0] is not None
        assert seen[0].cancelled
        assert seen[0].value == "partly"


def test_time_left_is_told_of_parts_that_take_time_alike_and_of_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr("console.screens.working.time.monotonic", lambda: clock[0])
    report = Report()
    for at, part in ((0.2, 0.03), (60.0, 0.04)):  # headers, then a long table
        clock[0] = 100 + at
        report.tell(part, "VAE", steady=False)
        assert report.left() is None
    clock[0] = 200
    report.tell(0.05, "a tensor")
    clock[0] = 210
    report.tell(0.15, "a tensor")
    assert report.left() == pytest.approx(85.0)  # a tenth took ten seconds
    report.tell(1.0)
    assert report.left() is None


async def test_failing_work_hands_its_error_over(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        seen: list[Outcome | None] = []
        app = console.app

        def job(_report: Report) -> None:
            raise OSError("no such disk")

        app.push_screen(Working(app.model, app.paint, "Verify", job), seen.append)
        while not seen:
            await console.pilot.pause()
        assert seen[0] is not None
        assert "no such disk" in str(seen[0].error)


async def test_what_is_said_stays_in_the_message_history(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        console.app.say("The first thing.")
        console.app.say("The second thing.", "state.act")
        await console.press("f2")
        text = console.text()
        assert text.index("The second thing.") < text.index("The first thing.")


async def test_who_may_only_look_changes_nothing(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        console.client.read_only = True  # type: ignore[attr-defined]
        await console.settle()
        console.app.action_redraw()
        await console.settle()
        assert "read-only" in console.lines()[0]
        assert "submit" not in console.lines()[-1]
        for key in ("s", "c", "t", "a"):
            await console.press(key)
            assert console.app.screen is console.app.overview
        assert "nothing can be changed from here" in console.lines()[-1]
        console.app.command(Cancel(job=17), "done")
        assert console.client.sent == []


async def test_help_begins_with_where_one_is(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        await console.press("question_mark")
        lines = console.lines()
        assert "Overview" in lines[2]
        assert "here" in lines[2]


def test_names_of_actions_are_unique() -> None:
    ids = [action.id for action in actions.ACTIONS]
    assert len(ids) == len(set(ids))
    for scope in actions.SCOPES:
        keys = [key for action in actions.in_scope(scope) for key in action.keys]
        assert len(keys) == len(set(keys)), scope


async def test_an_alert_is_acknowledged_from_the_overview(opened: Opener) -> None:
    async with opened(Stage(gpus=1), seconds=2) as console:
        await console.press("a")
        assert "There is nothing to acknowledge." in console.text()
        await console.play([
            AlertChanged(id="temp:GPU-0", rule="temp-high", severity="warning", state="firing",
                         message="GPU 0 over 85 °C for 2 min", since=1.0)])  # fmt: skip
        assert "1 alert" in console.lines()[0]
        await console.press("a")
        assert [type(c).__name__ for c in console.client.sent] == ["Acknowledge"]
        assert isinstance(console.app, AvatopApp)
