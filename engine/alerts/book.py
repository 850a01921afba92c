"""Where alerts survive a restart: a small SQLite file that an engine writes and others read.

People's orders (acknowledge, silence) are queued in it, so that they reach the engine that judges,
whichever process they are given in. One process judges at a time: it holds ``alerts.lock``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from engine.alerts.evaluate import Order, applied
from engine.alerts.states import Alert
from engine.sentence import sentence

_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS alerts (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS orders (n INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS silences (target TEXT PRIMARY KEY, body TEXT NOT NULL);
"""
_FIELDS: Final = {f.name for f in dataclasses.fields(Alert)}


class BookError(RuntimeError):
    """The alerts cannot be kept or read; says where."""


class Book:
    """The alerts of one user on one host. Each call is short and opens the file anew.

    A damaged file is set aside once (``notice`` tells) and a new one begun: alerts come again by
    themselves, as their conditions still hold.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / "alerts.sqlite3"
        self.notice: str | None = None
        self._lock: IO[str] | None = None

    def claim(self) -> bool:
        """Become the one that judges. False: another process does already.

        Raises:
            BookError: the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = self.path.with_name("alerts.lock").open("w")
        except OSError as error:
            raise BookError(f"{self.path.parent}: {error.strerror or error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        """Let another judge."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def watched(self) -> bool:
        """Whether any process judges now."""
        try:
            with self.path.with_name("alerts.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def load(self) -> tuple[list[Alert], list[Order]]:
        """(alerts, silences) as they were last saved."""
        with self._open() as db:
            alerts = [_alert(row[0]) for row in db.execute("SELECT body FROM alerts ORDER BY id")]
            silences = [_order(r[0]) for r in db.execute("SELECT body FROM silences")]
        return alerts, silences

    def save(self, alerts: Iterable[Alert], silences: Iterable[Order]) -> None:
        """Replace what is kept, in one transaction."""
        with self._open() as db:
            db.execute("DELETE FROM alerts")
            db.executemany(
                "INSERT INTO alerts VALUES (?, ?)",
                [(a.id, json.dumps(dataclasses.asdict(a))) for a in alerts],
            )
            db.execute("DELETE FROM silences")
            db.executemany(
                "INSERT INTO silences VALUES (?, ?)",
                [(o.target, json.dumps(dataclasses.asdict(o))) for o in silences],
            )

    def ask(self, order: Order) -> None:
        """Queue an order for the process that judges."""
        with self._open() as db:
            db.execute("INSERT INTO orders (body) VALUES (?)", (json.dumps(vars(order)),))

    def take_orders(self) -> list[Order]:
        """Orders since the last call, the oldest first."""
        with self._open() as db:
            rows = db.execute("SELECT n, body FROM orders ORDER BY n").fetchall()
            if rows:
                db.execute("DELETE FROM orders WHERE n <= ?", (rows[-1][0],))
        return [_order(body) for _, body in rows]

    def look(self, now: float) -> list[Alert]:
        """The alerts with the orders that still wait already applied, for showing."""
        alerts, _ = self.load()
        with self._open() as db:
            orders = [_order(r[0]) for r in db.execute("SELECT body FROM orders ORDER BY n")]
        for order in orders:
            alerts = [
                applied(order, a, now) if order.target in (a.id, a.rule) else a for a in alerts
            ]
        return alerts

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise BookError(f"{self.path}: {error}") from error
        try:
            with db:
                yield db
        except sqlite3.Error as error:
            raise BookError(f"{self.path}: {error}") from error
        finally:
            db.close()

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._begin()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, no disk: not damaged
                raise
            aside = self.path.with_name(self.path.name + ".damaged")
            self.path.replace(aside)
            self.notice = sentence(
                "the alerts' file was damaged; it lies in {aside} and a new one is begun",
                aside=aside,
            )
            return self._begin()

    def _begin(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.executescript(_SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db


def _alert(body: str) -> Alert:
    data: dict[str, Any] = json.loads(body)
    data["fired"] = tuple(data.get("fired", ()))
    return Alert(**{k: v for k, v in data.items() if k in _FIELDS})


def _order(body: str) -> Order:
    return Order(**json.loads(body))
