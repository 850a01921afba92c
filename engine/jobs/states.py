"""Which state of a job may follow which."""

from __future__ import annotations

from typing import Final

from engine.sentence import sentence

_STOPS = ("cancelled", "interrupted", "failed")

#: From → to. What a fault ended may be queued again at once (a retry), an interrupted job by
#: somebody's wish; the others are ends.
TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    "queued": frozenset({"preflight", "paused", *_STOPS}),
    "preflight": frozenset({"loading", "queued", *_STOPS}),
    "loading": frozenset({"running", "paused", "queued", *_STOPS}),
    "running": frozenset({"decoding", "paused", "queued", *_STOPS}),
    # Its ranks may still die or hang then, before its last clip is committed.
    "decoding": frozenset({"done", "paused", "queued", *_STOPS}),
    "paused": frozenset({"queued", "decoding", *_STOPS}),
    "interrupted": frozenset({"queued", "cancelled", "decoding"}),
    "done": frozenset(),
    "cancelled": frozenset(),
    "failed": frozenset(),
}


class TransitionError(ValueError):
    """A state that cannot follow the present one."""


def check_transition(present: str, following: str) -> None:
    """Raises ``TransitionError`` unless ``following`` may come after ``present``."""
    allowed = TRANSITIONS.get(present, frozenset())
    if following not in allowed:
        ways = ", ".join(sorted(allowed)) or sentence("nothing, it has ended")
        raise TransitionError(
            sentence(
                "a job that is {present} cannot become {following} (only {ways})",
                present=present,
                following=following,
                ways=ways,
            )
        )
