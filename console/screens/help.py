"""The help screen: every key from the registry, and what the signs mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip

from console import actions
from console import format as fmt
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint
from engine.messages import OWNERS

_SHAPES = ("queued", "loading", "running", "paused", "done", "interrupted", "failed", "cancelled",
           "warning", "spike")  # fmt: skip
_OWNERS = {
    "weights": "weights that stay on the device",
    "gathered": "weights gathered to full for their moment of use",
    "streamed": "weights copied in from host memory",
    "kv": "attention's rolling key and value cache",
    "conditioning": "keys and values of portrait, motion and text",
    "activations": "what a layer computes with",
    "vae": "the image encoder and decoder",
    "context": "CUDA's own",
    "slack": "held by the allocator, unused",
    "other": "ours, of no known owner",
    "foreign": "other processes",
}


def help_lines(paint: Paint, width: int) -> list[Strip]:
    """The whole text at a width; the screen scrolls over it."""
    out: list[Strip] = []

    def head(text: str) -> None:
        out.append(paint.row(width).put("  ").put(text, "title.focus").strip())

    for scope, title in actions.SCOPES.items():
        head(title)
        for action in actions.in_scope(scope):
            keys = " ".join(actions.shown(key) for key in action.keys)
            row = paint.row(width).put("    ").put(fmt.fit(keys, 18), "key")
            out.append(row.put(action.help, "text").strip())
        out.append(paint.blank(width))
    head("States")
    row = paint.row(width).put("    ")
    for name in _SHAPES:
        if row.left < len(name) + 6:
            out.append(row.strip())
            row = paint.row(width).put("    ")
        row.state(name).put("   ")
    out += [row.strip(), paint.blank(width)]
    head("Memory by owner, from the bottom of a plot upwards")
    for owner in OWNERS:
        row = paint.row(width).put("    ").put(paint.swatch(owner) * 2, f"owner.{owner}")
        row.put(f" {owner:<14}", "text").put(_OWNERS[owner], "soft")
        out.append(row.strip())
    row = paint.row(width).put("    ").put("──" if paint.unicode else "--", "plan")
    out.append(row.put(f" {'plan':<14}").put("the peak the plan predicts", "soft").strip())
    row = paint.row(width).put("    ").put("▲ ", "spike").put(f" {'spike':<14}")
    out.append(row.put("a rise above the threshold", "soft").strip())
    return out


class HelpBody(Lines, can_focus=True):
    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint)
        self.top = 0

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        paint = self.paint
        lines = help_lines(paint, width)
        self.top = min(max(self.top, 0), max(len(lines) - height + 4, 0))
        first = (
            paint.row(width)
            .put("  Help", "title.focus")
            .put("   every key, and what the signs mean", "soft")
        )
        shown = lines[self.top : self.top + height - 4]
        more = len(lines) - self.top - len(shown)
        last = paint.row(width).put("  Esc", "key").put(" back", "soft")
        last.put("   ↑ ↓ PgUp PgDn", "key").put(" scroll", "soft")
        if more > 0:
            last.put(f"   {fmt.plural(more, 'more line')} below", "soft")
        body = [*shown, *([paint.blank(width)] * (height - 4 - len(shown)))]
        return [first.strip(), paint.rule(width), *body, paint.rule(width), last.strip()]


class Help(ModalScreen[None]):
    """Scrolls; any of its usual keys closes it."""

    DEFAULT_CSS = "Help > HelpBody { width: 100%; height: 100%; background: $background; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", show=False),
        Binding("down,j", "scroll_by(1)", show=False),
        Binding("pageup,b", "scroll_by(-10)", show=False),
        Binding("pagedown,space", "scroll_by(10)", show=False),
        Binding("home", "scroll_by(-999)", show=False),
        Binding("end", "scroll_by(999)", show=False),
        Binding("escape,q,question_mark,f1", "leave", show=False),
    ]

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__()
        self.body = HelpBody(model, paint)

    def compose(self) -> ComposeResult:
        yield self.body

    def action_scroll_by(self, by: int) -> None:
        self.body.top += by
        self.body.update()

    def action_leave(self) -> None:
        self.dismiss(None)
