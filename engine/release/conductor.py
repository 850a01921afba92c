"""Leads a rollout through its stages: paired runs, live jobs, verdicts, going on, going back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engine.bus import Bus
from engine.checkpoint.layout import read_json
from engine.client import EngineClient
from engine.messages import Audited, GateRow
from engine.release import gates, rollout
from engine.release.assign import Assigned, Assigner
from engine.release.drain import drain, told
from engine.release.evidence import Evidence
from engine.release.gates import CANDIDATE, Sample
from engine.release.inputs import fixed_inputs, sizes
from engine.release.model import Release, ReleaseError
from engine.release.player import HardBreach, Player
from engine.release.rows import Rollout
from engine.release.settings import Settings, Stage
from engine.release.store import ReleaseStore
from engine.release.validate import Bench
from engine.sentence import sentence

#: Who acts where no person did.
POLICY: Final = "policy"


@dataclass(frozen=True)
class Backing:
    """A rollback under way: seconds from the order to the pointer, and the task of the rest."""

    rollout: Rollout
    pointer_seconds: float
    rest: asyncio.Task[None]


class Conductor:
    """One rollout at a time. The engine's loop only.

    Args:
        devices: how many there are to spread a job over.
        hardware: names this host's devices and driver, for which gates are armed.
        changed: called after every change, to tell it.
        held: keeps the engine from thinking itself idle.
    """

    def __init__(
        self,
        store: ReleaseStore,
        evidence: Evidence,
        assigner: Assigner,
        settings: Settings,
        player: Player,
        bench: Bench,
        client: EngineClient,
        bus: Bus,
        *,
        devices: Callable[[], Awaitable[int]],
        hardware: Callable[[], Awaitable[str]],
        changed: Callable[[], None],
        held: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._assigner = assigner
        self._settings = settings
        self._player = player
        self._bench = bench
        self._client = client
        self._bus = bus
        self._devices = devices
        self._hardware = hardware
        self._changed = changed
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stage_task: asyncio.Task[None] | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self._settings.stages

    def take_up(self) -> None:
        """After a restart: go on where the file says that the rollout stands."""
        now = self._store.rollout()
        if now is None:
            return
        if now.follow is not None:
            self.spawn(self._follow(now, time.monotonic()))
        elif now.state == "rolling":
            self.enter(now)

    def enter(self, now: Rollout) -> None:
        """Begin the present stage's work."""
        self._changed()
        if self.stages[now.stage].paired:
            self._stage_task = self.spawn(self._play(now))
        else:
            self.consider()

    def consider(self) -> None:
        """End a live stage whose jobs or time are up. Gates are judged here and nowhere else."""
        now = self._store.rollout()
        if now is None or now.state != "rolling" or self.stages[now.stage].paired:
            return
        stage = self.stages[now.stage]
        what = self._store.get(now.candidate).changed()
        if what is not None:
            self._move(now, "paused", POLICY, what, state="paused")
            return
        samples = self._samples(now)
        finished = sum(s.role == CANDIDATE for s in samples)
        seconds = self._store.clock() - now.stage_started
        if rollout.stage_over(stage, finished, seconds, now.extended):
            self.spawn(self._end_live(now, samples))

    async def _end_live(self, now: Rollout, samples: Sequence[Sample]) -> None:
        note = ""
        if self.stages[now.stage].share >= 1.0:
            note = sentence("beside stable's jobs of this rollout's earlier stages")
        rows = gates.live(samples, self._settings, await self._armed(now), note=note)
        self._end_stage(now, rows)

    # -- paired stages -------------------------------------------------------------------------

    async def _play(self, now: Rollout) -> None:
        stage = self.stages[now.stage]
        there = await self._devices()
        if stage.devices > there:
            why = sentence(
                "stage {name} needs {devices} devices, here are {there}: left out",
                name=stage.name,
                devices=stage.devices,
                there=there,
            )
            self._next(now, now.gates, POLICY, why)
            return
        versions = self._store.get(now.stable), self._store.get(now.candidate)
        try:
            with self._held():
                rows = await self._paired_rows(now, stage, versions)
        except HardBreach as breach:
            why = sentence("stage {stage}: {breach}", stage=stage.name, breach=breach)
            self._roll_back_if_still(now, why, hard=True)
            return
        self._end_stage(now, rows)

    async def _paired_rows(
        self, now: Rollout, stage: Stage, versions: tuple[Release, Release]
    ) -> tuple[GateRow, ...]:
        settings, armed = self._settings, await self._armed(now)
        folder = Path(str(versions[1].model["ckpt_dir"]))
        size = sizes(settings, read_json(folder / "config.json"))
        samples = await self._player.pairs(
            versions, fixed_inputs(settings), size.paired, f"pair {now.id}.{now.stage}",
            settings, stage.placement or None,
        )  # fmt: skip
        same = versions[0].numerics == versions[1].numerics
        rows = gates.paired(samples, settings, armed, same_numerics=same)
        if stage.devices > 1:
            measured = await self._bench(versions)
            if measured is not None:
                held = armed.get("communication", False)
                rows += gates.communication(measured, settings, held)
        return rows

    # -- what follows from verdicts ------------------------------------------------------------

    def _end_stage(self, before: Rollout, rows: tuple[GateRow, ...]) -> None:
        now = self._store.rollout()
        if now is None or (now.id, now.stage, now.state) != (before.id, before.stage, "rolling"):
            return  # a person, or a breach, was faster
        stage = self.stages[now.stage]
        decision = rollout.judge(stage, rows, now.extended, now.automatic)
        why = decision.why
        match decision.action:
            case "advance":
                self._next(now, rows, POLICY, why)
            case "extend":
                extended = now.extended + 1
                self._move(now, "extended", POLICY, why, extended=extended, gates=rows)
            case "hold":
                self._move(now, "holding", POLICY, why, state="holding", gates=rows)
            case "pause":
                self._move(now, "paused", POLICY, why, state="paused", gates=rows)
            case "rollback":
                self._store.move(now, "breached", POLICY, why, gates=rows)
                self.roll_back(POLICY, why, self._settings.running)
            case _:
                pass

    def next(self, by: str, *, force: bool) -> Rollout:
        """A person's "go on": past gates that do not all PASS only by force.

        Raises:
            ReleaseError: there is nothing to advance, or its gates do not allow it.
        """
        now = self._active()
        if now.state != "holding" and not force:
            raise ReleaseError(
                sentence(
                    "stage {name} has not ended with every gate held ({note}); --force "
                    "goes on all the same, and is audited",
                    name=self.stages[now.stage].name,
                    note=now.note or "it goes on",
                ),
                "refused",
            )
        self._cancel_stage()
        rows = now.gates
        self._next(now, rows, by, _by_hand(force))
        found = self._store.rollout()
        assert found is not None
        return found

    def pause(self, by: str, why: str) -> Rollout:
        """New jobs go to stable until it is resumed."""
        now = self._active()
        self._cancel_stage()
        return self._move(now, "paused", by, why, state="paused")

    def resume(self, by: str) -> Rollout:
        """The present stage begins anew."""
        now = self._active()
        if now.state == "rolling":
            raise ReleaseError(sentence("it is not paused"), "refused")
        moved = self._move(now, "resumed", by, "", state="rolling", extended=0,
                           stage_started=self._store.clock())  # fmt: skip
        self.enter(moved)
        return moved

    def promote(self, by: str, *, force: bool) -> Rollout:
        """The candidate becomes stable before, or at, the last stage's end."""
        now = self._active()
        last = now.stage == len(self.stages) - 1
        if not (last and now.state == "holding") and not force:
            raise ReleaseError(
                sentence(
                    "it stands at stage {name}; the last stage's end promotes it; "
                    "--force does so now, and is audited",
                    name=self.stages[now.stage].name,
                ),
                "refused",
            )
        self._cancel_stage()
        return self._promoted(now, by, _by_hand(force))

    def roll_back(self, by: str, why: str, running: str) -> Backing:
        """Withdraw the candidate, or what was promoted last: the pointer first, then the rest.

        Raises:
            ReleaseError: there is nothing to take back.
        """
        begun = time.monotonic()
        self._cancel_stage()
        done = self._store.withdraw(by, why, {"running": running})
        seconds = time.monotonic() - begun
        version = self._store.get(done.candidate).version
        self._bus.log("CRITICAL", f"release {version} withdrawn by {by} in {seconds:.3f} s: {why}")
        self.audit(
            "rollback",
            by,
            version,
            sentence("{why}; new jobs go to stable ({seconds:.3f} s)", why=why, seconds=seconds),
        )
        self._changed()
        return Backing(done, seconds, self.spawn(self._follow(done, begun)))

    def spawn(self, work: Any) -> asyncio.Task[None]:
        """Run something beside; its own fault is told, never lost."""
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Stop what goes on; the file knows where it stood."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- inside --------------------------------------------------------------------------------

    def _active(self) -> Rollout:
        now = self._store.rollout()
        if now is None or not now.active:
            raise ReleaseError(sentence("no version is being rolled out"), "refused")
        return now

    def _next(self, now: Rollout, rows: tuple[GateRow, ...], by: str, why: str) -> None:
        if now.stage == len(self.stages) - 1:
            self._promoted(now, by, why)
            return
        moved = self._move(
            now, "stage", by, why, stage=now.stage + 1, state="rolling", extended=0, gates=rows,
            stage_started=self._store.clock(),
        )  # fmt: skip
        self.enter(moved)

    def _promoted(self, now: Rollout, by: str, why: str) -> Rollout:
        done = self._store.promote(now, by, why)
        version = self._store.get(done.candidate).version
        self._bus.log("INFO", f"release {version} is stable: {why}")
        self.audit("promote", by, version, why)
        self._changed()
        return done

    def _move(self, now: Rollout, kind: str, by: str, why: str, **changes: Any) -> Rollout:
        moved = self._store.move(now, kind, by, why, **changes)
        version = self._store.get(moved.candidate).version
        level = "WARNING" if kind == "paused" else "INFO"
        self._bus.log(level, f"release {version}: {kind} at stage "
                             f"{self.stages[moved.stage].name}: {why}")  # fmt: skip
        if by != POLICY or kind == "paused":
            self.audit(kind, by, version, why or kind)
        self._changed()
        return moved

    def _roll_back_if_still(self, before: Rollout, why: str, *, hard: bool) -> None:
        now = self._store.rollout()
        if now is not None and now.id == before.id and now.active:
            self.roll_back(POLICY, why, self._settings.hard if hard else self._settings.running)

    async def _follow(self, done: Rollout, begun: float) -> None:
        with self._held():
            detail = await drain(self._client, self._store, self._assigner, done)
        seconds = round(time.monotonic() - begun, 3)
        self._store.followed(done, POLICY, {**detail, "seconds": seconds})
        version = self._store.get(done.candidate).version
        self._bus.log("WARNING", f"release {version} drained in {seconds:.3f} s: {told(detail)}")
        self.audit("drain", POLICY, version, told(detail))
        self._changed()

    def audit(self, action: str, by: str, version: str, result: str) -> None:
        """Keep and tell that somebody, or a policy, did something."""
        self._store.jobs.audit(f"release-{action}", version=version, by=by, result=result)
        self._bus.publish(Audited(action=action, by=by, target=f"release {version}", result=result))

    async def _armed(self, now: Rollout) -> dict[str, bool]:
        found = self._evidence.arming(await self._hardware(), now.stable)
        return {gate: one.armed for gate, one in found.items()}

    def _samples(self, now: Rollout) -> list[Sample]:
        """Measured live jobs of the stage; at 100 % stable's are those of the stages before."""
        stages = [now.stage]
        if self.stages[now.stage].share >= 1.0:
            stages = [n for n, s in enumerate(self.stages[: now.stage + 1]) if not s.paired]
        found = self._assigner.of_rollout(now.id, stages)
        return [
            sample_of(one)
            for one in found
            if one.outcome is not None and (one.role != CANDIDATE or one.stage == now.stage)
        ]

    def _cancel_stage(self) -> None:
        task, self._stage_task = self._stage_task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        text = f"release: {type(error).__name__}: {error}"
        self._bus.log("ERROR", text)
        now = self._store.rollout()
        if now is not None and now.state == "rolling":
            self._move(now, "paused", POLICY, text, state="paused")


def sample_of(one: Assigned) -> Sample:
    """A live job as layer B counts it."""
    outcome = one.outcome or {}
    return replace(
        Sample(one.job, one.role, bool(outcome.get("ok")), one.stratum),
        seconds=outcome.get("seconds"),
        peak_bytes=outcome.get("peak_bytes"),
        error=outcome.get("error"),
    )


def _by_hand(force: bool) -> str:
    return sentence("by hand, forced") if force else sentence("by hand")
