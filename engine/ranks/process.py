"""The ranks of a group as the engine sees them, and what their ends come to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.guard.identity import Identity, PidFd
from engine.ranks.outcome import GroupResult, RankExit
from engine.ranks.protocol import Report
from engine.sentence import sentence


@dataclass
class RankProcess:
    """Everything that is known of it now."""

    rank: int
    pid: int
    identity: Identity
    last_seen: float  # time.monotonic() of the last message of any kind
    phase: str = "spawned"
    finished: bool = False
    kept: int | None = None  # bytes that it holds for the next job, once it waits for one
    failed: Report | None = None
    exit: RankExit | None = None
    dead_at: float | None = None
    before_signal: bool = False
    pidfd: PidFd | None = None
    transport: asyncio.Transport | None = None
    pipes: list[asyncio.BaseTransport] = field(default_factory=list)
    #: Streams (channel, stdout, stderr) that have not ended.
    open_streams: set[str] = field(default_factory=lambda: {"channel", "stdout", "stderr"})
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


def result_of(
    ranks: Sequence[RankProcess], stop_reason: str | None, leftover: tuple[int, ...]
) -> GroupResult:
    """How a group ended, once all its ranks have.

    Args:
        stop_reason: why it was asked to end; None: it was not. leftover: who survived.
    """
    exits = tuple(p.exit for p in ranks if p.exit is not None)
    ok = len(exits) == len(ranks) and all(e.finished and e.code == 0 for e in exits)
    root = None if ok or stop_reason is not None else _root(ranks)
    if stop_reason is not None:
        reason = stop_reason
    elif ok:
        reason = "done"
    elif root is None:
        reason = sentence("the rank server ended and took its ranks along")
    elif root.failed is not None:
        data = root.failed.data
        reason = sentence(
            "rank {rank} failed ({kind}): {message}",
            rank=root.rank,
            kind=data.get("kind"),
            message=data.get("message"),
        )
    else:
        assert root.exit is not None
        reason = sentence(
            "rank {rank} (process {pid}) {describe}",
            rank=root.rank,
            pid=root.pid,
            describe=root.exit.describe(),
        )
    return GroupResult(
        reason=reason,
        ok=ok,
        stopped=stop_reason is not None,
        root=None if root is None else root.rank,
        failed=None if root is None else root.failed,
        exits=exits,
        leftover=leftover,
    )


def _root(ranks: Sequence[RankProcess]) -> RankProcess | None:
    """The rank that failed first. An error of communication is an echo, if others remain."""
    own: list[tuple[float, RankProcess]] = []
    echo: list[tuple[float, RankProcess]] = []
    for process in ranks:
        if process.failed is not None:
            kind = process.failed.data.get("kind")
            (echo if kind == "comm" else own).append((process.failed.t, process))
        elif process.exit is not None and process.before_signal:
            known = process.exit.code is not None or process.exit.signal is not None
            if known and not (process.exit.code == 0 and process.finished):
                own.append((process.exit.t, process))
    for candidates in (own, echo):
        if candidates:
            return min(candidates, key=lambda pair: pair[0])[1]
    return None
