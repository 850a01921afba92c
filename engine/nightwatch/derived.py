"""What today's triage finds in a recording, beside what its engine found then.

A recording outlives the rules it was made with. Its log lines are read again, as a running engine
would read them; only what the recording does not tell itself is added.
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
    it follows from; none for a recording of more than ``MOST_EVENTS``."""
    if recording.count > MOST_EVENTS:
        return ()
    found: list[Stamped] = []
    told: set[str] = set()
    now = read = recording.start

    def keep(event: Event) -> None:
        if isinstance(event, FindingRaised):
            found.append(Stamped(now, dataclasses.replace(event, t=now)))

    watch = FindingsWatch(keep)
    for stamped in recording.events():
        now = stamped.at
        if isinstance(stamped.event, FindingRaised):
            told.add(stamped.event.id)
        watch.take(stamped.event)
        if now - read >= READ_SECONDS:
            watch.turn()
            read = now
    watch.turn()
    return tuple(
        stamped
        for stamped in found
        if isinstance(stamped.event, FindingRaised) and stamped.event.id not in told
    )
