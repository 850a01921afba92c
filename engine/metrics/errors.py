"""Errors counted by class out of log lines, with triage's signatures.

One failure is many lines (a traceback, the same words on every rank): a class counts once per job
and rank within ``QUIET_SECONDS``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
#: Below it a line is a hint only: "killed by SIGKILL" may be an operator's as well as the kernel's.
_SURE: Final = 0.6
_HARD: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
_ECC: Final = ("uncorrectable ecc", "double bit ecc", "dbe (double")
_LONGEST: Final = 4096
_MOST_WAITING: Final = 2000


@dataclass
class ErrorTally:
    """Counters by kind and job (None: no job).

    Lines wait and are judged together when a count is asked for: one search through a thousand
    lines costs little more than one through a single line.
    """

    counts: dict[tuple[str, int | None], int] = field(default_factory=dict)
    _last: dict[tuple[str, int | None, int | None], float] = field(default_factory=dict)
    _waiting: list[LogLine] = field(default_factory=list)

    def line(self, event: LogLine) -> None:
        """Take a warning, an error or a line on stderr; others mean nothing here."""
        if event.level in _HARD or event.stream == "stderr":
            self._waiting.append(event)
            if len(self._waiting) >= _MOST_WAITING:
                self._settle()

    def total(self, kind: str) -> int:
        """All of a kind, over all jobs."""
        self._settle()
        return sum(n for (k, _), n in self.counts.items() if k == kind)

    def by_version(self, kind: str, versions: Mapping[int, str]) -> dict[str, int]:
        """All of a kind by the version of its job; those of no known job are left out."""
        self._settle()
        found: dict[str, int] = {}
        for (counted, job), n in self.counts.items():
            version = versions.get(job) if job is not None else None
            if counted == kind and version is not None:
                found[version] = found.get(version, 0) + n
        return found

    def _settle(self) -> None:
        if not self._waiting:
            return
        lines, self._waiting = self._waiting, []
        for number, kind in sorted(kinds_of([line.text[:_LONGEST] for line in lines])):
            event = lines[number]
            key = (kind, event.job, event.rank)
            last = self._last.get(key)
            if last is not None and 0 <= event.t - last < QUIET_SECONDS:
                continue
            self._last[key] = event.t
            self.counts[kind, event.job] = self.counts.get((kind, event.job), 0) + 1


def kinds_of(texts: Sequence[str]) -> set[tuple[int, str]]:
    """(index of a line, the kind of error it tells of)."""
    # Imported on use: hundreds of patterns are compiled, which a first picture must not wait for.
    from engine.triage.catalogue import catalogue
    from engine.triage.scan import Evidence, Scanner

    scanner = Scanner(catalogue())
    found: list[Evidence] = []
    for number, text in enumerate(texts):
        found += scanner.feed(number, text)
    found += scanner.pending()
    kinds = {
        (evidence.first, kind)
        for evidence in found
        if evidence.signature.strength >= _SURE
        and (kind := KINDS.get(evidence.signature.incident)) is not None
    }
    ecc = {n for n, text in enumerate(texts) if any(words in text.lower() for words in _ECC)}
    return {(n, kind) for n, kind in kinds if n not in ecc} | {(n, "ecc") for n in ecc}
