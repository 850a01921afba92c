"""Why the console ended; its caller decides by this what to wait for and what to say."""

from __future__ import annotations

from typing import Literal

from engine.plain import Plain, late_dataclass

Reason = Literal["quit", "detached", "cancelled", "after_clip", "engine_stopped", "terminal_gone",
                 "terminated", "failed"]  # fmt: skip


@late_dataclass(frozen=True)
class Leave(Plain):
    """Why the console ended. The engine goes on unless it was asked to end.

    ``quit``: nothing was running. ``detached``: work goes on without this console.
    ``cancelled``: all jobs were cancelled at the person's word. ``after_clip``: the engine ended
    after its clip, as asked. ``engine_stopped``: the engine ended by itself. ``terminal_gone``:
    hang-up. ``terminated``: SIGTERM to the console. ``failed``: no engine could be reached;
    ``message`` says why.
    """

    reason: Reason
    message: str = ""
