"""Jump keys: a letter at every part, device and row of the page; the letter goes there."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.strip import Strip

from console.i18n import t
from console.widgets.lines import Lines

if TYPE_CHECKING:
    from console.app import AvatopApp
    from console.screens.base import Page

#: In the order in which places get them: parts of the page before rows of its tables.
LETTERS: Final = string.ascii_lowercase + string.ascii_uppercase
Go = Callable[[], object]


class Hint(Lines):
    """One letter on the place that it leads to."""

    DEFAULT_CSS = "Hint { position: absolute; width: 3; height: 1; }"

    def __init__(self, page: Page, letter: str) -> None:
        super().__init__(page.model, page.paint)
        self.letter = letter

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        return [self.paint.row(width).put(f" {self.letter} ", "match.current").strip()]


class Jumps(ModalScreen["Go | None"]):
    """The letters over the page; any other key takes them away."""

    DEFAULT_CSS = "Jumps { background: $background 0%; layout: vertical; }"

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.places: dict[str, Go] = {}
        self.hints: list[Hint] = []
        parts = [part for part in page.parts if part.display and part.region.area]
        found = [(part.region, part.jumps()) for part in parts]
        first = [(region, jump) for region, jumps in found for jump in jumps if jump.y == 0]
        rest = [(region, jump) for region, jumps in found for jump in jumps if jump.y > 0]
        for letter, (region, jump) in zip(LETTERS, [*first, *rest], strict=False):
            self.places[letter] = jump.go
            hint = Hint(page, letter)
            hint.styles.offset = (region.x + jump.x, region.y + jump.y)
            self.hints.append(hint)

    def compose(self) -> ComposeResult:
        yield from self.hints

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.dismiss(self.places.get(event.character or ""))


def jump(app: AvatopApp) -> None:
    """Ask for a letter and go to its place."""
    page = app.page
    if app.screen is not page:
        return
    screen = Jumps(page)
    if not screen.places:
        app.say(t("There is nowhere to jump to on this page."), "soft")
        return

    def done(go: Go | None) -> None:
        if go is not None:
            go()

    app.push_screen(screen, done)
