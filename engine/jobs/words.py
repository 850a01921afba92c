"""What the job store says: sentences, each with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from engine.sentence import joined, sentence


def left(pid: int | None, state: str, clip: int) -> str:
    """Why a job of an engine that is gone does not run any more."""
    reason: str = (
        sentence("the engine (pid {pid}) ended before it started", pid=pid)
        if state == "queued"
        else sentence("the engine (pid {pid}) ended while it was {state}", pid=pid, state=state)
    )
    return with_clips(reason, clip)


def ended_as(state: str, reason: str) -> str:
    """An end in one line of the log: ``failed: no space left``, ``cancelled by the operator``."""
    return reason if reason.startswith(state) else f"{state}: {reason}"


def with_clips(reason: str, clips: int) -> str:
    """Why a job ended early, and how many committed clips it leaves."""
    if not clips:
        return reason
    one, more = sentence("1 clip is kept"), sentence("{clip} clips are kept", clip=clips)
    return joined((reason, one if clips == 1 else more))


class Planned(Protocol):
    """A plan, as far as it is named."""

    @property
    def mode(self) -> str: ...
    @property
    def variant(self) -> str: ...


def mode_of(plan: Planned) -> str:
    """A plan's mode as it is told: ``tpp ring``, ``fsdp``."""
    return f"{plan.mode} {plan.variant}".strip()


def not_switched(failed: Planned, why: str, back: Planned) -> str:
    """A switch of modes did not come about: the job goes on as before."""
    return sentence(
        "the switch to {failed} failed ({why}): it goes on in mode {mode}",
        failed=mode_of(failed),
        why=why,
        mode=mode_of(back),
    )


def not_turned(kind: str, what: str, why: str) -> str:
    """A pause or a switch that was asked for, and that no clip boundary came for."""
    if kind == "pause":
        return sentence("not paused as asked: {why}", why=why)
    return sentence("not switched as asked ({what}): {why}", what=what, why=why)


def not_kept(path: Path, error: OSError) -> str:
    """The folder of the store cannot be used."""
    return sentence(
        "cannot keep jobs in {path}: {why}; set AVATOP_STATE_DIR to a folder you may write to",
        path=path,
        why=error.strerror or error,
    )


def set_aside(damage: str, aside: Path) -> str:
    """A damaged store was moved away."""
    return sentence(
        "the job store was damaged ({damage}); it was set aside as {name} and a new one begun, "
        "finished videos are not affected",
        damage=damage,
        name=aside.name,
    )


def newer(path: Path, version: int, known: int) -> str:
    """A later avatop wrote the store."""
    return sentence(
        "{path} was written by a newer avatop (schema {version}, this one knows {known}); update "
        "avatop or set AVATOP_STATE_DIR",
        path=path,
        version=version,
        known=known,
    )


def failed(path: Path, text: str, patience: float) -> str:
    """SQLite refused. ``patience``: seconds that another writer was waited for."""
    if "locked" in text or "busy" in text:
        advice = sentence(
            "another process has held it for over {seconds:.0f} s; end it or retry",
            seconds=patience,
        )
    elif "readonly" in text or "unable to open" in text:
        advice = sentence("check its permissions or set AVATOP_STATE_DIR")
    elif "full" in text:
        advice = sentence("free some space on its disk")
    else:
        advice = sentence("restart avatop; it sets a damaged store aside")
    return sentence(
        "the job store {path} failed ({text}); {advice}", path=path, text=text, advice=advice
    )
