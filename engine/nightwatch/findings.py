"""What a running engine's log lines and figures mean: triage and advice as events.

A listener puts events into a mailbox; a thread of its own reads them, so that no rank and no
screen waits for a regular expression. What it finds goes back through ``publish``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from engine.bus import Bus
from engine.messages import (
    END_STATES,
    Audited,
    BlockDone,
    Event,
    FindingRaised,
    JobChanged,
    JobRow,
    LedgerUpdated,
    LogLine,
    PlanMade,
    StepDone,
)
from engine.nightwatch.figures import Figures
from engine.nightwatch.kept import Kept
from engine.nightwatch.words import over, raised, stopped, with_go_on
from engine.triage.classifier import Classifier, Watcher

READ_SECONDS: Final = 1.0
_MAILBOX: Final = 20_000
#: A job that a killed engine left is told of, unless that is so long ago.
_UNTOLD_SECONDS: Final = 86400.0
#: Lines of a job that can be shown as evidence.
_KEPT_LINES: Final = 4_000
_MOST_EVIDENCE: Final = 6
_SPEAKER: Final = re.compile(r"\[rank(\d+)\]:")
_LOUD: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
_HEARD: Final = (
    *(LogLine, JobChanged, PlanMade, LedgerUpdated, StepDone, BlockDone),
    *(FindingRaised, Audited),
)
#: What the engine concludes itself is no evidence: here it says how it tries again.
_CONCLUSIONS: Final = "desk.py:"


@dataclass
class _Job:
    """What is read of one job."""

    classifier: Classifier = field(default_factory=Classifier)
    lines: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    watcher: Watcher = field(init=False)
    raised: dict[str, FindingRaised] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)
    fresh: bool = False
    attempt: int = 1

    def __post_init__(self) -> None:
        self.watcher = Watcher(self.classifier)


class FindingsWatch:
    """Subscribe ``listen`` to a bus, then ``start``; ``stop`` at the end.

    Args:
        publish: takes events; called on the watch's thread.
        kept: what engines before found, and where this one's findings are kept.
    """

    def __init__(self, publish: Callable[[Event], None], kept: Kept | None = None) -> None:
        self._publish = publish
        self._kept = kept
        self._mail: queue.Queue[Event | None] = queue.Queue(_MAILBOX)
        self._jobs: dict[int, _Job] = {}
        self._left: dict[int, dict[str, FindingRaised]] = {}  # of jobs that ended, unsettled
        self._thread = threading.Thread(target=self._run, name="avatop-findings", daemon=True)
        self._troubles: set[str] = set()

    def listen(self, event: Event) -> None:
        """Take an event of the bus; never blocks. Over a full mailbox it is dropped."""
        if not isinstance(event, _HEARD):
            return
        try:
            self._mail.put_nowait(event)
        except queue.Full:
            return  # a flood repeats itself

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Read what is at hand, then end."""
        try:
            self._mail.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        self.restore()
        going = True
        while going:
            due = time.monotonic() + READ_SECONDS
            events: list[Event] = []
            with contextlib.suppress(queue.Empty):
                while event := self._mail.get(timeout=max(0.0, due - time.monotonic())):
                    events.append(event)
                going = False
            try:
                for event in events:
                    self.take(event)
                self.turn()
            except Exception as error:  # noqa: BLE001 - told once, and the watch goes on
                self._tell(f"findings: internal error: {type(error).__name__}: {error}")

    def _tell(self, text: str) -> None:
        if text not in self._troubles:
            self._troubles.add(text)
            self._publish(LogLine(level="ERROR", source="engine", text=text, where="findings"))

    # -- on the watch's thread (or a test's) ---------------------------------------------------

    def restore(self) -> None:
        """Tell again what engines before this one found and did."""
        for event in [] if self._kept is None else self._kept.load(time.time()):
            if isinstance(event, FindingRaised) and event.job is not None and not event.resolved:
                self._left.setdefault(event.job, {})[event.id] = event
            self._publish(event)

    def take(self, event: Event) -> None:
        """Fold one event."""
        if self._kept is not None and isinstance(event, FindingRaised | Audited):
            self._kept.take(event)
        match event:
            case Audited(action="relaunch"):
                number = event.target.removeprefix("job ")
                self._settle(self._left.pop(int(number), {}).values() if number.isdigit() else ())
            case FindingRaised(job=int() as number, resolved=True):
                self._left.get(number, {}).pop(event.id, None)  # somebody has seen it
            case LogLine() if event.job is not None and worth(event):
                self._line(self._job(event.job), event)
            case JobChanged():
                self._changed(event.job)
            case PlanMade():
                self._job(event.job).figures.plan = event.plan
            case LedgerUpdated():
                self._job(event.job).figures.ledger(event)
            case StepDone():
                self._job(event.job).figures.step(event)
            case BlockDone():
                self._job(event.job).figures.block(event)
            case FindingRaised(job=int() as number, resolved=False) if number in self._jobs:
                if event.finding not in END_STATES:  # a guard's, or our own come back
                    self._jobs[number].raised.setdefault(event.id, event)
            case _:
                pass

    def turn(self) -> None:
        """Say what is new."""
        for number, job in self._jobs.items():
            if job.fresh:
                job.fresh = False
                self._read(number, job)
        if self._kept is not None:
            try:
                self._kept.save()
            except OSError as error:
                self._tell(f"findings cannot be kept for the next engine: {error}")

    def _say(self, event: FindingRaised) -> None:
        """Tell it; kept at once, as nothing comes back from the bus once the engine ends."""
        if self._kept is not None:
            self._kept.take(event)
        self._publish(event)

    def _job(self, number: int) -> _Job:
        return self._jobs.setdefault(number, _Job())

    def _line(self, job: _Job, event: LogLine) -> None:
        for text in read_as(event):
            job.classifier.feed(text)
            job.lines.append((job.classifier.lines, text))
        job.fresh = True

    def _read(self, number: int, job: _Job) -> None:
        for finding in job.watcher.news():
            first, last = finding.lines
            nearby = [text for n, text in job.lines if first <= n <= last]
            evidence = tuple(_said_by(finding.ranks, nearby)[:_MOST_EVIDENCE])
            event = raised(finding, f"job{number}", number, evidence, job.figures.row)
            job.raised[event.id] = event
            self._say(event)

    def _changed(self, row: JobRow) -> None:
        job = self._jobs.get(row.id)
        if job is None:
            self._returned(row)
            return
        job.figures.row = row
        if row.attempt != job.attempt:  # another attempt: its lines are another episode
            self._read(row.id, job)
            self._jobs[row.id] = _Job(raised=job.raised, attempt=row.attempt)
            self._jobs[row.id].figures.row = row
        elif row.state in END_STATES:
            if row.state != "cancelled":  # what ranks say that we end is no news
                self._read(row.id, job)
            if row.state in ("done", "cancelled"):
                self._settle(job.raised.values())
            else:
                self._stopped(row, job)
            if row.state == "done":
                for event in job.figures.advice(row.id):
                    self._say(event)
            elif row.state != "cancelled":
                self._left[row.id] = job.raised
            del self._jobs[row.id]

    def _stopped(self, row: JobRow, job: _Job) -> None:
        """Interrupted or failed: there is a cause, and for the first a way on."""
        roots = [finding for finding in job.raised.values() if finding.role == "root"]
        if not roots:  # no log line explains it: its own reason stands
            roots = [stopped(row)]
        elif row.state == "interrupted":
            roots = [with_go_on(finding) for finding in roots]
        else:
            return
        for finding in roots:
            job.raised[finding.id] = finding
            self._say(finding)

    def _returned(self, row: JobRow) -> None:
        """A job that is new, goes on after its end, or is told at the engine's start."""
        if row.state not in ("interrupted", "failed"):
            self._settle(self._left.pop(row.id, {}).values())
            if row.state not in END_STATES:  # what is told at a start is no news
                job = self._job(row.id)
                job.attempt, job.figures.row = row.attempt, row
        elif self._untold(row):  # its engine was killed before it could say so
            finding = dataclasses.replace(stopped(row), t=row.ended or time.time())
            self._left[row.id] = {finding.id: finding}
            self._say(finding)

    def _untold(self, row: JobRow) -> bool:
        if self._kept is None or row.id in self._left or self._kept.knows(row.id):
            return False
        return row.ended is not None and time.time() - row.ended < _UNTOLD_SECONDS

    def _settle(self, found: Iterable[FindingRaised]) -> None:
        """What was found on the way stands in nobody's way any more."""
        for event in found:
            self._say(over(event))


