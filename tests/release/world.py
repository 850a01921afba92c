"""A make-believe host for releases: a job runner at the client's boundary whose figures are set.

Store, claims, gates, stages and rollbacks are the real ones; only the ranks are not there. The
figures are synthetic.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.bus import Bus
from engine.geometry import Forecast
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import (
    Audited,
    Cancel,
    Command,
    DeviceReading,
    Event,
    JobChanged,
    JobRow,
    LogLine,
    Pause,
    PlanMade,
    ReleaseChanged,
    ReleaseCommand,
    Reply,
    Snapshot,
    Submit,
)
from engine.parameters.request import Request
from engine.preflight import Machine, Prepared
from engine.release import snapshot
from engine.release.gates import Sample
from engine.release.model import Release
from engine.release.quality import Likeness
from engine.release.service import Host, ReleaseService
from engine.release.settings import Settings, of
from engine.resources import sample_data
from tests.engine.plans import plan

FORECAST = Forecast(64, 64, 4, 4, 4, 189, 25, 7.56, ())
CKPT = str(sample_data() / "ckpt")
WAIT = 30.0


@dataclass
class Behaviour:
    """What a version's runs do. Seconds of work per generated second; bytes."""

    pace: float = 1.0
    noise: float = 0.01
    peak: int = 1 << 29
    psnr: float = math.inf
    fails: Callable[[int], str | None] = lambda number: None  # the n-th run's error
    problems: Sequence[str] = ()
    line: str | None = None  # an error line of every run
    hangs: bool = False  # runs go on until they are ended


