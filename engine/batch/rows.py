"""What the store keeps of batches: rows as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from engine.messages import BatchItem

#: States of an item. The last four are ends; an alias ends when its twin does.
WAITING: Final = "waiting"
RUNNING: Final = "running"
VERIFYING: Final = "verifying"
DONE: Final = "done"
FAILED: Final = "failed"
QUARANTINED: Final = "quarantined"
ALIAS: Final = "alias"
CLAIMED: Final = (RUNNING, VERIFYING)

#: States of a batch in which nothing more happens by itself.
BATCH_ENDS: Final = frozenset({"stopped", "done", "failed"})


@dataclass(frozen=True)
class BatchRow:
    """One batch. ``spec`` is ``BatchSpec.to_dict``; ``lines`` says how it was laid on devices."""

    id: str
    name: str
    state: str  # preparing | running | paused | stopped | done | failed
    spec: dict[str, Any]
    digest: str
    created: float
    started: float | None = None
    ended: float | None = None
    worked: float = 0.0  # seconds in earlier runs of it
    note: str = ""
    lines: dict[str, Any] | None = None
    report: str | None = None


@dataclass(frozen=True)
class ItemRow:
    """One item of the frozen manifest. ``request`` is whole but for output and placement."""

    batch: str
    key: str
    seq: int
    name: str
    audio: str
    image: str
    request: dict[str, Any]
    alias_of: str | None = None
    audio_sha256: str | None = None
    image_sha256: str | None = None
    audio_seconds: float | None = None
    state: str = WAITING
    attempts: int = 0
    crashes: int = 0
    fence: int = 0
    lease: float | None = None
    next_time: float = 0.0
    owner_pid: int | None = None
    owner_start: int | None = None
    owner_boot: str | None = None
    temporary: str | None = None
    job: int | None = None
    output: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    frames: int | None = None
    seconds: float | None = None  # of work on devices, of the try that succeeded or failed last
    fps: float | None = None  # video frames per second of generating
    peak_bytes: int | None = None  # of the rank that held most
    error: str | None = None
    cause: str | None = None
    findings: list[dict[str, Any]] = field(default_factory=list)
    post: str | None = None  # due | done | failed; None: no post-command
    post_error: str | None = None
    ended: float | None = None

    @property
    def shown(self) -> BatchItem:
        """As events tell it."""
        return BatchItem(
            key=self.key,
            name=self.name,
            state=self.state,
            job=self.job,
            attempts=self.attempts,
            seconds=self.seconds,
            fps=self.fps,
            peak_bytes=self.peak_bytes,
            error=self.error or self.post_error,
            output=self.output,
        )


@dataclass(frozen=True)
class AttemptRow:
    """One claim of an item, and how it ended.

    ``outcome``: done, retry, failed, crashed (no attempt), released (no attempt), quarantined.
    ``origin`` is "internal" (the job's own fault) or "external" (the host, an operator).
    """

    batch: str
    key: str
    fence: int
    began: float
    job: int | None = None
    devices: str = ""
    ended: float | None = None
    outcome: str | None = None
    cause: str | None = None
    origin: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class NoteRow:
    """Something that was done to a batch, or that it left out. ``kind``: paused, resumed, stopped,
    retried, halted, or a kind of ``pairs.Remark``."""

    batch: str
    t: float
    kind: str
    text: str
    name: str | None = None
