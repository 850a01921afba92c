"""Ending processes as a transaction: identity, signals, exit seen, memory seen released.

A target is (pid, start time) with the owner and command that a person was shown. A pidfd is opened
first and all of that compared afterwards: a number that changed hands, or a process that became
another program, is never signalled. One function in here sends signals.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.guard import scan
from engine.guard.evidence import Evidence, Memory
from engine.guard.identity import PidFd, ProcessGone
from engine.guard.scan import Row
from engine.sentence import sentence

#: Results. The first three are good ends.
ENDED: Final = "ended"
GONE: Final = "gone"
PLANNED: Final = "dry run"
MEMORY_HELD: Final = "memory held"
SURVIVED: Final = "survived"
NO_PERMISSION: Final = "no permission"
CHANGED: Final = "changed"
REFUSED: Final = "refused"
RESPAWNED: Final = "respawned"

_POLL_SECONDS: Final = 0.05
_RELEASE_POLL_SECONDS: Final = 0.2

#: Called with what is about to be, or was, done and its details; e.g. ``JobStore.audit``.
Audit = Callable[[str, Mapping[str, Any]], None]
#: A second belt: may this (pid, start time) be signalled at all?
Allow = Callable[[int, int], bool]


class ReadOnlyRefused(PermissionError):  # noqa: N818 - says what happened
    """avatop was told to change nothing."""

    def __init__(self, what: str) -> None:
        super().__init__(
            sentence(
                "read-only: {what} is refused; start avatop without --read-only to do it", what=what
            )
        )


@dataclass(frozen=True)
class Waits:
    """Seconds: after SIGTERM, after SIGKILL, until the driver shows the memory released, and for
    a living supervisor to start what was ended again."""

    term: float = 10.0
    kill: float = 10.0
    release: float = 10.0
    respawn: float = 0.5


@dataclass(frozen=True)
class Target:
    """What was decided on, as it was seen when it was decided."""

    pid: int
    start_ticks: int
    uid: int
    command: tuple[str, ...]
    state: str
    memory: Mapping[str, int | None] = field(default_factory=dict)
    listed: bool = False

    @staticmethod
    def of(evidence: Evidence) -> Target:
        """Raises ``ValueError`` for a PID that is not in ``/proc``."""
        row = evidence.row
        if row is None:
            raise ValueError(sentence("PID {pid} cannot be resolved here", pid=evidence.pid))
        return Target.of_row(row, evidence.memory, evidence.listed)

    @staticmethod
    def of_row(
        row: Row, memory: Mapping[str, int | None] | None = None, listed: bool = False
    ) -> Target:
        return Target(
            row.pid, row.start_ticks, row.uid, row.command, row.state, dict(memory or {}), listed
        )

    def mismatch(self, row: Row) -> str | None:
        """How a process differs from what was seen; None if it is the same."""
        if row.start_ticks != self.start_ticks:
            return sentence("its number belongs to another process now")
        if row.uid != self.uid:
            return sentence(
                "its owner changed from uid {uid} to uid {uid2}", uid=self.uid, uid2=row.uid
            )
        if row.command != self.command and row.alive:
            return sentence("it has become another program")
        return None


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    target: Target
    sent: tuple[str, ...]  # names of the signals, in order
    result: str
    detail: str = ""
    freed_bytes: int | None = None  # None: unknown
    advice: str | None = None

    @property
    def ok(self) -> bool:
        return self.result in (ENDED, GONE, PLANNED)


@dataclass
class _Held:
    """A target whose pidfd is open and whose identity was verified."""

    target: Target
    handle: PidFd
    sent: list[str] = field(default_factory=list)
    denied: bool = False


def end_all(
    targets: Sequence[Target],
    *,
    waits: Waits | None = None,
    read_memory: Callable[[], Memory] | None = None,
    allow: Allow | None = None,
    confirm_kill: Callable[[Target], bool] | None = None,
    audit: Audit | None = None,
    read_only: bool = False,
) -> list[Outcome]:
    """End processes together: SIGTERM to each in the order given, then SIGKILL to who stays.

    Blocks for at most three of the waits. Never raises for a process that cannot be ended: the
    outcome tells.

    Args:
        read_memory: the driver's list now; None where there is no driver.
        allow: asked before the first signal to each.
        confirm_kill: asked again before SIGKILL; None is yes.
        audit: hears each attempt before its first signal and its outcome afterwards.

    Raises:
        ReadOnlyRefused: ``read_only`` is set.
    """
    if read_only:
        raise ReadOnlyRefused(sentence("ending processes"))
    waits = waits or Waits()
    outcomes: dict[tuple[int, int], Outcome] = {}
    held: list[_Held] = []
    try:
        for target in targets:
            entry = _take(target, allow)
            if isinstance(entry, Outcome):
                outcomes[target.pid, target.start_ticks] = entry
            else:
                held.append(entry)
                _tell(audit, "reap.begin", target)
        for entry in held:
            _ask(entry)
        _wait(held, waits.term)
        for entry in held:
            alive = not entry.denied and not entry.handle.exited() and _still(entry)
            if alive and (confirm_kill is None or confirm_kill(entry.target)):
                _send(entry, signal.SIGKILL)
        _wait([entry for entry in held if "KILL" in entry.sent], waits.kill)
        lingering = _released([e for e in held if e.handle.exited()], waits.release, read_memory)
        for entry in held:
            target = entry.target
            outcomes[target.pid, target.start_ticks] = _outcome(entry, lingering, read_memory)
    finally:
        for entry in held:
            entry.handle.close()
    for outcome in outcomes.values():
        _tell(
            audit,
            "reap",
            outcome.target,
            sent=list(outcome.sent),
            result=outcome.result,
            detail=outcome.detail,
            freed_bytes=outcome.freed_bytes,
        )
    return [outcomes[target.pid, target.start_ticks] for target in targets]


def _take(target: Target, allow: Allow | None) -> _Held | Outcome:
    """Open, then verify. Every reason not to signal is found here."""
    if target.pid <= 1:
        return Outcome(target, (), REFUSED, sentence("PID {pid} is never ended", pid=target.pid))
    if allow is not None and not allow(target.pid, target.start_ticks):
        return Outcome(target, (), REFUSED, sentence("it is not on the list of what may be ended"))
    try:
        handle = PidFd(target.pid)
    except ProcessGone:
        return Outcome(target, (), GONE, sentence("it had ended by itself"))
    except OSError as error:
        text = sentence(
            "no handle on it: {strerror} (pidfd_open needs Linux 5.3)", strerror=error.strerror
        )
        return Outcome(target, (), REFUSED, text)
    row = scan.read_row(target.pid)
    if row is None or row.start_ticks != handle.start_ticks:
        handle.close()
        return Outcome(target, (), GONE, sentence("it had ended by itself"))
    wrong = target.mismatch(row)
    if wrong is None and not row.alive and not scan.live_threads(target.pid):
        handle.close()
        return Outcome(
            target,
            (),
            GONE,
            sentence("dead already; PID {ppid} has not waited for it", ppid=row.ppid),
        )
    if wrong is not None:
        handle.close()
        return Outcome(
            target,
            (),
            CHANGED,
            sentence("{wrong}; nothing was sent", wrong=wrong),
            advice=sentence("look again"),
        )
    return _Held(target, handle)


def _send(entry: _Held, signum: signal.Signals) -> None:
    """The only place that signals."""
    try:
        if entry.handle.send(signum):
            entry.sent.append(signum.name.removeprefix("SIG"))
    except PermissionError:
        entry.denied = True


def _ask(entry: _Held) -> None:
    """Ask it to end. A stopped process must be woken to hear it."""
    row = scan.read_row(entry.target.pid)
    if row is not None and row.start_ticks == entry.target.start_ticks and row.state == "T":
        _send(entry, signal.SIGCONT)
    if not entry.denied:
        _send(entry, signal.SIGTERM)


def _still(entry: _Held) -> bool:
    """Whether it still has the owner it had; the pidfd itself cannot come to mean another."""
    row = scan.read_row(entry.target.pid)
    return row is None or row.uid == entry.target.uid


def _wait(entries: Sequence[_Held], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for entry in entries:
        if not entry.denied:
            entry.handle.exited(max(0.0, deadline - time.monotonic()))


def _released(
    entries: Sequence[_Held], seconds: float, read_memory: Callable[[], Memory] | None
) -> frozenset[int]:
    """PIDs that the driver still lists after at most ``seconds``."""
    waiting = {entry.target.pid for entry in entries if entry.target.listed}
    if read_memory is None:
        return frozenset()
    deadline = time.monotonic() + seconds
    while waiting:
        waiting &= set(read_memory())
        if not waiting or time.monotonic() >= deadline:
            break
        time.sleep(min(_RELEASE_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
    return frozenset(waiting)


def _outcome(
    entry: _Held, lingering: frozenset[int], read_memory: Callable[[], Memory] | None
) -> Outcome:
    target, sent = entry.target, tuple(entry.sent)
    if entry.denied:
        text = sentence("not permitted: it belongs to uid {uid}", uid=target.uid)
        advice = f"sudo avatop reap --pid {target.pid} --yes"
        return Outcome(target, sent, NO_PERMISSION, text, advice=advice)
    if not entry.handle.exited():
        return _survivor(target, sent)
    if target.pid in lingering:
        text = sentence("it exited, and the driver still lists its memory")
        return Outcome(target, sent, MEMORY_HELD, text, None, _RESET_ADVICE)
    if target.listed and read_memory is None:
        return Outcome(target, sent, ENDED, sentence("it exited; no driver to ask for its memory"))
    return Outcome(target, sent, ENDED, "", _freed(target))


_RESET_ADVICE: Final = sentence(
    "nvidia-smi shows what is left; with the GPU idle: nvidia-smi --gpu-reset -i INDEX, or reboot"
)


def _survivor(target: Target, sent: tuple[str, ...]) -> Outcome:
    row = scan.read_row(target.pid)
    if row is not None and row.state == "D":
        where = scan.wait_channel(target.pid) or sentence("the kernel")
        text = sentence("state D: SIGKILL waits until the kernel call ends ({where})", where=where)
        return Outcome(target, sent, SURVIVED, text, advice=_RESET_ADVICE)
    if row is not None and row.state == "Z":
        count = scan.live_threads(target.pid)
        text = sentence(
            "its main thread is dead and {count} of its threads are not yet", count=count
        )
        return Outcome(target, sent, SURVIVED, text, advice=_RESET_ADVICE)
    if "KILL" not in sent:
        advice = f"avatop reap --pid {target.pid} --yes"
        return Outcome(target, sent, SURVIVED, sentence("SIGKILL was not confirmed"), advice=advice)
    state = sentence("gone from /proc") if row is None else f"state {row.state}"
    return Outcome(
        target, sent, SURVIVED, sentence("it outlived SIGKILL so far ({state})", state=state)
    )


def _freed(target: Target) -> int | None:
    """What it held and cannot hold any more; None where any of it is unknown."""
    sizes = list(target.memory.values())
    if not sizes:
        return None if target.listed else 0
    return None if any(size is None for size in sizes) else sum(size or 0 for size in sizes)


def _tell(audit: Audit | None, action: str, target: Target, **detail: Any) -> None:
    if audit is not None:
        command = " ".join(target.command)[:200]
        about = {"pid": target.pid, "start_ticks": target.start_ticks, "uid": target.uid}
        audit(action, {**about, "command": command, **detail})