def _said_by(ranks: Collection[int], lines: list[str]) -> list[str]:
    """Without lines of ranks that the finding does not name, which came in between."""
    spoke = [(_SPEAKER.match(line), line) for line in lines]
    own = [line for rank, line in spoke if rank is None or int(rank[1]) in ranks]
    return own if ranks and own else lines


def read_as(event: LogLine) -> list[str]:
    """Its lines as triage reads them: with the rank that said them."""
    rank = "" if event.rank is None else f"[rank{event.rank}]: "
    return [rank + part for part in event.text.split("\n")]


def worth(event: LogLine) -> bool:
    """Ranks' lines as they are; the engine's own where they are loud."""
    if event.source == "engine":
        return event.level in _LOUD and not (event.where or "").startswith(_CONCLUSIONS)
    return event.source == "rank"


def watch_findings(
    bus: Bus, call: Callable[[Callable[[], None]], bool], kept: Kept | None = None
) -> Callable[[], None]:
    """Watch an engine's events; returns a function that ends it.

    Args:
        call: runs a function on the engine's thread (``Engine.call``).
        kept: what engines before found, and where this one's findings are kept.
    """

    def publish(event: Event) -> None:
        call(lambda: bus.publish(event))

    watch = FindingsWatch(publish, kept)
    end = bus.subscribe(watch.listen)
    watch.start()

    def stop() -> None:
        end()
        watch.stop()

    return stop
