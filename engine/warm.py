"""Rank groups that stay loaded when their job is done, for the next one like it.

A group that waits holds weights and nothing else, together with the leases of its devices, for a
while. It is ended at once when its memory is wanted for other work, and with the engine. Whatever
plans on this host counts what such groups hold as free.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.bus import Bus
from engine.guard.lease import Lease, take_all
from engine.guard.ports import Port, reserve
from engine.messages import DeviceReading, JobRow
from engine.placement.plan import Plan
from engine.preflight import Machine, Prepared
from engine.ranks.group import RankGroup
from engine.ranks.outcome import RankExit, RankLog
from engine.ranks.protocol import RankSpec, Report
from engine.ranks.server import RankServer
from engine.sentence import sentence

#: Seconds that a group waits for another job, and the variable that says otherwise; 0: none waits.
WARM_SECONDS: Final = 60.0
SECONDS_VARIABLE: Final = "AVATOP_WARM_SECONDS"
#: "0" among the variables of a job's ranks: it starts cold, and leaves nothing warm.
COLD_VARIABLE: Final = "AVATOP_WARM"
#: Groups that may wait on one device: those of two versions.
MOST: Final = 2
#: A waiting rank that was not heard of for so many seconds is not trusted with a job.
_QUIET: Final = 3.0
#: Readings of devices that may still show the memory of a group that has ended.
_READINGS: Final = 2
_HOST: Final = None  # the host's memory, beside devices by UUID


def seconds_of(env: Mapping[str, str]) -> float:
    """How long a group waits; what is no number of seconds is the default."""
    try:
        return max(0.0, float(env.get(SECONDS_VARIABLE, "")))
    except ValueError:
        return WARM_SECONDS


def name_of(prepared: Prepared, row: JobRow) -> str | None:
    """What the weights on a job's ranks are called: equal where another job can take them over.

    None where none stay: they are streamed or gathered, or the job wants to start cold.
    """
    plan, layout = prepared.plan, prepared.layout
    if plan.weights.kind != "resident" or row.environment.get(COLD_VARIABLE) == "0":
        return None
    files = [layout.config_file, *layout.dit_files, layout.vae]
    files += [layout.lora] if prepared.request.load_lora else []
    body = {
        "files": [_file(path) for path in files if path is not None],
        "version": row.version,
        "environment": dict(row.environment),
        "dtype": plan.dtype,
        "stages": [dataclasses.asdict(stage) for stage in plan.stages],
        "vae": plan.vae_rank,
        "devices": [(device.device, device.uuid) for device in plan.devices],
        "cap": prepared.request.gpu_memory_cap,
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _file(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


@dataclass(eq=False)
class _Waiting:
    """A group between two jobs."""

    name: str
    group: RankGroup
    job: int
    version: str | None
    held: Mapping[str | None, int]  # bytes by device
    timer: asyncio.TimerHandle | None = None

    @property
    def sound(self) -> bool:
        """Whether its ranks answer."""
        ranks = self.group.ranks
        return self.group.kept and all(self.group.silence(p.rank) < _QUIET for p in ranks)


@dataclass
class Place:
    """What one group of ranks runs on: leases, a rendezvous, and perhaps ranks that wait there."""

    name: str | None
    port: Port | None
    leases: list[Lease]
    waiting: _Waiting | None = None
    group: RankGroup | None = field(default=None, init=False)

    async def begin(
        self,
        server: RankServer,
        specs: Sequence[RankSpec],
        *,
        on_report: Callable[[Report], None],
        on_log: Callable[[RankLog], None],
        on_exit: Callable[[RankExit], None],
        env: Mapping[str, str],
    ) -> RankGroup:
        """The ranks at work: those that waited, or new ones.

        Raises:
            engine.ranks.server.RankServerError: no ranks could be made.
        """
        if self.waiting is None:
            self.group = await RankGroup.start(server, specs, on_report, on_log, on_exit, env=env)
        else:
            self.group = self.waiting.group
            self.group.begin(specs, on_report, on_log, on_exit)
        return self.group


class WarmGroups:
    """All groups of an engine that wait. The engine's loop only.

    Args:
        lasting: whether groups of a version wait without a limit of time.
        drained: devices that get no new work, by UUID; None: the host.
    """

    def __init__(
        self,
        bus: Bus,
        seconds: float,
        lasting: Callable[[str | None], bool] = lambda _: False,
        drained: Callable[[], Set[str | None]] = frozenset,
    ) -> None:
        self._bus, self._seconds = bus, seconds
        self._lasting, self._drained = lasting, drained
        self._waiting: list[_Waiting] = []
        self._leases: dict[str, Lease] = {}  # of devices on which groups wait
        self._fading: dict[_Waiting, int] = {}  # on their way out → readings they may still be in
        self._ending: set[asyncio.Task[Any]] = set()
        self._closed = False

    # -- what others see -----------------------------------------------------------------------

    @property
    def held(self) -> dict[str | None, int]:
        """Bytes that waiting groups hold, by device UUID; None: the host's."""
        total: dict[str | None, int] = {}
        for waiting in (*self._waiting, *self._fading):
            for device, size in waiting.held.items():
                total[device] = total.get(device, 0) + size
        return total

    def sampled(self) -> None:
        """Devices were read again: two readings after a group's end its memory is seen as free."""
        for waiting, left in list(self._fading.items()):
            if left > 1:
                self._fading[waiting] = left - 1
            elif left == 1:
                del self._fading[waiting]

    def machine(self, machine: Machine) -> Machine:
        """The host as it is once those who wait have gone."""
        held = self.held
        if not held:
            return machine
        devices = tuple(_freed(reading, held.get(reading.uuid, 0)) for reading in machine.devices)
        free, total = machine.host_available, machine.host_total
        if free is not None:
            free += held.get(_HOST, 0)
            free = free if total is None else min(free, total)
        return dataclasses.replace(machine, devices=devices, host_available=free)

    # -- a job's ranks -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def place(self, prepared: Prepared, row: JobRow) -> AsyncIterator[Place]:
        """Leases and a port for a job's ranks, and the group that waits for it, if one does.

        Raises:
            LeaseHeld: a device is another engine's.
            OSError: there is no port.
        """
        plan = prepared.plan
        name = await asyncio.to_thread(name_of, prepared, row) if self._seconds else None
        waiting = self._take(name)
        place = Place(name, None, [], waiting)
        try:
            await self._make_room(plan, cold=name is None)
            place.leases = self._lease(_uuids(plan))
            place.port = reserve() if plan.world_size > 1 else None
            if waiting is not None:
                text = sentence(
                    "its ranks are warm: they hold the weights of job {job}", job=waiting.job
                )
                self._bus.log("INFO", text, row.id)
            yield place
        finally:
            if place.port is not None:
                place.port.release()
            if place.group is None and waiting is not None:  # it never began
                self._end(waiting, sentence("its job did not begin"))
            self._settle(place, plan, row)

    async def clear(self, devices: Collection[str | None], why: str) -> None:
        """End every group that waits on one of these devices; None: on the host's memory."""
        await self._end_all([w for w in self._waiting if set(w.held) & set(devices)], why)

    async def close(self) -> None:
        """End all; nothing waits any more."""
        self._closed = True
        await self._end_all(list(self._waiting), sentence("the engine is stopping"))
        if self._ending:
            await asyncio.wait(self._ending)

    # -- inside --------------------------------------------------------------------------------

    def _take(self, name: str | None) -> _Waiting | None:
        for waiting in reversed(self._waiting):
            if waiting.name == name and waiting.sound:
                self._forget(waiting)
                return waiting
            if waiting.name == name:
                self._end(waiting, sentence("its ranks do not answer"))
        return None

    async def _make_room(self, plan: Plan, *, cold: bool) -> None:
        """End whoever waits in a plan's way, the longest waiting first; all, before a cold start.

        What is not known to fit does not stay.
        """
        needs: dict[str | None, int] = {}
        usable: dict[str | None, int | None] = {}
        for device in plan.devices:
            needs.setdefault(device.uuid, 0)
            needs[device.uuid] += device.predicted_bytes + device.margin_bytes
            usable[device.uuid] = device.usable_bytes
        gone: list[_Waiting] = []
        spare = {d: (usable[d] or 0) - need for d, need in needs.items()}
        for waiting in reversed(self._waiting):
            shared = set(waiting.held) & set(needs)
            if cold or any(spare[d] < waiting.held[d] for d in shared):
                gone += [waiting] if shared else []
                continue
            for d in shared:
                spare[d] -= waiting.held[d]
        await self._end_all(gone, sentence("its memory is needed"))

    def _lease(self, devices: Collection[str]) -> list[Lease]:
        """Those that are held for waiting groups, and the rest from the host."""
        own = [self._leases.pop(device) for device in sorted(devices) if device in self._leases]
        try:
            return own + take_all(set(devices) - {lease.device for lease in own})
        except BaseException:
            self._return(own)
            raise

    def _return(self, leases: Sequence[Lease]) -> None:
        """Keep the leases of devices on which groups wait; give the others back."""
        for lease in leases:
            if any(lease.device in waiting.held for waiting in self._waiting):
                self._leases[lease.device] = lease
            else:
                lease.release()

    def _settle(self, place: Place, plan: Plan, row: JobRow) -> None:
        """After a job: its group waits, if it can."""
        group = place.group
        if group is not None and group.kept and place.name is not None:
            held: dict[str | None, int] = {}
            for process, device in zip(group.ranks, plan.devices, strict=True):
                held[device.uuid] = held.get(device.uuid, 0) + (process.kept or 0)
            waiting = _Waiting(place.name, group, row.id, row.version, held)
            if self._closed or self._drained() & set(held):
                self._end(waiting, sentence("nothing more begins there"))
            else:
                self._wait(waiting)
        self._return(place.leases)

    def _wait(self, waiting: _Waiting) -> None:
        group = waiting.group
        group.rest(_unheard, _unheard, _unheard)
        for device in waiting.held:
            beside = [w for w in self._waiting if device in w.held]
            for old in beside[: len(beside) - MOST + 1]:
                self._end(old, sentence("two others wait there"))
        self._waiting.append(waiting)
        self._arm(waiting)
        group.ended.add_done_callback(lambda _: self._died(waiting))

    def _arm(self, waiting: _Waiting) -> None:
        loop = asyncio.get_running_loop()
        waiting.timer = loop.call_later(self._seconds, self._late, waiting)

    def _late(self, waiting: _Waiting) -> None:
        if self._lasting(waiting.version):
            self._arm(waiting)
        elif waiting in self._waiting:
            self._end(
                waiting, sentence("no job like it came within {seconds:g} s", seconds=self._seconds)
            )

    def _died(self, waiting: _Waiting) -> None:
        """Its processes are gone: by us, or by somebody's signal."""
        if waiting in self._waiting:
            text = sentence(
                "the ranks that waited after job {job} were ended by somebody else", job=waiting.job
            )
            self._bus.log("WARNING", text, waiting.job)
            self._forget(waiting)
            self._fading[waiting] = _READINGS
            self._free()

    def _forget(self, waiting: _Waiting) -> None:
        self._waiting.remove(waiting)
        if waiting.timer is not None:
            waiting.timer.cancel()

    def _end(self, waiting: _Waiting, why: str) -> asyncio.Task[Any]:
        """End a group soon; it waits no more from now on."""
        if waiting in self._waiting:
            self._forget(waiting)
            self._bus.log("DEBUG", f"the ranks that waited are ended: {why}", waiting.job)
        self._fading[waiting] = 0
        task = asyncio.get_running_loop().create_task(self._stop(waiting, why))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _stop(self, waiting: _Waiting, why: str) -> None:
        try:
            await waiting.group.stop(why)
        finally:
            self._fading[waiting] = _READINGS
            self._free()

    async def _end_all(self, gone: Sequence[_Waiting], why: str) -> None:
        if gone:
            await asyncio.wait([self._end(waiting, why) for waiting in gone])

    def _free(self) -> None:
        """Give back the leases of devices on which nobody waits any more."""
        leases = list(self._leases.values())
        self._leases.clear()
        self._return(leases)


def environment_seconds() -> float:
    """As this process's environment has it."""
    return seconds_of(os.environ)


def _uuids(plan: Plan) -> set[str]:
    return {device.uuid for device in plan.devices if device.uuid is not None}


def _freed(reading: DeviceReading, size: int) -> DeviceReading:
    used = reading.memory_used
    if not size or used is None:
        return reading
    return dataclasses.replace(reading, memory_used=max(0, used - size))


def _unheard(_: object) -> None:
    """Who waits has nothing to say but that it lives."""
