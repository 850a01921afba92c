"""Which version a job runs by: decided when it starts, kept in its row, all in one transaction."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.jobs.store import StoreError
from engine.messages import END_STATES, JobRow
from engine.parameters.problems import ParamError
from engine.parameters.request import DEFAULTS, Request
from engine.preflight import Work
from engine.release.model import Release, ReleaseError, model_key, runner_of
from engine.release.rollout import stratum, takes_candidate
from engine.release.rows import CANDIDATE, STABLE, dump, get_release, get_rollout, pointer
from engine.release.settings import Settings
from engine.release.store import ReleaseStore
from engine.sentence import sentence
from engine.warm import COLD_VARIABLE

LIVE: Final = "live"
PINNED: Final = "pinned"
#: A submitted job that says this is outside all releases.
NONE: Final = "none"


@dataclass(frozen=True)
class Expected:
    """A job that the service itself is about to submit, known by its output's path."""

    purpose: str  # "check", "aa 3", "pair 5": whose play it belongs to
    stratum: str
    placement: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Assigned:
    """A job's line in the table of assignments."""

    job: int
    digest: str
    role: str
    purpose: str
    rollout: int | None
    stage: int | None
    stratum: str
    asked: dict[str, Any]
    outcome: dict[str, Any] | None
    requeue: bool
    replaced_by: int | None


