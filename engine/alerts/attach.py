"""The one line that gives an engine its alerts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.alerts.watch import AlertWatch
from engine.alerts.zombies import Counts
from engine.bus import Bus
from engine.messages import Event


def watch_engine(
    state: Path, bus: Bus, call: Callable[[Callable[[], None]], bool]
) -> Callable[[], None]:
    """Watch an engine's events; judging, keeping and telling happen on threads of their own.

    Args:
        state: the engine's state folder.
        bus: where events come from, and ``AlertChanged`` goes to.
        call: runs a function on the engine's thread (``Engine.call``).

    Returns a function that ends it (it saves, and waits a few seconds at most).
    """

    def publish(event: Event) -> None:
        call(lambda: bus.publish(event))

    counts = Counts()
    watch = AlertWatch(state, publish, zombies=counts.now)
    ends = [bus.subscribe(watch.listen), bus.subscribe(counts.listen)]
    watch.start()

    def stop() -> None:
        for end in ends:
            end()
        watch.stop()

    return stop
