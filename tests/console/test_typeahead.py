"""Do keys that come in a burst, as over a slow line, do what they would do one by one?"""

from __future__ import annotations

import string
import time

from textual import events

from console.screens.submit import SubmitForm
from console.screens.tune import TunePage
from tests.console.conftest import COLOURS, Console, Opener
from tests.console.fake_client import Stage


async def _burst(console: Console, *keys: str | events.Event) -> None:
    """All at once, as the terminal's reader gets them from one packet."""
    for key in keys:
        if isinstance(key, str):
            character = key if len(key) == 1 and key in string.printable else None
            console.app.post_message(events.Key(key, character))
        else:
            console.app.post_message(key)
    await console.pilot.pause()
    end = time.monotonic() + 10
    while not console.app._typed.idle and time.monotonic() < end:
        await console.pilot.pause()
    await console.pilot.pause()


async def test_typed_text_goes_into_the_field_that_the_keys_before_it_chose(opened: Opener) -> None:
    async with opened(environ=COLOURS) as console:
        await _burst(console, "s", *["down"] * 5, *"96", "down", "7", "down", "down", "right")
        form = console.app.screen
        assert isinstance(form, SubmitForm)
        assert form.inputs["size"].value == "96"
        assert form.inputs["clips"].value == "7"
        assert form.values()["mode"] == "single"
        assert console.app.page.NAME == "overview"


async def test_a_page_a_dialog_and_its_answer_in_one_breath(opened: Opener) -> None:
    async with opened(Stage(jobs=1), environ=COLOURS) as console:
        await _burst(console, "2", "c", "down", "enter")
        assert [type(command).__name__ for command in console.client.sent] == ["Cancel"]
        assert console.app.page.NAME == "jobs"
        await _burst(console, "3", "1", "question_mark")
        assert "Everywhere" in console.text()
        # A table's Enter tells its page, which opens the form: one more turn.
        await _burst(
            console, "escape", "3", "enter", "4", "enter", "down", "enter", *"2GiB", "enter"
        )
        page = console.app.page
        assert isinstance(page, TunePage)
        values = page.present.values
        assert (values["plan_devices"], values["plan_memory"]) == (4, 2 << 30)


async def test_pasted_text_waits_its_turn(opened: Opener) -> None:
    async with opened(environ=COLOURS) as console:
        await _burst(console, "s", *["down"] * 3, events.Paste("A calm voice"), "down")
        form = console.app.screen
        assert isinstance(form, SubmitForm)
        assert form.inputs["prompt"].value == "A calm voice"
