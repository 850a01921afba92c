"""Looks at the host's processes while an engine runs, and ends what people name.

Looking regularly also lets original parents be remembered, which is how orphans are known. A look
takes a thread and no device: the driver's list is the last one sampled.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import psutil

from engine.bus import Bus
from engine.guard import plan_reap, shm
from engine.guard.classify import NAMED, NOBODY, ORPHAN, PROTECTED, STRAY, Verdict
from engine.guard.evidence import Evidence, Memory, Scene
from engine.guard.kill import ReadOnlyRefused
from engine.guard.plan_reap import END, Done
from engine.guard.reaper import Reaper, audit_into
from engine.jobs.store import JobStore, StoreError
from engine.messages import Audited, ProcessClass, ProcessesSurveyed, ProcessReading, Reap, Reply
from engine.sentence import joined, sentence
from engine.telemetry.processes import ProcessTable

#: Classes of processes, others' too, that an engine ends without a person: off unless set.
UNASKED: Final = "AVATOP_REAP_UNASKED"
_MAY_BE_UNASKED: Final = (ORPHAN, STRAY)
SURVEY_SECONDS: Final = 10.0
#: On a host of thousands of processes a look takes longer: so many times that is rested.
_REST: Final = 40.0
#: Start times come by two ways whose rounding differs; a number is not used again so soon.
_SAME_START: Final = 1.5


class Survey:
    """The engine's loop only, but for the looking.

    Args:
        read_memory: the driver's list now; None where there is no driver.
        home: the state folder: only its own engines' leftovers are ended without a person.
        read_only: nothing is ever ended.
    """

    def __init__(
        self,
        bus: Bus,
        store: JobStore,
        home: str,
        *,
        read_memory: Callable[[], Memory] | None = None,
        read_only: bool = False,
    ) -> None:
        self._bus = bus
        self._store = store
        self._read_only = read_only
        self._table = ProcessTable()
        self._told: ProcessesSurveyed | None = None
        self._found: set[tuple[int, float]] = set()  # what may be ended, as of the last look
        self._failing = False
        self._lock = asyncio.Lock()  # one look, or deed, at a time
        self.reaper = Reaper(
            read_memory=read_memory, audit=audit_into(store), read_only=read_only, home=home
        )

    async def run(self) -> None:
        """Our own leftovers first, then look again and again. Ends by being cancelled."""
        unasked = self._unasked()
        if not self._read_only:
            await self.reap_own()
        while True:
            began = time.monotonic()
            await self.look()
            await self.reap_unasked(unasked)
            took = time.monotonic() - began
            await asyncio.sleep(max(SURVEY_SECONDS, _REST * took))

    async def look(self) -> None:
        """One look; told when something is different from the last."""
        async with self._lock:
            try:
                seen = await asyncio.to_thread(self._look)
            except (OSError, psutil.Error) as error:
                if not self._failing:
                    self._bus.log("WARNING", f"processes cannot be looked at: {error}")
                self._failing = True
                return
        self._failing = False
        if self._told is None or _essence(seen) != _essence(self._told):
            self._told = seen
            self._bus.publish(seen)

    def _look(self) -> ProcessesSurveyed:
        scene = self.reaper.look()
        verdicts = {verdict.pid: verdict for verdict in self.reaper.verdicts(scene)}
        found = tuple(self._class(e, verdicts[e.pid], scene) for e in scene.evidence)
        self._table.forget_others(e.pid for e in scene.evidence)
        leaks = self.reaper.leaks(scene)
        kept = tuple(leak.name for leak in leaks if not shm.is_state(leak.name))
        return ProcessesSurveyed(processes=found, leaked=kept)

    def _class(self, evidence: Evidence, verdict: Verdict, scene: Scene) -> ProcessClass:
        reading = self._table.describe(evidence.pid)
        started = evidence.started
        if reading.started == 0.0 and started is not None:
            row = evidence.row
            reading = ProcessReading(
                evidence.pid, started, command=None if row is None else " ".join(row.command)
            )
        return ProcessClass(
            process=ProcessReading(**{**vars(reading), "memory": dict(evidence.memory)}),
            kind=verdict.kind,
            evidence=verdict.evidence,
            protected=verdict.kind == PROTECTED,
            next_command=verdict.advice or _command(verdict, scene),
            consent=verdict.consent,
            children=evidence.children,
            container=_container(evidence),
        )

    # -- deeds ---------------------------------------------------------------------------------

    async def reap_own(self) -> None:
        """End what a dead engine of this state folder left behind; told and audited."""
        async with self._lock:
            try:
                report = await asyncio.to_thread(self.reaper.reap_own)
            except (OSError, StoreError, psutil.Error) as error:
                self._bus.log("WARNING", f"leftovers could not be ended: {error}")
                return
        for done in report.actions:
            if done.sent:
                self._tell(done, "policy")
        for item in report.leaks:
            if item.result == "removed":
                self._bus.log("INFO", f"/dev/shm/{item.leak.name}: leaked, removed")

    def _unasked(self) -> frozenset[str]:
        """The classes that the environment names; what it may not name is told."""
        named = {word.strip() for word in os.environ.get(UNASKED, "").split(",")} - {""}
        if unknown := named - set(_MAY_BE_UNASKED):
            self._bus.log(
                "WARNING",
                f"{UNASKED}: {', '.join(sorted(unknown))}: only {' and '.join(_MAY_BE_UNASKED)} "
                "can be ended without a person",
            )
        return frozenset(named & set(_MAY_BE_UNASKED))

    async def reap_unasked(self, kinds: frozenset[str]) -> None:
        """End processes of these classes that two looks in a row found so."""
        if not kinds or self._read_only or self._told is None:
            return
        found = {
            (p.process.pid, p.process.started) for p in self._told.processes if p.kind in kinds
        }
        targets, self._found = tuple(sorted(found & self._found)), found
        if targets:
            await self.reap(Reap(targets=targets, confirmed=True, force=True, by="policy"))

    async def reap(self, command: Reap) -> Reply:
        """End the named processes by the reaper's rules."""
        try:
            if self._read_only:
                raise ReadOnlyRefused("reaping")
            async with self._lock:
                refused, done = await asyncio.to_thread(self._reap, command)
        except (ReadOnlyRefused, OSError, StoreError, psutil.Error) as error:
            return Reply(False, str(error), state="refused")
        for one in done:
            self._tell(one, command.by)
        asked = {pid for pid, _ in command.targets}
        acted = [one for one in done if one.step.evidence.pid in asked]
        parts = [
            sentence("PID {pid}: {told}", pid=one.step.evidence.pid, told=_outcome(one))
            for one in acted
        ]
        parts += [sentence("PID {pid}: {told}", pid=pid, told=why) for pid, why in refused.items()]
        good = not refused and plan_reap.exit_ok(done)
        await self.look()
        data = {"actions": [one.to_dict() for one in done], "refused": dict(refused)}
        return Reply(good, joined(parts), state="done" if good else "refused", data=data)

    def _reap(self, command: Reap) -> tuple[Mapping[int, str], Sequence[Done]]:
        """(PID → why not, what was done). In a thread."""
        pids = [pid for pid, _ in command.targets]
        scene = self.reaper.look(also=pids)
        verdicts = {verdict.pid: verdict for verdict in self.reaper.verdicts(scene)}
        refused = {
            pid: why
            for pid, started in command.targets
            if (why := self._why_not(scene, verdicts, pid, started, command.confirmed)) is not None
        }
        steps = plan_reap.plan(scene, named=[pid for pid in pids if pid not in refused])
        steps = tuple(s for s in steps if s.action == END and s.evidence.pid not in refused)
        if not steps:
            return refused, ()
        done = self.reaper.run(scene, steps, confirm_kill=lambda _: command.force)
        return refused, done

    def _why_not(
        self,
        scene: Scene,
        verdicts: Mapping[int, Verdict],
        pid: int,
        started: float,
        confirmed: bool,
    ) -> str | None:
        evidence, verdict = scene.of(pid), verdicts.get(pid)
        if evidence is None or verdict is None or evidence.row is None:
            return sentence("there is no such process any more")
        now = evidence.started
        if now is None or abs(now - started) > _SAME_START:
            return sentence("its number belongs to another process now; nothing was sent")
        if verdict.consent == NOBODY:
            return sentence("{kind}: {evidence}", kind=verdict.kind, evidence=verdict.evidence[0])
        if verdict.consent == NAMED and not confirmed:
            return sentence(
                "{kind}: it is not avatop's own; its number has to be typed", kind=verdict.kind
            )
        return None

    def _tell(self, done: Done, by: str) -> None:
        pid, told = done.step.evidence.pid, _outcome(done)
        target = f"PID {pid} ({done.step.verdict.kind})"
        self._bus.log("WARNING", f"reaped {target} for {by}: {told}")
        self._bus.publish(Audited(action="reap", by=by, target=target, result=told))


