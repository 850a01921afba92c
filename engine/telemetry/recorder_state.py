"""What a picture needs to begin in the middle: the latest event of everything that has a state.

Each segment of a recording opens with these, so that any of them can be read alone.
"""

from __future__ import annotations

from typing import Final

from engine.messages import (
    AlertChanged,
    BlockDone,
    ClipCommitted,
    DevicesDrained,
    DevicesSampled,
    EngineStarted,
    Event,
    FindingRaised,
    JobChanged,
    LedgerUpdated,
    PlanMade,
    ProcessesSurveyed,
    RankChanged,
    StepDone,
)

KEPT_JOBS: Final = 200
KEPT_PLANS: Final = 16
KEPT_FINDINGS: Final = 100
_GONE: Final = frozenset({"ended", "died"})

_Key = tuple[str, int, int]


class Present:
    """The present state as events, in the order in which they were first told."""

    def __init__(self) -> None:
        self._latest: dict[_Key, Event] = {}
        self._alerts: dict[str, AlertChanged] = {}
        self._findings: dict[str, FindingRaised] = {}
        self._devices: DevicesSampled | None = None

    def take(self, event: Event) -> None:
        """Remember an event that tells a state; others are ignored."""
        match event:
            case DevicesSampled():
                self._devices = event
            case AlertChanged():
                self._alerts.pop(event.id, None)
                if event.state != "resolved":
                    self._alerts[event.id] = event
            case FindingRaised():
                self._findings.pop(event.id, None)
                if not event.resolved:
                    self._findings[event.id] = event
                while len(self._findings) > KEPT_FINDINGS:
                    del self._findings[next(iter(self._findings))]
            case ProcessesSurveyed():
                self._latest["processes", 0, 0] = event
            case EngineStarted():
                self._latest["engine", 0, 0] = event
            case DevicesDrained():
                self._latest["drained", 0, 0] = event
            case JobChanged():
                self._latest["job", event.job.id, 0] = event
                self._bound("job", KEPT_JOBS)
            case PlanMade():
                self._latest["plan", event.job, 0] = event
                self._bound("plan", KEPT_PLANS)
            case RankChanged():
                if ("rank", event.job, event.rank) not in self._latest:
                    self._forget_ranks_before(event.job)
                self._latest["rank", event.job, event.rank] = event
            case LedgerUpdated() | StepDone():
                self._latest[type(event).__name__, event.job, event.rank] = event
            case BlockDone() | ClipCommitted():
                self._latest[type(event).__name__, event.job, 0] = event
                self._bound(type(event).__name__, KEPT_PLANS)
            case _:
                pass

    def events(self) -> list[Event]:
        """Engine, jobs, plans and ranks first; then what is booked on them; devices last."""
        order = ("engine", "job", "plan", "rank")
        places = {kind: place for place, kind in enumerate(order)}
        keys = sorted(self._latest, key=lambda key: places.get(key[0], len(order)))
        found = [*(self._latest[key] for key in keys), *self._alerts.values()]
        found += self._findings.values()
        return found if self._devices is None else [*found, self._devices]

    def _bound(self, kind: str, most: int) -> None:
        mine = [key for key in self._latest if key[0] == kind]
        if len(mine) > most:
            del self._latest[min(mine)]

    def _forget_ranks_before(self, job: int) -> None:
        """Ranks of earlier jobs that have ended leave with a later job's first rank."""
        gone = {
            (event.job, event.rank)
            for event in self._latest.values()
            if isinstance(event, RankChanged) and event.job < job and event.phase in _GONE
        }
        for key in [k for k in self._latest if k[1:] in gone and k[0] not in ("job", "plan")]:
            if key[0] in ("rank", "LedgerUpdated", "StepDone"):
                del self._latest[key]
