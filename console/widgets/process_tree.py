"""The processes of a survey as rows of a tree, with the memory that devices tell of them now."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from console import format as fmt
from console.i18n import N_, t
from console.state import Model
from engine.guard import classify
from engine.messages import ProcessClass, ProcessReading


@dataclass(frozen=True)
class Look:
    """How a class of the reaper is shown: a sign, a word, a colour role, what it means."""

    shape: str
    ascii: str
    word: str
    role: str
    meaning: str


LOOKS: Final[dict[str, Look]] = {
    classify.ORPHAN: Look("✗", "x", N_("orphan"), "state.act",
        N_("A rank whose launcher is gone: nobody will ever end it.")),
    classify.STUCK: Look("✗", "x", N_("stuck"), "state.act",
        N_("A rank whose heartbeats or progress stopped.")),
    classify.DEFUNCT: Look("⚠", "!", N_("defunct"), "state.watch",
        N_("Dead already; its parent has not waited for it. No signal changes that.")),
    classify.UNINTERRUPTIBLE: Look("⚠", "!", N_("uninterruptible"), "state.watch",
        N_("Inside a kernel call: signals wait until that returns.")),
    classify.STOPPED: Look("‖", "|", N_("stopped"), "state.watch",
        N_("Stopped by a signal or a debugger; it keeps what it holds.")),
    classify.STRAY: Look("⚠", "!", N_("stray"), "state.watch",
        N_("Inference, or holder of a device, whose starter is gone; that may be on purpose.")),
    classify.FOREIGN: Look("?", "?", N_("foreign"), "state.watch",
        N_("The driver counts it by the host's numbers; from here it cannot be resolved.")),
    classify.VANISHED: Look("?", "?", N_("vanished"), "state.watch",
        N_("The driver lists it, the host has no such process.")),
    classify.OTHER_USER: Look("○", ".", N_("other-user"), "state.idle",
        N_("Another user's process.")),
    classify.PROTECTED: Look("●", "*", N_("protected"), "state.good",
        N_("avatop's own, a living job's, or the system's: nobody ends it from here.")),
    classify.HEALTHY: Look("●", "*", N_("healthy"), "state.good", N_("Nothing is wrong with it.")),
}  # fmt: skip
_UNKNOWN: Final = Look("?", "?", N_("unknown"), "state.watch", N_("A newer engine's class."))
#: The worst first.
ORDER: Final = {kind: at for at, kind in enumerate(LOOKS)}


def look_of(kind: str) -> Look:
    """A class's look; one from a newer engine is unknown."""
    return LOOKS.get(kind, _UNKNOWN)


@dataclass(frozen=True)
class ProcessRow:
    """One process in the tree.

    Args:
        depth: how many of its ancestors are shown, too.
        memory: device uuid → bytes now; None where the driver hides it.
        age: seconds since it began. ending: it was sent a signal, and the answer is awaited.
    """

    it: ProcessClass
    depth: int
    memory: dict[str, int | None]
    age: float | None
    ending: bool = False

    @property
    def process(self) -> ProcessReading:
        return self.it.process

    @property
    def key(self) -> tuple[int, float]:
        """What identifies it: its number and its start."""
        return self.process.pid, self.process.started

    @property
    def bytes(self) -> int | None:
        """Device memory on all devices; None where it holds none, or any of it is unknown."""
        sizes = list(self.memory.values())
        if not sizes or any(size is None for size in sizes):
            return None
        return sum(size or 0 for size in sizes)

    @property
    def name(self) -> str:
        """The program, without its folder and arguments."""
        words = (self.process.command or "").split()
        return words[0].rpartition("/")[2] if words else "?"


def rows_of(model: Model, ending: Container[object] = ()) -> list[ProcessRow]:
    """The survey as a tree, the worst class first among siblings; memory as last sampled."""
    processes = model.production.processes
    now = _sampled(model)
    by_pid = {it.process.pid: it for it in processes}
    children: dict[int | None, list[ProcessClass]] = {}
    for it in processes:
        parent = it.process.ppid if it.process.ppid in by_pid else None
        children.setdefault(parent if parent != it.process.pid else None, []).append(it)
    rows: list[ProcessRow] = []
    seen: set[int] = set()

    def walk(parent: int | None, depth: int) -> None:
        for it in sorted(children.get(parent, ()), key=_worst):
            pid = it.process.pid
            if pid not in seen:
                seen.add(pid)
                key = (pid, it.process.started)
                memory = {**it.process.memory, **now.get(pid, {})}
                rows.append(ProcessRow(it, depth, memory, _age(it, model.now), key in ending))
                walk(pid, depth + 1)

    walk(None, 0)
    # Parents in a circle: numbers were used again between two looks.
    left = (it for it in processes if it.process.pid not in seen)
    return [
        *rows,
        *(ProcessRow(it, 0, dict(it.process.memory), _age(it, model.now)) for it in left),
    ]


def _age(it: ProcessClass, now: float) -> float | None:
    return max(now - it.process.started, 0.0) if it.process.started else None


def _worst(it: ProcessClass) -> tuple[int, int]:
    return ORDER.get(it.kind, 0), it.process.pid


def _sampled(model: Model) -> dict[int, dict[str, int | None]]:
    """PID → device uuid → bytes, of the newest readings."""
    found: dict[int, dict[str, int | None]] = {}
    for uuid, track in model.devices.items():
        for process in track.reading.processes:
            found.setdefault(process.pid, {})[uuid] = process.memory.get(uuid)
    return found


def device_name(model: Model, uuid: str) -> str:
    """``GPU 3``; the uuid where no reading names it."""
    track = model.devices.get(uuid)
    return f"GPU {track.reading.index}" if track is not None else uuid


def device_names(model: Model, uuids: Sequence[str]) -> str:
    """``GPU 0,1,3``; uuids that no reading names as they are."""
    indices = sorted(model.devices[uuid].reading.index for uuid in uuids if uuid in model.devices)
    others = [uuid for uuid in uuids if uuid not in model.devices]
    named = [f"GPU {','.join(map(str, indices))}"] if indices else []
    return " ".join([*named, *others])


def memory_words(row: ProcessRow, model: Model) -> Iterator[str]:
    """``61.2 GiB on GPU 0`` for each device."""
    for uuid, size in sorted(row.memory.items()):
        device = device_name(model, uuid)
        if size is None:
            yield t("an unknown amount on {device}", device=device)
        else:
            yield t("{size} GiB on {device}", size=fmt.gib(size), device=device)


def job_words(process: ProcessReading) -> str:
    """``17 rank 2``; empty for a process of no job."""
    if process.job is None:
        return ""
    return f"{process.job}" if process.rank is None else f"{process.job} rank {process.rank}"
