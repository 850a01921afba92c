"""What the log line under the cursor says, where it comes from, and what triage makes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from console import format as fmt
from console.i18n import N_, t
from console.spoken import spoken
from console.state import Model
from console.widgets.details import Details, Fact, Said, Section
from console.widgets.logs_lines import LogLines
from console.widgets.logs_row import device_of
from console.widgets.paint import Paint
from engine.messages import FindingRaised
from engine.triage.findings import Finding
from engine.triage.records import Record

_ROLES = {"root": N_("cause"), "victim": N_("consequence"), "advice": N_("advice")}


class LineDetails(Details):
    """Cause and remedies first, then the whole line and its origin."""

    SHOWS = frozenset({"logs", "findings"})
    TITLE = N_("This line")

    def __init__(
        self,
        model: Model,
        paint: Paint,
        lines: LogLines,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(model, paint, id=id)
        self.lines = lines

    def sections(self, width: int) -> Sequence[Section]:  # noqa: ARG002
        number, record = self.lines.number, self.lines.record()
        if number is None or record is None:
            return (Section("", (Said(t("No line is selected."), "soft"),)),)
        meaning = self.lines.meaning
        finding = meaning.finding(number) if meaning.ready else None
        sections = []
        raised = self._raised(record, finding)
        if raised is not None:
            sections.append(self._told(raised))
        elif finding is not None:
            sections.append(_judged(finding, self.model))
        elif not meaning.ready:
            sections.append(
                Section("", (Said(t("The catalogue of faults is being read."), "soft"),))
            )
        else:
            sections.append(Section("", (Said(t("Triage knows nothing of this line."), "soft"),)))
        return (*sections, Section("", (Said(record.text),)), self._origin(record))

    def _raised(self, record: Record, finding: Finding | None) -> FindingRaised | None:
        """What the engine has said of it: it knows the job's state, and its remedies are keys."""
        for raised in self.model.trouble.open_findings():
            if record.text and any(record.text in line for line in raised.evidence):
                return raised
            same = finding is not None and raised.finding == finding.class_
            if same and raised.job is not None and raised.job == record.job:
                return raised
        return None

    def _told(self, raised: FindingRaised) -> Section:
        role = t(_ROLES.get(raised.role, raised.role))
        cause = spoken(raised.cause, self.model)
        lines = [Said(cause, "state.act" if raised.role == "root" else "state.watch")]
        lines += [Said(f"- {spoken(remedy.text, self.model)}") for remedy in raised.remedies]
        if any(remedy.action for remedy in raised.remedies):
            lines.append(Said(t("Remedies are applied by a key on the page of incidents."), "soft"))
        return Section(_titled(raised.finding, role, raised.confidence), lines)

    def _origin(self, record: Record) -> Section:
        moment = None
        if record.t is not None:
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.t))
        facts = (
            (t("time"), moment),
            (t("level"), record.level),
            (t("where"), record.where),
            (t("job"), None if record.job is None else str(record.job)),
            (t("rank"), None if record.rank is None else str(record.rank)),
            (t("device"), device_of(self.model, record) or None),
            (t("node"), record.node),
            (t("version"), record.version),
            (t("line"), None if record.line is None else f"{record.line:,}"),
        )
        return Section(t("Origin"), [Fact(name, value) for name, value in facts if value])


def _titled(class_: str, role: str, confidence: float) -> str:
    return t("{fault}, {role}, {percent} % sure", fault=fmt.inert(class_), role=role,
             percent=round(100 * confidence))  # fmt: skip


def _judged(finding: Finding, model: Model) -> Section:
    role = t(_ROLES.get(finding.role, finding.role))
    cause = spoken(finding.cause, model)
    lines = [Said(cause, "state.act" if finding.role == "root" else "state.watch")]
    lines += [Said(f"- {spoken(remedy.text, model)}") for remedy in finding.remedies]
    return Section(_titled(finding.class_, role, finding.confidence), lines)
