"""The alerts of a running engine: a listener on its bus, and a thread that judges and tells.

The listener only puts events into a mailbox, so the engine waits for nothing. The thread folds
them, judges once a second, keeps the book, hands changes to the courier, and gives events back
through ``publish`` (which must be safe on any thread).
"""

from __future__ import annotations

import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.alerts.book import Book, BookError
from engine.alerts.courier import Courier
from engine.alerts.evaluate import Evaluator
from engine.alerts.notify import Notify, notify_of
from engine.alerts.places import rules_file
from engine.alerts.rules import Rule, RuleError, load_rules, read_toml
from engine.messages import AlertChanged, Event, LogLine
from engine.metrics.errors import ErrorTally
from engine.metrics.facts import Facts
from engine.metrics.textfile import write_textfile
from engine.sentence import sentence

JUDGE_SECONDS: Final = 1.0
#: Alerts are saved when they change, and so often for their durations.
SAVE_SECONDS: Final = 15.0
DISK_SECONDS: Final = 10.0
ZOMBIE_SECONDS: Final = 30.0
FIRST_ZOMBIE_SECONDS: Final = 5.0
METRICS_SECONDS: Final = 5.0
_MAILBOX: Final = 10_000

Publish = Callable[[Event], None]
#: (zombies, strays) now; None where that cannot be known.
CountZombies = Callable[[], tuple[int, int] | None]


