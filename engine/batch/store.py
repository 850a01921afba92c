"""Batches in the jobs' SQLite file: claims with a fence, ends that only the claim's holder writes.

Every change is one immediate transaction. Nobody's word but the store's says what is done: a
process that lost its claim (its engine was thought dead) finds its fence outdated.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from engine.batch.rows import (
    BATCH_ENDS,
    CLAIMED,
    FAILED,
    QUARANTINED,
    RUNNING,
    WAITING,
    AttemptRow,
    BatchRow,
    ItemRow,
    NoteRow,
)
from engine.jobs.identity import ProcessIdentity
from engine.jobs.store import JobStore
from engine.sentence import sentence

#: Seconds that a claim holds without being renewed.
LEASE_SECONDS: Final = 60.0
#: Deaths of its engine after which an item is set apart: it may be what kills them.
MOST_CRASHES: Final = 2

_JSON: Final = frozenset({"spec", "lines", "request", "findings"})
T = TypeVar("T", BatchRow, ItemRow, AttemptRow, NoteRow)


class LostClaim(RuntimeError):  # noqa: N818 - says what happened
    """Somebody else holds the item now: what was made for this claim is not its output."""


class BatchStore:
    """The batches of one user. Any thread; each call is one transaction."""

    def __init__(self, jobs: JobStore, owner: ProcessIdentity | None = None) -> None:
        self._jobs = jobs
        self._owner = owner or ProcessIdentity.of()

    # -- batches -------------------------------------------------------------------------------

    def create(self, row: BatchRow, items: Iterable[ItemRow], notes: Iterable[NoteRow]) -> None:
        """Freeze a manifest: the batch and all its items, or nothing."""
        with self._jobs.writing() as db:
            _insert(db, "batches", row)
            for item in items:
                _insert(db, "batch_items", item)
            for note in notes:
                _insert(db, "batch_notes", note)

    def add_items(self, items: Iterable[ItemRow]) -> None:
        """Further items of an inbox."""
        with self._jobs.writing() as db:
            for item in items:
                _insert(db, "batch_items", item)

    def batch(self, batch: str) -> BatchRow | None:
        """One batch; None if there is none of that name."""
        with self._jobs.reading() as db:
            found = _rows(db, BatchRow, "batches", "id = ?", (batch,))
        return found[0] if found else None

    def batches(self, limit: int = -1) -> tuple[BatchRow, ...]:
        """All batches, the newest first."""
        with self._jobs.reading() as db:
            return _rows(db, BatchRow, "batches", "1 ORDER BY created DESC LIMIT ?", (limit,))

    def of_wish(self, digest: str) -> BatchRow | None:
        """The newest batch of the same description."""
        where = "digest = ? ORDER BY created DESC LIMIT 1"
        with self._jobs.reading() as db:
            found = _rows(db, BatchRow, "batches", where, (digest,))
        return found[0] if found else None

    def update(self, batch: str, **fields: Any) -> BatchRow:
        """Change fields of a batch."""
        with self._jobs.writing() as db:
            _update(db, "batches", fields, "id = ?", (batch,))
            return _rows(db, BatchRow, "batches", "id = ?", (batch,))[0]

    def take(self, batch: str) -> bool:
        """Become the batch's driver. False while another living process is."""
        with self._jobs.writing() as db:
            row = db.execute(
                "SELECT owner_pid, owner_start, owner_boot FROM batches WHERE id = ?", (batch,)
            ).fetchone()
            holder = _identity(*row)
            if holder is not None and holder != self._owner and holder.alive:
                return False
            _update(db, "batches", self._owned(), "id = ?", (batch,))
        return True

    def let_go(self, batch: str) -> None:
        """Drive it no more."""
        self.update(batch, owner_pid=None, owner_start=None, owner_boot=None)

    def abandoned(self) -> tuple[BatchRow, ...]:
        """Batches that were left at work by an engine that is dead: marked stopped, and told."""
        changed: list[BatchRow] = []
        with self._jobs.writing() as db:
            marks = ", ".join("?" * len(BATCH_ENDS))
            query = (
                "SELECT id, owner_pid, owner_start, owner_boot FROM batches "
                f"WHERE state NOT IN ({marks})"
            )
            for batch, *who in db.execute(query, tuple(BATCH_ENDS)).fetchall():
                holder = _identity(*who)
                if holder is not None and holder.alive:
                    continue
                fields = {
                    "state": "stopped",
                    "note": sentence("its engine ended; resume goes on with it"),
                }
                _update(db, "batches", fields, "id = ?", (batch,))
                changed += _rows(db, BatchRow, "batches", "id = ?", (batch,))
        return tuple(changed)

    # -- items ---------------------------------------------------------------------------------

    def items(self, batch: str) -> tuple[ItemRow, ...]:
        """The manifest in its order."""
        with self._jobs.reading() as db:
            return _rows(db, ItemRow, "batch_items", "batch = ? ORDER BY seq", (batch,))

    def claim(
        self, batch: str, key: str, temporary: str, devices: str, now: float | None = None
    ) -> ItemRow | None:
        """Take a waiting item: attempt, fence and lease in one transaction. None if it is not to
        be had (anymore, or not yet). ``{fence}`` in ``temporary`` becomes the new fence."""
        now = time.time() if now is None else now
        with self._jobs.writing() as db:
            found = db.execute(
                "SELECT fence FROM batch_items WHERE batch = ? AND key = ? AND state = ? "
                "AND next_time <= ?",
                (batch, key, WAITING, now),
            ).fetchone()
            if found is None:
                return None
            fence = int(found[0]) + 1
            db.execute(
                "UPDATE batch_items SET attempts = attempts + 1 WHERE batch = ? AND key = ?",
                (batch, key),
            )
            fields = {
                **self._owned(),
                "state": RUNNING,
                "fence": fence,
                "lease": now + LEASE_SECONDS,
                "temporary": temporary.replace("{fence}", str(fence)),
                "job": None,
                "error": None,
                "cause": None,
            }
            _update(db, "batch_items", fields, "batch = ? AND key = ?", (batch, key))
            _insert(db, "batch_attempts", AttemptRow(batch, key, fence, now, devices=devices))
            return _item(db, batch, key)

    def renew(self, batch: str, now: float | None = None) -> None:
        """This process still works on what it has claimed."""
        until = (time.time() if now is None else now) + LEASE_SECONDS
        owner = self._owned()
        with self._jobs.writing() as db:
            db.execute(
                "UPDATE batch_items SET lease = ? WHERE batch = ? AND state IN (?, ?) "
                "AND owner_pid = ? AND owner_start = ? AND owner_boot = ?",
                (until, batch, *CLAIMED, *owner.values()),
            )

    def given(self, claim: ItemRow, job: int) -> ItemRow:
        """The claim's job has this number.

        Raises:
            LostClaim: the item is another's.
        """
        with self._jobs.writing() as db:
            where = "batch = ? AND key = ? AND fence = ?"
            values = (claim.batch, claim.key, claim.fence)
            _update(db, "batch_attempts", {"job": job}, where, values)
            return _fenced(db, claim, {"job": job})

    def advance(self, claim: ItemRow, **fields: Any) -> ItemRow:
        """Change fields of a claimed item.

        Raises:
            LostClaim: the item is another's.
        """
        with self._jobs.writing() as db:
            return _fenced(db, claim, fields)

    def end(
        self,
        claim: ItemRow,
        outcome: str,
        *,
        cause: str | None = None,
        origin: str | None = None,
        **fields: Any,
    ) -> ItemRow:
        """End a claim: ``outcome`` into its attempt, ``fields`` (with ``state``) into the item.

        Raises:
            LostClaim: the item is another's; nothing is changed.
        """
        now = time.time()
        with self._jobs.writing() as db:
            row = _fenced(db, claim, {**fields, **_FREE, "cause": cause})
            ended = {"ended": now, "outcome": outcome, "cause": cause, "origin": origin}
            ended["error"] = fields.get("error")
            where = "batch = ? AND key = ? AND fence = ?"
            _update(db, "batch_attempts", ended, where, (claim.batch, claim.key, claim.fence))
            return row

    def settle(self, batch: str, key: str, **fields: Any) -> ItemRow:
        """Change an item that nobody has claimed (an alias, a bad input, a post-command's end)."""
        with self._jobs.writing() as db:
            where = f"batch = ? AND key = ? AND state NOT IN {CLAIMED!r}"
            if not _update(db, "batch_items", fields, where, (batch, key)):
                raise LostClaim(sentence("{key} is being worked on", key=key[:12]))
            return _item(db, batch, key)

    def stale(self, batch: str, now: float | None = None) -> tuple[ItemRow, ...]:
        """Claims whose holder is dead, or has renewed nothing for long."""
        now = time.time() if now is None else now
        where = f"batch = ? AND state IN {CLAIMED!r} ORDER BY seq"
        with self._jobs.reading() as db:
            rows = _rows(db, ItemRow, "batch_items", where, (batch,))
        return tuple(row for row in rows if _is_stale(row, now))

    def crashed(self, claim: ItemRow) -> ItemRow:
        """Give a dead engine's claim back: no attempt of the item's, but two set it apart.

        Raises:
            LostClaim: somebody else has it already.
        """
        many = claim.crashes + 1 >= MOST_CRASHES
        error = sentence(
            "its engine died {crashes} times while it was worked on; look at it, "
            "then: avatop batch retry",
            crashes=claim.crashes + 1,
        )
        return self.end(
            claim,
            "quarantined" if many else "crashed",
            cause="engine_died",
            origin="external",
            state=QUARANTINED if many else WAITING,
            crashes=claim.crashes + 1,
            attempts=max(0, claim.attempts - 1),
            error=error if many else None,
            ended=time.time() if many else None,
        )

    def reset(self, batch: str) -> tuple[ItemRow, ...]:
        """Let failed and set-apart items begin afresh; which they were."""
        with self._jobs.writing() as db:
            where = "batch = ? AND state IN (?, ?) ORDER BY seq"
            rows = _rows(db, ItemRow, "batch_items", where, (batch, FAILED, QUARANTINED))
            for row in rows:
                fields = {
                    "state": "alias" if row.alias_of else WAITING,
                    "attempts": 0,
                    "crashes": 0,
                    "next_time": 0.0,
                    "error": None,
                    "cause": None,
                    "ended": None,
                }
                _update(db, "batch_items", fields, "batch = ? AND key = ?", (batch, row.key))
        return rows

    def refreeze(self, old: ItemRow, new: ItemRow) -> None:
        """An unclaimed item's files were mended: it is another item in the same place."""
        fields = {f.name: getattr(new, f.name) for f in dataclasses.fields(new)}
        fields |= {"seq": old.seq, "fence": old.fence}
        with self._jobs.writing() as db:
            where = f"batch = ? AND key = ? AND state NOT IN {CLAIMED!r}"
            if _update(db, "batch_items", fields, where, (old.batch, old.key)):
                moved = "batch = ? AND key = ?"
                _update(db, "batch_attempts", {"key": new.key}, moved, (old.batch, old.key))

    # -- history -------------------------------------------------------------------------------

    def attempts(self, batch: str) -> tuple[AttemptRow, ...]:
        """Every claim, in order."""
        with self._jobs.reading() as db:
            return _rows(db, AttemptRow, "batch_attempts", "batch = ? ORDER BY id", (batch,))

    def note(self, batch: str, kind: str, text: str, name: str | None = None) -> None:
        """Keep what was done to a batch."""
        with self._jobs.writing() as db:
            _insert(db, "batch_notes", NoteRow(batch, time.time(), kind, text, name))

    def notes(self, batch: str) -> tuple[NoteRow, ...]:
        """What was done and told, in order."""
        with self._jobs.reading() as db:
            return _rows(db, NoteRow, "batch_notes", "batch = ? ORDER BY id", (batch,))

    # -- inside --------------------------------------------------------------------------------

    def _owned(self) -> dict[str, Any]:
        me = self._owner
        return {
            "owner_pid": me.pid if me else None,
            "owner_start": me.start_ticks if me else None,
            "owner_boot": me.boot_id if me else None,
        }


