"""The help screen: the keys of where one is, then every other, and what the signs mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip

from console import actions
from console import format as fmt
from console.i18n import N_, n, t
from console.state import Model
from console.widgets.bars import Place
from console.widgets.lines import Lines
from console.widgets.paint import Paint
from engine.messages import OWNERS

_KEYS = 18  # cells
_SHAPES = ("queued", "loading", "running", "paused", "done", "interrupted", "failed", "cancelled",
           "warning", "spike")  # fmt: skip
_OWNERS = {
    "weights": N_("weights that stay on the device"),
    "gathered": N_("weights gathered to full for their moment of use"),
    "streamed": N_("weights copied in from host memory"),
    "kv": N_("attention's rolling key and value cache"),
    "conditioning": N_("keys and values of portrait, motion and text"),
    "activations": N_("what a layer computes with"),
    "vae": N_("the image encoder and decoder"),
    "context": N_("CUDA's own"),
    "slack": N_("held by the allocator, unused"),
    "other": N_("ours, of no known owner"),
    "foreign": N_("other processes"),
}


def help_lines(paint: Paint, width: int, place: Place | None = None) -> list[Strip]:
    """The whole text at a width, what holds in ``place`` first; the screen scrolls over it."""
    place = place or Place()
    out: list[Strip] = []

    def head(text: str, here: bool = False) -> None:
        row = paint.row(width).put("  ").put(text, "title.focus")
        out.append(row.put(f"   {t('here')}" if here else "", "accent").strip())

    ordered = (*place.scopes[-2:-1], *place.scopes[:-2], *place.scopes[-1:])  # the page first
    near = [scope for scope in ordered if scope in actions.SCOPES]
    for scope in (*near, *(s for s in actions.SCOPES if s not in near)):
        found = actions.in_scope(scope)
        if not found:
            continue
        head(t(actions.SCOPES[scope]), here=scope in near and scope != "app")
        for action in found:
            keys = " ".join(actions.shown(key) for key in place.keymap.keys(action))
            off = place.read_only and action.writes
            for at, part in enumerate(fmt.wrap(t(action.help), max(width - _KEYS - 6, 20))):
                row = paint.row(width).put("    ").put(fmt.fit("" if at else keys, _KEYS), "key")
                out.append(row.put(part, "na" if off else "text").strip())
        out.append(paint.blank(width))
    head(t("States"))
    row = paint.row(width).put("    ")
    for name in _SHAPES:
        if row.left < fmt.cells(fmt.word(name)) + 6:
            out.append(row.strip())
            row = paint.row(width).put("    ")
        row.state(name).put("   ")
    out += [row.strip(), paint.blank(width)]
    head(t("Memory by owner, from the bottom of a plot upwards"))
    for owner in OWNERS:
        row = paint.row(width).put("    ").put(paint.swatch(owner) * 2, f"owner.{owner}")
        row.put(f" {owner:<14}", "text").put(t(_OWNERS[owner]), "soft")
        out.append(row.strip())
    row = paint.row(width).put("    ").put("──" if paint.unicode else "--", "plan")
    row.put(" " + fmt.fit(t("plan"), 14), "text")
    out.append(row.put(t("the peak the plan predicts"), "soft").strip())
    row = paint.row(width).put("    ").put("▲ ", "spike").put(" " + fmt.fit(t("spike"), 14))
    out.append(row.put(t("a rise above the threshold"), "soft").strip())
    return out


class ScrolledLines(Lines, can_focus=True):
    """Lines under a title, scrolled by keys; ``content`` says them at a width."""

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.top = 0

    @abstractmethod
    def content(self, width: int) -> Sequence[Strip]:
        """All lines at this width."""

    @abstractmethod
    def heading(self) -> tuple[str, str]:
        """Title and what it is about."""

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        paint = self.paint
        lines = self.content(width)
        room = max(height - 4, 0)
        self.top = min(max(self.top, 0), max(len(lines) - room, 0))
        title, about = self.heading()
        first = paint.row(width).put(f"  {title}", "title.focus").put(f"   {about}", "soft")
        shown = list(lines[self.top : self.top + room])
        more = len(lines) - self.top - len(shown)
        last = paint.row(width).put("  Esc", "key").put(f" {t('back')}", "soft")
        last.put("   ↑ ↓ PgUp PgDn", "key").put(f" {t('scroll')}", "soft")
        if more > 0:
            below = n("{count} more line below", "{count} more lines below", more)
            last.put(f"   {below}", "soft")
        body = [*shown, *([paint.blank(width)] * (room - len(shown)))]
        return [first.strip(), paint.rule(width), *body, paint.rule(width), last.strip()]


class Scrolled(ModalScreen[None]):
    """A full-screen text; any of its usual keys closes it."""

    DEFAULT_CSS = """
    Scrolled > ScrolledLines { width: 100%; height: 100%; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", show=False),
        Binding("down,j", "scroll_by(1)", show=False),
        Binding("pageup,b", "scroll_by(-10)", show=False),
        Binding("pagedown,space", "scroll_by(10)", show=False),
        Binding("home", "scroll_by(-99999)", show=False),
        Binding("end", "scroll_by(99999)", show=False),
        Binding("escape,q,question_mark,f1,f2", "leave", show=False),
    ]

    def __init__(self, body: ScrolledLines) -> None:
        super().__init__()
        self.body = body

    def compose(self) -> ComposeResult:
        yield self.body

    def action_scroll_by(self, by: int) -> None:
        self.body.top += by
        self.body.update()

    def action_leave(self) -> None:
        self.dismiss(None)


class HelpBody(ScrolledLines):
    def __init__(self, model: Model, paint: Paint, place: Place) -> None:
        super().__init__(model, paint)
        self.place = place

    def heading(self) -> tuple[str, str]:
        return t("Help"), t("every key, and what the signs mean")

    def content(self, width: int) -> Sequence[Strip]:
        return help_lines(self.paint, width, self.place)


class Help(Scrolled):
    """Keys and signs, those of the present place first."""

    def __init__(self, model: Model, paint: Paint, place: Place) -> None:
        super().__init__(HelpBody(model, paint, place))
