"""What every page has: the header with the row of pages, the footer with its keys, headings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.strip import Strip

from console import actions
from console import format as fmt
from console.actions import Keymap
from console.i18n import language, n, t
from console.keys.kinds import Action, PageEntry
from console.notices import Notice
from console.spoken import spoken
from console.state import Model
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.messages import END_STATES, LIVE_STATES
from engine.plain import Plain, late_dataclass

_KEYS: Final = 21  # cells that keys keep beside a long sentence


class Header(Lines):
    """Host, devices, mode, counts, clock; what is wrong, if something is; and the pages."""

    SHOWS = frozenset({"header"})

    def __init__(self, model: Model, paint: Paint, page: str, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.page = page
        self._tabs: tuple[object, Strip] | None = None  # the row of pages, and what it shows

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        app = self.console_app
        key = app.keymap.key_of("app.quit")
        after, opening = "", t("reading the recording")
        if app.replay is None:
            after = t("{key} leaves, avatop starts another", key=key)
            opening = t("starting the engine")
        first = header(self.paint, self.model, width, app.read_only, after, opening)
        return [first.strip(), self._pages(app.pages, width)][:height]

    def _pages(self, entries: Sequence[PageEntry], width: int) -> Strip:
        """The row of pages: another one seldom, while the clock above moves every second."""
        marks = self._marks()
        shown = (tuple(entries), width, tuple(marks.items()), self.paint.theme, language())
        if self._tabs is None or self._tabs[0] != shown:
            row = pages(self.paint, self.page, entries, width, marks)
            self._tabs = (shown, row.strip())
        return self._tabs[1]

    def _marks(self) -> dict[str, tuple[str, str]]:
        """Pages on which something asks for eyes: how much, and in which colour."""
        firing = len(self.model.trouble.firing())
        sign = f"{fmt.state('warning').shape}{firing}"
        return {"incidents": (sign, _gravest(self.model))} if firing else {}


def _gravest(model: Model) -> str:
    """The colour of what fires: one for the header and the page's sign."""
    critical = any(alert.severity == "critical" for alert in model.trouble.firing())
    return "state.act" if critical else "state.watch"


def header(
    paint: Paint, model: Model, width: int, read_only: bool, after: str, opening: str
) -> Row:
    """Its first row.

    Args:
        after: what to do once the engine has ended. opening: what is awaited before anything came.
    """
    row = paint.row(width).put(" avatop", "accent").put("  ")
    if read_only:
        row.put(f" {t('read-only')} ", "match").put("  ")
    # Words of the counts go before the host's name does, or that the engine ended.
    ended = t("⚠ engine ended")
    host = min(fmt.cells(model.host), 16) + 3
    if model.stopped is not None:
        host = fmt.cells(f"{ended}  {after}") + 1
    for words in (_ALL, _WARNINGS, _ALIKE, frozenset[str]()):
        right = paint.row(width)
        _counts(right, model, words)
        right.put("  ").put(fmt.clock(model.now), "soft").put(" ")
        if row.x + host + right.x < width:
            break
    if model.stopped is not None:
        row.put(ended, "state.act")
        why = spoken(model.stopped, model)
        for said in (f"{why}; {after}", after, why) if after else (why,):
            if row.left - right.x > fmt.cells(said) + 3:
                row.put("  ").outside(said, "state.watch")
                break
        return row.right(right)
    if not model.connected:
        row.put(opening + (" …" if paint.unicode else ""), "soft")
        return row.right(right)
    facts = [model.host, _devices(model), _mode(model)]
    shown = [fact for fact in facts if fact]
    for number, fact in enumerate(shown):
        room = width - right.x - row.x - 3
        if room < 8 and number:
            break
        if number:
            row.put(" · ", "faint")
        fact = fmt.short(fact, max(room, 4), paint.ellipsis)
        row.outside(fact, "text" if number == 0 else "soft")
    return row.right(right)


