"""Why a try failed, whether another may succeed, and whose doing it was."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final, Literal

from engine.messages import JobRow
from engine.triage import classify

Origin = Literal["internal", "external"]


@dataclass(frozen=True)
class Cause:
    """``kind`` is a class of docs/triage.md or a word of this module.

    ``passes``: another try may succeed. ``origin``: the job's own doing, or the host's.
    """

    kind: str
    origin: Origin
    passes: bool


#: Classes of triage that may pass; all others would come again.
_PASSING: Final[dict[str, Origin]] = {
    "cuda_oom": "internal",
    "fsdp_memory_growth": "internal",
    "host_oom_killed": "external",
    "nccl_init_failure": "internal",
    "nccl_timeout_watchdog": "internal",
    "nccl_p2p_or_shm": "internal",
    "peer_rank_died": "external",
    "terminated_by_signal": "external",
    "port_in_use": "external",
    "illegal_memory_access": "internal",
    "disk_full": "external",
    "hang_no_progress": "internal",
    "thermal_throttle_or_power": "external",
    "zombie_process": "external",
}
#: Lasting ones that are the host's, not the job's.
_EXTERNAL: Final = frozenset({"driver_mismatch", "xid_or_fallen_off_bus", "permission_denied"})

#: The engine's own sentences of a job's end, which are no log lines for triage to read.
_OWN_WORDS: Final = (
    ("was killed by", Cause("terminated_by_signal", "external", True)),
    ("said nothing for", Cause("hang_no_progress", "internal", True)),
    ("are allowed in all", Cause("timeout", "internal", False)),
    ("no block for", Cause("hang_no_progress", "internal", True)),
)

TIMEOUT: Final = Cause("timeout", "internal", True)
BROKEN_OUTPUT: Final = Cause("bad_output", "internal", True)
NAME_TAKEN: Final = Cause("name_taken", "external", False)
CANCELLED: Final = Cause("cancelled", "external", False)
ENGINE_STOPPED: Final = Cause("engine_stopped", "external", True)


def of_text(text: str, default: Cause) -> Cause:
    """By what triage reads in a message; ``default`` where it reads nothing."""
    found = next((f.class_ for f in classify(text.splitlines()) if f.role == "root"), None)
    if found is None:
        return default
    if found in _PASSING:
        return Cause(found, _PASSING[found], True)
    return Cause(found, "external" if found in _EXTERNAL else "internal", False)


def of_refusal(state: str | None, message: str) -> Cause:
    """Of a job that was not taken."""
    if state == "bad_input":
        return Cause("bad_input", "internal", False)
    if "free on its disk" in message:
        return Cause("disk_full", "external", True)
    if state == "refused":
        # Memory that others hold may be given back; what never fits fails after its tries.
        return Cause("refused", "external", True)
    return of_text(message, Cause("failed", "internal", False))


def of_row(row: JobRow) -> Cause:
    """Of a job that ended and is not done."""
    if row.state == "cancelled":
        return CANCELLED
    text = row.error or ""
    for words, cause in _OWN_WORDS:
        if words in text:
            return cause
    stopped = row.state == "interrupted"
    default = Cause(row.state, "external" if stopped else "internal", stopped)
    return of_text(text, default)


def of_os_error(error: OSError) -> Cause:
    """Of a file that could not be written or made durable."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Cause("disk_full", "external", True)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Cause("permission_denied", "external", False)
    return Cause("write_failed", "external", True)


def wait_seconds(first: float, attempts: int) -> float:
    """Before the next try: doubled with each, an hour at most."""
    return float(min(first * 2 ** max(0, attempts - 1), 3600.0))
