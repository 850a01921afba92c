"""Does a letter lead to each part, device and row, and does nothing else happen?"""

from __future__ import annotations

import pytest

from console.screens.jump import Jumps
from tests.console.conftest import Opener
from tests.console.fake_client import Stage


@pytest.mark.parametrize("gpus", [2, 8])
async def test_letters_lead_to_devices_parts_and_rows(opened: Opener, gpus: int) -> None:
    async with opened(Stage(gpus=gpus), seconds=4) as console:
        page = console.app.overview
        await console.press("apostrophe")
        screen = console.app.screen
        assert isinstance(screen, Jumps)
        device = next(p for p in console.app.model.panels() if p.name == "GPU 1")
        wanted = page.devices.region
        lines = console.app.overview.devices._lines
        row = next(y for y, strip in enumerate(lines) if "GPU 1 " in strip.text)
        column = lines[row].text.index("GPU 1 ")
        hint = next(
            hint for hint in screen.hints
            if hint.region.y == wanted.y + row and abs(hint.region.x - wanted.x - column) <= 1
        )  # fmt: skip
        await console.press(hint.letter)
        assert console.app.screen is page
        assert page.focused is page.devices
        assert page.devices.selected == device.key
        await console.press("apostrophe")
        screen = console.app.screen
        assert isinstance(screen, Jumps)
        second = page.jobs.region.y + 3  # heading, names of columns, first row
        letter = next(hint.letter for hint in screen.hints if hint.region.y == second)
        await console.press(letter)
        assert page.focused is page.jobs
        assert page.jobs.item is page.jobs.shown()[1]
        await console.press("apostrophe", "escape")
        assert console.app.screen is page
        assert page.focused is page.jobs
