"""Drives one external command through a job's states; the counterpart of ``engine.runner.JobRun``.

It has no clips of its own: progress is what its output shows, its memory what the driver tells, and
its video is handed on whole or not at all.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, Protocol

from engine.bus import Bus
from engine.external.command import Command, CommandEnd
from engine.external.explain import fault_of_command, next_attempt
from engine.external.fill import fill, fill_words, injected, values_of
from engine.external.memory import TreeMemory
from engine.external.prepare import PreparedCommand, prepare_command
from engine.external.result import Made, collect, publish, result_of
from engine.guard import marks
from engine.guard.lease import Lease, LeaseHeld, take_all
from engine.guard.limits import END, Limits, Watch
from engine.guard.ports import Port, reserve
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.media.findings import MediaError
from engine.messages import DevicesSampled, Event, JobRow, LogLine
from engine.outcome import write_result
from engine.parameters.problems import ParamError
from engine.preflight import Machine, PreflightError
from engine.retry.desk import Again
from engine.retry.fault import Fault
from engine.rowkeeper import RowKeeper
from engine.sentence import sentence
from engine.warm import WarmGroups

#: Seconds a command has between SIGTERM and SIGKILL.
GRACE: Final = 10.0
_CANCEL_GRACE: Final = 3.0
#: Lines by which its end is explained.
_LAST_WORDS: Final = 400
#: Seconds between two passing states of a progress bar that are put into the log.
_PASSING_SECONDS: Final = 5.0


class Host(Protocol):
    """What a run needs of its engine."""

    places: Places
    bus: Bus
    store: JobStore
    limits: Limits
    warm: WarmGroups

    async def machine(self) -> Machine:
        """The host at this moment."""


class _Stopped(Exception):  # noqa: N818 - an end, which need not be an error
    def __init__(self, state: str, reason: str, level: str = "ERROR") -> None:
        super().__init__(reason)
        self.state, self.reason, self.level = state, reason, level


class _Row:
    """The row as ``RowKeeper`` keeps it."""

    def __init__(self, row: JobRow) -> None:
        self.row = row

    def change(self, **fields: Any) -> None:
        self.row = dataclasses.replace(self.row, **fields)


class CommandRun:
    """One external job. ``drive`` returns when it has ended, whatever happened to it."""

    def __init__(self, host: Host, row: JobRow, prepared: PreparedCommand) -> None:
        self.began = time.time()
        self._host, self._bus, self._prepared = host, host.bus, prepared
        self._places = host.places.job(row.id)
        self._held = _Row(row)
        self._keeper = RowKeeper(host.store, host.bus, self._held)
        self._loop = asyncio.get_running_loop()
        self._stop: _Stopped | None = None
        self._command: Command | None = None
        self._memory = TreeMemory()
        self._words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._passed = 0.0
        self._publishing = False
        profile = prepared.profile
        self._progress = None if profile.progress is None else re.compile(profile.progress)
        self._ready = None if profile.ready is None else re.compile(profile.ready)
        self._argv: tuple[str, ...] = profile.argv
        #: The next attempt, where a fault may pass: the queue starts it.
        self.again: Again | None = None

    @property
    def row(self) -> JobRow:
        """The job as it is now."""
        return self._held.row

    @property
    def told_to_end(self) -> tuple[str, str] | None:
        """The end that was asked for: its state and the reason."""
        return None if self._stop is None else (self._stop.state, self._stop.reason)

    # -- what is asked of a running job --------------------------------------------------------

    def cancel(self, reason: str, state: str = "cancelled") -> bool:
        """End the job soon. False when its video is already being put in its place."""
        if self._publishing:
            return False
        self._give_up(_Stopped(state, reason, "WARNING"), _CANCEL_GRACE)
        return True

    def stop_after_clip(self, reason: str) -> None:
        """A program of others has no clips that are ours to end at: it is let finish."""
        text = sentence(
            "{reason}: an external command has no clips to stop at, it is let finish", reason=reason
        )
        self._bus.log("WARNING", text, self.row.id)

    def set_spike_threshold(self, _: int | None) -> None:
        """Nothing here unshards under our eyes; told, because it was asked for."""
        self._bus.log("WARNING", "an external command has no spike threshold", self.row.id)

    def _give_up(self, why: _Stopped, grace: float) -> None:
        if self._stop is None:
            self._stop = why
            if self._command is not None:
                self._command.stop(grace)

    # -- from start to end ---------------------------------------------------------------------

    async def drive(self) -> LeaseHeld | None:
        """Run the job. Its end is in the row, the store, the log and an event.

        Returns the reason when a device is another engine's: the job is queued again.
        """
        try:
            await self._work()
        except LeaseHeld as held:
            await self._keeper.change(state="queued")
            return held
        except _Stopped as end:
            await self._end(end)
        except (OSError, StoreError, MediaError, ParamError, PreflightError) as error:
            await self._end(_Stopped("failed", str(error)))
        return None

    async def _work(self) -> None:
        await self._keeper.change(state="preflight")
        machine = await self._host.machine()
        request = self._prepared.request
        self._prepared = await asyncio.to_thread(prepare_command, request, machine)
        uuids = {device.uuid for device in self._prepared.devices}
        await self._host.warm.clear(uuids, sentence("another program needs its memory"))
        leases = take_all(uuids)
        port: Port | None = None
        try:
            port = reserve()
            self._obey()
            await self._keeper.change(state="loading")
            self._places.create()
            end = await self._run(port)
        finally:
            if port is not None:
                port.release()
            _release(leases)
        if end.survivors:
            pids = ", ".join(map(str, end.survivors))
            self._bus.log("ERROR", f"processes {pids} survive SIGKILL (state D)", self.row.id)
        if end.leftover:
            pids = ", ".join(map(str, end.leftover))
            text = sentence(
                "the program ended and left processes {pids} behind; they were ended", pids=pids
            )
            self._bus.log("WARNING", text, self.row.id)
        self._obey()
        if end.code != 0:
            self._fault = await asyncio.to_thread(fault_of_command, end, tuple(self._words))
            died = end.code is None or end.code < 0
            raise _Stopped("interrupted" if died else "failed", self._fault.reason)
        await self._finish(end)

    async def _run(self, port: Port) -> CommandEnd:
        ours = self._ours(port)
        values = values_of(self._prepared.request, ours)
        profile = self._prepared.profile
        self._argv = self._prepared.words(ours)
        workdir = self._prepared.workdir(values)
        began = time.time()
        self._bus.log("INFO", f"begins: {' '.join(map(_quoted, self._argv))}", self.row.id)
        self._memory.begin(self._prepared.devices)
        unsubscribe = self._bus.subscribe(self._on_event)
        watching: asyncio.Task[None] | None = None
        try:
            env = self._environment(ours, values, port)
            self._command = command = await Command.start(self._argv, env, workdir, self._on_line)
            if self._stop is not None:
                command.stop(_CANCEL_GRACE)
            if self._ready is None:
                await self._keeper.change(state="running")
            watching = self._loop.create_task(self._watch())
            end = await command.ended
        finally:
            unsubscribe()
            if watching is not None:
                watching.cancel()
            if self._stop is not None and profile.stop:
                await self._stop_elsewhere(fill_words(profile.stop, values))
        self._began = began
        return end

    def _ours(self, port: Port) -> dict[str, Any]:
        devices = self._prepared.devices
        return {
            "port": port.number,
            "gpu_indices": ",".join(str(d.index) for d in devices),
            "gpu_uuids": ",".join(d.uuid for d in devices),
            "gpu_count": len(devices),
            "job": self.row.id,
            "job_dir": self._places.folder,
            "output": self._expected,
        }

    @property
    def _expected(self) -> Path:
        """Where the program is told to write: in the job's folder, so that no half file is seen."""
        return self._places.folder / "output.mp4"

    def _environment(
        self, ours: dict[str, Any], values: dict[str, str], port: Port
    ) -> dict[str, str]:
        """The engine's environment, every parameter by name, and what is this job's alone (B3)."""
        profile = self._prepared.profile
        return {
            **os.environ,
            **injected(self._prepared.request),
            "OUTPUT_DIR": str(self._places.folder),
            "AVATOP_OUTPUT": str(self._expected),
            "AVATOP_JOB": str(self.row.id),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port.number),
            "CUDA_VISIBLE_DEVICES": ours["gpu_uuids"],
            "PYTHONUNBUFFERED": "1",  # or its last words stay in a buffer when it is killed
            **{name: fill(text, values) for name, text in profile.env.items()},
            **self.row.environment,
            **marks.environment(),
        }

    async def _stop_elsewhere(self, argv: tuple[str, ...]) -> None:
        """What no signal reaches, a container say, is ended by the profile's own command."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            said = f"exit code {await asyncio.wait_for(process.wait(), GRACE)}"
        except (OSError, TimeoutError) as error:
            said = str(error) or "no answer"
        self._bus.log("INFO", f"{' '.join(argv)}: {said}", self.row.id)

    # -- while it runs -------------------------------------------------------------------------

    async def _watch(self) -> None:
        """B2's wall clock; what is no block of ours cannot be watched block by block."""
        watch = Watch(self._host.limits, external=True)
        while (due := watch.due_in()) is not None:
            await asyncio.sleep(due + 0.01)
            decision = watch.decide()
            if decision.action == END:
                self._give_up(_Stopped("interrupted", decision.reason), GRACE)
                return

    def _on_event(self, event: Event) -> None:
        """Readings of the engine's sampler: peaks, and the cap that is watched."""
        if not isinstance(event, DevicesSampled) or self._command is None:
            return
        now = self._memory.take(event.devices, self._command.pids())
        peak = max(self._memory.peak.values(), default=None)
        if peak != self.row.peak_bytes:
            self._held.change(peak_bytes=peak)
            self._keeper.touch()
        cap = self._prepared.request.gpu_memory_cap
        over = {uuid: held for uuid, held in now.items() if cap is not None and held > cap}
        if over and cap is not None and self._stop is None:
            uuid, held = max(over.items(), key=lambda pair: pair[1])
            text = sentence(
                "over its memory cap: {held:.2f} GiB on {uuid}, {cap:.2f} GiB are "
                "allowed (watched by the driver's readings, not enforced)",
                held=held / 2**30,
                uuid=uuid,
                cap=cap / 2**30,
            )
            self._give_up(_Stopped("failed", text), GRACE)

    def _on_line(self, stream: str, text: str, passing: bool) -> None:
        found = None if self._progress is None else self._progress.search(text)
        if found is not None:
            self._advance(found)
        if self._ready is not None and self._ready.search(text):
            self._begin_running()
        if passing and time.monotonic() - self._passed < _PASSING_SECONDS:
            return
        self._passed = time.monotonic() if passing else self._passed
        self._words.append(text)
        source = self._prepared.profile.name
        self._bus.publish(
            LogLine(level="INFO", source=source, text=text, job=self.row.id, stream=stream)
        )

    def _advance(self, found: re.Match[str]) -> None:
        done, total = int(found["done"]), int(found["total"])
        self._begin_running()
        if total > 0:
            self._held.change(clip=min(done, total), clips=total)
            self._keeper.touch()

    def _begin_running(self) -> None:
        if self.row.state == "loading":
            self._held.change(state="running")
            self._keeper.touch()

    # -- its end -------------------------------------------------------------------------------

    def _obey(self) -> None:
        if self._stop is not None:
            raise self._stop

    async def _finish(self, end: CommandEnd) -> None:
        self._publishing = True
        await self._keeper.change(state="decoding")
        made = await asyncio.to_thread(self._collect)
        if made is None:
            raise _Stopped("failed", sentence("the command ended well and left no video"))
        for finding in made.check.findings:
            level = "ERROR" if finding.level == "error" else "WARNING"
            self._bus.log(level, finding.sentence, self.row.id)
        if made.broken:
            raise _Stopped(
                "failed", sentence("the video is not as it must be: {broken}", broken=made.broken)
            )
        await self._write("done", None, end, made)
        await self._keeper.change(state="done", eta_seconds=None)
        self._bus.log("INFO", f"done: {self.row.output}", self.row.id)

    def _collect(self) -> Made | None:
        profile, request = self._prepared.profile, self._prepared.request
        folder = self._places.folder
        if profile.collect is not None:
            values = values_of(request, {"job": self.row.id, "job_dir": folder})
            folder = self._prepared.workdir(values)
        found = collect(self._expected, profile.collect, folder, self._began)
        return None if found is None else publish(found, Path(str(self.row.output)), request.audio)

    async def _end(self, end: _Stopped) -> None:
        self._bus.log(end.level, f"{end.state}: {end.reason}", self.row.id)
        fault, self._fault = self._fault, None
        if fault is not None and self._stop is None:
            row, request = self.row, self._prepared.request
            self.again, said = next_attempt(fault, row, request, len(self._prepared.devices))
            self._bus.log("INFO" if self.again is None else "WARNING", said, row.id)
        if self.again is not None:  # no end: the queue takes it up again
            await self._keeper.change(state="queued", eta_seconds=None, **self.again.fields)
            return
        self._places.create()
        await self._write(end.state, end.reason, None, None)
        await self._keeper.change(state=end.state, error=end.reason, output=None, eta_seconds=None)

    async def _write(
        self, state: str, error: str | None, end: CommandEnd | None, made: Made | None
    ) -> None:
        """The result goes to disk before its state is told, so that who hears of it finds it."""
        row = dataclasses.replace(self.row, state=state, error=error, ended=time.time())
        memory = self._memory
        body = result_of(
            row, self._argv, memory.peak, memory.estimated, end, made, self._prepared.remarks
        )
        await asyncio.to_thread(write_result, self._places, body)

    _began: float = 0.0
    _fault: Fault | None = None


def _release(leases: list[Lease]) -> None:
    for lease in leases:
        lease.release()


def _quoted(word: str) -> str:
    return word if word and not re.search(r"\s|['\"]", word) else repr(word)