class AlertWatch:
    """Subscribe ``listen`` to a bus, then ``start``; ``stop`` at the end.

    Args:
        state: the state folder: the book, the metrics' text file, and whose disk is watched.
        publish: takes ``AlertChanged`` and log lines; called on the watch's thread.
        rules, notify: given by tests; else the files in force.
        zombies: counts them; asked every ``ZOMBIE_SECONDS``.
        clock: wall-clock seconds.
    """

    def __init__(
        self,
        state: Path,
        publish: Publish,
        *,
        rules: tuple[Rule, ...] | None = None,
        notify: Notify | None = None,
        courier: Courier | None = None,
        zombies: CountZombies | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._publish = publish
        self._clock = clock
        self.zombies = zombies
        self._troubles: list[str] = []
        if rules is None or notify is None:
            read_rules, read_notify = self._read_files()
            rules, notify = rules or read_rules, notify or read_notify
        self.book = Book(state)
        self.facts = Facts(host=socket.gethostname(), errors=ErrorTally(clock=clock))
        self._evaluator = Evaluator(rules, self.facts)
        self._courier = courier or Courier(notify, self.facts.host, self._tell)
        self._mail: queue.Queue[Event | None] = queue.Queue(_MAILBOX)
        self._thread: threading.Thread | None = None
        self._judges = False
        self._saved = self._disk = self._written = float("-inf")
        # Not at once: an engine that starts has better things to do than to look at processes.
        self._reaped = clock() - ZOMBIE_SECONDS + FIRST_ZOMBIE_SECONDS
        self._book_failed = False

    def listen(self, event: Event) -> None:
        """Take an event of the bus; never blocks. Over a full mailbox it is dropped."""
        if isinstance(event, Facts.HEARD) and not isinstance(event, AlertChanged):
            try:
                self._mail.put_nowait(event)
            except queue.Full:
                return  # samples come every second; what is judged next is newer anyway

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="avatop-alerts", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Judge no more, save, and let another process take over."""
        if self._thread is not None:
            try:
                self._mail.put(None, timeout=timeout)
            except queue.Full:
                return
            self._thread.join(timeout)

    def open(self) -> None:
        """Take up the alerts of an earlier run. The watch's thread (or a test)."""
        for trouble in self._troubles:
            self._tell("ERROR", trouble)
        try:
            self._judges = self.book.claim()
            if not self._judges:
                self._tell("INFO", "another process of yours judges the alerts of this host")
                return
            alerts, silences = self.book.load()
        except BookError as error:
            self._judges = True  # what cannot be kept can still be told
            text = sentence("alerts are not kept over a restart: {error}", error=error)
            self._tell("ERROR", text)
            return
        if self.book.notice is not None:
            self._tell("WARNING", self.book.notice)
        self._evaluator.alerts = {alert.id: alert for alert in alerts}
        self._evaluator.silences = {order.target: order for order in silences}
        for alert in sorted(alerts, key=lambda one: one.changed):  # no news: nobody is told again
            event = self._evaluator.told(alert, alert.state, alert.changed)
            self.facts.apply(event)
            self._publish(event)
        self._courier.start()

    def turn(self, events: list[Event]) -> None:
        """Fold events and judge. The watch's thread (or a test)."""
        for event in events:
            self.facts.apply(event)
        now = self._clock()
        self._probe(now)
        if self._judges:
            changes = self._orders(now)
            changes += self._evaluator.evaluate(now)
            for change in changes:
                self.facts.apply(change)
                self._courier.add(change)
                self._publish(change)
            if changes or not 0 <= now - self._saved < SAVE_SECONDS:
                self._save(now)
        if not 0 <= now - self._written < METRICS_SECONDS:
            self._written = now
            write_textfile(self._state, self.facts, self._evaluator.probes, now)

    def close(self) -> None:
        """The watch's thread at its end (or a test)."""
        self._courier.stop()
        now = self._clock()
        if self._judges:
            self._save(now)
        write_textfile(self._state, self.facts, self._evaluator.probes, now)
        self.book.release()

    def _run(self) -> None:
        self.open()
        due = time.monotonic()
        events: list[Event] = []
        while True:
            try:
                event = self._mail.get(timeout=max(0.0, due - time.monotonic()))
                if event is None:
                    break
                events.append(event)
            except queue.Empty:
                pass
            if time.monotonic() >= due:
                self._safe_turn(events)
                events = []
                due = time.monotonic() + JUDGE_SECONDS
        self.close()

    def _safe_turn(self, events: list[Event]) -> None:
        """Our own fault in one turn ends no watch; it is told, once for each kind."""
        try:
            self.turn(events)
        except Exception as error:  # noqa: BLE001 - told, and the next turn begins afresh
            text = f"alerts: internal error: {type(error).__name__}: {error}"
            if text not in self._troubles:
                self._troubles.append(text)
                self._tell("ERROR", text)

    def _orders(self, now: float) -> list[AlertChanged]:
        try:
            orders = self.book.take_orders()
        except BookError as error:
            self._book_trouble(error)
            return []
        return [change for order in orders for change in self._evaluator.obey(order, now)]

    def _save(self, now: float) -> None:
        self._saved = now
        try:
            self.book.save(self._evaluator.alerts.values(), self._evaluator.silences.values())
            self._book_failed = False
        except BookError as error:
            self._book_trouble(error)

    def _book_trouble(self, error: BookError) -> None:
        if not self._book_failed:  # once, not every second
            self._book_failed = True
            self._tell("ERROR", sentence("alerts cannot be kept: {error}", error=error))

    def _probe(self, now: float) -> None:
        probes = self._evaluator.probes
        if not 0 <= now - self._disk < DISK_SECONDS:
            self._disk = now
            try:
                usage = shutil.disk_usage(self._state)
                probes.disk_free, probes.disk_total = usage.free, usage.total
            except OSError:
                probes.disk_free = probes.disk_total = None
        if self.zombies is not None and not 0 <= now - self._reaped < ZOMBIE_SECONDS:
            self._reaped = now
            probes.zombies, probes.strays = self.zombies() or (None, None)

    def _read_files(self) -> tuple[tuple[Rule, ...], Notify]:
        """The files in force; a broken one of the user's is told and the defaults stand."""
        path = rules_file()
        try:
            return load_rules(path), notify_of(read_toml(path))
        except RuleError as error:
            self._troubles = [f"{path} is not used: {text}" for text in error.problems]
            return load_rules(None), Notify()

    def _tell(self, level: str, text: str) -> None:
        self._publish(LogLine(level=level, source="engine", text=text, where="alerts"))
