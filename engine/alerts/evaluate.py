"""Rules × facts → alerts. Pure: the time comes with each call, nothing is written or sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.alerts import states
from engine.alerts.expr import Outcome, Values
from engine.alerts.measures import DEVICE, HOST, JOB, MEASURES, Probes
from engine.alerts.remedies import remedies_named
from engine.alerts.rules import Rule, widest_windows
from engine.alerts.states import ACTIVE, RESOLVED, SILENCED, Alert
from engine.alerts.units import duration_text, figure
from engine.alerts.windows import Windows
from engine.messages import END_STATES, AlertChanged
from engine.metrics.facts import Facts
from engine.sentence import sentence

#: Resolved alerts are remembered so long: for the list, and to see that one flaps.
REMEMBER: Final = 24 * 3600.0
HOST_KEY: Final = "host"


@dataclass(frozen=True)
class Order:
    """What a person asks of an alert. ``target``: an alert's id, or a rule's for all of its own."""

    kind: str  # "ack" | "silence" | "unsilence"
    target: str
    by: str
    t: float
    until: float | None = None


@dataclass(frozen=True)
class _Reader(Values):
    """The figures of one device, job or the host at one moment."""

    owner: Evaluator
    key: str
    about: Any
    time: float

    def now(self, name: str) -> float | None:
        return self.owner.read(name, self.about, self.time)

    def window(self, function: str, name: str, seconds: float) -> float | None:
        key = HOST_KEY if MEASURES[name].scope == HOST else self.key
        return self.owner.windows.over(key, name, function, seconds, self.time)


class Evaluator:
    """Judges every rule about everything it is about, and keeps the alerts.

    Feed ``facts`` with events, then call ``evaluate`` regularly.
    """

    def __init__(self, rules: Iterable[Rule], facts: Facts, alerts: Iterable[Alert] = ()) -> None:
        self.rules = {rule.id: rule for rule in rules if rule.enabled}
        self.facts = facts
        self.probes = Probes()
        self.windows = Windows(widest_windows(self.rules.values()))
        self.alerts: dict[str, Alert] = {alert.id: alert for alert in alerts}
        self.silences: dict[str, Order] = {}  # by target
        self._last: float | None = None
        facts.observe = self._observe

    def evaluate(self, now: float) -> list[AlertChanged]:
        """Judge everything at this moment; returns what changed its state."""
        dt = 0.0 if self._last is None else max(0.0, now - self._last)
        self._last = now
        self.silences = {k: s for k, s in self.silences.items() if (s.until or 0.0) > now}
        subjects = list(self._subjects())
        self._book(subjects, now)
        events: list[AlertChanged] = []
        for rule in self.rules.values():
            about = [s for s in subjects if s[0] == rule.scope]
            for _, key, subject in about:
                events += self._judge(rule, key, subject, now, dt)
            # What is gone (a removed device, a forgotten job) is not measured any more.
            keys = {key for _, key, _ in about}
            for alert in [a for a in self.alerts.values() if a.rule == rule.id]:
                if alert.state != RESOLVED and alert.key not in keys:
                    events += self._advance(rule, alert, _UNKNOWN, _UNKNOWN, now, dt)
        events += self._tidy(now)
        return events

    def obey(self, order: Order, now: float) -> list[AlertChanged]:
        """Carry out what a person asks; what it does not fit is left alone."""
        if order.kind == "silence":
            self.silences[order.target] = order
        elif order.kind == "unsilence":
            self.silences.pop(order.target, None)
        events = []
        for alert in list(self.alerts.values()):
            if order.target not in (alert.id, alert.rule):
                continue
            after = applied(order, alert, now)
            if after.state != alert.state or after.until != alert.until:
                self.alerts[alert.id] = after
                events.append(self.told(after, alert.state, now))
        return events

    def told(self, alert: Alert, previous: str, now: float) -> AlertChanged:
        """An alert as an event, with what its rule says may be done."""
        rule = self.rules.get(alert.rule)
        return AlertChanged(
            t=now,
            id=alert.id,
            rule=alert.rule,
            severity=alert.severity,
            state=alert.state,
            previous=previous,
            device=alert.device,
            job=alert.job,
            value=alert.value,
            threshold=alert.threshold,
            message=alert.message,
            since=alert.since,
            until=alert.until,
            by=alert.by,
            flapping=alert.flapping,
            labels=dict(alert.labels),
            remedies=() if rule is None else remedies_named(rule.remedies),
        )

    def read(self, name: str, about: Any, now: float) -> float | None:
        """The present value of a measurement of a device, a job, or the host."""
        measure = MEASURES[name]
        if measure.host is not None:
            value = measure.host(self.facts, self.probes)
        elif measure.device is not None:
            value = measure.device(about)
        elif measure.job is not None:
            value = measure.job(about, now)
        else:
            value = None
        return value

    def _observe(self, job: int, name: str, value: float, t: float) -> None:
        self.windows.add(_job_key(job), name, t, value)

    def _subjects(self) -> Iterator[tuple[str, str, Any]]:
        for uuid, device in self.facts.devices.items():
            yield DEVICE, uuid, device
        for number, job in self.facts.jobs.items():
            yield JOB, _job_key(number), job
        yield HOST, HOST_KEY, None

    def _book(self, subjects: list[tuple[str, str, Any]], now: float) -> None:
        for scope, key, subject in subjects:
            for name, measure in MEASURES.items():
                if (
                    measure.scope == scope
                    and measure.kind != "observation"
                    and self.windows.wants(name)
                ):
                    self.windows.add(key, name, now, self.read(name, subject, now))
        self.windows.forget({key for _, key, _ in subjects})

    def _judge(
        self, rule: Rule, key: str, subject: Any, now: float, dt: float
    ) -> list[AlertChanged]:
        name = alert_id(rule.id, rule.scope, key)
        values = _Reader(self, key, subject, now)
        seen = rule.condition.judge(values)
        known = self.alerts.get(name)
        if known is None or known.state == RESOLVED:
            if seen.truth is not True or _over(rule, subject, known):
                return []
            fresh = self._fresh(rule, name, key, seen, known, now)
            begun = self._hushed(states.first(fresh, rule, now), now)
            self.alerts[name] = begun
            return [self.told(begun, "" if known is None else known.state, now)]
        cleared = (
            Outcome(None if seen.truth is None else not seen.truth)
            if rule.clear_condition is None
            else rule.clear_condition.judge(values)
        )
        return self._advance(rule, known, seen, cleared, now, dt)

    def _advance(
        self, rule: Rule, known: Alert, seen: Outcome, cleared: Outcome, now: float, dt: float
    ) -> list[AlertChanged]:
        after = self._hushed(states.step(known, rule, seen, cleared, now, dt), now)
        if after.value != known.value or after.state != known.state:
            after = dataclasses.replace(after, message=self._message(rule, after, seen))
        self.alerts[known.id] = after
        return [self.told(after, known.state, now)] if after.state != known.state else []

    def _hushed(self, alert: Alert, now: float) -> Alert:
        """A silence that was asked for also holds for what comes while it lasts."""
        order = self.silences.get(alert.id) or self.silences.get(alert.rule)
        if order is None or order.until is None or alert.state == SILENCED:
            return alert
        return states.silence(alert, order.until, order.by, now)

    def _fresh(
        self, rule: Rule, name: str, key: str, seen: Outcome, known: Alert | None, now: float
    ) -> Alert:
        alert = Alert(
            id=name,
            rule=rule.id,
            severity=rule.severity,
            state=states.PENDING,
            key=key,
            since=now,
            changed=now,
            device=key if rule.scope == DEVICE else None,
            job=int(key.removeprefix("job")) if rule.scope == JOB else None,
            value=seen.value,
            threshold=seen.threshold,
            labels=dict(rule.labels),
            fired=known.fired if known is not None else (),
        )
        return dataclasses.replace(alert, message=self._message(rule, alert, seen))

    def _message(self, rule: Rule, alert: Alert, seen: Outcome) -> str:
        device = self.facts.devices.get(alert.device or "")
        unit = seen.unit or rule.unit
        return sentence(
            rule.message,
            device=alert.device or "n/a",
            gpu="n/a" if device is None else device.index,
            job="n/a" if alert.job is None else alert.job,
            host=self.facts.host,
            value=figure(alert.value, unit),
            threshold=figure(alert.threshold, unit),
            rule=rule.id,
            **{"for": duration_text(rule.for_seconds)},
        )

    def _tidy(self, now: float) -> list[AlertChanged]:
        events = []
        for alert in list(self.alerts.values()):
            if alert.state == RESOLVED:
                if now - alert.changed > REMEMBER:
                    del self.alerts[alert.id]
            elif alert.rule not in self.rules:  # its rule was taken away or switched off
                gone = dataclasses.replace(alert, state=RESOLVED, changed=now, until=None)
                self.alerts[alert.id] = gone
                events.append(self.told(gone, alert.state, now))
        return events


def applied(order: Order, alert: Alert, now: float) -> Alert:
    """The alert after an order."""
    if order.kind == "ack":
        return states.acknowledge(alert, order.by, now)
    if order.kind == "silence" and order.until is not None:
        return states.silence(alert, order.until, order.by, now)
    if order.kind == "unsilence" and alert.state == SILENCED:
        return dataclasses.replace(alert, state=states.FIRING, changed=now, until=None, by=None)
    return alert


def alert_id(rule: str, scope: str, key: str) -> str:
    """An id that stays over restarts and can be typed: the rule and what it is about."""
    if scope == HOST:
        return rule
    if scope == JOB:
        return f"{rule}-{key}"
    short = key.removeprefix("GPU-")
    return f"{rule}-{short.split('-')[0] if short != key else key}"


def active(alerts: Mapping[str, Alert] | Collection[Alert]) -> list[Alert]:
    """Those that hold now, the gravest and oldest first."""
    found = alerts.values() if isinstance(alerts, Mapping) else alerts
    grave = {"critical": 0, "warning": 1}
    return sorted(
        (a for a in found if a.state in ACTIVE),
        key=lambda a: (grave.get(a.severity, 2), a.since, a.id),
    )


_UNKNOWN: Final = Outcome(None)


def _over(rule: Rule, subject: Any, known: Alert | None) -> bool:
    """A job that has ended is told of once: it cannot get worse, and the list is no grave."""
    return (
        rule.scope == JOB
        and subject.row.state in END_STATES
        and (known is not None or subject.last_progress is None)
    )


def _job_key(job: int) -> str:
    return f"job{job}"
