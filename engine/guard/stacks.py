"""Python stacks of stuck ranks, asked for before they are ended.

Ranks register faulthandler on SIGUSR1 and write to their stderr, which the engine captures. In a
process without such a handler that signal kills, so the handler is looked up first
(``SigCgt`` of ``/proc/PID/status``).
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from engine.guard import scan
from engine.guard.identity import Identity, PidFd, ProcessGone
from engine.guard.kill import Allow, ReadOnlyRefused
from engine.sentence import sentence

_BIT: Final = 1 << (signal.SIGUSR1 - 1)
ASKED: Final = "asked"
NO_HANDLER: Final = "no handler"
GONE: Final = "gone"
STOPPED: Final = "stopped"
UNINTERRUPTIBLE: Final = "uninterruptible"
NO_PERMISSION: Final = "no permission"
REFUSED: Final = "refused"


@dataclass(frozen=True)
class Asked:
    """Whether a rank was asked for its stacks; ``wchan`` is what it waits for in the kernel."""

    pid: int
    result: str
    wchan: str | None = None


def dump_stacks(
    ranks: Iterable[Identity], *, allow: Allow | None = None, read_only: bool = False
) -> list[Asked]:
    """Ask each rank for the Python stacks of all its threads; they come over its stderr.

    Call it for all ranks of a group before the first is ended: the one that hangs is told by the
    others, which wait in a collective.

    Raises:
        ReadOnlyRefused: ``read_only`` is set.
    """
    if read_only:
        raise ReadOnlyRefused(sentence("asking ranks for their stacks"))
    return [_ask(rank, allow) for rank in ranks]


def _ask(rank: Identity, allow: Allow | None) -> Asked:
    if rank.pid <= 1 or (allow is not None and not allow(rank.pid, rank.start_ticks)):
        return Asked(rank.pid, REFUSED)
    try:
        handle = PidFd(rank.pid, rank.start_ticks)
    except ProcessGone:
        return Asked(rank.pid, GONE)
    with handle:
        row = scan.read_row(rank.pid)
        if row is None or not row.alive:
            return Asked(rank.pid, GONE)
        where = scan.wait_channel(rank.pid)
        if not row.catches & _BIT:
            return Asked(rank.pid, NO_HANDLER, where)
        try:
            sent = handle.send(signal.SIGUSR1)
        except PermissionError:
            return Asked(rank.pid, NO_PERMISSION, where)
        if not sent:
            return Asked(rank.pid, GONE)
        # Delivered later, if at all: worth telling, the engine need not wait for these.
        late = {"T": STOPPED, "t": STOPPED, "D": UNINTERRUPTIBLE}.get(row.state, ASKED)
        return Asked(rank.pid, late, where)
