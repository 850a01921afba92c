"""Releases in the engine's SQLite file: immutable rows, pointers, an append-only log, rollouts.

Every change of state is one immediate transaction together with its line in the log, so a kill at
any statement leaves the state before or the state after, never one between.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.jobs.store import JobStore
from engine.release.model import Release, ReleaseError, check_version
from engine.release.rows import (
    CANDIDATE,
    STABLE,
    LogEntry,
    Rollout,
    dump,
    get_release,
    get_rollout,
    pointer,
    write_log,
)
from engine.sentence import sentence


class ReleaseStore:
    """Releases, pointers, log and rollouts; any thread.

    Every method raises ``StoreError`` where the file cannot be used.
    """

    def __init__(self, jobs: JobStore, clock: Callable[[], float] = time.time) -> None:
        self.jobs = jobs
        self.clock = clock

    # -- releases ------------------------------------------------------------------------------

    def known_hash(self, path: str, size: int, mtime_ns: int) -> str | None:
        """A file's hash from before, if it has not changed since."""
        with self.jobs.reading() as db:
            found = db.execute(
                "SELECT sha256 FROM release_files WHERE path = ? AND size = ? AND mtime_ns = ?",
                (path, size, mtime_ns),
            ).fetchone()
        return None if found is None else str(found[0])

    def add(self, release: Release, contents: Mapping[str, bytes], by: str) -> Release:
        """Keep a release; the same one again changes nothing.

        Raises:
            ReleaseError: the version, or the content, is known under another digest or name.
        """
        check_version(release.version)
        digest = release.digest
        with self.jobs.writing() as db:
            for known, version in db.execute("SELECT digest, version FROM releases").fetchall():
                if (known, version) == (digest, release.version):
                    return get_release(db, digest)
                if version == release.version:
                    raise ReleaseError(
                        sentence(
                            "version {version} exists with other content ({known}); a "
                            "release never changes: choose another version name",
                            version=version,
                            known=known[:12],
                        ),
                        "refused",
                    )
                if known == digest:
                    raise ReleaseError(
                        sentence("this is version {version} already", version=version), "refused"
                    )
            for file in (*release.weights, *release.lora):
                db.execute(
                    "INSERT OR REPLACE INTO release_files VALUES (?, ?, ?, ?)",
                    (file.path, file.size, file.mtime_ns, file.sha256),
                )
            for content in contents.values():
                sha = hashlib.sha256(content).hexdigest()
                db.execute("INSERT OR IGNORE INTO release_blobs VALUES (?, ?)", (sha, content))
            db.execute(
                "INSERT INTO releases (digest, version, created, body) VALUES (?, ?, ?, ?)",
                (digest, release.version, release.created, dump(release.to_dict())),
            )
            write_log(self.clock(), db, "added", release.version, digest, by, {})
            return release

    def list(self) -> tuple[Release, ...]:
        """All releases, the newest first."""
        with self.jobs.reading() as db:
            rows = db.execute("SELECT body FROM releases ORDER BY created DESC").fetchall()
        return tuple(Release.from_dict(json.loads(row[0])) for row in rows)

    def get(self, name: str) -> Release:
        """A release by its version, its digest, or "stable" or "candidate".

        Raises:
            ReleaseError: there is none.
        """
        with self.jobs.reading() as db:
            return get_release(db, name)

    def find(self, name: str | None) -> Release | None:
        """As ``get``; None where there is none."""
        if name is None:
            return None
        try:
            return self.get(name)
        except ReleaseError:
            return None

    def contents(self, release: Release) -> dict[str, bytes]:
        """The configuration files of a release by path."""
        with self.jobs.reading() as db:
            return {
                path: bytes(db.execute("SELECT content FROM release_blobs WHERE sha256 = ?",
                                       (sha,)).fetchone()[0])
                for path, sha in release.configuration.items()
            }  # fmt: skip

    def withdrawn(self) -> frozenset[str]:
        """Digests of versions that were rolled back and not started again."""
        with self.jobs.reading() as db:
            return frozenset(
                row[0] for row in db.execute("SELECT digest FROM releases WHERE withdrawn = 1")
            )

    def pointer(self, name: str) -> str | None:
        """The digest that "stable" or "candidate" means now."""
        with self.jobs.reading() as db:
            return pointer(db, name)

    def role(self, digest: str) -> str:
        """stable | candidate | withdrawn | retired | known."""
        for name in (STABLE, CANDIDATE):
            if self.pointer(name) == digest:
                return name
        if digest in self.withdrawn():
            return "withdrawn"
        with self.jobs.reading() as db:
            was = db.execute(
                "SELECT 1 FROM release_log WHERE kind = 'stable' AND digest = ? LIMIT 1", (digest,)
            ).fetchone()
        return "known" if was is None else "retired"

    def history(self, version: str | None = None, limit: int = 200) -> tuple[LogEntry, ...]:
        """The log, the newest first."""
        where, values = ("WHERE version = ?", (version,)) if version else ("", ())
        with self.jobs.reading() as db:
            rows = db.execute(
                f"SELECT t, kind, version, digest, who, detail FROM release_log {where} "
                "ORDER BY id DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
        return tuple(
            LogEntry(t, kind, name, digest, who, json.loads(detail))
            for t, kind, name, digest, who, detail in rows
        )

    def live_at(self, t: float) -> str | None:
        """Which version was stable at a moment; None before the first."""
        with self.jobs.reading() as db:
            found = db.execute(
                "SELECT version FROM release_log WHERE kind = 'stable' AND t <= ? "
                "ORDER BY id DESC LIMIT 1",
                (t,),
            ).fetchone()
        return None if found is None else str(found[0])

    def log(self, kind: str, release: Release, by: str, detail: Mapping[str, Any]) -> None:
        """Write a line that changes nothing else."""
        with self.jobs.writing() as db:
            write_log(self.clock(), db, kind, release.version, release.digest, by, detail)

    def versions(self) -> dict[int, str]:
        """Job → version, for logs and metrics that know only a job."""
        with self.jobs.reading() as db:
            rows = db.execute("SELECT id, version FROM jobs WHERE version IS NOT NULL").fetchall()
        return {int(job): str(version) for job, version in rows}

    # -- pointers and rollouts -----------------------------------------------------------------

    def set_first_stable(self, release: Release, by: str) -> None:
        """Name the version that all others are compared with.

        Raises:
            ReleaseError: there is one; only a rollout takes its place.
        """
        with self.jobs.writing() as db:
            known = pointer(db, STABLE)
            if known is not None:
                raise ReleaseError(
                    sentence(
                        "{version} is stable; start a rollout instead: avatop release "
                        "start {release}",
                        version=get_release(db, known).version,
                        release=release.version,
                    ),
                    "refused",
                )
            self._point(db, STABLE, release, by)

    def rollout(self) -> Rollout | None:
        """The newest rollout, over or not."""
        with self.jobs.reading() as db:
            return get_rollout(db)

    def rolling(self, version: str) -> bool:
        """Whether a version is stable or candidate of a rollout that goes on."""
        now = self.rollout()
        if now is None or not now.active:
            return False
        return version in {self.get(digest).version for digest in (now.stable, now.candidate)}

    def begin(self, release: Release, by: str, *, automatic: bool) -> Rollout:
        """Make a release the candidate, at the first stage.

        Raises:
            ReleaseError: another one is, or there is nothing to go back to.
        """
        digest, now = release.digest, self.clock()
        with self.jobs.writing() as db:
            stable, active = pointer(db, STABLE), get_rollout(db)
            if stable is None:
                raise ReleaseError(
                    sentence("no version is stable: avatop release promote names the first"),
                    "refused",
                )
            if stable == digest:
                raise ReleaseError(
                    sentence("{version} is stable already", version=release.version), "refused"
                )
            if active is not None and active.active:
                other = get_release(db, active.candidate).version
                raise ReleaseError(
                    sentence(
                        "{other} is being rolled out; roll it back or promote it first", other=other
                    ),
                    "refused",
                )
            db.execute("UPDATE releases SET withdrawn = 0 WHERE digest = ?", (digest,))
            db.execute(
                "INSERT INTO release_rollouts (candidate, stable, state, stage_started, automatic, "
                "started) VALUES (?, ?, 'rolling', ?, ?, ?)",
                (digest, stable, now, automatic, now),
            )
            self._point(db, CANDIDATE, release, by)
            found = get_rollout(db)
            assert found is not None
            return found

    def move(self, rollout: Rollout, kind: str, by: str, note: str = "", **changes: Any) -> Rollout:
        """Change an active rollout: a stage, a pause, an extension, its gates.

        Raises:
            ReleaseError: it is over, or was moved meanwhile.
        """
        with self.jobs.writing() as db:
            now = get_rollout(db)
            if now is None or now.id != rollout.id or (now.state, now.stage) != (
                rollout.state, rollout.stage
            ):  # fmt: skip
                raise ReleaseError(
                    sentence("the rollout was moved meanwhile; look at it again"), "refused"
                )
            self._change(db, rollout.id, note=note, **changes)
            release = get_release(db, rollout.candidate)
            detail = {"note": note, **{k: v for k, v in changes.items() if k != "gates"}}
            if "gates" in changes:
                detail["gates"] = [dataclasses.asdict(row) for row in changes["gates"]]
            write_log(self.clock(), db, kind, release.version, release.digest, by, detail)
            found = get_rollout(db)
            assert found is not None
            return found

    def promote(self, rollout: Rollout, by: str, note: str) -> Rollout:
        """The candidate becomes stable; the old one stays ready to come back."""
        with self.jobs.writing() as db:
            release = get_release(db, rollout.candidate)
            self._change(db, rollout.id, state="promoted", note=note, ended=self.clock())
            db.execute("DELETE FROM release_pointers WHERE name = ?", (CANDIDATE,))
            self._point(db, STABLE, release, by)
            write_log(
                self.clock(), db, "promoted", release.version, release.digest, by, {"note": note}
            )
            found = get_rollout(db)
            assert found is not None
            return found

    def withdraw(self, by: str, why: str, follow: Mapping[str, Any]) -> Rollout:
        """Go back: one transaction on the pointers. New jobs go to stable from here on.

        Args:
            follow: what has yet to be done with the version's jobs; kept until ``followed``.

        Raises:
            ReleaseError: nothing was rolled out that could be taken back.
        """
        with self.jobs.writing() as db:
            last = get_rollout(db)
            if last is None or last.state == "rolled_back":
                raise ReleaseError(sentence("there is no rollout to take back"), "refused")
            bad, good = get_release(db, last.candidate), get_release(db, last.stable)
            db.execute("DELETE FROM release_pointers WHERE name = ?", (CANDIDATE,))
            if pointer(db, STABLE) != good.digest:
                self._point(db, STABLE, good, by)
            db.execute("UPDATE releases SET withdrawn = 1 WHERE digest = ?", (bad.digest,))
            self._change(db, last.id, state="rolled_back", note=why, ended=self.clock(),
                         follow=dump(follow))  # fmt: skip
            # What the version spoilt is done anew; what it still does, where the policy says so. A
            # batch takes up its own items: a cancelled one would count as failed there.
            live = "'preflight', 'loading', 'running', 'decoding'"
            states = live if follow.get("running") == "requeue" else "''"
            db.execute(
                "UPDATE release_jobs SET requeue = 1 WHERE digest = ? AND t >= ? "
                "AND purpose = 'live' AND batch IS NULL AND (job IN "
                f"(SELECT id FROM jobs WHERE state IN ({states})) OR job IN "
                "(SELECT id FROM jobs WHERE state = 'failed') OR (job IN "
                "(SELECT id FROM jobs WHERE state = 'interrupted') "
                "AND json_extract(outcome, '$.ok') = 0))",
                (bad.digest, last.started),
            )
            write_log(
                self.clock(),
                db,
                "rolled_back",
                bad.version,
                bad.digest,
                by,
                {"note": why, **follow},
            )
            found = get_rollout(db)
            assert found is not None
            return found

    def followed(self, rollout: Rollout, by: str, detail: Mapping[str, Any]) -> None:
        """What a rollback had to do is done."""
        with self.jobs.writing() as db:
            self._change(db, rollout.id, follow=None)
            release = get_release(db, rollout.candidate)
            write_log(self.clock(), db, "drained", release.version, release.digest, by, detail)

    # -- inside --------------------------------------------------------------------------------

    def _change(self, db: sqlite3.Connection, rollout: int, **fields: Any) -> None:
        if "gates" in fields:
            fields["gates"] = dump([dataclasses.asdict(row) for row in fields["gates"]])
        names = ", ".join(f"{name} = ?" for name in fields)
        db.execute(f"UPDATE release_rollouts SET {names} WHERE id = ?", (*fields.values(), rollout))

    def _point(self, db: sqlite3.Connection, name: str, release: Release, by: str) -> None:
        before = pointer(db, name)
        db.execute("INSERT OR REPLACE INTO release_pointers VALUES (?, ?)", (name, release.digest))
        write_log(self.clock(), db, name, release.version, release.digest, by, {"before": before})
