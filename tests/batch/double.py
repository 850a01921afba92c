"""A test double of the engine at ``EngineClient``: jobs that end as a script says.

Nothing is generated. A "done" job's video is one small file, drawn and joined once for all
processes and copied under the asked name, so that verification and publication have something real.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from engine.jobs.store import JobStore
from engine.media.join import join
from engine.messages import Cancel, Command, Event, JobChanged, JobRow, Reply, Snapshot, Submit
from tests.bad_inputs import voice, write_wav
from tests.media.makers import noise, segment
from tests.tiny import shared

Listener = Callable[[Event], None]
#: (the item's name, how often it was submitted before) → "done", "hang" or an error's text, which
#: may begin with a job state and a colon, or with "refuse:".
Script = Callable[[str, int], str]


def all_done(_name: str, _before: int) -> str:
    return "done"


@functools.cache
def video() -> Path:
    """Two seconds of noise with the sound that ``make_pair`` writes."""
    return shared("double", _draw) / "video.mp4"


def _draw(folder: Path) -> None:
    folder.mkdir()
    clip = segment(folder / "clip.mp4", noise(50, 64, 64))
    write_wav(folder / "sound.wav", voice(2.2, 16_000), 16_000)
    join([clip], folder / "sound.wav", folder / "video.mp4")


class Double:
    """Commands in, events out. No job ends before ``together`` were at work side by side."""

    def __init__(self, jobs: JobStore, script: Script = all_done, together: int = 1) -> None:
        self.sent: list[Command] = []
        self.submitted: Counter[str] = Counter()
        self.side_by_side = 0
        self._jobs = jobs
        self._script = script
        self._together = together
        self._enough = asyncio.Event()
        self._listeners: list[Listener] = []
        self._live: dict[int, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()

    def send(self, command: Command) -> Future[Reply]:
        self.sent.append(command)
        future: Future[Reply] = Future()
        if isinstance(command, Submit):
            future.set_result(self._submit(command))
        elif isinstance(command, Cancel):
            self._end(command.job, "cancelled", command.reason)
            future.set_result(Reply(True, "", command.job))
        return future

    def snapshot(self) -> Future[Snapshot]:
        future: Future[Snapshot] = Future()
        future.set_result(Snapshot())
        return future

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        for task in self._live.values():
            task.cancel()

    def _submit(self, command: Submit) -> Reply:
        request = command.request
        name = Path(str(request["image"])).stem
        before = self.submitted[name]
        self.submitted[name] += 1
        end = self._script(name, before)
        if end.startswith("refuse:"):
            return Reply(False, end.removeprefix("refuse:").strip(), state="refused")
        row = self._jobs.create(request, mode="single", size="64*64", clips=1)
        row = self._jobs.update(row.id, batch=command.batch, version=command.version)
        self._live[row.id] = self._loop.create_task(self._work(row, end))
        self.side_by_side = max(self.side_by_side, len(self._live))
        if self.side_by_side >= self._together:
            self._enough.set()
        return Reply(True, "", row.id, "queued")

    async def _work(self, row: JobRow, end: str) -> None:
        self._tell(dataclasses.replace(row, state="running", started=time.time()))
        if end == "hang":
            return
        await self._enough.wait()
        if end == "done":
            shutil.copyfile(video(), str(row.request["output"]))
            self._end(row.id, "done", None)
            return
        state, _, error = end.partition(":")
        if state not in ("failed", "interrupted", "cancelled"):
            state, error = "failed", end
        self._end(row.id, state, error.strip())

    def _end(self, job: int, state: str, error: str | None) -> None:
        if self._live.pop(job, None) is None:
            return
        for step in ("preflight", "loading", "running", "decoding") if state == "done" else ():
            self._jobs.update(job, state=step)
        row = self._jobs.update(job, state=state, error=error, fps=25.0, peak_bytes=1 << 20)
        now = time.time()
        self._tell(dataclasses.replace(row, started=now - 1.0, ended=now))

    def _tell(self, row: JobRow) -> None:
        for listener in list(self._listeners):
            listener(JobChanged(job=row))
