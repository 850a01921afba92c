"""The thread that delivers: a slow or dead address delays nobody but itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from engine.alerts.deliver import DeliveryError, deliver, redacted
from engine.alerts.notify import Notify, Secret, SecretError
from engine.alerts.outbox import Outbox, Parcel, Verdict, words
from engine.messages import AlertChanged
from engine.sentence import sentence

_LONGEST_WAIT: Final = 3600.0
Send = Callable[[Secret, str, str, str], None]


class Courier:
    """Takes changes from any thread, sends on its own.

    Args:
        tell: hears (level, text) of what was delivered and what was not; never a secret.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        notify: Notify,
        host: str,
        tell: Callable[[str, str], None],
        *,
        send: Send = deliver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = Outbox(notify)
        self._host = host
        self._tell = tell
        self._send = send
        self._clock = clock
        self._changed = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None
        self._targets = bool(notify.targets)

    def start(self) -> None:
        """Begin, if there is anybody to tell."""
        if self._targets:
            self._thread = threading.Thread(target=self._run, name="avatop-courier", daemon=True)
            self._thread.start()

    def add(self, change: AlertChanged) -> None:
        """Take a change. Any thread; returns at once."""
        with self._changed:
            self._outbox.add(change, self._clock())
            self._changed.notify()

    def stop(self, timeout: float = 2.0) -> None:
        """End; what is being sent may finish within ``timeout`` seconds."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def turn(self) -> None:
        """Send what is due now. The courier's thread (or a test)."""
        with self._changed:
            ready = self._outbox.due(self._clock())
        for parcel in ready:
            error = self._try(parcel)
            with self._changed:
                verdict = self._outbox.done(parcel, error, self._clock())
            self._report(verdict)

    def _run(self) -> None:
        while True:
            with self._changed:
                due = self._outbox.next_due()
                if not self._ending:
                    wait = _LONGEST_WAIT if due is None else max(0.0, due - self._clock())
                    self._changed.wait(wait)
                if self._ending:
                    return
            self.turn()

    def _try(self, parcel: Parcel) -> str | None:
        """None, or why it did not arrive."""
        title, body = words(parcel, self._host)
        secret: Secret | None = None
        try:
            secret = parcel.target.address()
            self._send(secret, title, body, parcel.severity)
        except (SecretError, DeliveryError) as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a plugin's own fault ends no courier
            said = f"{type(error).__name__}: {error}"
            return redacted(said, secret.reveal()) if secret is not None else type(error).__name__
        return None

    def _report(self, verdict: Verdict) -> None:
        name = verdict.parcel.target.name
        if verdict.delivered:
            count = len(verdict.parcel.changes)
            self._tell("INFO", f"told {name} of {count} change{'s' * (count != 1)} of alerts")
        elif verdict.given_up:
            text = sentence(
                "could not tell {name}, given up: {error}", name=name, error=verdict.error
            )
            self._tell("ERROR", text)
        else:
            wait = max(0.0, (verdict.next_try or 0.0) - self._clock())
            self._tell("WARNING", f"could not tell {name}: {verdict.error}; again in {wait:.0f} s")
