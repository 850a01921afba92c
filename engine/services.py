"""What an engine holds while it is open: places, store, sampler, rank server, queue."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from engine.batch.service import BatchService
from engine.bus import Bus
from engine.client import EngineClient
from engine.guard.evidence import Memory, holders
from engine.guard.limits import Limits
from engine.guard.readonly import read_only
from engine.jobs.aftermath import look_after
from engine.jobs.drained import Drained
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import DevicesDrained, DevicesSampled, JobRow
from engine.nightwatch.night import Night
from engine.orders import Orders
from engine.placement.calibration import Corrections
from engine.placement.history import History
from engine.preflight import Machine
from engine.queue import JobQueue
from engine.ranks.server import RankServer
from engine.release.attach import open_releases
from engine.release.service import ReleaseService
from engine.retry.desk import Desk
from engine.steering import Steering
from engine.telemetry.capability import capabilities
from engine.telemetry.devices import pick_source
from engine.telemetry.sampler import Sampler
from engine.warm import WarmGroups, environment_seconds

#: Jobs of earlier runs that a first picture shows.
PAST_JOBS: Final = 100
_FIRST_SAMPLE_SECONDS: Final = 5.0


class Services:
    """Opened and closed on the engine's loop."""

    def __init__(
        self, places: Places, bus: Bus, version: str, limits: Limits | None = None
    ) -> None:
        self.places = places
        self.bus = bus
        self.version = version
        self.server = RankServer(
            on_log=lambda level, text: bus.log(level, f"server: {text}"), home=places.state
        )
        self.warm = WarmGroups(bus, environment_seconds(), self._lasting, self._drained)
        self.limits = limits or Limits()
        self.desk = Desk(bus, self.fresh_machine)
        self.queue = JobQueue(self)
        self.orders = Orders(self.queue, self)
        self.steering = Steering(self.queue, self, self.orders)
        self.store: JobStore
        self.night: Night
        self.batches: BatchService
        self.releases: ReleaseService
        self._loop = asyncio.get_running_loop()
        self._sampler: Sampler | None = None
        self._sampled = asyncio.Event()
        self._last: DevicesSampled | None = None
        self._left: list[JobRow] = []  # waited in an engine that ended

    async def open(self) -> str:
        """Open the store, take over from a dead engine, start sampling.

        Returns the device source's name.

        Raises:
            StoreError: the jobs cannot be kept.
        """
        self.store = await asyncio.to_thread(JobStore, self.places.database)
        if self.store.notice is not None:
            self.bus.log("WARNING", self.store.notice)
        self.queue.drained = Drained(self.store)
        if self.queue.drained:
            self.bus.publish(DevicesDrained(devices=tuple(sorted(self.queue.drained))))
        for row in self.store.claim_stale(self._waits_on):
            if row.state == "queued":
                self._left.append(row)
            else:
                self.bus.log("WARNING", f"interrupted: {row.error}", row.id)
        await asyncio.to_thread(look_after, self.store, self.places)
        picked = await asyncio.to_thread(pick_source)
        if picked.reason is not None:
            self.bus.log("INFO", f"no GPU readings: {picked.reason}")
        self._sampler = Sampler(picked.source, self._on_sample)
        self._sampler.start()
        driver = self._holders if picked.source.name == "nvml" else None
        self.night = Night(
            self.bus,
            self.places,
            self.store,
            self.queue,
            self.steering.pause,
            read_memory=driver,
            read_only=read_only(os.environ),
        )
        self.night.start()
        return picked.source.name

    async def adopt(self) -> None:
        """Let the jobs wait here that waited in an engine that ended."""
        left, self._left = self._left, []
        await self.queue.adopt(left)

    def _waits_on(self, row: JobRow) -> bool:
        """Batches and comparisons of releases ask anew for what they still need."""
        mine = str(self.places.state / "releases")
        return row.batch is None and not str(row.output or "").startswith(mine)

    def _holders(self) -> Memory:
        """The driver's list as last sampled; from any thread."""
        last = self._last
        return holders(() if last is None else last.devices)

    def open_releases(self, client: EngineClient) -> None:
        """Give jobs the versions that are live, from now on."""
        self.releases = open_releases(self, client)

    def open_batches(self, client: EngineClient) -> None:
        """Take batches from now on; their jobs go through ``client``, as anybody's do."""
        self.batches = BatchService(
            self.store, client, self.places, self.bus, self.machine, self.queue.held
        )
        self.batches.open()

    def past_jobs(self) -> tuple[JobRow, ...]:
        """Jobs known from before, the oldest first."""
        return tuple(reversed(self.store.list(limit=PAST_JOBS)))

    async def fresh_machine(self) -> Machine:
        """The host after this moment: what has just ended holds no memory any more."""
        self._sampled.clear()
        return await self.machine()

    async def machine(self) -> Machine:
        """The host at this moment; waits for the first reading."""
        try:
            await asyncio.wait_for(self._sampled.wait(), _FIRST_SAMPLE_SECONDS)
        except TimeoutError:
            self.bus.log("WARNING", "no device reading yet; plans are made without free memory")
        last = self._last
        if last is None:
            return Machine()
        total, available = last.host_memory_total, last.host_memory_available
        for reading in last.devices:
            # The host as a device knows this process's own limit (its cgroup).
            used = reading.memory_used
            if reading.source == "host" and reading.memory_total is not None and used is not None:
                total, available = reading.memory_total, reading.memory_total - used
        learnt, able = await asyncio.to_thread(self._known, last)
        drained = frozenset(self.queue.drained)
        return self.warm.machine(Machine(last.devices, total, available, learnt, able, drained))

    def _known(self, sample: DevicesSampled) -> tuple[Corrections, dict[str, tuple[int, int]]]:
        """What earlier runs teach the planner, and what the GPUs can compute."""
        uuids = [reading.uuid for reading in sample.devices if reading.source == "nvml"]
        able = capabilities(uuids) if uuids else {}
        return History(self.places.history).corrections(), able

    async def close(self, reason: str) -> None:
        """End jobs, ranks, server and sampling; queued jobs are told that they never began."""
        self.batches.wind_down(reason)
        await self.releases.close()
        await self.queue.close(reason)
        await self.warm.close()
        await self.night.close()
        await self.batches.close()
        await self.server.close()
        if self._sampler is not None:
            await asyncio.to_thread(self._sampler.stop)
        self.store.close()

    def _lasting(self, version: str | None) -> bool:
        """While a rollout is under way both its versions stay warm: the way back is short."""
        return version is not None and self.releases.store.rolling(version)

    def _drained(self) -> frozenset[str | None]:
        """Devices that get no new work, as groups of ranks know them."""
        drained = self.queue.drained.items()
        return frozenset(None if lease == "cpu" else uuid for uuid, lease in drained)

    def _on_sample(self, sample: DevicesSampled) -> None:
        """On the sampler's thread."""
        try:
            self._loop.call_soon_threadsafe(self._take_sample, sample)
        except RuntimeError:
            return  # the loop has closed: the last sample of an engine that has ended

    def _take_sample(self, sample: DevicesSampled) -> None:
        self._last = sample
        self._sampled.set()
        self.warm.sampled()
        self.bus.publish(sample)