_FREE: Final[dict[str, Any]] = {
    "owner_pid": None,
    "owner_start": None,
    "owner_boot": None,
    "lease": None,
}


def _identity(pid: int | None, start: int | None, boot: str | None) -> ProcessIdentity | None:
    if pid is None or start is None or boot is None:
        return None
    return ProcessIdentity(pid, start, boot)


def _is_stale(row: ItemRow, now: float) -> bool:
    holder = _identity(row.owner_pid, row.owner_start, row.owner_boot)
    return holder is None or not holder.alive or (row.lease or 0.0) < now


def _fenced(db: sqlite3.Connection, claim: ItemRow, fields: Mapping[str, Any]) -> ItemRow:
    where = f"batch = ? AND key = ? AND fence = ? AND state IN {CLAIMED!r}"
    if not _update(db, "batch_items", fields, where, (claim.batch, claim.key, claim.fence)):
        raise LostClaim(sentence("{name} is no longer this process's to end", name=claim.name))
    return _item(db, claim.batch, claim.key)


def _item(db: sqlite3.Connection, batch: str, key: str) -> ItemRow:
    return _rows(db, ItemRow, "batch_items", "batch = ? AND key = ?", (batch, key))[0]


def _insert(db: sqlite3.Connection, table: str, row: Any) -> None:
    values = {f.name: _out(f.name, getattr(row, f.name)) for f in dataclasses.fields(row)}
    marks = ", ".join("?" * len(values))
    db.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    )


def _update(
    db: sqlite3.Connection,
    table: str,
    fields: Mapping[str, Any],
    where: str,
    values: Sequence[Any],
) -> int:
    names = ", ".join(f"{name} = ?" for name in fields)
    new = [_out(name, value) for name, value in fields.items()]
    return db.execute(f"UPDATE {table} SET {names} WHERE {where}", (*new, *values)).rowcount


def _rows(
    db: sqlite3.Connection, kind: type[T], table: str, where: str, values: Sequence[Any]
) -> tuple[T, ...]:
    names = [f.name for f in dataclasses.fields(kind)]
    found = db.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {where}", values).fetchall()
    return tuple(
        kind(**{name: _in(name, value) for name, value in zip(names, row, strict=True)})
        for row in found
    )


def _out(name: str, value: Any) -> Any:
    if name in _JSON and value is not None:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value


def _in(name: str, value: Any) -> Any:
    return json.loads(value) if name in _JSON and value is not None else value