class Assigner:
    """Decides at claim, and keeps what became of each job."""

    def __init__(self, store: ReleaseStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self.expected: dict[str, Expected] = {}  # by output path

    def claim(self, row: JobRow, prepared: Work) -> tuple[JobRow, Work] | str:
        """The row and request a job really runs by, or why it must not run.

        One transaction: the assignment, the row's version and its request.
        """
        try:
            with self._store.jobs.writing() as db:
                return self._claim(db, row, prepared)
        except (ReleaseError, ParamError, StoreError) as error:
            return sentence("no release could be given to it: {error}", error=error)

    def _claim(self, db: sqlite3.Connection, row: JobRow, prepared: Work) -> tuple[JobRow, Work]:
        if row.version == NONE:
            return row, prepared
        before = _assigned(db, row.id)
        asked = before.asked if before is not None else prepared.request.to_dict()
        expected = self.expected.get(str(asked.get("output")))
        name, role, purpose, rollout, stage = self._decide(db, row, prepared, before, expected)
        if name is None:
            return row, prepared
        release = get_release(db, name)
        if before is None and row.version not in (None, release.version):
            asked = _without(asked, get_release(db, str(row.version)))
        changed = release.changed()
        if changed is not None:
            raise ReleaseError(f"release {release.version}: {changed}", "refused")
        if before is not None and before.digest == release.digest:
            request = prepared.request  # a retry may have changed it with good reason
        else:
            request = release.apply(asked, expected.placement if expected else None)
        environment = {**release.variables, **row.environment}
        if expected is not None:  # what is measured starts alike every time
            environment[COLD_VARIABLE] = "0"
        kind = expected.stratum if expected else stratum(row, prepared)
        db.execute(
            "INSERT OR REPLACE INTO release_jobs (job, digest, role, purpose, rollout, stage, "
            "stratum, batch, asked, t) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.id, release.digest, role, purpose, rollout, stage, kind, row.batch, dump(asked),
             self._store.clock()),
        )  # fmt: skip
        db.execute(
            "UPDATE jobs SET version = ?, request = ?, environment = ? WHERE id = ?",
            (release.version, dump(request.to_dict()), dump(environment), row.id),
        )
        row = dataclasses.replace(
            row, version=release.version, request=request.to_dict(), environment=environment
        )
        return row, _with(prepared, request)

    def _decide(
        self,
        db: sqlite3.Connection,
        row: JobRow,
        prepared: Work,
        before: Assigned | None,
        expected: Expected | None,
    ) -> tuple[str | None, str, str, int | None, int | None]:
        """(digest or version, role, purpose, rollout, stage); no name: outside all releases."""
        stable = pointer(db, STABLE)
        if before is not None and before.purpose == LIVE:
            return self._again(db, row, before, stable)
        if row.version is not None:
            purpose = expected.purpose if expected else PINNED
            release = get_release(db, row.version)
            if before is None and expected is None and stable and _withdrawn(db, release.digest):
                return stable, STABLE, LIVE, None, None  # a job of it that was asked for again
            role = STABLE if release.digest == stable else CANDIDATE
            return release.digest, role, purpose, None, None
        if stable is None or not self._participates(db, prepared):
            return None, "", "", None, None
        pinned = self._of_batch(db, row)
        if pinned is not None:
            role = STABLE if pinned == stable else CANDIDATE
            rollout = get_rollout(db)
            active = rollout if rollout is not None and rollout.active else None
            return (pinned, role, LIVE, active.id if active else None,
                    active.stage if active else None)  # fmt: skip
        return self._by_quota(db, row, prepared, stable)

    def _again(
        self, db: sqlite3.Connection, row: JobRow, before: Assigned, stable: str | None
    ) -> tuple[str, str, str, int | None, int | None]:
        """A retry keeps its version, unless that was withdrawn."""
        if stable is None or not _withdrawn(db, before.digest):
            return before.digest, before.role, LIVE, before.rollout, before.stage
        if row.clip:
            gone = get_release(db, before.digest).version
            raise ReleaseError(
                sentence(
                    "its {clip} clips are of version {gone}, which was withdrawn; clips "
                    "of two versions are never mixed in one output. Join them (finish "
                    "{id}), or submit it anew under stable",
                    clip=row.clip,
                    gone=gone,
                    id=row.id,
                ),
                "refused",
            )
        return stable, STABLE, LIVE, None, None

    def _by_quota(
        self, db: sqlite3.Connection, row: JobRow, prepared: Work, stable: str
    ) -> tuple[str, str, str, int | None, int | None]:
        rollout = get_rollout(db)
        if rollout is None or not rollout.active:
            return stable, STABLE, LIVE, None, None
        stage = self._settings.stages[rollout.stage]
        share = 0.0 if stage.paired or rollout.state == "paused" else stage.share
        role = STABLE
        if share > 0:
            here = self._counts(db, rollout.id, rollout.stage, stratum(row, prepared))
            everywhere = self._counts(db, rollout.id, rollout.stage, None)
            candidate = get_release(db, rollout.candidate)
            if takes_candidate(share, here, everywhere) and candidate.changed() is None:
                role = CANDIDATE
        digest = rollout.candidate if role == CANDIDATE else stable
        return digest, role, LIVE, rollout.id, rollout.stage

    def _participates(self, db: sqlite3.Connection, prepared: Work) -> bool:
        """The job asked for a model that is, or was, live as a release; others run as asked."""
        asked = prepared.request.to_dict()
        mine = model_key(asked), runner_of(asked)
        rows = db.execute(
            "SELECT body FROM releases WHERE digest IN (SELECT digest FROM release_log "
            "WHERE kind = 'stable')"
        ).fetchall()
        known = [json.loads(row[0]) for row in rows]
        return any((model_key(r["model"]), runner_of(r["parameters"])) == mine for r in known)

    def _of_batch(self, db: sqlite3.Connection, row: JobRow) -> str | None:
        """The version its batch runs by: that of the first item, while it is not withdrawn."""
        if row.batch is None:
            return None
        found = db.execute(
            "SELECT j.digest FROM release_jobs j JOIN releases r ON r.digest = j.digest "
            "WHERE j.batch = ? AND r.withdrawn = 0 ORDER BY j.t LIMIT 1",
            (row.batch,),
        ).fetchone()
        return None if found is None else str(found[0])

    @staticmethod
    def _counts(
        db: sqlite3.Connection, rollout: int, stage: int, kind: str | None
    ) -> tuple[int, int]:
        where = "" if kind is None else " AND stratum = ?"
        values = (rollout, stage, LIVE) if kind is None else (rollout, stage, LIVE, kind)
        row = db.execute(
            "SELECT COUNT(*), COALESCE(SUM(role = 'candidate'), 0) FROM release_jobs "
            f"WHERE rollout = ? AND stage = ? AND purpose = ?{where}",
            values,
        ).fetchone()
        return int(row[0]), int(row[1])

    # -- what became of them -------------------------------------------------------------------

    def get(self, job: int) -> Assigned | None:
        """A job's assignment, if a release was given to it."""
        with self._store.jobs.reading() as db:
            return _assigned(db, job)

    def of_rollout(self, rollout: int, stages: Sequence[int]) -> tuple[Assigned, ...]:
        """The live jobs of some stages, the oldest first."""
        marks = ", ".join("?" * len(stages))
        return self._select(
            f"rollout = ? AND purpose = 'live' AND stage IN ({marks})", rollout, *stages
        )

    def of_release(self, digest: str) -> tuple[Assigned, ...]:
        """Every job that a version was given to."""
        return self._select("digest = ?", digest)

    def without_outcome(self) -> tuple[Assigned, ...]:
        """Jobs that have ended (an engine was killed before it noted how)."""
        states = ", ".join(f"'{state}'" for state in sorted(END_STATES))
        return self._select(
            f"outcome IS NULL AND job IN (SELECT id FROM jobs WHERE state IN ({states}))"
        )

    def ended(self, job: int, outcome: Mapping[str, Any]) -> None:
        """Keep how a job ended."""
        with self._store.jobs.writing() as db:
            db.execute("UPDATE release_jobs SET outcome = ? WHERE job = ?", (dump(outcome), job))

    def replaced(self, job: int, by: int) -> None:
        """A withdrawn job's work was submitted anew."""
        with self._store.jobs.writing() as db:
            db.execute("UPDATE release_jobs SET replaced_by = ? WHERE job = ?", (by, job))

    def _select(self, where: str, *values: Any) -> tuple[Assigned, ...]:
        with self._store.jobs.reading() as db:
            rows = db.execute(f"{_SELECT} WHERE {where} ORDER BY t, job", values).fetchall()
        return tuple(_of(row) for row in rows)


