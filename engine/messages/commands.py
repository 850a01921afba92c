"""Into the engine: something is asked of it."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from engine.messages.base import Message
from engine.plain import late_dataclass
from engine.sentence import sentence


@late_dataclass(frozen=True, kw_only=True, init=False)
class Command(Message):
    """Something is asked of the engine."""


@late_dataclass(frozen=True, kw_only=True)
class Submit(Command):
    """Queue a job. ``request`` is ``engine.params.Request.to_dict()``."""

    request: dict[str, Any]
    batch: str | None = None  # the batch that it is an item of
    version: str | None = None  # the release to run by; None: as the rollout assigns


@late_dataclass(frozen=True, kw_only=True)
class Cancel(Command):
    job: int
    reason: str = sentence("cancelled by the operator")


@late_dataclass(frozen=True, kw_only=True)
class SetSpikeThreshold(Command):
    """Bytes above which a rise is flagged; ``None`` returns to the plan's own threshold."""

    job: int
    bytes: int | None


@late_dataclass(frozen=True, kw_only=True)
class StopEngine(Command):
    """End the engine: at once, or after the clip in progress."""

    after_clip: bool = False


@late_dataclass(frozen=True, kw_only=True)
class Pause(Command):
    """Stop a job at the next clip boundary and keep its state on disk."""

    job: int


@late_dataclass(frozen=True, kw_only=True)
class Resume(Command):
    """Let a paused or interrupted job go on.

    ``how``: "auto" (mirrored state if there is any, else a deterministic replay), "mirror",
    "replay" (from the start, committed clips are not decoded again) or "seam" (new start after the
    committed clips, announced in the manifest).
    """

    job: int
    how: str = "auto"


@late_dataclass(frozen=True, kw_only=True)
class Switch(Command):
    """Go on under another plan from the next clip boundary; ``changes`` are request fields."""

    job: int
    changes: dict[str, Any]


@late_dataclass(frozen=True, kw_only=True)
class SwitchQueue(Command):
    """Jobs that have not begun use these request fields; running ones finish as they are."""

    changes: dict[str, Any]


@late_dataclass(frozen=True, kw_only=True)
class Finish(Command):
    """End a job now and join what is committed into a playable video."""

    job: int


@late_dataclass(frozen=True, kw_only=True)
class Reorder(Command):
    """Put a queued job at ``position`` of the queue (0: it runs next)."""

    job: int
    position: int = 0


@late_dataclass(frozen=True, kw_only=True)
class Drain(Command):
    """Give a device no new work (or let it have some again)."""

    device: str  # uuid
    on: bool = True


@late_dataclass(frozen=True, kw_only=True)
class Relaunch(Command):
    """Submit an ended job again with changed request fields or environment; audited.

    With ``dry`` nothing is done: the reply's message says what would change, its data's
    ``changes`` are the request fields as the planner worked them out.
    """

    job: int
    changes: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    by: str = "operator"
    dry: bool = False


@late_dataclass(frozen=True, kw_only=True)
class Acknowledge(Command):
    """Somebody has seen an alert, or a finding."""

    alert: str  # id of either; of an alert's rule, for all of its own
    by: str = "operator"


@late_dataclass(frozen=True, kw_only=True)
class Silence(Command):
    """Tell nobody of an alert for ``seconds``."""

    alert: str
    seconds: float
    by: str = "operator"


@late_dataclass(frozen=True, kw_only=True)
class Reap(Command):
    """End processes by the reaper's rules; each is named by (pid, start time), never by name."""

    targets: tuple[tuple[int, float], ...]
    force: bool = False  # KILL where TERM was not enough
    confirmed: bool = False  # typed, for processes of others
    by: str = "operator"


@late_dataclass(frozen=True, kw_only=True)
class Mirror(Command):
    """Write a running job's state to disk now, without stopping it."""

    job: int


@late_dataclass(frozen=True, kw_only=True)
class BatchCommand(Command):
    """``do``: start | pause | resume | stop | retry. ``spec`` is a batch's whole description."""

    do: str
    batch: str = ""
    spec: dict[str, Any] = field(default_factory=dict)


@late_dataclass(frozen=True, kw_only=True)
class ReleaseCommand(Command):
    """``do``: add | validate | start | advance | pause | resume | rollback | promote."""

    do: str
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    by: str = "operator"
