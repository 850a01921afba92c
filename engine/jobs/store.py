"""Jobs in SQLite: one row each, checked transitions, an audit; survives a kill of anything.

One file under the state directory, in WAL mode: the engine writes, other processes may read.
A row names the engine that owns it by process identity; a later engine finds what a dead one
left and marks it interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.jobs import words
from engine.jobs.identity import ProcessIdentity
from engine.jobs.schema import MIGRATIONS, SCHEMA_VERSION
from engine.jobs.states import TransitionError, check_transition
from engine.messages import END_STATES, JOB_STATES, LIVE_STATES, JobRow
from engine.sentence import sentence

_BUSY_SECONDS: Final = 5.0
_JSON_COLUMNS = frozenset({"request", "plan", "environment"})
_ROW_COLUMNS: Final = tuple(field.name for field in dataclasses.fields(JobRow))
_COLUMNS: Final = frozenset(_ROW_COLUMNS) | {"plan"}


class StoreError(RuntimeError):
    """The store cannot be opened, read or written; says what to do."""


@dataclass(frozen=True)
class AuditEntry:
    """One thing that was done, by whom it was asked and to what."""

    t: float
    action: str
    detail: dict[str, Any]


def _alone(row: JobRow) -> bool:
    """A batch asks anew for what it needs; other jobs are nobody else's."""
    return row.batch is None


