"""One job in full: state and cause, plan against measured, clips, speed, memory, files, values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from console import format as fmt
from console.i18n import N_, t
from console.kept import NOTHING, Kept, kept_of
from console.spoken import spoken
from console.state import Model
from console.widgets import jobfigures
from console.widgets.details import Details, Drawn, Fact, Said, Section
from console.widgets.jobs import mode_of
from console.widgets.paint import Paint
from console.widgets.progress import progress
from engine.messages import END_STATES, LIVE_STATES, JobRow
from engine.params import GROUPS, PARAMETERS

_SEVERITY: Final = {"advice": "soft", "warning": "state.watch"}
#: Rows of a plot, by how wide the pane is.
_LOW, _HIGH = 3, 6


def job_folder(job: JobRow) -> Path | None:
    """Where its clips and its manifest lie."""
    return None if job.manifest is None else Path(job.manifest).parent.parent


def ran_out_of_memory(model: Model, job: JobRow) -> bool:
    """Whether it ended for lack of device memory."""
    if job.error and "(oom)" in job.error:
        return True
    found = (f.finding for f in model.trouble.findings.values() if f.job == job.id)
    return any(name in ("cuda_oom", "fsdp_memory_growth") for name in found)


class JobDetails(Details):
    """The pane beside the table of jobs."""

    SHOWS = frozenset({"jobs", "plans", "clips", "devices", "findings"})
    TITLE = N_("Job")

    def __init__(
        self, model: Model, paint: Paint, chosen: Callable[[], JobRow | None], *, id: str  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(model, paint, id=id)
        self.chosen = chosen
        self._of: int | None = None
        self._read: tuple[int, float | None] | None = None  # job and end of what was read last
        self._result = NOTHING

    def title(self) -> str:
        job = self.chosen()
        return t("Job") if job is None else t("Job {id}", id=job.id)

    def key(self, action: str) -> str:
        return self.console_app.keymap.key_of(f"jobs.{action}")

    def sections(self, width: int) -> Sequence[Section]:
        job = self.chosen()
        if job is None:
            row = self.paint.row(width)
            row.phrase(t("Submit a job with {key}; what becomes of it is shown here."),
                       key=self.key("submit"))  # fmt: skip
            return [Section("", [Drawn(row)])]
        if job.id != self._of:
            self._of, self.top = job.id, 0
        kept = self._kept(job)
        paint, model = self.paint, self.model
        high = _HIGH if width >= 90 else _LOW
        return [
            Section("", self._state(job, width)),
            Section(t("Plan against measured peak"),
                    jobfigures.against(paint, model, job, width, kept)),
            Section(t("Clips"), jobfigures.clips(paint, model, job, width, kept)),
            Section(t("Frames per second, clip by clip"),
                    jobfigures.speed(paint, model, job, width, high, kept)),
            Section(t("Memory over time, GiB"), jobfigures.memory(paint, model, job, width, high)),
            Section(t("Files"), self._files(job)),
            *self._values(job),
        ]  # fmt: skip

    def _kept(self, job: JobRow) -> Kept:
        """What is on disk of an ended job; a recording's jobs may be another host's."""
        if job.state not in END_STATES or self.console_app.replay is not None:
            return NOTHING
        if self._read != (job.id, job.ended):
            self._read, self._result = (job.id, job.ended), kept_of(job)
        return self._result

    # -- what it does ------------------------------------------------------------------------

    def _state(self, job: JobRow, width: int) -> list[jobfigures.Line]:
        row = self.paint.row(width).state(job.state).put("  ").outside(mode_of(job, self.model))
        row.put("  ").outside(job.size.replace("*", "×"))
        if job.steps:
            row.put("  ").put(t("{count} steps", count=job.steps), "soft")
        if job.version:
            row.put("  ").outside(job.version, "soft")
        lines: list[jobfigures.Line] = [Drawn(row)]
        if job.state in LIVE_STATES and job.clips:
            known = job.eta_seconds is not None
            left = t("{time} left", time=fmt.duration(job.eta_seconds)) if known else ""
            bar = self.paint.row(width)
            progress(self.paint, bar, width - fmt.cells(left) - 2, job.clip / job.clips)
            lines.append(Drawn(bar.put("  ").put(left, "soft")))
        if job.error:
            lines.append(
                Said(
                    spoken(job.error, self.model), "state.act" if job.state == "failed" else "soft"
                )
            )
        said = _bare(spoken(job.error or "", self.model))
        lines += [
            Said(cause, _SEVERITY.get(finding.severity, "state.act"))
            for finding in self.model.trouble.findings_of(job.id)[:2]
            if _bare(cause := spoken(finding.cause, self.model)) != said
        ]
        advice = self._advice(job)
        if advice:
            sentence, key = advice
            lines.append(Drawn(self.paint.row(width).phrase(sentence, key=key)))
        lines += [
            Fact(t("peak"), None if job.peak_bytes is None else fmt.gib(job.peak_bytes), "GiB"),
            Fact(t("speed"), None if job.fps is None else fmt.significant(job.fps), "fps"),
        ]
        if job.started is not None:
            took = (job.ended or self.model.now) - job.started
            said = t("{clock}, for {time}", clock=fmt.clock(job.started), time=fmt.duration(took))
            lines.append(Fact(t("since"), said))
        if job.attempt > 1:
            lines.append(Fact(t("attempt"), str(job.attempt)))
        if job.environment:  # of a remedy, or of a retry: NCCL_P2P_DISABLE=1
            pairs = " ".join(f"{name}={value}" for name, value in job.environment.items())
            lines.append(Fact(t("variables"), pairs))
        if job.batch:
            lines.append(Fact(t("batch"), job.batch))
        return lines

    def _advice(self, job: JobRow) -> tuple[str, str] | None:
        """The next thing to do about it: a sentence and its key."""
        if job.state == "failed" and ran_out_of_memory(self.model, job):
            return t("{key} offers the nearest plans that fit, unchanged output first."), self.key(
                "relaunch"
            )
        if job.state in ("paused", "interrupted"):
            return t("{key} lets it go on."), self.key("resume")
        if job.state == "failed":
            return t("{key} starts it again."), self.key("relaunch")
        if job.state == "done":
            return t("{key} copies a line that fetches the video."), self.key("copy-scp")
        return None

    # -- what it is made of ------------------------------------------------------------------

    @staticmethod
    def _files(job: JobRow) -> list[jobfigures.Line]:
        folder = job_folder(job)
        lines: list[jobfigures.Line] = [Fact(t("video"), job.output)]
        if folder is not None:
            lines += [
                Fact(t("clips"), str(folder / "segments")),
                Fact(t("manifest"), job.manifest),
            ]
        return lines

    @staticmethod
    def _values(job: JobRow) -> list[Section]:
        """Parameters by group; those that differ from their default stand out."""
        sections = []
        for group in GROUPS:
            lines = []
            for parameter in PARAMETERS:
                if parameter.group != group or parameter.name not in job.request:
                    continue
                value = job.request[parameter.name]
                own = value != parameter.default
                if value is None and not own:
                    continue
                lines.append(Fact(parameter.name, _said(value), role="text" if own else "faint"))
            if lines:
                sections.append(Section(t("Parameters: {group}", group=t(group)), lines))
        return sections


def _bare(sentence: str) -> str:
    """By which two sentences are the same."""
    return sentence.casefold().rstrip(".。")


def _said(value: Any) -> str:
    return str(value).replace("*", "×") if isinstance(value, str) and "*" in value else str(value)
