"""A group of ranks: born together, watched together, always ended whole.

Runs on the engine's event loop and holds no torch. The group is one process group of its own, so
whatever its ranks started is ended with them. The first failure ends everybody: ranks that wait
for a dead peer in a collective never return by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from engine.guard.identity import Identity, PidFd, ProcessGone, boot_id, group_members, is_running
from engine.ranks.channel import ChannelProtocol, OutputProtocol
from engine.ranks.embeddings import at_hand
from engine.ranks.outcome import GroupResult, RankExit, RankLog
from engine.ranks.process import RankProcess, result_of
from engine.ranks.protocol import COMPILER, ENCODERS, FSDP, Order, RankSpec, Report, decode, encode
from engine.ranks.server import DEFAULT_ENTRY, ExitStatus, RankServer, Spawned, SpawnRequest

#: Seconds between SIGTERM and SIGKILL after a failure.
FAILURE_GRACE: Final = 0.5
#: Seconds in which the evidence of one failure arrives (its peers' errors, its exit status).
SETTLE_SECONDS: Final = 0.15
#: Seconds in which the server tells how a rank that has ended did so, however busy the host is; a
#: server that has ended itself is answered for at once.
_STATUS_SECONDS: Final = 10.0
#: Seconds in which a peer's death follows the broken connections that it causes: a killed process
#: closes its sockets first and is gone when its device and pinned memory are (1 s on an H200).
ECHO_SECONDS: Final = 5.0
_KILL_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 0.3
_RELEASE_SECONDS: Final = 3.0


class RankGroup:
    """Use ``await RankGroup.start(…)``; then ``await group.over`` for the job's result.

    A group whose specifications name weights to ``keep`` does not end with a job that ended well:
    it is ``kept``, and ``begin`` gives it the next one.
    """

    def __init__(
        self,
        server: RankServer,
        spawned: Spawned,
        on_report: Callable[[Report], None],
        on_log: Callable[[RankLog], None],
        on_exit: Callable[[RankExit], None],
        grace: float,
    ) -> None:
        self._server = server
        self._server_pid = server.pid
        self.pgid = spawned.pgid
        self._on_report = on_report
        self._on_log = on_log
        self._on_exit = on_exit
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        #: Done when nothing of the group is left.
        self.ended: asyncio.Future[GroupResult] = self._loop.create_future()
        #: Done when its present job is: the group has ended, or is kept.
        self.over: asyncio.Future[GroupResult] = self._loop.create_future()
        self._ending: asyncio.Task[None] | None = None
        self._stop_reason: str | None = None
        self._asked: dict[str, tuple[set[int], asyncio.Event]] = {}  # report → ranks still to come
        self._tasks: set[asyncio.Task[None]] = set()
        boot, now = boot_id(), time.monotonic()
        self.ranks = tuple(
            RankProcess(rank, pid, Identity(pid, ticks or 0, boot), now)
            for rank, (pid, ticks) in enumerate(zip(spawned.pids, spawned.ticks, strict=True))
        )
        self._statuses = spawned.exits

    @classmethod
    async def start(
        cls,
        server: RankServer,
        specs: Sequence[RankSpec],
        on_report: Callable[[Report], None],
        on_log: Callable[[RankLog], None],
        on_exit: Callable[[RankExit], None],
        *,
        entry: str = DEFAULT_ENTRY,
        env: Mapping[str, str | None] | None = None,
        grace: float = FAILURE_GRACE,
    ) -> RankGroup:
        """Spawn one rank per specification; callbacks run on this loop and return at once.

        Args:
            entry: ``module:function`` that each rank runs.
            env: changes to the ranks' environment; None removes a variable.
            grace: seconds between SIGTERM and SIGKILL when a rank has failed.

        Raises:
            engine.ranks.server.RankServerError: no ranks could be made.
        """
        await server.ready()
        load = await asyncio.to_thread(_imports, specs) if entry == DEFAULT_ENTRY else []
        ours: list[tuple[socket.socket, int, int]] = []
        theirs: list[int] = []
        requests = []
        try:
            for _ in specs:
                near, far = socket.socketpair()
                out_r, out_w = os.pipe()
                err_r, err_w = os.pipe()
                ours.append((near, out_r, err_r))
                far_fd = far.detach()
                theirs += [far_fd, out_w, err_w]
                requests.append(SpawnRequest(far_fd, out_w, err_w, env or {}))
            spawned = await server.spawn(requests, entry=entry, load=load)
        except BaseException:
            for near, out_r, err_r in ours:
                near.close()
                os.close(out_r)
                os.close(err_r)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        group = cls(server, spawned, on_report, on_log, on_exit, grace)
        for process, spec, ends in zip(group.ranks, specs, ours, strict=True):
            await group._connect(process, spec, *ends)
        return group

    # -- what the engine asks

    @property
    def kept(self) -> bool:
        """Whether all its ranks live and wait for another job."""
        return self._ending is None and all(p.kept is not None for p in self.ranks)

    def begin(
        self,
        specs: Sequence[RankSpec],
        on_report: Callable[[Report], None],
        on_log: Callable[[RankLog], None],
        on_exit: Callable[[RankExit], None],
    ) -> None:
        """Give a kept group its next job, as ``start`` gave it the first."""
        self.rest(on_report, on_log, on_exit)
        self.over = self._loop.create_future()
        for process, spec in zip(self.ranks, specs, strict=True):
            process.kept, process.finished, process.phase = None, False, "spawned"
            if process.transport is not None:
                process.transport.write(encode(spec))

    def rest(
        self,
        on_report: Callable[[Report], None],
        on_log: Callable[[RankLog], None],
        on_exit: Callable[[RankExit], None],
    ) -> None:
        """Tell others from now on what it says."""
        self._on_report, self._on_log, self._on_exit = on_report, on_log, on_exit

    def send(self, order: Order, rank: int | None = None) -> None:
        """Give one order to one rank, or to all. Ranks that have ended are left out."""
        for process in self.ranks if rank is None else (self.ranks[rank],):
            transport = process.transport
            if transport is not None and not transport.is_closing():
                transport.write(encode(order))

    async def ask(self, order: Order, answer: str, seconds: float) -> None:
        """Give an order to all ranks and wait for each one's report of kind ``answer``.

        Raises:
            TimeoutError: one did not answer in time, or has ended.
        """
        waiting, heard = {p.rank for p in self.ranks}, asyncio.Event()
        self._asked[answer] = waiting, heard
        self.send(order)
        try:
            async with asyncio.timeout(seconds):
                await heard.wait()
        finally:
            del self._asked[answer]

    async def stop(self, reason: str, grace: float | None = None) -> GroupResult:
        """End the group: SIGTERM, ``grace`` seconds, SIGKILL. Returns when nothing is left."""
        self._begin_end(self._grace if grace is None else grace, reason)
        return await asyncio.shield(self.ended)

    def silence(self, rank: int) -> float:
        """Seconds since this rank was last heard of (heartbeats come every half second)."""
        return time.monotonic() - self.ranks[rank].last_seen

    def alive(self) -> list[int]:
        """PIDs of the group that still run, children of ranks included. Empty once it ended."""
        ranks = {p.pid for p in self.ranks if is_running(p.identity)}
        if self.ended.done():  # the group's number may belong to others by now
            return sorted(ranks)
        return sorted(ranks | set(group_members(self.pgid)))

    # -- streams

    async def _connect(
        self, process: RankProcess, spec: RankSpec, near: socket.socket, out: int, err: int
    ) -> None:
        near.setblocking(False)
        transport, _ = await self._loop.create_connection(
            lambda: ChannelProtocol(
                lambda line: self._hear(process, line),
                lambda size: self._complain(process, f"a report of {size} bytes was dropped"),
                lambda: self._stream_ended(process, "channel"),
            ),
            sock=near,
        )
        process.transport = transport
        for name, fd in (("stdout", out), ("stderr", err)):
            pipe, _ = await self._loop.connect_read_pipe(
                lambda name=name: OutputProtocol(  # type: ignore[misc]
                    lambda text: self._on_log(RankLog(process.rank, name, time.time(), text)),
                    lambda: self._stream_ended(process, name),
                ),
                os.fdopen(fd, "rb", buffering=0),
            )
            process.pipes.append(pipe)
        transport.write(encode(spec))
        try:
            process.pidfd = PidFd(process.pid, process.identity.start_ticks or None)
        except ProcessGone:  # it has ended and was reaped already
            self._died(process)
        else:
            self._loop.add_reader(process.pidfd.fileno(), self._died, process)

    def _stream_ended(self, process: RankProcess, name: str) -> None:
        process.open_streams.discard(name)
        if not process.open_streams:
            process.drained.set()

    def _complain(self, process: RankProcess, text: str) -> None:
        self._on_log(RankLog(process.rank, "channel", time.time(), text))

    def _hear(self, process: RankProcess, line: bytes) -> None:
        process.last_seen = time.monotonic()
        try:
            report = decode(line)
        except (ValueError, TypeError, AttributeError) as error:
            self._complain(process, f"not a report: {error}")
            return
        if not isinstance(report, Report):
            self._complain(process, f"not a report: {type(report).__name__}")
            return
        report = replace(report, rank=process.rank)
        if report.kind == "phase":
            process.phase = str(report.data.get("phase"))
            process.finished = process.finished or process.phase == "ended"
        elif report.kind == "failed" and process.failed is None:
            process.failed = report
            wait = ECHO_SECONDS if self._echoes(process) else SETTLE_SECONDS
            self._loop.call_later(wait, self._begin_end, self._grace)
        elif report.kind == "kept":
            process.kept = int(report.data.get("bytes") or 0)
            if self.kept and not self.over.done():
                self.over.set_result(GroupResult("done", True, False, None, None, (), ()))
            return
        if report.kind in self._asked:
            waiting, heard = self._asked[report.kind]
            waiting.discard(process.rank)
            if not waiting:
                heard.set()
        self._on_report(report)

    # -- deaths

    def _died(self, process: RankProcess) -> None:
        """The pidfd became readable: the rank has ended, reaped or not."""
        if process.pidfd is not None:
            self._loop.remove_reader(process.pidfd.fileno())
        if process.dead_at is None:
            process.dead_at = time.time()
            process.before_signal = process.before_signal or self._ending is None
            task = self._loop.create_task(self._judge(process))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _judge(self, process: RankProcess) -> None:
        """Collect how a rank ended, tell it, and end the group if that was no good end."""
        # Its last words lie in the streams, which a child of its own may hold open.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.drained.wait(), SETTLE_SECONDS)
        status = self._statuses[process.rank]
        await asyncio.wait((status,), timeout=_STATUS_SECONDS)
        known = status.result() if status.done() else ExitStatus()
        assert process.dead_at is not None
        process.exit = RankExit(
            rank=process.rank,
            pid=process.pid,
            code=known.code,
            signal=known.signal,
            t=process.dead_at,
            finished=process.finished,
            before_signal=process.before_signal,
            because=None if process.before_signal else self._stop_reason,
        )
        process.phase = "ended" if process.exit.good else "died"
        process.gone.set()
        self._on_exit(process.exit)
        last = all(p.gone.is_set() for p in self.ranks)
        if last or not (process.exit.good or self._echoes(process)):
            self._begin_end(self._grace)

    def _echoes(self, process: RankProcess) -> bool:
        """Whether its failure may be of a peer that is not heard of yet."""
        if process.failed is None or process.failed.data.get("kind") != "comm":
            return False
        return any(p.failed is None and not p.gone.is_set() for p in self.ranks)

    def _begin_end(self, grace: float, reason: str | None = None) -> None:
        if self._ending is None:
            self._stop_reason = reason
            for process in self.ranks:  # who is dead now was not killed by what follows
                if process.pidfd is None or process.pidfd.exited():
                    process.before_signal = True
            self._ending = self._loop.create_task(self._end(grace))

    async def _end(self, grace: float) -> None:
        if not all(p.gone.is_set() for p in self.ranks):
            self._signal(signal.SIGTERM)
            if not await self._all_gone(grace):
                self._signal(signal.SIGKILL)
                await self._all_gone(_KILL_SECONDS)
        await self._sweep()
        for process in self.ranks:
            for pipe in (*process.pipes, process.transport):
                if pipe is not None:
                    pipe.close()
        leftover = tuple(group_members(self.pgid))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.release(self.pgid), _RELEASE_SECONDS)
        for process in self.ranks:
            if process.pidfd is not None:
                self._loop.remove_reader(process.pidfd.fileno())
                process.pidfd.close()
        result = result_of(self.ranks, self._stop_reason, leftover)
        for future in (self.ended, self.over):
            if not future.done():
                future.set_result(result)

    async def _all_gone(self, seconds: float) -> bool:
        waits = [asyncio.ensure_future(p.gone.wait()) for p in self.ranks]
        _, waiting = await asyncio.wait(waits, timeout=seconds)
        for wait in waiting:
            wait.cancel()
        return not waiting

    async def _sweep(self) -> None:
        """End children that outlived their ranks, and hear the last of what was printed."""
        deadline = time.monotonic() + _SWEEP_SECONDS
        while group_members(self.pgid) and time.monotonic() < deadline:
            self._signal(signal.SIGKILL)
            await asyncio.sleep(0.01)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                for process in self.ranks:
                    await process.drained.wait()

    def _signal(self, signum: signal.Signals) -> None:
        if self._server.pid == self._server_pid:
            # The server keeps the leader unreaped until release: the number is still the group's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pgid, signum)
            return
        for pid in group_members(self.pgid):
            with contextlib.suppress(ProcessGone), PidFd(pid) as handle:
                if handle.start_ticks >= self.ranks[0].identity.start_ticks:
                    handle.send(signum)


def _imports(specs: Sequence[RankSpec]) -> list[str]:
    """What a job's ranks import and the server may not have. It reads files: not on the loop."""
    plan = specs[0].plan
    found = []
    if plan["weights"]["kind"] == "peer_gather" and len(specs) > 1:
        found.append(FSDP)
        # It is large and imports what it finds: a server whose forks use CUDA is left without it.
        if all(spec.device == "cpu" for spec in specs):
            found.append(COMPILER)
    if not at_hand(specs[plan["encoder_rank"]]):
        found += ENCODERS
    return found
