"""Alerts and findings as one list: what is wrong, what belongs together, what may be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from console.state import Model
from console.trouble import gravity
from engine.messages import AlertChanged, Audited, FindingRaised, Remedy

#: Alerts of one device this many seconds apart belong to one incident.
NEAR: Final = 300.0
#: Classes of findings that an alert of a rule is about.
_RANKS: Final = {"root": 0, "victim": 2, "advice": 4}
_STATES: Final = {"firing": 1, "acknowledged": 3, "silenced": 3, "pending": 5, "resolved": 6}


@dataclass(frozen=True)
class Incident:
    """An alert or a finding."""

    what: AlertChanged | FindingRaised

    @property
    def key(self) -> tuple[str, str]:
        return ("alert" if isinstance(self.what, AlertChanged) else "finding", self.what.id)

    @property
    def alert(self) -> AlertChanged | None:
        return self.what if isinstance(self.what, AlertChanged) else None

    @property
    def finding(self) -> FindingRaised | None:
        return self.what if isinstance(self.what, FindingRaised) else None

    @property
    def began(self) -> float:
        """When it came up, in Unix seconds."""
        return self.what.since or self.what.t

    @property
    def over(self) -> bool:
        if isinstance(self.what, FindingRaised):
            return self.what.resolved
        return self.what.state == "resolved"

    @property
    def sentence(self) -> str:
        """What is wrong; outside text."""
        if isinstance(self.what, FindingRaised):
            return self.what.cause
        return self.what.message or self.what.rule

    @property
    def name(self) -> str:
        """The class of a finding, the rule of an alert."""
        return self.what.finding if isinstance(self.what, FindingRaised) else self.what.rule

    @property
    def state(self) -> str:
        """An alert's state; a finding's role, or ``resolved``."""
        if isinstance(self.what, FindingRaised):
            return "resolved" if self.what.resolved else self.what.role
        return self.what.state

    @property
    def _order(self) -> tuple[int, int, float]:
        place = _RANKS.get(self.state, _STATES.get(self.state, 4))
        return (place, gravity(self.what.severity), -self.began)


def incidents(model: Model, past: bool) -> list[Incident]:
    """What asks for eyes first: causes, firing alerts, consequences, what is seen to, advice,
    what is pending; with ``past`` also what is over, the newest first."""
    trouble = model.trouble
    every = [Incident(a) for a in trouble.alerts.values()]
    every += [Incident(f) for f in trouble.findings.values()]
    if past:
        every += [Incident(a) for a in trouble.past]
    return sorted((i for i in every if past or not i.over), key=lambda i: i._order)


def together(model: Model, incident: Incident) -> list[Incident]:
    """The others of the same incident: of its job, or of its device at about that time."""
    mine = incident.what

    def same(other: Incident) -> bool:
        if other.key == incident.key or other.state in ("advice", "pending"):
            return False
        if mine.job is not None and other.what.job == mine.job:
            return True
        device = mine.device is not None and other.what.device == mine.device
        return device and abs(other.began - incident.began) <= NEAR

    return [other for other in incidents(model, past=False) if same(other)]


def diagnosis(model: Model, incident: Incident) -> FindingRaised | None:
    """The finding that explains it: itself, or the root cause of the same incident."""
    if incident.finding is not None and incident.finding.role != "victim":
        return incident.finding
    causes = (other.finding for other in together(model, incident))
    found = next((f for f in causes if f is not None and f.role == "root"), None)
    return found or incident.finding


def remedies(model: Model, incident: Incident) -> tuple[FindingRaised | None, tuple[Remedy, ...]]:
    """What may be done about it, and the finding that says so; else what the alert's rule says."""
    found = diagnosis(model, incident)
    if found is not None and (found.remedies or incident.alert is None):
        return found, found.remedies
    return found, () if incident.alert is None else incident.alert.remedies


def done_about(model: Model, incident: Incident) -> list[Audited]:
    """What somebody, or a policy, has done about it already; oldest first."""
    names = {incident.what.id, incident.name}
    if incident.what.job is not None:
        names.add(f"job {incident.what.job}")
    return [audit for audit in model.trouble.audits if audit.target in names]
