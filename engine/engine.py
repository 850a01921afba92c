"""The facade: a thread with its own event loop, commands in, events out, a queue of jobs.

Nothing here imports torch, and starting costs the caller one thread: everything heavier is
imported and opened on the engine's own thread. That thread lives as long as the engine, which
matters because the ranks' server dies with the thread that started it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from engine.bus import Bus
from engine.client import Listener
from engine.jobs.paths import Places
from engine.logfile import LogFile
from engine.messages import (
    Acknowledge,
    BatchCommand,
    Cancel,
    Command,
    Drain,
    EngineStarted,
    EngineStopped,
    Finish,
    JobChanged,
    Mirror,
    Pause,
    Reap,
    Relaunch,
    ReleaseCommand,
    Reorder,
    Reply,
    Resume,
    SetSpikeThreshold,
    Silence,
    Snapshot,
    StopEngine,
    Submit,
    Switch,
    SwitchQueue,
)
from engine.sentence import internal, sentence

if TYPE_CHECKING:
    from engine.guard.limits import Limits
    from engine.services import Services
    from engine.telemetry.recorder import Recorder

#: Seconds ``close`` waits for ranks to end before it leaves them to the kernel (PDEATHSIG).
CLOSE_SECONDS: Final = 15.0


class Engine:
    """One engine: start it, reach it through ``client``."""

    def __init__(
        self, places: Places | None = None, version: str = "", limits: Limits | None = None
    ) -> None:
        """``limits`` on jobs that stand still; the defaults where not given."""
        self._limits = limits
        self.places = places or Places.of()
        self.bus = Bus()
        self._version = version
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="avatop-engine", daemon=True)
        self._open_for_work = asyncio.Event()  # set once the store and the sampler are there
        self._stop = asyncio.Event()
        self._stop_reason: str = sentence("asked to")
        self._fatal: str | None = None
        self._services: Services | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> InProcessClient:
        """Start the thread; returns at once. Commands sent meanwhile wait for their turn."""
        self._thread.start()
        return InProcessClient(self)

    # -- any thread ----------------------------------------------------------------------------

    def call(self, function: Callable[[], None]) -> bool:
        """Run a function on the engine's thread. False when the engine has ended."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    def command(self, command: Command, future: Future[Reply]) -> None:
        """Answer a command on the engine's thread, in the order of arrival."""
        if not self.call(lambda: self._spawn(self._answer(command, future))):
            future.set_result(Reply(False, sentence("the engine has ended")))

    def ask_snapshot(self, future: Future[Snapshot]) -> None:
        """Answer with the present state once the engine is open."""
        if not self.call(lambda: self._spawn(self._snapshot(future))):
            future.set_result(Snapshot())

    def ask_idle(self, future: Future[None]) -> None:
        """Answer once no job runs or waits, or at once when the engine has ended."""
        if not self.call(lambda: self._spawn(self._when_idle(future))):
            future.set_result(None)

    def prewarm(self) -> None:
        """Load the ranks' server (torch, a second or two) before the first job needs it."""
        self.call(lambda: self._spawn(self._prewarm()))

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the engine's end. False when it still runs."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the engine's thread -------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _live(self) -> None:
        log = LogFile(self.places.log)
        self.bus.subscribe(log)
        recorder = self._record()
        end_alerts = self._watch()
        self._fatal = await self._open()
        if self._fatal is not None:
            self.bus.log("CRITICAL", self._fatal)
        self._open_for_work.set()
        await self._stop.wait()
        if self._services is not None:
            await self._services.close(self._stop_reason)
        pending = [t for t in self._tasks if t is not asyncio.current_task()]
        if pending:
            await asyncio.wait(pending, timeout=5)
        await asyncio.to_thread(end_alerts)
        self.bus.publish(EngineStopped(reason=self._stop_reason))
        log.close()
        if recorder is not None:
            await asyncio.to_thread(recorder.close)

    def _record(self) -> Recorder | None:
        from engine.telemetry.recorder import start_recorder

        return start_recorder(self.bus, self.places.recordings, self._version, self.call)

    def _watch(self) -> Callable[[], None]:
        from engine.alerts.attach import watch_engine
        from engine.nightwatch.findings import watch_findings
        from engine.nightwatch.kept import Kept

        ends = [
            watch_findings(self.bus, self.call, Kept(self.places.trouble)),
            watch_engine(self.places.state, self.bus, self.call),
        ]

        def end() -> None:
            for one in ends:
                one()

        return end

    async def _open(self) -> str | None:
        """Open everything; returns why that was not possible."""
        # Imported here: the caller's thread pays for none of it.
        from engine.jobs.store import StoreError
        from engine.services import Services

        services = Services(self.places, self.bus, self._version, self._limits)
        try:
            source = await services.open()
        except (OSError, StoreError) as error:
            return sentence("the engine cannot start: {error}", error=error)
        self._services = services
        self.bus.publish(
            EngineStarted(
                host=socket.gethostname(),
                pid=os.getpid(),
                version=self._version,
                device_source=source,
            )
        )
        for row in services.past_jobs():
            self.bus.publish(JobChanged(job=row))
        services.open_releases(InProcessClient(self))
        services.open_batches(InProcessClient(self))
        self._spawn(services.adopt())
        return None

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, command: Command, future: Future[Reply]) -> None:
        await self._open_for_work.wait()
        if isinstance(command, StopEngine):
            reply = self._begin_stop(command)
        elif self._fatal is not None or self._services is None:
            reply = Reply(False, self._fatal or sentence("the engine is not open"))
        elif self._stop.is_set():
            reply = Reply(False, sentence("the engine is stopping"))
        else:
            try:
                reply = await self._dispatch(command, self._services)
            except Exception as error:  # noqa: BLE001 - our own fault: the asker gets an answer
                for line in traceback.format_exception(error):
                    self.bus.log("DEBUG", line.rstrip())
                text = internal(error)
                self.bus.log("CRITICAL", text)
                reply = Reply(False, text, state="failed")
        if not future.cancelled():
            future.set_result(reply)

    async def _dispatch(self, command: Command, services: Services) -> Reply:
        match command:
            case Submit():
                return await services.queue.submit(
                    command.request, batch=command.batch, version=command.version
                )
            case Cancel():
                return services.steering.cancel(command.job, command.reason)
            case Pause():
                return services.steering.pause(command.job)
            case Resume():
                return await services.steering.resume(command.job, command.how)
            case Switch():
                return await services.steering.switch(command.job, command.changes)
            case Finish():
                return await services.steering.finish(command.job)
            case Mirror():
                return await services.steering.mirror(command.job)
            case SetSpikeThreshold():
                return services.queue.set_spike_threshold(command.job, command.bytes)
            case Reorder():
                return services.orders.reorder(command.job, command.position)
            case Drain():
                return await services.orders.drain(command.device, command.on)
            case SwitchQueue():
                return await services.orders.switch_queue(command.changes)
            case Relaunch():
                return await services.orders.relaunch(
                    command.job, command.changes, command.environment, command.by, dry=command.dry
                )
            case Reap() | Acknowledge() | Silence():
                return await services.night.answer(command)
            case BatchCommand():
                return await services.batches.command(command)
            case ReleaseCommand():
                return await services.releases.obey(command)
            case _:
                return Reply(
                    False, sentence("this engine does not know {name}", name=type(command).__name__)
                )

    def _begin_stop(self, command: StopEngine) -> Reply:
        if command.after_clip and self._services is not None and self._services.queue.busy:
            self._stop_reason = sentence("stopped after the clip in progress")
            self._spawn(self._stop_after_clip(self._services))
            return Reply(True, sentence("the engine ends after the clip in progress"))
        self._stop_reason = sentence("stopped")
        self._stop.set()
        return Reply(True, sentence("the engine ends"))

    async def _stop_after_clip(self, services: Services) -> None:
        services.batches.wind_down(self._stop_reason)
        await services.queue.drain_after_clip(self._stop_reason)
        self._stop.set()

    async def _prewarm(self) -> None:
        await self._open_for_work.wait()
        if self._services is not None and not self._stop.is_set():
            self._services.server.prewarm()

    async def _when_idle(self, future: Future[None]) -> None:
        await self._open_for_work.wait()
        if self._services is not None:
            await self._services.queue.idle()
        if not future.cancelled():
            future.set_result(None)

    async def _snapshot(self, future: Future[Snapshot]) -> None:
        await self._open_for_work.wait()
        if not future.cancelled():
            future.set_result(self.bus.snapshot())


