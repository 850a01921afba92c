"""Releases: their table, the rollout's strip, its gates, and what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from textual.strip import Strip

from console import format as fmt
from console.i18n import N_, n, t
from console.spoken import spoken
from console.state import Model
from console.widgets.details import Details, Drawn, Fact, Said, Section
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from console.widgets.table import Column, Table
from engine.messages import GateRow, ReleaseChanged

if TYPE_CHECKING:
    from console.screens.release_store import Kept

#: Roles, the ones that get jobs first.
_ROLES: Final[Mapping[str, tuple[str, str]]] = {
    "candidate": (N_("candidate"), "accent"),
    "stable": (N_("stable"), "state.good"),
    "known": (N_("known"), "soft"),
    "retired": (N_("retired"), "soft"),
    "withdrawn": (N_("withdrawn"), "state.watch"),
}
_VALIDATED: Final[Mapping[str, tuple[str, str]]] = {
    "passed": (N_("passed"), "state.good"),
    "failed": (N_("failed"), "state.act"),
    "inconclusive": (N_("inconclusive"), "state.watch"),
    "running": (N_("running"), "state.busy"),
}
_ROLLING: Final = frozenset({"rolling", "paused"})
Reader = Callable[[], "Kept"]


def by_role(model: Model, role: str) -> ReleaseChanged | None:
    """The release that has a role at the moment."""
    return next((r for r in model.production.releases.values() if r.role == role), None)


def share(value: float | None, signed: bool = False) -> str:
    """A fraction as percent: 25 %, +2.1 %."""
    if value is None:
        return fmt.NA
    return f"{value * 100:+.1f} %" if signed else f"{value * 100:.0f} %"


def _role(row: Row, release: ReleaseChanged) -> Row:
    word, role = _ROLES.get(release.role, (release.role, "soft"))
    return row.outside(t(word), role)


class Releases(Table[ReleaseChanged]):
    """Every version: the candidate, the stable one, then the others, the newest first."""

    SHOWS = frozenset({"releases"})
    TITLE = N_("Releases")

    def __init__(self, model: Model, paint: Paint, kept: Reader) -> None:
        super().__init__(model, paint, id="releases")
        self.kept = kept
        self._rows: list[ReleaseChanged] = []
        self.COLUMNS = (  # type: ignore[misc]  # one column reads what this table was given
            Column(N_("role"), 11, lambda row, r, _m: _role(row, r), value=lambda r: r.role),
            Column(N_("version"), 16, lambda row, r, _m: row.outside(r.version),
                   value=lambda r: r.version),
            Column(N_("state"), 15, self._state, value=lambda r: r.state),
            Column(N_("stage"), 10, lambda row, r, _m: row.outside(r.stage or ""),
                   value=lambda r: r.stage),
            Column(N_("share"), 8, self._share, right=True, inner=6, value=lambda r: r.share),
            Column(N_("validation"), 15, self._validation, value=self._validated),
            Column(N_("digest"), 14, lambda row, r, _m: row.outside(r.release[:12], "soft"), 100),
            Column(N_("note"), 0, lambda row, r, m: row.outside(spoken(r.note, m), "state.watch"),
                   100),
        )  # fmt: skip

    def _validated(self, release: ReleaseChanged) -> str | None:
        return self.kept().validations.get(release.release)

    def _state(self, row: Row, release: ReleaseChanged, _model: Model) -> Row:
        return row if release.state == "idle" else row.state(release.state)

    def _share(self, row: Row, release: ReleaseChanged, _model: Model) -> Row:
        live = release.share > 0
        return row.put(share(release.share).rjust(6), "text" if live else "faint")

    def _validation(self, row: Row, release: ReleaseChanged, _model: Model) -> Row:
        state = self._validated(release)
        if state is None:
            return row.put(t("never") if self.kept().known else fmt.NA, "na")
        word, role = _VALIDATED.get(state, (state, "text"))
        return row.outside(t(word), role)

    def rows(self) -> Sequence[ReleaseChanged]:
        order = list(_ROLES)
        newest = list(self.model.production.releases.values())[::-1]
        found = sorted(newest, key=lambda r: min(order.index(r.role), 2) if r.role in order else 3)
        if len(found) != len(self._rows) or any(
            a is not b for a, b in zip(found, self._rows, strict=True)
        ):
            self._rows = found
            self.stamp += 1
        return self._rows

    def key(self, item: ReleaseChanged) -> Hashable:
        return item.release

    def words_of(self, item: ReleaseChanged) -> str:
        return f"{item.version} {item.role} {item.state} {item.release} {item.note}"

    def empty(self, row: Row) -> Row:
        if self.console_app.replay is not None:
            return row.put(t("No release at this moment of the recording."), "soft")
        if self.console_app.read_only:
            return row.put(t("No release yet."), "soft")
        key = self.console_app.keymap.key_of("release.add-version")
        return row.phrase(t("No release yet. Press {key} to keep a version of the model."), key=key)


class RolloutStrip(Lines):
    """What share of new jobs goes where, at which stage, and what can be done next."""

    DEFAULT_CSS = "RolloutStrip { height: 3; }"
    SHOWS = frozenset({"releases"})

    def __init__(self, model: Model, paint: Paint, kept: Reader) -> None:
        super().__init__(model, paint, id="rollout")
        self.kept = kept

    def draw(self, width: int, height: int) -> Sequence[Strip]:  # noqa: ARG002
        stable, candidate = by_role(self.model, "stable"), by_role(self.model, "candidate")
        if not self.model.production.releases:
            return []
        return [
            self._shares(self.paint.row(width).put("  "), stable, candidate).strip(),
            self._stages(self.paint.row(width).put("  "), candidate).strip(),
            self._next(self.paint.row(width).put("  "), stable, candidate).strip(),
        ]

    def _shares(
        self, row: Row, stable: ReleaseChanged | None, candidate: ReleaseChanged | None
    ) -> Row:
        if stable is None:
            return row.put(t("No version is stable yet: jobs run as they were asked."), "soft")
        name = fmt.short(fmt.inert(stable.version), 20)
        row.put(f"{t('stable')} ", "soft").outside(name, "state.good")
        row.put(f" {share(stable.share)} ", "text")
        other = "" if candidate is None else fmt.short(fmt.inert(candidate.version), 20)
        tail = "" if candidate is None else f" {share(candidate.share)} {t('candidate')} "
        room = max(row.left - fmt.cells(tail) - fmt.cells(other) - 2, 4)
        theirs = 0 if candidate is None else round(candidate.share * room)
        if candidate is not None and candidate.share > 0:
            theirs = max(theirs, 1)
        row.put("█" * (room - theirs), "faint").put("▒" * theirs, "accent")
        row.put(tail, "text").outside(other, "accent")
        return row

    def _stages(self, row: Row, candidate: ReleaseChanged | None) -> Row:
        if candidate is None:
            if by_role(self.model, "stable") is None:
                return row.put(t("No rollout is under way."), "soft")
            return row.put(t("No rollout is under way: all new jobs are stable's."), "soft")
        names = list(self.kept().stages)
        here = candidate.stage
        if here not in names:
            names = [here] if here else []
        at = names.index(here) if here in names else 0
        for number, name in enumerate(names):
            if number:
                row.put(" → ", "faint")
            past, now = number < at, number == at
            look = "done" if past else candidate.state if now else "queued"
            row.raw(f"{self.paint.shape(look)} ", fmt.state(look).role)
            row.outside(name, "title.focus" if now else "soft")
        rollout = self.kept().rollout
        if rollout is not None and rollout.candidate == candidate.release:
            how = t("goes on by itself") if rollout.automatic else t("a person ends each stage")
            row.put(f"   {how}", "soft")
        return row

    def _next(
        self, row: Row, stable: ReleaseChanged | None, candidate: ReleaseChanged | None
    ) -> Row:
        keys = self.console_app.keymap.key_of
        if candidate is None and stable is None:
            return row.phrase(t("{key} names the selected version the first stable one."),
                              key=keys("release.promote"))  # fmt: skip
        if candidate is None:
            return row.phrase(
                t("{validate} validates the selected version, {start} starts its rollout."),
                validate=keys("release.validate"), start=keys("release.start-rollout"),
            )  # fmt: skip
        if candidate.state == "paused":
            if candidate.note:
                row.outside(
                    fmt.short(spoken(candidate.note), max(row.left - 60, 20)), "state.watch"
                )
                row.put("   ")
            return row.phrase(
                t("Paused: {resume} begins the stage anew, {back} goes back."),
                resume=keys("release.resume"), back=keys("release.roll-back"),
            )  # fmt: skip
        failing = sum(
            gate.verdict in ("FAIL", "ERROR") and not gate.observed for gate in candidate.gates
        )
        if failing:
            words = n("{count} gate does not hold.", "{count} gates do not hold.", failing)
            row.put(f"{words}  ", "state.act")
        return row.phrase(
            t("{next} goes on to the next stage, {pause} pauses, {back} goes back."),
            next=keys("release.next-stage"), pause=keys("release.pause"),
            back=keys("release.roll-back"),
        )  # fmt: skip


def _figure(row: Row, value: float | None, unit: str, width: int) -> Row:
    text = _or_none(value, unit)
    return row.put((text or fmt.NA).rjust(width), "na" if text is None else "text")


def _unit(unit: str) -> str:
    return "GiB" if unit == "B" else unit


def _allowed(row: Row, gate: GateRow, _model: Model) -> Row:
    """A share of the baseline; what a check allows is more than that, and in its unit."""
    if gate.allowed is not None and gate.baseline is None and gate.allowed > 1:
        return _figure(row, gate.allowed, gate.unit, 7)
    return row.put(share(gate.allowed).rjust(7))


def _deviation(row: Row, gate: GateRow, _model: Model) -> Row:
    if gate.deviation is None:
        return row.put(fmt.NA.rjust(8), "na")
    role = {"FAIL": "state.act", "PASS": "text"}.get(gate.verdict, "soft")
    return row.put(share(gate.deviation, signed=True).rjust(8), role)


def gate_word(gate: str) -> str:
    """A gate's name in the room of its column: of a micro-benchmark the operation and its size."""
    _, _, what = gate.partition(": ")
    operation, _, size = what.partition(" ")
    if not size.isdecimal():
        return gate
    count = int(size)
    return f"{operation} {count >> 20}M" if count >= 1 << 20 else f"{operation} {count >> 10}K"