def _outcome(done: Done) -> str:
    freed = (done.freed_bytes or 0) / 2**30
    told = (
        sentence("{result}, {gib:.2f} GiB are free again", result=done.result, gib=freed)
        if freed
        else str(done.result)
    )
    if done.detail:
        told = sentence("{told} ({detail})", told=told, detail=done.detail)
    return joined((told, done.advice)) if done.advice else told


def _command(verdict: Verdict, scene: Scene) -> str | None:
    """Where the engine's own key needs more than a key."""
    row = scene.rows.get(verdict.pid)
    if row is not None and row.uid != scene.uid and verdict.consent == NAMED:
        return f"sudo avatop reap --pid {verdict.pid} --yes"
    return None


def _container(evidence: Evidence) -> str | None:
    """The control group of a process in a PID namespace of its own; None for one that is not."""
    row = evidence.row
    if row is None or len(row.nspid) < 2:
        return None
    return evidence.cgroup or sentence(
        "PID {inner_pid} in another PID namespace", inner_pid=row.inner_pid
    )


def _essence(seen: ProcessesSurveyed) -> tuple[Any, ...]:
    """What makes a survey different: not the bytes, which move all the time.

    The command counts: a rank that works for the next job has another title.
    """
    processes = tuple(
        (p.process.pid, p.process.started, p.kind, p.protected, p.process.command,
         tuple(sorted(p.process.memory)))
        for p in seen.processes
    )  # fmt: skip
    return processes, seen.leaked