class InProcessClient:
    """``EngineClient`` for a user interface in the engine's own process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def send(self, command: Command) -> Future[Reply]:
        """Hand a command to the engine; never blocks."""
        future: Future[Reply] = Future()
        self.engine.command(command, future)
        return future

    def snapshot(self) -> Future[Snapshot]:
        """The present state, for a first picture."""
        future: Future[Snapshot] = Future()
        self.engine.ask_snapshot(future)
        return future

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for every event from now on, on the engine's thread."""
        return self.engine.bus.subscribe(listener)

    def prewarm(self) -> None:
        """Load the ranks' server now, e.g. after a first paint; never blocks."""
        self.engine.prewarm()

    def close(self) -> None:
        """End the engine and every rank; waits up to ``CLOSE_SECONDS``."""
        self.send(StopEngine())
        self.engine.join(CLOSE_SECONDS)

    def when_idle(self) -> Future[None]:
        """Done when no job runs or waits (a vanished terminal lets its queue finish)."""
        future: Future[None] = Future()
        self.engine.ask_idle(future)
        return future


def start_engine(
    places: Places | None = None, version: str = "", limits: Limits | None = None
) -> InProcessClient:
    """Start an engine and return its client; the caller pays for one thread."""
    return Engine(places, version, limits).start()