def interval(gate: GateRow) -> str | None:
    """The deviation's interval, an end that is not known left open."""
    if gate.low is None and gate.high is None:
        return None
    low = "" if gate.low is None else share(gate.low, signed=True)
    high = "" if gate.high is None else share(gate.high, signed=True)
    return f"{low} … {high}".strip()


def _interval(row: Row, gate: GateRow, _model: Model) -> Row:
    text = interval(gate)
    return row.put((text or fmt.NA).rjust(17), "na" if text is None else "soft")


def _armed(row: Row, gate: GateRow, _model: Model) -> Row:
    return row.put(t("yes") if gate.armed else t("no"), "text" if gate.armed else "state.watch")


class Gates(Table[GateRow]):
    """The gates of the release under the cursor, as its last stage or validation left them."""

    SHOWS = frozenset({"releases"})
    TITLE = N_("Gates")
    COLUMNS: ClassVar[Sequence[Column[GateRow]]] = (
        Column(N_("verdict"), 15, lambda row, g, _m: row.state(g.verdict),
               value=lambda g: g.verdict),
        Column(N_("gate"), 17, lambda row, g, _m: row.outside(gate_word(g.gate)),
               value=lambda g: g.gate),
        Column(N_("unit"), 6, lambda row, g, _m: row.outside(_unit(g.unit), "unit"), 96),
        Column(N_("baseline"), 10, lambda row, g, _m: _figure(row, g.baseline, g.unit, 8),
               right=True, inner=8, value=lambda g: g.baseline),
        Column(N_("candidate"), 11, lambda row, g, _m: _figure(row, g.candidate, g.unit, 9),
               right=True, inner=9, value=lambda g: g.candidate),
        Column(N_("deviation"), 11, _deviation, right=True, inner=9,
               value=lambda g: g.deviation),
        Column(N_("interval"), 19, _interval, 110, right=True, inner=17),
        Column(N_("allowed"), 9, _allowed, 74, right=True, inner=7, value=lambda g: g.allowed),
        Column("n", 5, lambda row, g, _m: row.put(str(g.n).rjust(3)), 79, right=True, inner=3,
               value=lambda g: g.n),
        Column(N_("armed"), 7, _armed, 86, value=lambda g: g.armed),
        Column(N_("note"), 0, lambda row, g, _m: row.outside(spoken(g.note), "soft"), 110),
    )  # fmt: skip

    def __init__(self, model: Model, paint: Paint, releases: Releases) -> None:
        super().__init__(model, paint, id="gates")
        self.releases = releases

    def title(self) -> str:
        release = self.releases.item
        if release is None:
            return t(self.TITLE)
        return t("Gates of {version}", version=fmt.short(fmt.inert(release.version), 24))

    def rows(self) -> Sequence[GateRow]:
        release = self.releases.item
        return () if release is None else release.gates

    def key(self, item: GateRow) -> Hashable:
        return item.gate

    def words_of(self, item: GateRow) -> str:
        return f"{item.gate} {item.verdict} {item.note}"

    def empty(self, row: Row) -> Row:
        key = self.console_app.keymap.key_of("release.validate")
        return row.phrase(t("No gate was measured yet. {key} validates the version."), key=key)


