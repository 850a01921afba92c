"""The engine's releases: commands in, ``ReleaseChanged`` and ``Audited`` out, versions at claim."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.bus import Bus
from engine.checkpoint.errors import CheckpointError
from engine.client import EngineClient
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.messages import JobRow, ReleaseChanged, Reply
from engine.messages.commands import ReleaseCommand
from engine.preflight import Machine, Work
from engine.release import snapshot
from engine.release.assign import Assigner
from engine.release.conductor import Conductor
from engine.release.drain import unfinished
from engine.release.ear import Ear
from engine.release.evidence import Evidence
from engine.release.model import (
    MODEL,
    Release,
    ReleaseError,
    check_parameters,
    check_version,
)
from engine.release.player import Compare, HardBreach, Measure, Player
from engine.release.settings import Settings
from engine.release.store import ReleaseStore
from engine.release.validate import Bench, Door, Tools, Verify, check, validate
from engine.sentence import sentence

#: Seconds between two looks at a live stage's clock.
TICK_SECONDS: Final = 15.0
#: What may come between a validation and its end; its own fault is told, never a pass.
_TROUBLES: Final = (OSError, ValueError, KeyError, RuntimeError, CheckpointError, HardBreach)


@dataclass(frozen=True)
class Host:
    """What the service needs of its engine; tests give their own."""

    jobs: JobStore
    bus: Bus
    client: EngineClient
    places: Places
    settings: Settings
    machine: Callable[[], Awaitable[Machine]]
    held: Callable[[], contextlib.AbstractContextManager[None]]
    bench: Bench
    door: Door
    measure: Measure
    likeness: Compare
    verify: Verify
    clock: Callable[[], float] = time.time


class ReleaseService:
    """Opened and closed on the engine's loop."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.store = ReleaseStore(host.jobs, host.clock)
        self.evidence = Evidence(host.jobs, host.clock)
        self.assigner = Assigner(self.store, host.settings)
        self._player = Player(
            host.client, self.assigner, host.places.state / "releases", host.measure, host.likeness
        )
        self.conductor = Conductor(
            self.store, self.evidence, self.assigner, host.settings, self._player, host.bench,
            host.client, host.bus, devices=self._devices, hardware=self._hardware,
            changed=self.tell, held=host.held,
        )  # fmt: skip
        self._ear = Ear(host, self.store, self.assigner, self.conductor)
        self._validating: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Take up what an engine before this one left."""
        for digest in self.evidence.validating():
            gone = check(
                "validation", None, note=sentence("the engine ended while it went on; repeat it")
            )
            release = self.store.get(digest)
            known = self.evidence.validation(digest)
            self.evidence.set_validation(release, known.hardware if known else "", "inconclusive",
                                         (gone,), "policy")  # fmt: skip
        self._ear.open()
        self.tell()
        self.conductor.take_up()
        self._tick()

    async def close(self) -> None:
        """Stop; the file knows where everything stood."""
        self._ear.close()
        if self._timer is not None:
            self._timer.cancel()
        await self.conductor.close()

    # -- at claim ------------------------------------------------------------------------------

    def claim(self, row: JobRow, prepared: Work) -> tuple[JobRow, Work] | str:
        """The queue's hook: the version of a job that is about to start."""
        claimed = self.assigner.claim(row, prepared)
        if isinstance(claimed, str):
            return claimed
        given = claimed[0]
        if given.version is not None and given.version != row.version:
            self._host.bus.log("INFO", f"runs by release {given.version}", row.id)
        self._ear.follow(row)
        return claimed

    # -- commands ------------------------------------------------------------------------------

    async def obey(self, command: ReleaseCommand) -> Reply:
        """Answer one command."""
        try:
            return await self._obey(command)
        except (ReleaseError, StoreError) as error:
            kind = error.kind if isinstance(error, ReleaseError) else "failed"
            return Reply(False, str(error), state=kind)

    async def _obey(self, command: ReleaseCommand) -> Reply:
        options, by = command.options, command.by
        conductor = self.conductor
        force = bool(options.get("force"))
        match command.do:
            case "add":
                return await self._add(command.version, options, by)
            case "validate":
                return await self._validate(command.version, options, by)
            case "start":
                return await self._start(command.version, options, by)
            case "promote":
                return self._promote(command.version, by, force)
            case "advance":
                moved = conductor.next(by, force=force)
                return Reply(True, f"stage {conductor.stages[moved.stage].name}"
                             if moved.active else "promoted", state=moved.state)  # fmt: skip
            case "pause":
                moved = conductor.pause(by, str(options.get("why") or sentence("by hand")))
                return Reply(True, sentence("paused: new jobs go to stable"), state=moved.state)
            case "resume":
                moved = conductor.resume(by)
                return Reply(True, sentence("resumed: the stage begins anew"), state=moved.state)
            case "rollback":
                return await self._rollback(options, by)
            case other:
                raise ReleaseError(sentence("a release cannot be asked to {other!r}", other=other))

    async def _add(self, version: str, options: Mapping[str, Any], by: str) -> Reply:
        check_version(version)
        with self._host.held():
            release, contents = await asyncio.to_thread(self._made, version, options)
            kept = self.store.add(release, contents, by)
        self.tell()
        text = sentence(
            "release {version} is known, digest {digest}",
            version=kept.version,
            digest=kept.digest[:12],
        )
        return Reply(True, text, state="known", data={"digest": kept.digest})

    def _made(self, version: str, options: Mapping[str, Any]) -> tuple[Release, dict[str, bytes]]:
        """In a thread: hash everything and look at the environment."""
        model = {n: v for n, v in (options.get("model") or {}).items() if n in MODEL}
        weights, lora = snapshot.model_files(model)
        contents = snapshot.configuration(Path(p) for p in options.get("configuration") or ())
        repository = options.get("repository")
        cap = options.get("memory_cap")
        release = Release(
            version=version,
            model=model,
            parameters=check_parameters(options.get("parameters") or {}),
            weights=snapshot.hashed(weights, self.store.known_hash),
            lora=snapshot.hashed(lora, self.store.known_hash),
            environment=snapshot.environment(Path(repository) if repository else None),
            configuration={p: hashlib.sha256(c).hexdigest() for p, c in contents.items()},
            variables={str(k): str(v) for k, v in (options.get("variables") or {}).items()},
            memory_cap=None if cap is None else int(cap),
            created=self._host.clock(),
            note=str(options.get("note") or ""),
        )
        return release, contents

    async def _validate(self, version: str, options: Mapping[str, Any], by: str) -> Reply:
        release = self.store.get(version)
        if self._validating is not None and not self._validating.done():
            raise ReleaseError(sentence("another validation goes on; wait for its end"), "refused")
        active = self.store.rollout()
        if active is not None and active.state == "rolling" and active.candidate == release.digest:
            raise ReleaseError(
                sentence("{version} is being rolled out; pause it first", version=version),
                "refused",
            )
        hardware = await self._hardware()
        self.evidence.set_validation(release, hardware, "running", (), by)
        work = self._run_validation(release, hardware, options.get("drills") or {}, by)
        self._validating = self.conductor.spawn(work)
        self.tell()
        return Reply(
            True,
            sentence("the validation of {version} goes on", version=version),
            state="validating",
        )

    async def _run_validation(
        self, release: Release, hardware: str, drills: Mapping[str, Any], by: str
    ) -> None:
        host = self._host
        tools = Tools(
            self._player, self.evidence, host.settings, host.bench, host.door, host.verify
        )
        stable = self.store.find("stable")
        if stable is not None and stable.digest == release.digest:
            stable = None
        try:
            with host.held():
                state, rows = await validate(tools, release, stable, hardware, drills)
        except _TROUBLES as error:
            state, rows = "inconclusive", (check("validation", None, note=str(error)),)
        self.evidence.set_validation(release, hardware, state, rows, by)
        level = "INFO" if state == "passed" else "WARNING"
        host.bus.log(level, f"validation of release {release.version}: {state}")
        self.conductor.audit("validate", by, release.version, state)
        self.tell()

    async def _start(self, version: str, options: Mapping[str, Any], by: str) -> Reply:
        release, force = self.store.get(version), bool(options.get("force"))
        known = self.evidence.validation(release.digest)
        if (known is None or known.state != "passed") and not force:
            state = known.state if known else "missing"
            raise ReleaseError(
                sentence(
                    "its validation is {state}: avatop release validate {version}; "
                    "--force starts all the same, and is audited",
                    state=state,
                    version=version,
                ),
                "refused",
            )
        back = self.store.find("stable")
        if back is not None and back.runner != release.runner:
            raise ReleaseError(
                sentence(
                    "stable is run by {runner}, {version} by {runner2}: jobs cannot be "
                    "shared between two kinds of runners",
                    runner=back.runner,
                    version=version,
                    runner2=release.runner,
                ),
                "refused",
            )
        if back is not None and (what := await asyncio.to_thread(back.changed)) is not None:
            raise ReleaseError(
                sentence("stable could not be gone back to: {what}", what=what), "refused"
            )
        now = self.store.begin(release, by, automatic=not options.get("by_hand"))
        self.conductor.audit("start", by, version, "forced" if force else "validated")
        self.conductor.enter(now)
        stage = self._host.settings.stages[now.stage].name
        return Reply(
            True,
            sentence("{version} is the candidate, at stage {stage}", version=version, stage=stage),
            state="rolling",
        )

    def _promote(self, version: str, by: str, force: bool) -> Reply:
        if self.store.pointer("stable") is None:
            release = self.store.get(version)
            self.store.set_first_stable(release, by)
            self.conductor.audit("promote", by, version, sentence("the first stable version"))
            self.tell()
            return Reply(
                True, sentence("{version} is stable, the first", version=version), state="promoted"
            )
        candidate = self.store.find("candidate")
        if version and (candidate is None or candidate.version != version):
            raise ReleaseError(
                sentence("{version} is not the candidate: start it first", version=version),
                "refused",
            )
        done = self.conductor.promote(by, force=force)
        return Reply(
            True,
            sentence("{version} is stable", version=self.store.get(done.candidate).version),
            state=done.state,
        )

    async def _rollback(self, options: Mapping[str, Any], by: str) -> Reply:
        running = str(options.get("running") or self._host.settings.running)
        if running not in ("finish", "pause", "requeue"):
            raise ReleaseError(
                sentence("running jobs: finish, pause or requeue, not {running!r}", running=running)
            )
        begun = time.monotonic()
        done = self.conductor.roll_back(by, str(options.get("why") or sentence("by hand")), running)
        await asyncio.wait([done.rest])
        left = unfinished(self.store, self.assigner, done.rollout.candidate)
        data = {
            "version": self.store.get(done.rollout.candidate).version,
            "stable": self.store.get(done.rollout.stable).version,
            "pointer_seconds": round(done.pointer_seconds, 4),
            "seconds": round(time.monotonic() - begun, 4),
            "unfinished": left,
        }
        text = sentence(
            "{version} is withdrawn, {stable} is live, in {seconds} s",
            version=data["version"],
            stable=data["stable"],
            seconds=data["seconds"],
        )
        return Reply(True, text, state="rolled_back", data=data)

    # -- the clock ------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        self.conductor.consider()

    # -- what is told --------------------------------------------------------------------------

    def tell(self) -> None:
        """Publish every release's present state."""
        for release in reversed(self.store.list()):
            self._host.bus.publish(self.event(release))

    def event(self, release: Release) -> ReleaseChanged:
        """One release as it stands."""
        digest = release.digest
        role, now = self.store.role(digest), self.store.rollout()
        known = self.evidence.validation(digest)
        stage, share, rows, note, state = None, 0.0, known.gates if known else (), "", "idle"
        mine = now is not None and now.candidate == digest
        if known is not None and known.state == "running":
            state = "validating"
        elif now is not None and mine:
            state = "rolling" if now.state == "holding" else now.state
            rows, note = now.gates or rows, now.note
        if now is not None and mine and now.active:
            at = self._host.settings.stages[now.stage]
            stage, share = at.name, 0.0 if now.state == "paused" else at.share
        if role == "stable":
            other = now is not None and now.active and now.state != "paused" and not mine
            share = 1.0 - (self._host.settings.stages[now.stage].share if other and now else 0.0)
        return ReleaseChanged(
            release=digest, version=release.version, role=role, state=state, stage=stage,
            share=share, gates=rows, note=note,
        )  # fmt: skip

    # -- this host -----------------------------------------------------------------------------

    async def _devices(self) -> int:
        """GPUs, or CPU ranks without bound."""
        machine = await self._host.machine()
        gpus = [d for d in machine.devices if d.source == "nvml" and d.error is None]
        return len(gpus) or 64

    async def _hardware(self) -> str:
        """The devices and the driver that a gate was armed on."""
        machine = await self._host.machine()
        names = sorted(f"{d.name} {d.uuid}" for d in machine.devices)
        return "; ".join([*names, f"driver {await asyncio.to_thread(snapshot.driver)}"])
