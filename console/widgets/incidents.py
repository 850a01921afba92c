"""The list of incidents, and what is known of one: diagnosis, evidence, remedies."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, Final

from console import format as fmt
from console.i18n import N_, n, t
from console.incidents import (
    Incident,
    done_about,
    incidents,
    remedies,
    together,
)
from console.keys.incidents import REMEDY_KEYS
from console.spoken import quoted, spoken
from console.state import Model
from console.trouble import gravity
from console.widgets.details import Details, Drawn, Fact, Said, Section
from console.widgets.paint import Paint, Row
from console.widgets.table import Column, Table
from engine.messages import AlertChanged, FindingRaised, Remedy

#: Roles of findings: shape, word, colour.
_ROLES: Final = {
    "root": ("✗", N_("cause"), "state.act"),
    "victim": ("→", N_("follows"), "state.watch"),
    "advice": ("·", N_("advice"), "state.idle"),
}
_SEVERITIES: Final = {
    "critical": N_("critical"), "error": N_("error"), "warning": N_("warning"),
    "advice": N_("advice"), "info": N_("info"),
}  # fmt: skip


def severity_role(severity: str) -> str:
    grave = gravity(severity)
    if grave <= gravity("error"):
        return "state.act"
    return "state.watch" if grave <= gravity("warning") else "soft"


def put_state(row: Row, item: Incident) -> Row:
    """Shape and word of an alert's state or a finding's role."""
    look = _ROLES.get(item.state)
    if look is None:
        return row.state(item.state)
    shape, word, role = look
    if item.finding is not None and gravity(item.what.severity) > gravity("error"):
        role = "state.idle" if item.state == "advice" else "state.watch"
    return row.put(f"{shape} ", role).put(t(word), role)


def where(model: Model, item: Incident) -> str:
    """What it is about: a device, a rank, a job; empty for the host."""
    device = model.devices.get(item.what.device or "")
    parts = []
    if item.what.job is not None:
        parts.append(t("job {id}", id=item.what.job))
    if item.finding is not None and item.finding.rank is not None:
        parts.append(t("rank {rank}", rank=item.finding.rank))
    elif device is not None and device.reading.source != "host":
        parts.append(f"GPU {device.reading.index}")
    return " ".join(parts)


class Incidents(Table[Incident]):
    """Alerts and findings, what asks for eyes first."""

    SHOWS = frozenset({"alerts", "findings", "replay"})
    TITLE = N_("Incidents")
    COLUMNS: ClassVar[Sequence[Column[Incident]]] = ()

    def __init__(self, model: Model, paint: Paint, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(model, paint, id=id)
        self.past = False
        self._rows: list[Incident] = []

    def forget(self) -> None:
        self._rows = []

    def rows(self) -> Sequence[Incident]:
        new = incidents(self.model, self.past)
        if new != self._rows:
            self._rows = new
        return self._rows

    def key(self, item: Incident) -> Hashable:
        return item.key

    def words_of(self, item: Incident) -> str:
        told = (
            spoken(item.sentence, self.model),
            item.name,
            item.state,
            item.what.severity,
            where(self.model, item),
        )
        return " ".join(told)

    def empty(self, row: Row) -> Row:
        keymap, replay = self.console_app.keymap, self.console_app.replay
        if replay is not None and replay.stop(1, ("error", "alert")) is not None:
            said = t("Nothing is wrong yet at this moment. {key} goes to what went wrong next.")
            return row.phrase(said, key=keymap.key_of("replay.mark-after"))
        sign = "● " if self.paint.unicode else "* "
        row.put(sign, "state.good").put(t("All is well: no alert, no finding.") + "  ", "text")
        if not self.past:
            row.phrase(t("{key} shows what is over."), key=keymap.key_of("incidents.past-ones"))
        return row

    def note(self) -> Row:
        row = self.paint.row(30)
        firing = len(self.model.trouble.firing())
        if firing:
            row.put(n("{count} firing", "{count} firing", firing), "state.act")
        if self.past:
            row.put("  " if row.x else "").put(t("past ones too"), "soft")
        return row


def _state(row: Row, item: Incident, model: Model) -> None:
    del model
    put_state(row, item)


def _severity(row: Row, item: Incident, model: Model) -> None:
    del model
    word = _SEVERITIES.get(item.what.severity, item.what.severity)
    row.outside(t(word), severity_role(item.what.severity))


def _began(row: Row, item: Incident, model: Model) -> None:
    row.put(fmt.moment(item.began, model.now), "faint")


def _where(row: Row, item: Incident, model: Model) -> None:
    row.outside(where(model, item), "text")


def _what(row: Row, item: Incident, model: Model) -> None:
    role = "soft" if item.over or item.state in ("advice", "pending") else "text"
    tail = f"  ({item.name})"
    room = row.left - (fmt.cells(tail) if row.left > 70 else 0)
    row.outside(fmt.short(fmt.inert(spoken(item.sentence, model)), max(room, 4)), role)
    if row.left >= fmt.cells(tail):
        row.outside(tail, "faint")


Incidents.COLUMNS = (
    Column(N_("state"), 15, _state, value=lambda i: i.state),
    Column(N_("severity"), 10, _severity, least=100, value=lambda i: gravity(i.what.severity)),
    Column(N_("since"), 12, _began, value=lambda i: i.began),
    Column(N_("where"), 15, _where, value=lambda i: i.what.job or 0),
    Column(N_("what"), 0, _what, value=lambda i: i.name),
)


#: What the key of a remedy does that changes nothing by itself.
_LEADS: Final = {
    "reap": N_("the key leads to the processes"),
    "log": N_("the key shows warnings and errors"),
    "edit": N_("the key opens the job's values in the form"),
    "drain": N_("the key asks which device gets no new work"),
    "verify": N_("the key verifies the job's checkpoint"),
    "free_disk": N_("the key tells what takes the room"),
}


def changes_of(remedy: Remedy) -> str:
    """What a remedy would change, as far as it is known before the planner is asked."""
    changes = remedy.changes
    if remedy.action == "env":
        return t("its ranks get {what}", what=", ".join(f"{k}={v}" for k, v in changes.items()))
    if remedy.action == "relaunch" and "plan" in changes:
        return t("placement: worked out by the planner before it is applied")
    if remedy.action == "relaunch" and changes.get("size") == "lower":
        return t("size: the next lower, shown before it is applied")
    if remedy.action == "relaunch" and changes:
        return ", ".join(f"{k} = {v}" for k, v in changes.items())
    if remedy.action in ("relaunch", "port") and remedy.id != "go_on":
        return t("the same job again, with another rendezvous port")
    return t(_LEADS[remedy.action]) if remedy.action in _LEADS else ""


class IncidentDetails(Details):
    """One incident in full."""

    SHOWS = frozenset({"alerts", "findings", "audits"})
    TITLE = N_("What happened")

    def __init__(self, model: Model, paint: Paint, table: Incidents) -> None:
        super().__init__(model, paint, id="incident")
        self.table = table

    def sections(self, width: int) -> Sequence[Section]:
        item = self.table.item
        if item is None:
            return self._calm()
        found, todo = remedies(self.model, item)
        parts = [self._diagnosis(item, found)]
        if todo:
            lines = [line for at, one in enumerate(todo) for line in self._remedy(at, one, width)]
            parts.append(Section(t("What to do"), lines))
        evidence = (
            []
            if found is None
            else [Said(quoted(line, self.model), "text") for line in found.evidence]
        )
        if evidence:
            parts.append(Section(t("Evidence"), evidence))
        parts.append(Section(t("Facts"), self._facts(item, found)))
        others = together(self.model, item)
        if others:
            lines = [Drawn(self._other(other, width)) for other in others[:8]]
            parts.append(Section(t("Together with"), lines))
        done = done_about(self.model, item)
        if done:
            now = self.model.now
            told = [
                Said(f"{fmt.moment(a.t, now)}  {a.action} ({a.by}): {a.result}", "soft")
                for a in done
            ]
            parts.append(Section(t("Done already"), told))
        return parts

    def _calm(self) -> Sequence[Section]:
        keymap = self.console_app.keymap
        row = self.paint.row(200).put(keymap.key_of("incidents.export"), "key").put("  ")
        row.put(t("writes a bundle of the last hour"), "soft")
        rules = t("What is judged, and who is told, is said by avatop alerts validate.")
        return [Section("", [Drawn(row), Said(rules, "soft")])]

    def _diagnosis(self, item: Incident, found: FindingRaised | None) -> Section:
        lines = [Said(spoken(item.sentence, self.model), severity_role(item.what.severity))]
        if found is not None and found is not item.what:
            lines.append(Said(t("Because: {cause}", cause=spoken(found.cause, self.model)), "text"))
        elif found is None:
            said = t("No log line explains it; see the timeline.")
            lines.append(Said(said, "soft"))
        return Section("", lines)

    def _remedy(self, at: int, remedy: Remedy, width: int) -> list[Drawn]:
        key, role = self.paint.text("·"), "soft"  # a person's work
        if remedy.action is not None and at < len(REMEDY_KEYS):
            role = "key"
            label = ("remedy", "second-remedy", "third-remedy", "fourth-remedy", "fifth-remedy")
            key = self.console_app.keymap.key_of(f"incidents.{label[at]}")
        lines = []
        for number, part in enumerate(
            fmt.wrap(fmt.inert(spoken(remedy.text, self.model)), max(width - 3, 8))
        ):
            row = self.paint.row(width).put(f"{key if number == 0 else '':<3}", role)
            lines.append(Drawn(row.outside(part)))
        changed = changes_of(remedy)
        if remedy.alters_output:
            what = t("alters the output: {what}", what=", ".join(remedy.alters_output))
            changed = f"{changed}; {what}" if changed else what
        parts = fmt.wrap(fmt.inert(changed), max(width - 3, 8)) if changed else []
        rows = (self.paint.row(width).put("   ").outside(part, "soft") for part in parts)
        return [*lines, *(Drawn(row) for row in rows)]

    def _facts(self, item: Incident, found: FindingRaised | None) -> list[Fact]:
        facts = [Fact(t("about"), where(self.model, item) or self.model.host or None)]
        facts.append(Fact(t("since"), fmt.moment(item.began, self.model.now)))
        what = item.what
        if isinstance(what, AlertChanged):
            value = None if what.value is None else fmt.significant(what.value)
            facts.append(Fact(t("measured"), value))
            if what.threshold is not None:
                facts.append(Fact(t("threshold"), fmt.significant(what.threshold)))
            facts.append(Fact(t("rule"), what.rule))
            if what.by:
                facts.append(Fact(t("by"), what.by))
            if what.state == "silenced" and what.until is not None:
                facts.append(Fact(t("silent until"), fmt.moment(what.until, self.model.now)))
            if what.flapping:
                facts.append(Fact(t("flapping"), t("told once more, then held until it is quiet")))
        if what.device is not None:
            facts.append(Fact("UUID", what.device))
        if found is not None:
            facts.append(Fact(t("class"), found.finding))
            facts.append(Fact(t("confidence"), f"{found.confidence * 100:.0f}", "%"))
        return facts

    def _other(self, other: Incident, width: int) -> Row:
        row = self.paint.row(max(width, 1))
        put_state(row, other)
        row.to(15).put(fmt.moment(other.began, self.model.now), "faint").put(" ")
        return row.outside(
            fmt.short(fmt.inert(spoken(other.sentence, self.model)), max(row.left, 4)), "soft"
        )