class Double:
    """An ``EngineClient``: jobs are claimed and end at once, with the figures that were set."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.behaviour: dict[str | None, Behaviour] = {}
        self.clips: dict[int, list[tuple[float, int]]] = {}
        self.runs: dict[str | None, int] = {}
        self.running: dict[int, JobRow] = {}
        self.paused: list[int] = []
        self._random = np.random.Generator(np.random.PCG64(7))

    def send(self, command: Command) -> Future[Reply]:
        future: Future[Reply] = Future()
        match command:
            case Submit():
                future.set_result(self._submit(command))
            case Cancel():
                row = self.running.pop(command.job)
                self._end(row, "cancelled", command.reason)
                future.set_result(Reply(True, "", command.job, "cancelled"))
            case Pause():
                self.paused.append(command.job)
                row = self.running.pop(command.job)
                self._end(row, "paused", None)
                future.set_result(Reply(True, "", command.job, "paused"))
            case _:
                future.set_result(Reply(False, "not known here"))
        return future

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        return self.world.bus.subscribe(listener)

    def snapshot(self) -> Future[Snapshot]:
        future: Future[Snapshot] = Future()
        future.set_result(self.world.bus.snapshot())
        return future

    def close(self) -> None:
        pass

    def _submit(self, command: Submit) -> Reply:
        store = self.world.jobs
        row = store.create(command.request, mode="single", size="64*64", clips=4)
        output = command.request.get("output") or f"/nowhere/{row.id}.mp4"
        row = store.update(row.id, output=output, version=command.version, batch=command.batch)
        self.world.bus.publish(JobChanged(job=row))
        asyncio.get_running_loop().call_soon(self.begin, row)
        return Reply(True, "", row.id, "queued")

    def begin(self, row: JobRow) -> None:
        """Claim a job and run it, as the queue does."""
        request = Request.from_dict(row.request)
        prepared = Prepared(request, None, plan(1), FORECAST, ())  # type: ignore[arg-type]
        claimed = self.world.service.claim(row, prepared)
        if isinstance(claimed, str):
            self._end(row, "interrupted", claimed)
            return
        row = claimed[0]
        number = self.runs[row.version] = self.runs.get(row.version, 0) + 1
        does = self.behaviour.get(row.version, Behaviour())
        self.world.bus.publish(PlanMade(job=row.id, plan=plan(1).to_dict()))
        for state in ("preflight", "running"):
            row = dataclasses.replace(row, state=state, started=1.0)
            self.world.bus.publish(JobChanged(job=row))
        if does.hangs and "checks" not in str(row.output):
            self._write(row.id, state="running", clip=1)
            self.running[row.id] = dataclasses.replace(row, clip=1)
            return
        if does.line is not None:
            self.world.bus.publish(
                LogLine(level="ERROR", source="engine", text=does.line, job=row.id)
            )
        pace = does.pace * math.exp(self._random.normal(0, does.noise))
        self.clips[row.id] = [(pace * 48 / 25, 48) for _ in range(4)]
        error = does.fails(number)
        row = dataclasses.replace(row, peak_bytes=does.peak)
        self._end(row, "done" if error is None else "failed", error)

    def finish(self, job: int) -> None:
        """Let a run that hangs end well."""
        self._end(self.running.pop(job), "done", None)

    def _end(self, row: JobRow, state: str, error: str | None) -> None:
        self._write(row.id, state=state, error=error, peak_bytes=row.peak_bytes)
        row = dataclasses.replace(row, state=state, error=error)
        self.world.bus.publish(JobChanged(job=row))

    def _write(self, job: int, **fields: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in fields)
        with self.world.jobs.writing() as db:
            db.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*fields.values(), job))


@dataclass
class World:
    """One engine's releases over one file; ``reopen`` is what a restart does."""

    folder: Path
    settings: Settings
    now: float = 1000.0
    bus: Bus = field(default_factory=Bus)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    audits: list[Audited] = field(default_factory=list)
    told: list[ReleaseChanged] = field(default_factory=list)
    latency: dict[str, float] = field(default_factory=dict)
    jobs: JobStore = field(init=False)
    client: Double = field(init=False)
    service: ReleaseService = field(init=False)

    def open(self) -> None:
        self.jobs = JobStore(self.folder / "state" / "jobs.sqlite3")
        with self.jobs.reading() as db:
            db.execute("PRAGMA synchronous = OFF")  # nothing is killed here: it only costs time
        behaviour = self.client.behaviour if hasattr(self, "client") else {}
        self.client = Double(self)
        self.client.behaviour = behaviour
        self.bus.subscribe(self._hear)
        self.service = ReleaseService(
            Host(
                jobs=self.jobs,
                bus=self.bus,
                client=self.client,
                places=Places(self.folder / "state", self.folder / "cache"),
                settings=self.settings,
                machine=self._machine,
                held=contextlib.nullcontext,
                bench=self._bench,
                door=lambda: None,
                measure=lambda row: self.client.clips.get(row.id, ()),
                likeness=self._likeness,
                verify=self._verify,
                clock=lambda: self.now,
            )
        )
        self.service.open()

    async def close(self) -> None:
        await self.service.close()
        self.jobs.close()

    async def reopen(self) -> None:
        await self.close()
        self.open()

    def _hear(self, event: Event) -> None:
        self.changed.set()
        if isinstance(event, Audited):
            self.audits.append(event)
        elif isinstance(event, ReleaseChanged):
            self.told.append(event)

    async def _machine(self) -> Machine:
        return Machine(devices=(DeviceReading(0, "a CPU", "host", "host"),))

    async def _bench(self, versions: tuple[Release, Release]) -> list[Sample] | None:
        random = np.random.Generator(np.random.PCG64(3))
        samples = []
        for _ in range(4):
            for role, release in zip(("stable", "candidate"), versions, strict=True):
                factor = self.latency.get(release.version, 1.0) * math.exp(random.normal(0, 0.02))
                samples.append(Sample(0, role, True, "x", latency={"hop 4096": 1e-4 * factor}))
        return samples

    def _likeness(self, reference: Path, other: Path) -> Likeness:
        version = other.parent.parent.name
        psnr = self.client.behaviour.get(version, Behaviour()).psnr
        return Likeness(10, psnr, 1.0 if math.isinf(psnr) else 0.9)

    def _verify(self, path: Path) -> Sequence[str]:
        return self.client.behaviour.get(path.parent.parent.name, Behaviour()).problems

    # -- what tests do -------------------------------------------------------------------------

    async def ask(self, do: str, version: str = "", **options: Any) -> Reply:
        return await self.service.obey(
            ReleaseCommand(do=do, version=version, options=options, by="ana")
        )

    async def good(self, do: str, version: str = "", **options: Any) -> Reply:
        reply = await self.ask(do, version, **options)
        assert reply.ok, reply.message
        return reply

    async def add(self, version: str, *, lora: bool = False, **options: Any) -> None:
        model = {"ckpt_dir": CKPT, "load_lora": lora, **options.pop("model", {})}
        if lora:
            model["lora_path_dmd"] = f"{CKPT}/liveavatar.safetensors"
        await self.good("add", version, model=model, **{"note": "x", **options})

    async def two(self, **options: Any) -> None:
        """1.0 is stable; 1.1 differs from it in a variable."""
        await self.add("1.0")
        await self.good("promote", "1.0")
        await self.add("1.1", **{"variables": {"AVATOP_X": "1"}, **options})

    async def validated(self, version: str) -> str:
        await self.good("validate", version)
        release = self.service.store.get(version)
        await self.until(lambda: not self.service.evidence.validating())
        found = self.service.evidence.validation(release.digest)
        assert found is not None
        return found.state

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for events until the condition holds."""
        async with asyncio.timeout(WAIT):
            while not (answer := condition()):
                self.changed.clear()
                await self.changed.wait()
        return answer

    def submit(self, clips: int = 4, **changes: Any) -> int:
        """A user's job."""
        asked = Request(image="/i.png", audio="/a.wav", ckpt_dir=CKPT).to_dict()
        batch = changes.pop("batch", None)
        reply = self.client.send(Submit(request={**asked, **changes}, batch=batch)).result()
        assert reply.job is not None
        return reply.job

    async def traffic(self, jobs: int) -> list[str | None]:
        """So many users' jobs, one after the other; the version of each."""
        versions = []
        for _ in range(jobs):
            job = self.submit()
            self.now += 1
            for _ in range(8):
                await asyncio.sleep(0)
            versions.append(self.jobs.get(job).version)
        return versions

    @property
    def state(self) -> str:
        now = self.service.store.rollout()
        return now.state if now is not None else ""

    @property
    def stage(self) -> str:
        now = self.service.store.rollout()
        assert now is not None
        return self.settings.stages[now.stage].name

    @property
    def note(self) -> str:
        now = self.service.store.rollout()
        return now.note if now is not None else ""

    @property
    def stable(self) -> str | None:
        found = self.service.store.find("stable")
        return found.version if found else None


def settings(**changes: Any) -> Settings:
    """Few and short stages; the gates as they ship."""
    from engine.release.settings import _defaults

    stages = [
        {"name": "single", "paired": True, "placement": {"single_gpu": True}},
        {
            "name": "multi",
            "paired": True,
            "placement": {"mode": "fsdp", "num_gpus_dit": 2},
        },
        {"name": "half", "share": 0.5, "jobs": 20, "extend": 1},
        {"name": "all", "share": 1.0, "jobs": 20, "extend": 1},
    ]
    return of(_defaults(), {"stage": stages, **changes})


@contextlib.asynccontextmanager
async def world(folder: Path, **changes: Any) -> AsyncIterator[World]:
    here = World(folder, settings(**changes))
    here.open()
    try:
        yield here
    finally:
        await here.close()


@contextlib.contextmanager
def quick_environment(monkeypatch: Any) -> Iterator[None]:
    """The environment of a host that never changes; reading the real one takes a second."""
    monkeypatch.setattr(snapshot, "environment", lambda repository=None: {"python": "3.11"})
    monkeypatch.setattr(snapshot, "driver", lambda: None)
    yield
