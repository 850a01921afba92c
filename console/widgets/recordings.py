"""The list of recordings, and the marks of one of them."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Final

from console import format as fmt
from console.i18n import N_, t
from console.shelf import Taped
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint, Row
from console.widgets.table import Column, Table
from engine.telemetry.recording_segment import Mark

_KINDS: Final = {
    "host": N_("this host"), "segment": N_("segment"), "bundle": N_("bundle"),
    "shipped": N_("shipped"), "file": N_("file"),
}  # fmt: skip
_MARKS: Final = {
    "spike": ("▲", N_("spike"), "spike"),
    "alert": ("⚠", N_("alert"), "state.watch"),
    "error": ("✗", N_("error"), "state.act"),
}


def moment(t: float | None) -> str:
    """A moment with its day: recordings may be of any."""
    return fmt.NA if t is None else time.strftime("%m-%d %H:%M:%S", time.localtime(t))


class Recordings(Table[Taped]):
    """What can be opened. ``tapes`` is None until the disk was looked at."""

    TITLE = N_("Recordings")
    SHOWS = frozenset({"replay"})

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.tapes: list[Taped] | None = None
        self._none: list[Taped] = []

    def rows(self) -> Sequence[Taped]:
        return self._none if self.tapes is None else self.tapes

    def key(self, item: Taped) -> Hashable:
        return str(item.path)

    def words_of(self, item: Taped) -> str:
        jobs = " ".join(t("job {id}", id=job) for job in item.jobs)
        return f"{item.name} {t(_KINDS[item.kind])} {moment(item.start)} {jobs}"

    def leading(self, row: Row, item: Taped) -> None:
        replay = self.console_app.replay
        playing = replay is not None and item.kind != "segment" and (
            replay.recording.path == item.path)  # fmt: skip
        row.put("▸" if playing else " ", "accent")

    def empty(self, row: Row) -> Row:
        if self.tapes is None:
            return row.put(t("Looking at the disk …"), "soft")
        keymap = self.console_app.keymap
        return row.phrase(
            t("Nothing is recorded yet: the recorder runs with the engine. {key} opens a file."),
            key=keymap.key_of("recordings.file"),
        )


def _name(row: Row, item: Taped, model: Model) -> None:
    del model
    text = str(item.path) if item.kind == "host" else item.name
    indent = "  " if item.kind == "segment" else ""
    row.put(indent).ending(text)


def _kind(row: Row, item: Taped, model: Model) -> None:
    del model
    row.put(t(_KINDS[item.kind]), "accent" if item.kind == "host" else "soft")


def _start(row: Row, item: Taped, model: Model) -> None:
    del model
    if item.problem is not None:
        row.limit(row.width + 60)
        row.outside(spoken(item.problem), "state.act")
        return
    row.put(moment(item.start), "soft")


def _length(row: Row, item: Taped, model: Model) -> None:
    del model
    if item.problem is None:
        known = item.start is not None and item.end is not None
        seconds = (item.end or 0.0) - (item.start or 0.0) if known else None
        row.put(fmt.right(fmt.duration(seconds), 9))


def _marks(row: Row, item: Taped, model: Model) -> None:
    del model
    if item.problem is not None:
        return
    for kind, (shape, _word, role) in _MARKS.items():
        count = item.counts.get(kind, 0)
        row.put(f"{shape} {count:<5}", role if count else "faint")


def _jobs(row: Row, item: Taped, model: Model) -> None:
    del model
    if item.problem is None:
        row.put(", ".join(map(str, item.jobs[-6:])) or "–", "text" if item.jobs else "faint")


def _size(row: Row, item: Taped, model: Model) -> None:
    del model
    row.size(item.bytes, width=6)


def _when(item: Taped) -> float | None:
    return item.start


Recordings.COLUMNS = (
    Column(N_("kind"), 11, _kind, value=lambda i: i.kind),
    Column(N_("begins"), 16, _start, value=_when),
    Column(N_("length"), 11, _length, right=True, inner=9,
           value=lambda i: None if i.end is None else i.end - (i.start or 0.0)),
    Column(N_("marks"), 22, _marks, value=lambda i: sum(i.counts.values())),
    Column(N_("jobs"), 16, _jobs, least=100, value=lambda i: len(i.jobs)),
    Column(N_("size"), 12, _size, least=110, right=True, inner=6, value=lambda i: i.bytes),
    Column(N_("name"), 0, _name, value=lambda i: i.name),
)  # fmt: skip


class Marks(Table[Mark]):
    """Spikes, alerts and errors of the selected recording, in order."""

    TITLE = N_("Marks")

    def __init__(self, model: Model, paint: Paint, tapes: Recordings) -> None:
        super().__init__(model, paint, id="marks")
        self.tapes = tapes
        self._of: Taped | None = None
        self._rows: list[Mark] = []

    def rows(self) -> Sequence[Mark]:
        item = self.tapes.item
        if item is not self._of:
            self._of = item
            self._rows = [] if item is None else list(item.marks)
            self.moved = False
        return self._rows

    def key(self, item: Mark) -> Hashable:
        return (item.at, item.kind, item.text)

    def words_of(self, item: Mark) -> str:
        return f"{item.kind} {t(_MARKS[item.kind][1])} {item.text}"

    def empty(self, row: Row) -> Row:
        if self.tapes.item is None:
            return row.put(t("Choose a recording above."), "soft")
        return row.put(t("No spike, alert or error in it: nothing went wrong."), "soft")


def _mark_kind(row: Row, item: Mark, model: Model) -> None:
    del model
    shape, word, role = _MARKS.get(item.kind, ("·", item.kind, "soft"))
    row.put(f"{shape} {t(word)}", role)


def _mark_at(row: Row, item: Mark, model: Model) -> None:
    del model
    row.put(moment(item.at), "soft")


def _mark_job(row: Row, item: Mark, model: Model) -> None:
    del model
    row.put("" if item.job is None else str(item.job), "soft")


def _mark_text(row: Row, item: Mark, model: Model) -> None:
    del model
    row.outside(fmt.short(fmt.inert(spoken(item.text)), max(row.left, 4)))


Marks.COLUMNS = (
    Column(N_("time"), 17, _mark_at, value=lambda m: m.at),
    Column(N_("kind"), 12, _mark_kind, value=lambda m: m.kind),
    Column(N_("job"), 6, _mark_job, value=lambda m: m.job),
    Column(N_("what"), 0, _mark_text, value=lambda m: m.text),
)
