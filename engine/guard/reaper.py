"""The reaper as others use it: look, plan, run, with the driver's readings and the audit wired."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engine.guard import evidence, known, marks, plan_reap, shm
from engine.guard.classify import POLICY, YES, Verdict, classify_all
from engine.guard.evidence import Memory, Scene
from engine.guard.kill import Allow, Audit, ReadOnlyRefused, Target, Waits
from engine.guard.plan_reap import Done, Step
from engine.guard.scan import ParentLog
from engine.guard.shm import Leak, Removed


class AuditStore(Protocol):
    """What of ``engine.jobs.store.JobStore`` is used here."""

    def audit(self, action: str, **detail: Any) -> None: ...


def audit_into(store: AuditStore) -> Audit:
    """An audit callback that writes to the store."""

    def write(action: str, detail: Mapping[str, Any]) -> None:
        store.audit(action, **detail)

    return write


@dataclass(frozen=True)
class Report:
    """What was found and, unless it was a dry run, done."""

    dry_run: bool
    actions: tuple[Done, ...]
    leaks: tuple[Removed, ...] = ()

    @property
    def ok(self) -> bool:
        return plan_reap.exit_ok(self.actions)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``avatop reap``."""
        return {
            "dry_run": self.dry_run,
            "actions": [done.to_dict() for done in self.actions],
            "shm": [
                {
                    "name": item.leak.name,
                    "what": item.leak.what,
                    "bytes": item.leak.bytes,
                    "age_seconds": item.leak.age,
                    "result": item.result,
                    "detail": item.detail or item.leak.doubt or "",
                }
                for item in self.leaks
            ],
        }


@dataclass
class Reaper:
    """One reaper for one engine, or for one command.

    Args:
        read_memory: the driver's list now, e.g. ``lambda: holders(source.read())``; None where
            there is no driver.
        audit: hears every attempt and outcome.
        allow: a second belt, asked before the first signal to each process.
        spare_shm: names in ``/dev/shm`` that are kept on purpose.
        in_namespace: given by tests; else found out.
        home: without a person only leftovers of engines with this state folder are ended.
    """

    read_memory: Callable[[], Memory] | None = None
    audit: Audit | None = None
    allow: Allow | None = None
    waits: Waits = field(default_factory=Waits)
    read_only: bool = False
    spare_shm: Collection[str] = ()
    shm_min_age: float = shm.MIN_AGE_SECONDS
    shm_folder: Path = shm.FOLDER
    in_namespace: bool | None = None
    home: str | None = None
    parents: ParentLog = field(default_factory=ParentLog)

    def look(
        self, *, also: Collection[int] = (), stuck: Mapping[tuple[int, int], str] | None = None
    ) -> Scene:
        """Gather evidence. Looking regularly lets original parents be remembered."""
        memory = self.read_memory() if self.read_memory is not None else {}
        return evidence.look(
            memory,
            also=also,
            stuck=stuck,
            parents=self.parents,
            in_namespace=self.in_namespace,
        )

    def verdicts(self, scene: Scene) -> tuple[Verdict, ...]:
        return classify_all(scene)

    def reap(
        self,
        *,
        yes: bool = False,
        named: Collection[int] = (),
        consent: str = YES,
        stuck: Mapping[tuple[int, int], str] | None = None,
    ) -> Report:
        """Look, plan and, with ``yes``, act. Shared memory is cleaned last, and only if no PIDs
        are named.

        Raises:
            ReadOnlyRefused: ``yes`` in read-only mode.
        """
        if yes and self.read_only:
            raise ReadOnlyRefused("reaping")
        scene = self.look(also=named, stuck=stuck)
        steps = plan_reap.plan(scene, named=named, consent=consent)
        if not yes:
            leaks = () if named else self.leaks(scene)
            planned = tuple(Removed(leak, "kept" if leak.doubt else "dry run") for leak in leaks)
            return Report(True, tuple(plan_reap.dry_run(steps)), planned)
        done = self.run(scene, steps)
        removed: list[Removed] = []
        if not named:
            # Only now: what has ended lets go of its files.
            found = self.leaks(self.look())
            removed = shm.remove(
                found, folder=self.shm_folder, audit=self.audit, read_only=self.read_only
            )
        return Report(False, tuple(done), tuple(removed))

    def reap_own(self) -> Report:
        """What the engine does at its start: its own folder's leftovers, without a person.

        Of shared memory only what avatop itself made.

        Raises:
            ReadOnlyRefused: in read-only mode.
        """
        if self.read_only:
            raise ReadOnlyRefused("reaping")
        scene = self.look()
        steps = plan_reap.plan(scene, consent=POLICY)
        done = self.run(scene, [step for step in steps if self._of_home(step)])
        own = [
            leak
            for leak in self.leaks(self.look())
            if leak.name.startswith(known.OWN_PREFIX) and not shm.is_state(leak.name)
        ]
        removed = shm.remove(own, folder=self.shm_folder, audit=self.audit)
        return Report(False, tuple(done), tuple(removed))

    def _of_home(self, step: Step) -> bool:
        row = step.evidence.row
        env = None if row is None else row.env
        return self.home is None or (env or {}).get(marks.HOME) == self.home

    def run(
        self,
        scene: Scene,
        steps: Collection[Step],
        confirm_kill: Callable[[Target], bool] | None = None,
    ) -> list[Done]:
        """Carry out a plan that was shown."""
        return plan_reap.run(
            scene,
            tuple(steps),
            waits=self.waits,
            read_memory=self.read_memory,
            allow=self.allow,
            confirm_kill=confirm_kill,
            audit=self.audit,
            read_only=self.read_only,
        )

    def leaks(self, scene: Scene) -> tuple[Leak, ...]:
        """Shared memory that nobody uses any more."""
        return shm.leaks(
            scene.rows,
            in_namespace=scene.in_namespace,
            spare=self.spare_shm,
            min_age=self.shm_min_age,
            folder=self.shm_folder,
        )
