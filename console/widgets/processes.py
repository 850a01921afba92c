"""The table of processes and what is known of the one under the cursor."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar

from textual.strip import Strip

from console import format as fmt
from console.i18n import N_, n, t
from console.spoken import spoken
from console.state import Model
from console.widgets.bars import heading
from console.widgets.details import Details, Fact, Said, Section
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from console.widgets.process_tree import (
    ProcessRow,
    device_name,
    device_names,
    job_words,
    look_of,
    rows_of,
)
from console.widgets.table import Column, Table
from engine.guard.classify import HEALTHY, NOBODY, POLICY, PROTECTED, YES


def _kind(row: Row, item: ProcessRow, _model: Model) -> Row:
    if item.ending:
        return row.put("◐ " + t("ending"), "state.busy")
    look = look_of(item.it.kind)
    word = t(look.word) if look.word != "unknown" else item.it.kind
    return row.put(f"{look.shape} ", look.role).outside(word, look.role)


def _memory(row: Row, item: ProcessRow, _model: Model) -> Row:
    if not item.memory:
        return row.put(" " * 6 + "-", "faint")
    size = item.bytes
    if size is None:
        return row.put(fmt.NA.rjust(7), "na")
    return row.put(fmt.gib(size).rjust(7)).put(" GiB", "unit")


def _devices(row: Row, item: ProcessRow, model: Model) -> Row:
    return row.outside(device_names(model, list(item.memory)), "soft")


def _job(row: Row, item: ProcessRow, _model: Model) -> Row:
    return row.put(job_words(item.process))


def _age(row: Row, item: ProcessRow, _model: Model) -> Row:
    return row.put(fmt.duration(item.age).rjust(9), "na" if item.age is None else "text")


def _command(row: Row, item: ProcessRow, _model: Model) -> Row:
    if item.depth:
        row.put("  " * (item.depth - 1) + "↳ ", "faint")
    command = item.process.command
    if not command:
        return row.put(fmt.NA, "na")
    program, gap, rest = command.partition(" ")
    return row.outside(program.rpartition("/")[2]).outside(gap + rest, "soft")


def _host(row: Row, item: ProcessRow, _model: Model) -> Row:
    if item.process.rss is None:
        return row.put(fmt.NA.rjust(7), "na")
    return row.put(fmt.gib(item.process.rss).rjust(7)).put(" GiB", "unit")


COLUMNS: Sequence[Column[ProcessRow]] = (
    Column("pid", 9, lambda row, item, _m: row.put(f"{item.process.pid:>8}"), right=True, inner=8,
           value=lambda item: item.process.pid),
    Column(N_("class"), 18, _kind, value=lambda item: item.it.kind),
    Column(N_("memory"), 12, _memory, right=True, inner=7, value=lambda item: item.bytes),
    Column(N_("devices"), 12, _devices, 96),
    Column(N_("host memory"), 13, _host, 136, right=True, inner=11,
           value=lambda item: item.process.rss),
    Column(N_("job"), 11, _job, 66, value=lambda item: item.process.job),
    Column(N_("age"), 10, _age, 76, right=True, inner=9,
           value=lambda item: item.age),
    Column(N_("user"), 11, lambda row, item, _m: row.outside(item.process.user or "", "soft"), 88,
           value=lambda item: item.process.user),
    Column(N_("command"), 0, _command, value=lambda item: item.process.command),
)  # fmt: skip


class Processes(Table[ProcessRow]):
    """Every process of the last survey, as a tree."""

    SHOWS = frozenset({"processes", "devices"})
    COLUMNS = COLUMNS
    TITLE = N_("Processes")

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.ending: frozenset[Hashable] = frozenset()  # keys of those that were sent a signal
        self._rows: list[ProcessRow] = []
        self._made_from: tuple[object, ...] = ()

    def rows(self) -> Sequence[ProcessRow]:
        made_from = (
            self.ending,
            self.model.production.processes,
            *(track.reading.processes for track in self.model.devices.values()),
        )
        same = len(made_from) == len(self._made_from) and all(
            a is b for a, b in zip(made_from, self._made_from, strict=True)
        )
        if not same:
            self._made_from = made_from
            self._rows = rows_of(self.model, self.ending)
        return self._rows

    def key(self, item: ProcessRow) -> Hashable:
        return item.key

    def words_of(self, item: ProcessRow) -> str:
        process = item.process
        job = "" if process.job is None else f"job {job_words(process)}"
        devices = device_names(self.model, list(item.memory))
        return " ".join((str(process.pid), item.it.kind, t(look_of(item.it.kind).word), job,
                         devices, process.user or "", process.command or ""))  # fmt: skip

    def empty(self, row: Row) -> Row:
        if self.model.production.surveyed is None:
            return row.put(
                t("The engine has not looked yet; it does so every ten seconds."), "soft"
            )
        key = self.console_app.keymap.key_of("overview.submit")
        return row.phrase(
            t("Nothing holds a device here. {key} on the overview submits a job."), key=key
        )

    def note(self) -> Row:
        row = self.paint.row(60)
        bad = sum(item.it.kind not in (HEALTHY, PROTECTED) for item in self.rows())
        if bad:
            row.put(n("{count} to look at", "{count} to look at", bad), "state.watch")
        surveyed = self.model.production.surveyed
        if surveyed is not None:
            row.put("  " if bad else "").put(
                t("unchanged since {time}", time=fmt.clock(surveyed)), "soft"
            )
        return row


class ProcessDetails(Details):
    """The process under the cursor: class, evidence, memory by device, what can be done."""

    SHOWS = frozenset({"processes", "devices"})
    TITLE = N_("Process")

    def __init__(
        self,
        model: Model,
        paint: Paint,
        table: Processes,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(model, paint, id=id)
        self.table = table

    def sections(self, width: int) -> Sequence[Section]:  # noqa: ARG002
        item = self.table.item
        if item is None:
            return (Section("", (Said(t("No process is selected."), "soft"),)),)
        look = look_of(item.it.kind)
        word = t(look.word) if look.word != "unknown" else item.it.kind
        what = [Said(word + t(": ") + t(look.meaning), look.role)]
        evidence = [Said(f"- {spoken(text, self.model)}", "text") for text in item.it.evidence]
        return (
            Section("", what),
            Section(t("Evidence"), evidence or [Said(t("None is known."), "soft")]),
            Section(t("What to do"), self._advice(item)),
            Section(t("Memory"), self._memory(item)),
            Section(t("Facts"), self._facts(item)),
        )

    def _memory(self, item: ProcessRow) -> list[Fact | Said]:
        if not item.memory:
            return [Said(t("It is not known to hold device memory."), "soft")]
        return [
            Fact(device_name(self.model, uuid), None if size is None else fmt.gib(size), "GiB")
            for uuid, size in sorted(item.memory.items())
        ]

    def _facts(self, item: ProcessRow) -> list[Fact]:
        process, it = item.process, item.it
        children = ", ".join(map(str, it.children)) or t("none")
        return [
            Fact(t("command"), process.command),
            Fact(t("user"), process.user),
            Fact(t("job"), job_words(process) or t("none")),
            Fact(t("age"), None if item.age is None else fmt.duration(item.age)),
            Fact(t("state"), process.state),
            Fact(t("parent"), None if process.ppid is None else str(process.ppid)),
            Fact(t("children"), children),
            Fact(t("container"), it.container or t("none, or it cannot be told")),
            Fact(t("host memory"), None if process.rss is None else fmt.gib(process.rss), "GiB"),
        ]

    def _advice(self, item: ProcessRow) -> list[Said]:
        it = item.it
        out: list[Said] = []
        key = self.console_app.keymap.key_of("processes.kill")
        if it.consent == NOBODY or it.protected:
            out.append(Said(t("Nobody ends it from here."), "soft"))
        elif self.console_app.read_only:
            out.append(Said(t("Read-only: nothing can be changed from here."), "state.watch"))
        elif it.consent in (POLICY, YES):
            out.append(Said(t("{key} ends it, after asking.", key=key)))
        else:
            out.append(Said(t("{key} ends it, after its number was typed.", key=key)))
        if it.next_command:
            out.append(Said(it.next_command, "accent"))
        return out


class Leaked(Lines):
    """Shared memory that dead ranks left behind, and the command that removes it."""

    SHOWS = frozenset({"processes"})
    MOST: ClassVar[int] = 3

    def rows_wanted(self) -> int:
        """Rows it takes; none while nothing is leaked."""
        count = len(self.model.production.leaked)
        return 0 if not count else 2 + min(count, self.MOST)

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        leaked = self.model.production.leaked
        if not leaked:
            return []
        title = t("Leaked shared memory")
        note = self.paint.row(30).put(n("{count} file", "{count} files", len(leaked)), "soft")
        out = [heading(self.paint, title, width, False, note)]
        out += [
            self.paint.row(width).put("  ").outside(f"/dev/shm/{name}").strip()
            for name in leaked[: self.MOST]
        ]
        row = self.paint.row(width).put("  ")
        sentence = t("No process uses them. In a shell, {command} removes them.")
        out.append(row.phrase(sentence, command="avatop reap --yes").strip())
        return out
