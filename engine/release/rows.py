"""Rows of the releases' tables: rollouts, pointers, the log; inside a transaction or a look."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.messages import GateRow
from engine.release.model import Release, ReleaseError
from engine.sentence import sentence

STABLE: Final = "stable"
CANDIDATE: Final = "candidate"
#: A rollout that is not over. "holding": gates held, a person advances it.
ACTIVE: Final = frozenset({"rolling", "holding", "paused"})


@dataclass(frozen=True)
class LogEntry:
    """One line of what happened: when, what, to which version, by whom."""

    t: float
    kind: str
    version: str
    digest: str
    by: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Rollout:
    """One way of a candidate towards all jobs. ``follow`` is what a rollback has yet to do."""

    id: int
    candidate: str  # digests
    stable: str
    state: str  # rolling | holding | paused | promoted | rolled_back
    stage: int
    stage_started: float
    extended: int
    automatic: bool
    gates: tuple[GateRow, ...]
    note: str
    started: float
    ended: float | None
    follow: dict[str, Any] | None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def pointer(db: sqlite3.Connection, name: str) -> str | None:
    """The digest a pointer holds, inside a transaction or a look."""
    found = db.execute("SELECT digest FROM release_pointers WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])


def get_release(db: sqlite3.Connection, name: str) -> Release:
    """As ``ReleaseStore.get``, inside a transaction or a look."""
    wanted = pointer(db, name) if name in (STABLE, CANDIDATE) else name
    row = db.execute(
        "SELECT body FROM releases WHERE version = ? OR digest = ?", (wanted, wanted)
    ).fetchone()
    if row is None:
        raise ReleaseError(
            sentence("there is no release {name!r}; avatop release list shows them", name=name)
        )
    return Release.from_dict(json.loads(row[0]))


def get_rollout(db: sqlite3.Connection) -> Rollout | None:
    """As ``ReleaseStore.rollout``, inside a transaction or a look."""
    names = [field.name for field in dataclasses.fields(Rollout)]
    row = db.execute(
        f"SELECT {', '.join(names)} FROM release_rollouts ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    values = dict(zip(names, row, strict=True))
    values["automatic"] = bool(values["automatic"])
    values["gates"] = load_gates(values["gates"])
    values["follow"] = None if values["follow"] is None else json.loads(values["follow"])
    return Rollout(**values)


def write_log(
    now: float,
    db: sqlite3.Connection,
    kind: str,
    version: str,
    digest: str,
    by: str,
    detail: Mapping[str, Any],
) -> None:
    """A line of the append-only log, inside a transaction."""
    db.execute(
        "INSERT INTO release_log (t, kind, version, digest, who, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (now, kind, version, digest, by, dump(detail)),
    )


def load_gates(text: str) -> tuple[GateRow, ...]:
    """Gates as they were kept."""
    return tuple(GateRow(**{**row, "jobs": tuple(row["jobs"])}) for row in json.loads(text))


def dump(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
