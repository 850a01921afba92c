"""Errors counted by class out of log lines, with triage's signatures.

One failure is many lines (a traceback, the same words on every rank): a class counts once per job
and rank within ``QUIET_SECONDS``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from engine.messages import LogLine

#: Triage class → the kind that metrics and rules count.
KINDS: Final = {
    "cuda_oom": "oom",
    "fsdp_memory_growth": "oom",
    "host_oom_killed": "oom",
    "nccl_init_failure": "nccl",
    "nccl_timeout_watchdog": "nccl",
    "nccl_p2p_or_shm": "nccl",
    "peer_rank_died": "nccl",
    "ffmpeg_or_decode_failure": "decode",
    "bad_quality": "quality",
    "xid_or_fallen_off_bus": "xid",
    "disk_full": "disk",
}
#: Every kind that is told, from the first scrape on (a counter that is absent cannot increase).
TOLD: Final = ("oom", "nccl", "decode", "quality", "xid", "ecc", "disk")
QUIET_SECONDS: Final = 10.0
_HARD: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
_ECC: Final = ("uncorrectable ecc", "double bit ecc", "dbe (double")
_LONGEST: Final = 4096


@dataclass
class ErrorTally:
    """Counters by kind and job (None: no job)."""

    counts: dict[tuple[str, int | None], int] = field(default_factory=dict)
    _last: dict[tuple[str, int | None, int | None], float] = field(default_factory=dict)

    def line(self, event: LogLine) -> None:
        """Count what a warning, an error or a line on stderr means, if it means anything."""
        if event.level not in _HARD and event.stream != "stderr":
            return
        for kind in kinds_of(event.text[:_LONGEST]):
            key = (kind, event.job, event.rank)
            last = self._last.get(key)
            if last is not None and 0 <= event.t - last < QUIET_SECONDS:
                continue
            self._last[key] = event.t
            self.counts[kind, event.job] = self.counts.get((kind, event.job), 0) + 1

    def total(self, kind: str) -> int:
        """All of a kind, over all jobs."""
        return sum(n for (k, _), n in self.counts.items() if k == kind)


def kinds_of(text: str) -> set[str]:
    """The kinds of error that one line tells of."""
    # Imported on use: hundreds of patterns are compiled, which a first picture must not wait for.
    from engine.triage.catalogue import catalogue
    from engine.triage.scan import Scanner

    low = text.lower()
    if any(words in low for words in _ECC):
        return {"ecc"}
    scanner = Scanner(catalogue())
    evidence = [*scanner.feed(1, text), *scanner.pending()]
    return {kind for found in evidence if (kind := KINDS.get(found.signature.incident)) is not None}
