"""What was shown about releases: validations, and gates armed by stable against itself."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.jobs.store import JobStore
from engine.messages import GateRow
from engine.release.gates import Arming
from engine.release.model import Release
from engine.release.rows import dump, load_gates, write_log


@dataclass(frozen=True)
class Validation:
    """The newest validation of a release. ``state``: running | passed | failed | inconclusive."""

    digest: str
    hardware: str
    state: str
    started: float
    ended: float | None
    gates: tuple[GateRow, ...]


class Evidence:
    """Validations and arming in the engine's SQLite file; any thread."""

    def __init__(self, jobs: JobStore, clock: Callable[[], float] = time.time) -> None:
        self._jobs = jobs
        self._clock = clock

    def validation(self, digest: str) -> Validation | None:
        """The newest validation of a release."""
        with self._jobs.reading() as db:
            row = db.execute(
                "SELECT digest, hardware, state, started, ended, gates FROM release_validations "
                "WHERE digest = ?",
                (digest,),
            ).fetchone()
        if row is None:
            return None
        name, hardware, state, started, ended, gates = row
        return Validation(name, hardware, state, started, ended, load_gates(gates))

    def validating(self) -> tuple[str, ...]:
        """Digests whose validation has not ended (an engine was killed, or it goes on)."""
        with self._jobs.reading() as db:
            rows = db.execute("SELECT digest FROM release_validations WHERE state = 'running'")
            return tuple(row[0] for row in rows)

    def set_validation(
        self, release: Release, hardware: str, state: str, gates: Sequence[GateRow], by: str
    ) -> None:
        """Begin ("running") or end a validation."""
        now = self._clock()
        body = dump([dataclasses.asdict(row) for row in gates])
        with self._jobs.writing() as db:
            known = db.execute(
                "SELECT started FROM release_validations WHERE digest = ?", (release.digest,)
            ).fetchone()
            running = state == "running"
            started = now if running or known is None else known[0]
            db.execute(
                "INSERT OR REPLACE INTO release_validations VALUES (?, ?, ?, ?, ?, ?)",
                (release.digest, hardware, state, started, None if running else now, body),
            )
            kind = "validating" if running else f"validation {state}"
            detail = {"gates": json.loads(body)}
            write_log(now, db, kind, release.version, release.digest, by, detail)

    def arming(self, hardware: str, digest: str) -> dict[str, Arming]:
        """What stable against itself showed on this hardware, by gate."""
        with self._jobs.reading() as db:
            rows = db.execute(
                "SELECT gate, armed, rate, n FROM release_arming WHERE hardware = ? AND digest = ?",
                (hardware, digest),
            ).fetchall()
        return {gate: Arming(gate, bool(armed), rate, n) for gate, armed, rate, n in rows}

    def set_arming(self, hardware: str, digest: str, found: Sequence[Arming]) -> None:
        """Keep the result of an A/A run."""
        with self._jobs.writing() as db:
            for one in found:
                db.execute(
                    "INSERT OR REPLACE INTO release_arming VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (hardware, digest, one.gate, one.armed, one.rate, one.n, self._clock()),
                )
