"""The base of every page: header and row of pages above, footer below, the page's own between.

How a page is made is told in docs/console.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from console.state import PARTS, Model
from console.widgets.bars import Footer, Header
from console.widgets.lines import Lines
from console.widgets.paint import Paint

if TYPE_CHECKING:
    from console.app import AvatopApp


class Page(Screen[None]):
    """A screen behind a number key. It draws from the model and stays alive while hidden.

    Subclasses set ``NAME`` (as in the registry; also the scope of the page's own keys) and
    ``BINDINGS = actions.bindings(NAME)``, and implement ``body``.
    """

    DEFAULT_CSS = "Page { layout: vertical; background: $background; }"
    NAME: ClassVar[str] = ""

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__()
        self.model = model
        self.paint = paint
        self.head = Header(model, paint, self.NAME, id="header")
        self.foot = Footer(model, paint, id="footer")
        self.banner: Lines | None = None

    # -- for pages to implement --------------------------------------------------------------

    def body(self) -> ComposeResult:
        """The widgets between header and footer."""
        yield from ()

    def first_focus(self) -> Widget | None:
        """What has the focus when the page opens; None leaves it to Textual."""
        return None

    def opened(self) -> None:
        """The page is shown, for the first time or again: ask for what has to be fetched."""

    def model_changed(self, dirty: set[str]) -> None:
        """Something changed that is not drawn by a part's ``SHOWS`` alone."""

    # -- what all pages share ----------------------------------------------------------------

    @property
    def console_app(self) -> AvatopApp:
        return cast("AvatopApp", self.app)

    @property
    def parts(self) -> list[Lines]:
        """Every Line-API widget of the page."""
        return [widget for widget in self.walk_children() if isinstance(widget, Lines)]

    @property
    def scopes(self) -> tuple[str, ...]:
        """Scopes of keys that hold here, nearest first."""
        focused = self.focused
        inner = focused.scopes if isinstance(focused, Lines) else ()
        return (*inner, self.NAME, "app")

    @property
    def typing(self) -> bool:
        """Whether keys are text at the moment: a filter, a search, a field."""
        focused = self.focused
        if isinstance(focused, Lines):
            return focused.typing
        return focused is not None and focused.check_consume_key("a", "a")

    def compose(self) -> ComposeResult:
        self.banner = self.console_app.banner()
        if self.banner is not None:
            yield self.banner
        yield self.head
        yield from self.body()
        yield self.foot

    def on_mount(self) -> None:
        self._head_rows()
        first = self.first_focus()
        if first is not None:
            first.focus()

    def on_resize(self) -> None:
        self._head_rows()

    def _head_rows(self) -> None:
        self.head.styles.height = 2 if self.app.size.height >= 20 else 1

    def set_banner(self, banner: Lines | None) -> None:
        """Put a row above everything, or take it away: a recording is shown, or no more."""
        if self.banner is not None:
            self.banner.remove()
        self.banner = banner if self.is_running else None
        if self.banner is not None:
            self.mount(self.banner, before=self.head)

    @property
    def rows_taken(self) -> int:
        """Rows that header, footer and banner take of the terminal's height."""
        head = 2 if self.app.size.height >= 20 else 1
        return head + 1 + (self.banner is not None)

    def on_screen_resume(self) -> None:
        self.show(set(PARTS) | {"replay"})
        self.opened()

    def show(self, dirty: Iterable[str]) -> None:
        """Draw what changed."""
        changed = set(dirty)
        with self.app.batch_update():
            self.model_changed(changed)
            for part in self.parts:
                if part.SHOWS & changed and part.display:
                    part.update()

    def on_descendant_focus(self) -> None:
        self.foot.update()

    def on_descendant_blur(self) -> None:
        self.foot.update()