def pages(
    paint: Paint, here: str, entries: Sequence[PageEntry], width: int,
    marks: dict[str, tuple[str, str]],
) -> Row:  # fmt: skip
    """The row of pages on the rule below the header; with little room in short words.

    Args:
        here: name of the page shown. marks: page → sign of what waits there, and its colour.
    """
    row = paint.row(width).put("─", "rule")
    if len(entries) < 2:
        return row.put("─" * row.left, "rule")
    extra = sum(fmt.cells(sign) + 1 for sign, _role in marks.values())
    whole = {entry.name: t(entry.label) for entry in entries}
    short = {e.name: whole[e.name] if e.name == here else t(e.short or e.label) for e in entries}
    labels, gaps = whole, 2
    cut = {name: label if name == here else label[:4] for name, label in short.items()}
    for labels, gaps in ((whole, 2), (whole, 1), (short, 2), (short, 1), (cut, 1)):
        if sum(map(fmt.cells, labels.values())) + (2 + gaps) * len(entries) + extra < width:
            break
    else:  # no words fit: the keys, and where one is
        labels, gaps = {here: whole[here]}, 1
    for entry in entries:
        current = entry.name == here
        row.put(" ", "rule").put(entry.key, "title.focus" if current else "key")
        if entry.name in labels:
            row.put(f" {labels[entry.name]}", "title.focus" if current else "soft")
        if entry.name in marks:
            sign, role = marks[entry.name]
            row.put(f" {sign}", role)
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
    return fmt.mode(job.mode, job.ranks, model.book.variant_of(job))


#: Of which counts the words are told, too; two different warnings have the same sign.
_ALIKE: Final = frozenset({"dead", "alert"})
_WARNINGS: Final = _ALIKE | {"running", "queued"}
_ALL: Final = _WARNINGS | {"interrupted", "failed"}


def _counts(row: Row, model: Model, words: frozenset[str]) -> None:
    states = model.book.counts()
    ended = END_STATES | LIVE_STATES
    counts = {
        "running": sum(states[state] for state in LIVE_STATES),
        "queued": sum(count for state, count in states.items() if state not in ended),
    }
    dead = sum(panel.phase == "died" for panel in model.panels())
    for name, count in counts.items():
        if count or (name == "running" and model.stopped is None):
            row.raw("" if row.x == 0 else "  ")
            role = fmt.state(name).role if count else "soft"
            row.put(f"{fmt.state(name).shape} {count}", role)
            row.put(f" {fmt.word(name)}" if name in words else "", "soft")
    firing = len(model.trouble.firing())
    watch = fmt.state("warning")
    for name, count, look, role, word in (
        ("interrupted", states["interrupted"], fmt.state("interrupted"), "", ""),
        ("failed", states["failed"], fmt.state("failed"), "", ""),
        ("dead", dead, watch, "state.act", n("dead rank", "dead ranks", dead)),
        ("alert", firing, watch, _gravest(model), n("alert", "alerts", firing)),
    ):
        if count:
            row.put("  " if row.x else "").put(f"{look.shape} {count}", role or look.role)
            if name in words:
                row.put(f" {word or fmt.word(name)}", "soft")


@late_dataclass(frozen=True)
class Place(Plain):
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
    """Keys at the left, where they stay; what is said at the right, over those that are rarer."""
    row, said = paint.row(width).put(" "), paint.row(width)
    if notice is not None:
        text = fmt.short(notice.text, max(width - max(_KEYS, width // 4), 8), paint.ellipsis)
        said.put("  ").outside(text, notice.role).put(" ")
    end = width - said.x
    for action in place.offered():
        key, label = place.keymap.shown(action), t(action.label)
        if row.x + fmt.cells(key) + fmt.cells(label) + 2 > end:
            if notice is not None:
                break
            continue
        row.put(key, "key").put(f" {label}  ", "soft")
    return row.right(said)


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