class JobStore:
    """The jobs of one user. May be used from any thread; calls are short and serialised.

    A damaged file is set aside as ``jobs.sqlite3.damaged-N`` and a new one begun: ``notice``
    then says so.

    Raises:
        StoreError: no access, locked for long, or written by a newer avatop.
    """

    def __init__(self, path: Path, *, owner: ProcessIdentity | None = None) -> None:
        self.path = path
        self.notice: str | None = None
        self._lock = threading.RLock()
        self._owner = owner or ProcessIdentity.of()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # One process at a time looks for damage and migrates.
            with (path.parent / f".{path.name}.lock").open("w") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                self._connection = self._open()
        except OSError as error:
            raise StoreError(words.not_kept(path, error)) from error

    def create(
        self,
        request: Mapping[str, Any],
        *,
        mode: str,
        size: str,
        clips: int,
        steps: int = 4,
        ranks: int = 1,
        plan: Mapping[str, Any] | None = None,
        kind: str = "engine",
    ) -> JobRow:
        """A new job in state ``queued``, owned by this process's engine."""
        owner = self._owner
        values = {
            "state": "queued",
            "kind": kind,
            "mode": mode,
            "size": size,
            "clip": 0,
            "clips": clips,
            "steps": steps,
            "ranks": ranks,
            "created": time.time(),
            "request": _dump(request),
            "plan": None if plan is None else _dump(plan),
            "owner_pid": owner.pid if owner else None,
            "owner_start": owner.start_ticks if owner else None,
            "owner_boot": owner.boot_id if owner else None,
        }
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        with self._write() as db:
            cursor = db.execute(
                f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(values.values())
            )
            job = cursor.lastrowid
            assert job is not None
            self._audit(db, "create", {"job": job})
            return self._row(db, job)

    def update(self, job: int, **fields: Any) -> JobRow:
        """Change fields of ``JobRow`` (or ``plan``); a change of ``state`` is checked.

        ``started`` and ``ended`` are filled in when the state says so and they are not given.

        Raises:
            StoreError: no such job or field. TransitionError: a state that cannot follow.
        """
        unknown = set(fields) - _COLUMNS | ({"id"} & set(fields))
        if unknown:
            raise StoreError(
                sentence(
                    "jobs have no field {unknown} to change", unknown=", ".join(sorted(unknown))
                )
            )
        with self._write() as db:
            row = self._row(db, job)
            state = fields.get("state", row.state)
            if state != row.state:
                check_transition(row.state, state)
                if row.started is None and state in LIVE_STATES:
                    fields.setdefault("started", time.time())
                if state in END_STATES:
                    fields.setdefault("ended", time.time())
                    fields.setdefault("eta_seconds", None)
                detail = {"job": job, "from": row.state, "to": state}
                if fields.get("error"):
                    detail["reason"] = fields["error"]
                self._audit(db, "state", detail)
            if fields:
                names = ", ".join(f"{name} = ?" for name in (*fields, "heard"))
                values = [
                    _dump(v) if k in _JSON_COLUMNS and v is not None else v
                    for k, v in fields.items()
                ]
                db.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*values, time.time(), job))
            return self._row(db, job)

    def get(self, job: int) -> JobRow:
        """Raises ``StoreError`` if there is no such job."""
        with self._read() as db:
            return self._row(db, job)

    def plan(self, job: int) -> dict[str, Any] | None:
        """The plan a job ran by (``Plan.to_dict``), ``None`` before one was made."""
        with self._read() as db:
            found = db.execute("SELECT plan FROM jobs WHERE id = ?", (job,)).fetchone()
        if found is None:
            raise StoreError(sentence("there is no job {job}", job=job))
        return None if found[0] is None else _load(found[0])

    def list(
        self, states: Collection[str] | None = None, limit: int | None = None
    ) -> tuple[JobRow, ...]:
        """Jobs, the newest first."""
        where, values = "", list(states or ())
        if states is not None:
            where = f"WHERE state IN ({', '.join('?' * len(values))})"
        names = ", ".join(_ROW_COLUMNS)
        query = f"SELECT {names} FROM jobs {where} ORDER BY id DESC LIMIT ?"
        with self._read() as db:
            rows = db.execute(query, (*values, -1 if limit is None else limit)).fetchall()
        return tuple(_job(row) for row in rows)

    def claim_stale(self, waits: Callable[[JobRow], bool] = _alone) -> tuple[JobRow, ...]:
        """Take over what a dead engine left: the rows that changed.

        What had begun is marked interrupted, since it was last heard of. What only waited goes on
        waiting, in this engine, if ``waits`` says so (by default what belongs to no batch), else it
        is interrupted too.
        Safe against another engine doing the same: each job is claimed once.
        """
        changed = []
        owner = self._owner
        states = ("queued", *sorted(LIVE_STATES))
        with self._write() as db:
            rows = db.execute(
                "SELECT id, state, clip, heard, owner_pid, owner_start, owner_boot FROM jobs "
                f"WHERE state IN ({', '.join('?' * len(states))}) ORDER BY id",
                states,
            ).fetchall()
            for job, state, clip, heard, pid, start, boot in rows:
                if pid is not None and ProcessIdentity(pid, start, boot).alive:
                    continue
                if state == "queued" and waits(self._row(db, job)):
                    db.execute(
                        "UPDATE jobs SET owner_pid = ?, owner_start = ?, owner_boot = ? "
                        "WHERE id = ?",
                        (
                            *(
                                (owner.pid, owner.start_ticks, owner.boot_id)
                                if owner
                                else [None] * 3
                            ),
                            job,
                        ),
                    )
                    self._audit(db, "claim_queued", {"job": job, "pid": pid})
                    changed.append(self._row(db, job))
                    continue
                reason = words.left(pid, state, clip)
                db.execute(
                    "UPDATE jobs SET state = 'interrupted', ended = ?, eta_seconds = NULL, "
                    "error = ? WHERE id = ?",
                    (time.time() if state == "queued" else _last(heard), reason, job),
                )
                detail = {"job": job, "from": state, "to": "interrupted", "reason": reason}
                self._audit(db, "claim_stale", detail)
                changed.append(self._row(db, job))
        return tuple(changed)

    def leave(self, job: int) -> None:
        """Let a job that waits be anybody's: the next engine takes it over."""
        with self._write() as db:
            db.execute(
                "UPDATE jobs SET owner_pid = NULL, owner_start = NULL, owner_boot = NULL "
                "WHERE id = ? AND state = 'queued'",
                (job,),
            )

    def audit(self, action: str, **detail: Any) -> None:
        """Record something that was done (a cancel, a kill, a changed threshold)."""
        with self._write() as db:
            self._audit(db, action, detail)

    def audits(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """What was done, the newest first."""
        with self._read() as db:
            rows = db.execute(
                "SELECT t, action, detail FROM audit ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
        return tuple(AuditEntry(t, action, _load(detail)) for t, action, detail in rows)

    def reading(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """The connection, for those who keep tables of their own in this file; look only."""
        return self._read()

    def writing(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """One immediate transaction over every table of this file: all of it or nothing.

        Raises:
            StoreError: it could not be kept.
        """
        return self._write()

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        with self._lock:
            self._connection.close()

    # -- inside ---------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        damage = self._damage()
        if damage is not None:
            aside = self._set_aside()
            self.notice = words.set_aside(damage, aside)
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA_VERSION:
                raise StoreError(words.newer(self.path, version, SCHEMA_VERSION))
            for number in range(version, SCHEMA_VERSION):
                connection.executescript(
                    f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; "
                    f"PRAGMA user_version = {number + 1}; COMMIT;"
                )
        except sqlite3.Error as error:
            connection.close()
            raise self._error(error) from error
        except StoreError:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _damage(self) -> str | None:
        """What is wrong with the file, ``None`` if it is sound or not there yet."""
        if not self.path.exists():
            return None
        if not self.path.is_file():
            raise StoreError(sentence("{path} is not a file; move it away", path=self.path))
        connection = self._connect()
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            return None if found is None or found[0] == "ok" else str(found[0]).splitlines()[0]
        except sqlite3.OperationalError as error:
            raise self._error(error) from error  # locked or no access: not damage
        except sqlite3.DatabaseError as error:
            return str(error)
        finally:
            connection.close()

    def _set_aside(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        self.path.rename(aside)
        for ending in ("-wal", "-shm"):
            side = self.path.with_name(self.path.name + ending)
            if side.exists():
                side.rename(aside.with_name(aside.name + ending))
        return aside

    @contextlib.contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._error(error) from error

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction: all of it or nothing."""
        with self._read() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _error(self, error: sqlite3.Error) -> StoreError:
        return StoreError(words.failed(self.path, str(error), _BUSY_SECONDS))

    def _row(self, db: sqlite3.Connection, job: int) -> JobRow:
        names = ", ".join(_ROW_COLUMNS)
        row = db.execute(f"SELECT {names} FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise StoreError(sentence("there is no job {job}", job=job))
        return _job(row)

    @staticmethod
    def _audit(db: sqlite3.Connection, action: str, detail: Mapping[str, Any]) -> None:
        db.execute(
            "INSERT INTO audit (t, action, detail) VALUES (?, ?, ?)",
            (time.time(), action, _dump(detail)),
        )


def _last(heard: float | None) -> float:
    """When a job of a killed engine ended, as far as that is known; never in the future."""
    now = time.time()
    return now if heard is None else min(heard, now)


def _job(row: tuple[Any, ...]) -> JobRow:
    fields = dict(zip(_ROW_COLUMNS, row, strict=True))
    fields["request"] = _load(fields["request"])
    fields["environment"] = _load(fields["environment"])
    return JobRow(**fields)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _load(text: str) -> dict[str, Any]:
    loaded = json.loads(text)
    assert isinstance(loaded, dict)
    return loaded


__all__ = ["JOB_STATES", "AuditEntry", "JobStore", "StoreError", "TransitionError"]
