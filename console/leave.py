"""Why the console ended; its caller decides by this what becomes of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["quit", "cancelled", "after_clip", "engine_stopped", "terminal_gone",
                 "terminated", "failed"]  # fmt: skip


@dataclass(frozen=True)
class Leave:
    """Why the console ended.

    ``quit``: nothing was running. ``cancelled``: all jobs were cancelled at the person's word.
    ``after_clip``: the engine ended after its clip, as asked. ``engine_stopped``: the engine ended
    by itself. ``terminal_gone``: let the engine finish, nobody watches. ``terminated``: SIGTERM.
    ``failed``: no engine could be reached; ``message`` says why.
    """

    reason: Reason
    message: str = ""
