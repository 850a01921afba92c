"""The job table: state, mode, size, progress, speed, time left, memory."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from console import format as fmt
from console.i18n import N_, t
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Row
from console.widgets.table import Column, Table
from engine.messages import END_STATES, JOB_STATES, LIVE_STATES, JobRow

#: Where a column has no room for the word.
_SHORT = {"balanced": "bal.", "streamed": "str."}


def mode_of(job: JobRow, model: Model | None = None) -> str:
    """Mode, variant and number of ranks: ``tpp×4``, ``tpp ring×2``."""
    variant = job.request.get("variant") if model is None else model.book.variant_of(job)
    return fmt.mode(job.mode, job.ranks, str(variant or ""))


def _mode(row: Row, job: JobRow, model: Model) -> Row:
    variant = model.book.variant_of(job)
    return row.outside(fmt.mode(job.mode, job.ranks, _SHORT.get(variant, variant)))


def _progress(row: Row, job: JobRow, _model: Model) -> Row:
    return row.put(fmt.fraction(job.clip, job.clips).rjust(7))


def _fps(row: Row, job: JobRow, _model: Model) -> Row:
    if job.fps is None:
        return row.put(fmt.NA.rjust(6) if job.state in LIVE_STATES else " " * 6, "na")
    return row.put(fmt.significant(job.fps).rjust(6))


def _eta(row: Row, job: JobRow, _model: Model) -> Row:
    if job.state in LIVE_STATES:
        known = job.eta_seconds is not None
        return row.put(fmt.duration(job.eta_seconds).rjust(7), "text" if known else "na")
    return row.put(" " * 7)


def _peak(row: Row, job: JobRow, model: Model) -> Row:
    if job.peak_bytes is not None:
        return row.put(fmt.gib(job.peak_bytes).rjust(6)).put(" GiB", "unit")
    plan = model.plans.get(job.id)
    predicted = [d.get("predicted_bytes") for d in plan.get("devices", ())] if plan else []
    known = [p for p in predicted if isinstance(p, int)]
    if known and job.state not in END_STATES:
        return row.put(fmt.gib(max(known)).rjust(6), "soft").put(" " + t("plan"), "plan")
    return row.put(" " * 10)


def _spikes(row: Row, job: JobRow, _model: Model) -> Row:
    return row.put(f"▲{job.spikes}" if job.spikes else "", "spike")


def _started(row: Row, job: JobRow, _model: Model) -> Row:
    return row.put(fmt.clock(job.started) if job.started else "", "soft")


def _outcome(row: Row, job: JobRow, model: Model) -> Row:
    if job.error:
        role = "soft" if job.state == "cancelled" else "state.act"  # a person wanted that
        return row.outside(spoken(job.error.splitlines()[0], model), role)
    return row.ending(job.output or "", "soft")


_WIDEST = max(len(state) for state in JOB_STATES)
COLUMNS: Sequence[Column[JobRow]] = (
    Column(N_("id"), 5, lambda row, job, _m: row.put(f"{job.id:>4}"), right=True, inner=4,
           value=lambda job: job.id),
    Column(N_("state"), _WIDEST + 3, lambda row, job, _m: row.state(job.state),
           value=lambda job: job.state),
    Column(N_("mode"), 11, _mode, 66, value=mode_of),
    Column(N_("size"), 9, lambda row, job, _m: row.outside(job.size.replace("*", "×")), 60,
           value=lambda job: job.size),
    Column(N_("clip"), 8, _progress, right=True, inner=7, value=lambda job: job.clip),
    Column(N_("fps"), 7, _fps, right=True, inner=6, value=lambda job: job.fps),
    Column(N_("left"), 8, _eta, right=True, inner=7, value=lambda job: job.eta_seconds),
    Column(N_("peak"), 12, _peak, 76, right=True, inner=6, value=lambda job: job.peak_bytes),
    Column("▲", 5, _spikes, 58, value=lambda job: job.spikes),
    Column(N_("started"), 10, _started, 112, value=lambda job: job.started),
    Column(N_("outcome"), 0, _outcome, 92),
)  # fmt: skip


class Jobs(Table[JobRow]):
    """The table. The cursor stays on its job when rows move."""

    SHOWS = frozenset({"jobs"})
    COLUMNS = COLUMNS
    TITLE = N_("Jobs")

    def rows(self) -> Sequence[JobRow]:
        return self.model.job_rows()

    def key(self, item: JobRow) -> Hashable:
        return item.id

    def words_of(self, item: JobRow) -> str:
        # What was asked for stays true whatever becomes of the job; its row's output does not.
        asked = (str(item.request.get(name) or "") for name in ("audio", "image", "output"))
        parts = (str(item.id), item.state, mode_of(item, self.model), item.size, item.error or "",
                 item.output or "", item.batch or "", item.version or "", *asked)  # fmt: skip
        return " ".join(parts)

    def empty(self, row: Row) -> Row:
        key = self.console_app.keymap.key_of
        if self.console_app.replay is not None:
            said = t("No job yet at this moment of the recording. {play} plays it.")
            return row.phrase(said, play=key("replay.play"))
        return row.phrase(t("No job yet. Press {key} to submit one."), key=key("overview.submit"))

    def note(self) -> Row:
        """Devices that get no new work: why something may be waiting."""
        row = self.paint.row(60)
        names = self.model.machines.names()
        drained = sorted(names.get(uuid, t("the CPU")) for uuid in self.model.machines.drained)
        if drained:
            row.state("drained").put(f" {', '.join(drained)}", "state.watch")
        return row

    @property
    def job(self) -> JobRow | None:
        """The job under the cursor."""
        return self.item
