"""Is everybody told once, together, not too often, and again when it did not arrive?"""

from __future__ import annotations

import pytest

from engine.alerts.notify import Notify, Target
from engine.alerts.outbox import HOUR, Outbox, words
from engine.messages import AlertChanged

OPS = Target("ops", url_env="X")
BOSS = Target("boss", url_env="Y", severity="critical", resolved=False)


def change(
    name: str, state: str = "firing", previous: str = "", severity: str = "warning"
) -> AlertChanged:
    return AlertChanged(
        id=name, rule="r", severity=severity, state=state, previous=previous, message=f"{name}!"
    )


def test_what_comes_together_is_told_together() -> None:
    box = Outbox(Notify((OPS,), group_wait=10.0))
    box.add(change("a"), 0.0)
    box.add(change("b", severity="critical"), 9.0)
    assert box.due(9.9) == []
    (parcel,) = box.due(10.0)
    title, body = words(parcel, "gpu-srv-07")
    assert title == "avatop gpu-srv-07: 2 firing (critical)"
    assert [line.split("]")[0] for line in body.splitlines()] == [
        "[FIRING critical",
        "[FIRING warning",
    ]
    assert box.done(parcel, None, 10.0).delivered
    assert box.next_due() is None


def test_severity_and_the_wish_for_resolutions_are_kept() -> None:
    box = Outbox(Notify((OPS, BOSS), group_wait=0.0))
    box.add(change("a"), 0.0)
    assert [p.target.name for p in box.due(0.0)] == ["ops"]
    box.add(change("b", severity="critical"), 0.0)
    box.add(change("b", "resolved", "firing", "critical"), 0.0)
    # Gone before anybody was told: who wants no resolutions hears nothing of it.
    assert [(p.target.name, [c.state for c in p.changes]) for p in box.due(0.0)] == [
        ("ops", ["resolved"])
    ]


@pytest.mark.parametrize(
    ("state", "previous", "tells"),
    [
        ("pending", "", False),
        ("resolved", "pending", False),
        ("resolved", "silenced", False),
        ("acknowledged", "firing", False),
        ("resolved", "acknowledged", True),
        ("firing", "silenced", True),
        ("firing", "resolved", True),
    ],
)
def test_only_what_a_person_has_to_know_is_told(state: str, previous: str, tells: bool) -> None:
    box = Outbox(Notify((OPS,), group_wait=0.0))
    box.add(change("a", state, previous), 0.0)
    assert bool(box.due(0.0)) is tells


def test_a_failure_is_tried_again_later_and_later_and_then_given_up() -> None:
    box, now, waits = Outbox(Notify((OPS,), group_wait=0.0, retries=4)), 0.0, []
    box.add(change("a"), now)
    for _ in range(3):
        (parcel,) = box.due(now)
        verdict = box.done(parcel, "no route", now)
        assert verdict.next_try is not None
        waits.append(verdict.next_try - now)
        assert box.due(verdict.next_try - 0.1) == []
        now = verdict.next_try
    assert waits == [5.0, 10.0, 20.0]
    (parcel,) = box.due(now)
    assert box.done(parcel, "no route", now).given_up
    assert len(box) == 0


def test_what_comes_while_waiting_for_another_try_goes_with_it() -> None:
    box = Outbox(Notify((OPS,), group_wait=0.0))
    box.add(change("a"), 0.0)
    (parcel,) = box.due(0.0)
    box.done(parcel, "no route", 0.0)
    box.add(change("b"), 1.0)
    (parcel,) = box.due(5.0)
    assert [c.id for c in parcel.changes] == ["a", "b"]


def test_an_hour_has_a_limit_and_what_is_over_waits_in_one() -> None:
    box = Outbox(Notify((OPS,), group_wait=0.0, max_per_hour=3))
    for n in range(3):
        box.add(change(f"a{n}"), float(n))
        (parcel,) = box.due(float(n))
        box.done(parcel, None, float(n))
    for n in range(20):
        box.add(change(f"b{n}"), 10.0)
        assert box.due(10.0 + n) == []
    assert box.next_due() == pytest.approx(HOUR)
    (parcel,) = box.due(HOUR)
    assert len(parcel.changes) == 20
    assert words(parcel, "h")[1].splitlines()[-1] == "… and 10 more: avatop alerts"