class Happened(Details):
    """The gate under the cursor, work of a withdrawn version that is not done, the history."""

    SHOWS = frozenset({"releases", "audits"})
    TITLE = N_("What happened")

    def __init__(self, model: Model, paint: Paint, gates: Gates, kept: Reader) -> None:
        super().__init__(model, paint, id="happened")
        self.gates = gates
        self.kept = kept

    def sections(self, width: int) -> Sequence[Section]:
        kept = self.kept()
        out: list[Section] = []
        if kept.problem:
            out.append(Section("", [Said(spoken(kept.problem), "state.act")]))
        if kept.unfinished:
            title = t("Unfinished work of {version}", version=fmt.inert(kept.withdrawn or ""))
            out.append(Section(title, [self._left(one) for one in kept.unfinished]))
        gate = self.gates.item
        if gate is not None and self.gates.has_focus:
            out.append(self._gate(gate))
        out.append(Section("", self._history(width)))
        if gate is not None and not self.gates.has_focus and not kept.history:
            out.append(self._gate(gate))
        return out

    def _gate(self, gate: GateRow) -> Section:
        unit = _unit(gate.unit)
        lines: list[Fact | Said] = (
            [Said(spoken(gate.note, self.model), "soft")] if gate.note else []
        )
        if not gate.armed:
            text = t("Not armed: noise alone would fail it too often. A breach pauses.")
            lines.append(Said(text, "state.watch"))
        lines += [
            Fact(t("baseline"), _or_none(gate.baseline, gate.unit), unit),
            Fact(t("candidate"), _or_none(gate.candidate, gate.unit), unit),
            Fact(t("interval"), interval(gate)),
            Fact(t("jobs"), ", ".join(map(str, gate.jobs)) or None),
        ]
        return Section(fmt.inert(gate.gate), lines)

    def _left(self, one: Mapping[str, object]) -> Said:
        clips = t("{done} of {count} clips", done=one["clips"], count=one["of"] or "?")
        head = t("Job {id} is {state}", id=one["job"], state=fmt.word(str(one["state"])))
        return Said(f"{head}, {clips}: {spoken(str(one['what_to_do']))}", "state.watch")

    def _history(self, width: int) -> list[Drawn | Said]:
        out: list[Drawn | Said] = []
        for entry in self.kept().history:
            row = self.paint.row(width).put(f"{_moment(entry.t)}  ", "faint")
            row.outside(fmt.fit(fmt.inert(entry.version), 10)).put("  ")
            row.outside(fmt.fit(entry.kind, 12), "soft").put("  ")
            row.outside(fmt.fit(fmt.inert(entry.by), 9), "soft").put("  ")
            out.append(Drawn(row.outside(spoken(str(entry.detail.get("note") or "")), "soft")))
        if not out:  # a recording, or a host where nothing is kept: what was heard meanwhile
            of_releases = (a for a in self.model.trouble.audits if a.target.startswith("release "))
            for audit in reversed(list(of_releases)):
                row = self.paint.row(width).put(f"{_moment(audit.t)}  ", "faint")
                row.outside(fmt.fit(fmt.inert(audit.target.removeprefix("release ")), 10)).put("  ")
                row.outside(fmt.fit(audit.action, 12), "soft").put("  ")
                row.outside(fmt.fit(fmt.inert(audit.by), 9), "soft").put("  ")
                out.append(Drawn(row.outside(audit.result, "soft")))
        return out or [
            Said(t("Nothing yet: every stage, verdict and command is told here."), "soft")
        ]


def _or_none(value: float | None, unit: str) -> str | None:
    if value is None:
        return None
    return fmt.gib(value) if unit == "B" else fmt.significant(value)


def _moment(at: float) -> str:
    return time.strftime("%m-%d %H:%M", time.localtime(at))
