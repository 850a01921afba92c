"""What today's triage finds in a recording, beside what its engine found then.

A recording outlives the rules it was made with. Its log lines are read again, as a running engine
would read them; only what the recording does not tell itself, or not in these words, is added.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from engine.messages import Event, FindingRaised
from engine.nightwatch.findings import READ_SECONDS, FindingsWatch
from engine.telemetry.recording import Recording
from engine.telemetry.recording_segment import Stamped

#: A longer recording is this host's own, whose engine read its lines as they came.
MOST_EVENTS: Final = 100_000


def derived(recording: Recording) -> tuple[Stamped, ...]:
    """Findings that the recording itself never tells, in order, each at the moment of the line that
    it follows from; what it tells in other words is said anew at the moment that it was told. None
    for a recording of more than ``MOST_EVENTS``."""
    if recording.count > MOST_EVENTS:
        return ()
    found: list[tuple[float, FindingRaised]] = []
    told: dict[str, tuple[float, FindingRaised]] = {}
    now = read = recording.start

    def keep(event: Event) -> None:
        if isinstance(event, FindingRaised):
            found.append((now, dataclasses.replace(event, t=now)))

    watch = FindingsWatch(keep)
    for stamped in recording.events():
        now = stamped.at
        if isinstance(stamped.event, FindingRaised):
            told.setdefault(stamped.event.id, (now, stamped.event))
        watch.take(stamped.event)
        if now - read >= READ_SECONDS:
            watch.turn()
            read = now
    watch.turn()
    newest = {event.id: event for _, event in found}
    fresh = [(at, event) for at, event in found if event.id not in told]
    for name, (at, before) in told.items():
        anew = newest.get(name)
        if anew is None or before.resolved or anew.role != before.role:
            continue
        if anew.cause != before.cause:
            said = dataclasses.replace(before, cause=anew.cause, remedies=anew.remedies)
            fresh.append((at, said))
    return tuple(Stamped(at, event) for at, event in sorted(fresh, key=lambda one: one[0]))
