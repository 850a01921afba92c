"""One alert's life: pending → firing → acknowledged | silenced → resolved. Pure.

Durations are added up from evaluation to evaluation, each step counted for at most ``MAX_STEP``:
a clock that jumps, a suspended machine or a restart is no evidence that a condition held meanwhile.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Final

from engine.alerts.expr import Outcome
from engine.alerts.rules import Rule

PENDING: Final = "pending"
FIRING: Final = "firing"
ACKNOWLEDGED: Final = "acknowledged"
SILENCED: Final = "silenced"
RESOLVED: Final = "resolved"
STATES: Final = (PENDING, FIRING, ACKNOWLEDGED, SILENCED, RESOLVED)
#: States in which the condition is taken to hold.
ACTIVE: Final = frozenset({FIRING, ACKNOWLEDGED, SILENCED})

#: Most seconds that one step from evaluation to evaluation counts.
MAX_STEP: Final = 60.0
#: Seconds without a reading after which a pending alert is dropped, and an active one resolved.
BLIND_PENDING: Final = 60.0
BLIND_ACTIVE: Final = 300.0
#: An alert that came so often within ``FLAP_WINDOW`` flaps: it is then told once, and resolves
#: only after ``FLAP_CALM`` without it.
FLAP_COUNT: Final = 4
FLAP_WINDOW: Final = 3600.0
FLAP_CALM: Final = 900.0


@dataclass(frozen=True)
class Alert:
    """One rule about one device, job or host.

    ``held``, ``clear`` and ``blind`` are seconds: since the condition holds, no longer holds, and
    is unknown. ``fired`` are the wall-clock times of its last comings.
    """

    id: str
    rule: str
    severity: str
    state: str
    key: str
    since: float  # wall clock: the condition holds since then
    changed: float  # wall clock: in this state since then
    device: str | None = None
    job: int | None = None
    value: float | None = None
    threshold: float | None = None
    message: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    held: float = 0.0
    clear: float = 0.0
    blind: float = 0.0
    until: float | None = None
    by: str | None = None
    fired: tuple[float, ...] = ()
    flapping: bool = False


def first(alert: Alert, rule: Rule, now: float) -> Alert:
    """A condition began to hold: pending, or firing at once where the rule does not wait."""
    return alert if rule.for_seconds > 0 else _fire(alert, now)


def step(alert: Alert, rule: Rule, seen: Outcome, cleared: Outcome, now: float, dt: float) -> Alert:
    """The alert after one evaluation; the same object's state may be unchanged.

    Args:
        seen: of the rule's condition.
        cleared: of its way back (the condition's opposite, where the rule has none).
        dt: seconds since the evaluation before.
    """
    dt = min(max(dt, 0.0), MAX_STEP)
    if seen.value is not None and seen.truth is not None:
        alert = dataclasses.replace(alert, value=seen.value, threshold=seen.threshold)
    if alert.state == PENDING:
        return _pending(alert, rule, seen, now, dt)
    if alert.state == SILENCED and alert.until is not None and now >= alert.until:
        alert = dataclasses.replace(alert, state=FIRING, changed=now, until=None, by=None)
    return _active(alert, rule, cleared, now, dt)


def acknowledge(alert: Alert, by: str, now: float) -> Alert:
    """A person has seen it: no reminders, until it resolves. A silence outlasts that."""
    if alert.state not in ACTIVE or alert.state == SILENCED:
        return alert
    return dataclasses.replace(alert, state=ACKNOWLEDGED, changed=now, by=by, until=None)


def silence(alert: Alert, until: float, by: str, now: float) -> Alert:
    """Nobody is told until then; it fires again if it still holds."""
    if alert.state not in ACTIVE:
        return alert
    if alert.state == SILENCED and alert.until == until:
        return alert
    return dataclasses.replace(alert, state=SILENCED, changed=now, by=by, until=until)


def _pending(alert: Alert, rule: Rule, seen: Outcome, now: float, dt: float) -> Alert:
    if seen.truth is None:
        blind = alert.blind + dt
        if blind >= BLIND_PENDING:
            return _resolve(alert, now)
        return dataclasses.replace(alert, blind=blind)
    if not seen.truth:
        return _resolve(alert, now)
    alert = dataclasses.replace(alert, held=alert.held + dt, blind=0.0)
    return _fire(alert, now) if alert.held >= rule.for_seconds else alert


def _active(alert: Alert, rule: Rule, cleared: Outcome, now: float, dt: float) -> Alert:
    if cleared.truth is None:
        blind = alert.blind + dt
        if blind >= BLIND_ACTIVE:
            return _resolve(alert, now)
        return dataclasses.replace(alert, blind=blind)
    if not cleared.truth:
        return dataclasses.replace(alert, held=alert.held + dt, clear=0.0, blind=0.0)
    calm = FLAP_CALM if alert.flapping else rule.clear_for_seconds
    clear = alert.clear + dt
    alert = dataclasses.replace(alert, clear=clear, blind=0.0)
    return _resolve(alert, now) if clear >= calm else alert


def _fire(alert: Alert, now: float) -> Alert:
    fired = tuple(t for t in (*alert.fired, now) if 0 <= now - t < FLAP_WINDOW)[-FLAP_COUNT:]
    return dataclasses.replace(
        alert,
        state=FIRING,
        changed=now,
        clear=0.0,
        fired=fired,
        flapping=len(fired) >= FLAP_COUNT,
    )


def _resolve(alert: Alert, now: float) -> Alert:
    return dataclasses.replace(
        alert, state=RESOLVED, changed=now, until=None, flapping=False, held=0.0, clear=0.0
    )
