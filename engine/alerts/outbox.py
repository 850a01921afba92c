"""What is to be told to whom and when: grouping, rate limits, retries. Pure, with injected time."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from engine.alerts.notify import Notify, Target
from engine.alerts.states import ACKNOWLEDGED, FIRING, PENDING, RESOLVED, SILENCED
from engine.messages import AlertChanged

#: Seconds before the second try; doubled with each further one.
BACKOFF: Final = 5.0
LONGEST_BACKOFF: Final = 300.0
HOUR: Final = 3600.0
#: Alerts named one by one in one notification.
LISTED: Final = 10
_WORDS: Final = {FIRING: "FIRING", RESOLVED: "resolved"}


@dataclass
class Parcel:
    """One notification to one target, with what is left of its tries."""

    number: int
    target: Target
    changes: list[AlertChanged]
    due: float
    tries: int = 0
    held_back: int = 0  # further notifications that the rate limit folded into this one
    test: bool = False
    sending: bool = False

    @property
    def severity(self) -> str:
        firing = [c.severity for c in self.changes if c.state == FIRING]
        return next((s for s in ("critical", "warning", "info") if s in firing), "resolved")


@dataclass(frozen=True)
class Verdict:
    """What became of a parcel."""

    parcel: Parcel
    delivered: bool
    given_up: bool = False
    error: str = ""
    next_try: float | None = None


@dataclass
class Outbox:
    """Parcels waiting for their time. One caller at a time."""

    notify: Notify
    _parcels: list[Parcel] = field(default_factory=list)
    _sent: dict[str, deque[float]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, change: AlertChanged, now: float) -> None:
        """Take a change; only what a person has to know becomes part of a parcel."""
        if not worth_telling(change):
            return
        for target in self.notify.targets:
            if not target.wants(change.severity):
                continue
            if change.state == RESOLVED and not target.resolved:
                self._withdraw(target, change)
                continue
            parcel = self._open(target, now)
            # Came and went, or went and came, before anybody was told: the last word counts.
            parcel.changes = [c for c in parcel.changes if c.id != change.id]
            parcel.changes.append(change)

    def add_test(self, target: Target, change: AlertChanged, now: float) -> None:
        """One test notification, at once and beside every limit."""
        self._parcels.append(Parcel(next(self._numbers), target, [change], now, test=True))

    def due(self, now: float) -> list[Parcel]:
        """Parcels to send now, each marked as being sent; those over the limit wait."""
        ready = []
        for parcel in self._parcels:
            if parcel.sending or parcel.due > now:
                continue
            if not parcel.test and (wait := self._wait(parcel.target, now)) > 0:
                parcel.due = now + wait
                parcel.held_back += 1
                continue
            parcel.sending = True
            if not parcel.test:
                self._sent.setdefault(parcel.target.name, deque()).append(now)
            ready.append(parcel)
        return ready

    def done(self, parcel: Parcel, error: str | None, now: float) -> Verdict:
        """What a try came to. ``error``: None when it was delivered."""
        parcel.sending = False
        parcel.tries += 1
        if error is None:
            self._parcels.remove(parcel)
            return Verdict(parcel, True)
        if parcel.tries >= (1 if parcel.test else self.notify.retries):
            self._parcels.remove(parcel)
            return Verdict(parcel, False, True, error)
        parcel.due = now + min(LONGEST_BACKOFF, BACKOFF * 2 ** (parcel.tries - 1))
        return Verdict(parcel, False, False, error, parcel.due)

    def next_due(self) -> float | None:
        """When ``due`` has something to give again."""
        return min((p.due for p in self._parcels if not p.sending), default=None)

    def __len__(self) -> int:
        return len(self._parcels)

    def _open(self, target: Target, now: float) -> Parcel:
        """The parcel of a target that still takes more: not on its way, never tried."""
        for parcel in self._parcels:
            if parcel.target is target and not parcel.sending and not parcel.test:
                return parcel
        parcel = Parcel(next(self._numbers), target, [], now + self.notify.group_wait)
        self._parcels.append(parcel)
        return parcel

    def _withdraw(self, target: Target, change: AlertChanged) -> None:
        for parcel in [p for p in self._parcels if p.target is target and not p.sending]:
            parcel.changes = [c for c in parcel.changes if c.id != change.id]
            if not parcel.changes:
                self._parcels.remove(parcel)

    def _wait(self, target: Target, now: float) -> float:
        sent = self._sent.get(target.name)
        while sent and not 0 <= now - sent[0] < HOUR:
            sent.popleft()
        if not sent or len(sent) < self.notify.max_per_hour:
            return 0.0
        return max(1.0, sent[0] + HOUR - now)


def worth_telling(change: AlertChanged) -> bool:
    """Comings, and goings of what was told; not what a person did or what never fired."""
    if change.state == FIRING:
        # A flapping alert is told when it begins to flap, and when it comes back for good.
        return change.previous not in (FIRING, ACKNOWLEDGED)
    return change.state == RESOLVED and change.previous not in (PENDING, SILENCED, "")


def words(parcel: Parcel, host: str) -> tuple[str, str]:
    """(title, body) in plain text.

    The title tells host, how many fire and the gravest; the body has a line per alert.
    """
    firing = [c for c in parcel.changes if c.state == FIRING]
    over = [c for c in parcel.changes if c.state == RESOLVED]
    if parcel.test:
        return f"avatop {host}: test", "This is a test: notifications from avatop arrive here."
    parts = []
    if firing:
        parts.append(f"{len(firing)} firing ({parcel.severity})")
    if over:
        parts.append(f"{len(over)} resolved")
    title = f"avatop {host}: {', '.join(parts)}"
    lines = [_line(c) for c in _sorted((*firing, *over))]
    if len(lines) > LISTED:
        lines[LISTED:] = [f"… and {len(lines) - LISTED} more: avatop alerts"]
    return title, "\n".join(lines)


def _line(change: AlertChanged) -> str:
    state = _WORDS.get(change.state, change.state)
    flaps = " (flapping: further changes are not told)" if change.flapping else ""
    labels = "".join(f" {k}={v}" for k, v in sorted(change.labels.items()))
    return f"[{state} {change.severity}] {change.message} — {change.id}{labels}{flaps}"


def _sorted(changes: Iterable[AlertChanged]) -> list[AlertChanged]:
    order: Mapping[str, int] = {"critical": 0, "warning": 1}
    return sorted(changes, key=lambda c: (c.state != FIRING, order.get(c.severity, 2), c.since))