_SELECT: Final = (
    "SELECT job, digest, role, purpose, rollout, stage, stratum, asked, outcome, requeue, "
    "replaced_by FROM release_jobs"
)


def _assigned(db: sqlite3.Connection, job: int) -> Assigned | None:
    row = db.execute(f"{_SELECT} WHERE job = ?", (job,)).fetchone()
    return None if row is None else _of(row)


def _of(row: tuple[Any, ...]) -> Assigned:
    job, digest, role, purpose, rollout, stage, kind, asked, outcome, requeue, replaced = row
    return Assigned(
        job=job,
        digest=digest,
        role=role,
        purpose=purpose,
        rollout=rollout,
        stage=stage,
        stratum=kind,
        asked=json.loads(asked),
        outcome=None if outcome is None else json.loads(outcome),
        requeue=bool(requeue),
        replaced_by=replaced,
    )


def _withdrawn(db: sqlite3.Connection, digest: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM releases WHERE digest = ? AND withdrawn = 1", (digest,)
    ).fetchone()
    return found is not None


def _without(asked: dict[str, Any], release: Release) -> dict[str, Any]:
    """A request that a version had been applied to, as it was before."""
    own = release.parameters | {"gpu_memory_cap": release.memory_cap}
    return {
        name: DEFAULTS[name] if name in own and own[name] == value else value
        for name, value in asked.items()
    }


def _with(prepared: Work, request: Request) -> Work:
    """The same work with another request; its run checks it once more before it starts."""
    work: Any = prepared  # both kinds of work are dataclasses with a request
    changed: Work = dataclasses.replace(work, request=request)
    return changed
