"""What every page has: the header with the row of pages, the footer with its keys, headings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.strip import Strip

from console import actions
from console import format as fmt
from console.actions import Keymap
from console.i18n import n, t
from console.keys.kinds import Action, PageEntry
from console.notices import Notice
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.messages import END_STATES, LIVE_STATES


class Header(Lines):
    """Host, devices, mode, counts, clock; what is wrong, if something is; and the pages."""

    SHOWS = frozenset({"header"})

    def __init__(self, model: Model, paint: Paint, page: str, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.page = page

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        app = self.console_app
        first = header(self.paint, self.model, width, read_only=app.read_only)
        tabs = pages(self.paint, self.page, app.pages, width, self._marks())
        return [first.strip(), tabs.strip()][:height]

    def _marks(self) -> dict[str, str]:
        """Pages on which something asks for eyes, and how much."""
        firing = len(self.model.trouble.firing())
        return {"incidents": f"{fmt.state('warning').shape}{firing}"} if firing else {}


def header(paint: Paint, model: Model, width: int, *, read_only: bool = False) -> Row:
    row = paint.row(width).put(" avatop", "accent").put("  ")
    if read_only:
        row.put(f" {t('read-only')} ", "match").put("  ")
    right = paint.row(width)
    _counts(right, model, short=width < 100)
    right.put("  ").put(fmt.clock(model.now), "soft").put(" ")
    if model.stopped is not None:
        row.put(t("⚠ engine ended") + " ", "state.act").outside(model.stopped, "state.watch")
        return row.right(right)
    if not model.connected:
        row.put(t("starting the engine") + (" …" if paint.unicode else ""), "soft")
        return row.right(right)
    facts = [model.host, _devices(model), _mode(model)]
    shown = [fact for fact in facts if fact]
    for number, fact in enumerate(shown):
        room = width - right.x - row.x - 3
        if room < 8 and number:
            break
        if number:
            row.put(" · ", "faint")
        row.outside(fmt.short(fact, max(room, 4), "…" if paint.unicode else "."),
                    "text" if number == 0 else "soft")  # fmt: skip
    return row.right(right)


def pages(
    paint: Paint, here: str, entries: Sequence[PageEntry], width: int, marks: dict[str, str]
) -> Row:
    """The row of pages on the rule below the header; with little room the words are cut short.

    Args:
        here: name of the page shown. marks: page → sign of what waits there.
    """
    row = paint.row(width).put("─", "rule")
    if len(entries) < 2:
        return row.put("─" * row.left, "rule")
    labels = {entry.name: t(entry.label) for entry in entries}
    extra = sum(fmt.cells(mark) + 1 for mark in marks.values())

    def needed(longest: int, gaps: int) -> int:
        cut = (size if name == here else min(size, longest) for name, size in sizes.items())
        return sum(cut) + (2 + gaps) * len(entries) + extra + 1

    sizes = {name: fmt.cells(label) for name, label in labels.items()}
    most = max(sizes.values())  # whole words close together are better than cut ones
    tries = [(most, 2), (most, 1), *((s, gaps) for gaps in (2, 1) for s in range(most - 1, 2, -1))]
    longest, gaps = next((one for one in tries if needed(*one) <= width), (0, 1))
    for entry in entries:
        current = entry.name == here
        row.put(" ", "rule").put(entry.key, "title.focus" if current else "key")
        room = sizes[entry.name] if current else min(longest, sizes[entry.name])
        if room:
            word = fmt.fit(labels[entry.name], room, "")
            row.put(f" {word}", "title.focus" if current else "soft")
        if entry.name in marks:
            row.put(f" {marks[entry.name]}", "state.act")
        row.put(" " * (gaps - 1), "rule")
    row.put(" " * (gaps == 1), "rule")
    return row.put("─" * row.left, "rule")


def _devices(model: Model) -> str:
    gpus = model.gpus()
    if gpus:
        kinds = {device.reading.name for device in gpus}
        name = kinds.pop().removeprefix("NVIDIA ") if len(kinds) == 1 else "GPU"
        return f"{len(gpus)}×{name}"
    return t("no GPU: ranks on CPU") if model.devices else ""


def _mode(model: Model) -> str:
    job = model.current_job()
    if job is None:
        return ""
    return fmt.mode(job.mode, job.ranks)


def _counts(row: Row, model: Model, short: bool) -> None:
    states = model.book.counts()
    ended = END_STATES | LIVE_STATES
    counts = {
        "running": sum(states[state] for state in LIVE_STATES),
        "queued": sum(count for state, count in states.items() if state not in ended),
    }
    dead = sum(panel.phase == "died" for panel in model.panels())
    for name, count in counts.items():
        if count or name == "running":
            row.raw("" if row.x == 0 else "  ")
            role = fmt.state(name).role if count else "soft"
            row.put(f"{fmt.state(name).shape} {count}", role).put(f" {fmt.word(name)}", "soft")
    firing = model.trouble.firing()
    wrong = [
        ("interrupted", states["interrupted"], fmt.word("interrupted")),
        ("failed", states["failed"], fmt.word("failed")),
        ("warning", dead, n("dead rank", "dead ranks", dead)),
        ("warning", len(firing), n("alert", "alerts", len(firing))),
    ]
    for name, count, word in wrong:
        if count:
            look = fmt.state(name)
            alarm = name == "warning" and any(a.severity == "critical" for a in firing)
            row.put(f"  {look.shape} {count}", "state.act" if alarm else look.role)
            if not short:
                row.put(f" {word}", "soft")


@dataclass(frozen=True)
class Place:
    """Where somebody is, for the footer.

    Args:
        scopes: of keys, nearest first. read_only: what changes something is not offered.
    """

    scopes: tuple[str, ...] = ("app",)
    keymap: Keymap = actions.PLAIN
    read_only: bool = False

    def offered(self) -> list[Action]:
        return actions.footer(self.scopes, self.keymap, read_only=self.read_only)


class Footer(Lines):
    """Keys for where the focus is, from the registry; sentences of the moment before them."""

    SHOWS = frozenset({"footer"})

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        app = self.console_app
        return [footer(self.paint, app.place(), app.notices.current, width).strip()]


def footer(paint: Paint, place: Place, notice: Notice | None, width: int) -> Row:
    row = paint.row(width).put(" ")
    if notice is not None:
        row.outside(fmt.short(notice.text, width - 12, "…" if paint.unicode else "."), notice.role)
        row.put("   ")
    for action in place.offered():
        key, label = place.keymap.shown(action), t(action.label)
        if row.left < fmt.cells(key) + fmt.cells(label) + 2:
            continue
        row.put(key, "key").put(f" {label}  ", "soft")
    return row


def heading(paint: Paint, title: str, width: int, focused: bool, note: Row | None = None) -> Strip:
    """The first row of a part: its title at the left edge of a rule, remarks at the right."""
    row = paint.row(width)
    row.put("▌" if focused else "─", "accent" if focused else "rule")
    row.put(title, "title.focus" if focused else "title").put(" ")
    end = note.x + 2 if note is not None and note.x else 0
    row.put("─" * max(width - row.x - end, 0), "rule")
    if note is not None and note.x:
        row.put(" ").right(note.put(" "))
    return row.strip()
