"""What is wrong, and what was done about it: alerts, findings of triage, the audit's lines."""

from __future__ import annotations

from collections import deque
from typing import Final

from engine.messages import AlertChanged, Audited, Event, FindingRaised, Snapshot

PAST: Final = 256  # resolved alerts kept
FINDINGS: Final = 256
AUDITS: Final = 512

#: The gravest first.
SEVERITIES: Final = ("critical", "error", "warning", "advice", "info")
#: States of an alert that ask for somebody's eyes.
OPEN: Final = frozenset({"firing", "acknowledged", "silenced"})


class Trouble:
    """Alerts by id, findings by id, audits; each bounded."""

    def __init__(self) -> None:
        self.alerts: dict[str, AlertChanged] = {}  # pending, firing, acknowledged, silenced
        self.past: deque[AlertChanged] = deque(maxlen=PAST)  # resolved, oldest first
        self.findings: dict[str, FindingRaised] = {}
        self.audits: deque[Audited] = deque(maxlen=AUDITS)

    def take(self, event: Event) -> set[str]:
        """Take one event in; what it changed, in the words of ``Model.dirty``."""
        match event:
            case AlertChanged():
                self._alert(event)
                return {"alerts", "header"}
            case FindingRaised():
                self.findings.pop(event.id, None)  # told again: it is the newest
                self.findings[event.id] = event
                while len(self.findings) > FINDINGS:
                    del self.findings[next(iter(self.findings))]
                return {"findings", "header"}
            case Audited():
                if event not in self.audits:  # a console that was cut off hears them again
                    self.audits.append(event)
                return {"audits"}
            case _:
                return set()

    def take_snapshot(self, snapshot: Snapshot) -> None:
        for alert in snapshot.alerts:
            if alert.state == "resolved":
                self.past.append(alert)
        for event in (*snapshot.alerts, *snapshot.findings, *snapshot.audits):
            self.take(event)

    def _alert(self, event: AlertChanged) -> None:
        if event.state == "resolved":
            if self.alerts.pop(event.id, None) is not None:
                self.past.append(event)
        else:
            self.alerts[event.id] = event

    # -- out ---------------------------------------------------------------------------------

    def firing(self) -> list[AlertChanged]:
        """Alerts nobody has acknowledged or silenced, the gravest and then the newest first."""
        loud = [alert for alert in self.alerts.values() if alert.state == "firing"]
        return sorted(loud, key=lambda alert: (gravity(alert.severity), -alert.since))

    def open_alerts(self) -> list[AlertChanged]:
        """Firing ones first, then those seen to."""
        known = [alert for alert in self.alerts.values() if alert.state in OPEN]
        return sorted(known, key=lambda a: (a.state != "firing", gravity(a.severity), -a.since))

    def open_findings(self) -> list[FindingRaised]:
        """What triage says and is not resolved: causes before consequences, the newest first."""
        known = [finding for finding in self.findings.values() if not finding.resolved]
        return sorted(known, key=lambda f: (f.role != "root", gravity(f.severity), -f.t))

    def findings_of(self, job: int) -> list[FindingRaised]:
        return [finding for finding in self.open_findings() if finding.job == job]


def gravity(severity: str) -> int:
    """0 is the gravest; an unknown word comes last."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
