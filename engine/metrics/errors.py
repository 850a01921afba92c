"""Errors counted by class out of log lines, with triage's signatures.

One failure is many lines (a traceback, the same words on every rank): a class counts once per job
and rank within ``QUIET_SECONDS``. Only causes count: a rank that lost its peer follows from what
ended the peer, and so does an error of communication beside a death, a full disk or another cause.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    "ffmpeg_or_decode_failure": "decode",
    "bad_quality": "quality",
    "xid_or_fallen_off_bus": "xid",
    "disk_full": "disk",
}
#: Every kind that is told, from the first scrape on (a counter that is absent cannot increase).
TOLD: Final = ("oom", "nccl", "decode", "quality", "xid", "ecc", "disk")
QUIET_SECONDS: Final = 10.0
#: So far apart an error of communication and another cause in the same job belong together.
ECHO_SECONDS: Final = 5.0
#: What explains no error of communication: it is one, or may follow from one.
_NO_CAUSE: Final = frozenset({"hang_no_progress", "bad_quality", "thermal_throttle_or_power"})
#: The engine's own judgement of a group's end, by the kind of the first failing rank's report.
_JUDGED: Final = re.compile(r"\brank (\d+) failed \((oom|comm|disk)\)")
_JUDGED_KINDS: Final = {"oom": "oom", "comm": "nccl", "disk": "disk"}
#: Below it a line is a hint only: "killed by SIGKILL" may be an operator's as well as the kernel's.
_SURE: Final = 0.6
_HARD: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
_ECC: Final = ("uncorrectable ecc", "double bit ecc", "dbe (double")
_LONGEST: Final = 4096
_MOST_WAITING: Final = 2000
_CAUSES_KEPT: Final = 8


@dataclass(frozen=True)
class _Seen:
    """One error that may count."""

    kind: str
    job: int | None
    rank: int | None
    t: float


@dataclass
class ErrorTally:
    """Counters by kind and job (None: no job).

    Lines wait and are judged together when a count is asked for: one search through a thousand
    lines costs little more than one through a single line. Errors of communication wait for
    ``ECHO_SECONDS``: another cause may be told after them.
    """

    counts: dict[tuple[str, int | None], int] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    _last: dict[tuple[str, int | None, int | None], float] = field(default_factory=dict)
    _waiting: list[LogLine] = field(default_factory=list)
    _held: list[_Seen] = field(default_factory=list)
    _causes: dict[int, deque[float]] = field(default_factory=dict)  # job → when, the newest last

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
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._judge(lines)
        if self._held:
            now, held = self.clock(), self._held
            self._held = []
            for seen in held:
                if self._explained(seen):
                    continue
                if 0 <= now - seen.t < ECHO_SECONDS:
                    self._held.append(seen)
                else:
                    self._count(seen)

    def _judge(self, lines: Sequence[LogLine]) -> None:
        others = []
        for event in lines:
            told = _JUDGED.search(event.text) if event.source == "engine" else None
            if told is None:
                others.append(event)
                continue
            seen = _Seen(_JUDGED_KINDS[told[2]], event.job, int(told[1]), event.t)
            self._count(seen)
            if seen.kind != "nccl":
                self._cause(seen.job, seen.t)
        taken = []
        for number, kind, explains in _meanings([line.text[:_LONGEST] for line in others]):
            event = others[number]
            if explains:
                self._cause(event.job, event.t)
            if kind is not None:
                taken.append(_Seen(kind, event.job, event.rank, event.t))
        for seen in taken:
            if seen.kind == "nccl" and seen.job is not None:
                self._held.append(seen)
            else:
                self._count(seen)

    def _cause(self, job: int | None, t: float) -> None:
        if job is not None:
            self._causes.setdefault(job, deque(maxlen=_CAUSES_KEPT)).append(t)

    def _explained(self, seen: _Seen) -> bool:
        causes = self._causes.get(seen.job, ()) if seen.job is not None else ()
        return any(abs(t - seen.t) <= ECHO_SECONDS for t in causes)

    def _count(self, seen: _Seen) -> None:
        key = (seen.kind, seen.job, seen.rank)
        last = self._last.get(key)
        if last is not None and 0 <= seen.t - last < QUIET_SECONDS:
            return
        self._last[key] = seen.t
        self.counts[seen.kind, seen.job] = self.counts.get((seen.kind, seen.job), 0) + 1


def kinds_of(texts: Sequence[str]) -> set[tuple[int, str]]:
    """(index of a line, the kind of error it tells of)."""
    return {(number, kind) for number, kind, _ in _meanings(texts) if kind is not None}


def _meanings(texts: Sequence[str]) -> Iterator[tuple[int, str | None, bool]]:
    """(index of a line, the kind it counts as, whether it explains errors of communication)."""
    if not texts:
        return
    # Imported on use: hundreds of patterns are compiled, which a first picture must not wait for.
    from engine.triage.catalogue import catalogue
    from engine.triage.scan import Evidence, Scanner

    scanner = Scanner(catalogue())
    found: list[Evidence] = []
    for number, text in enumerate(texts):
        found += scanner.feed(number, text)
    found += scanner.pending()
    ecc = {n for n, text in enumerate(texts) if any(words in text.lower() for words in _ECC)}
    yield from ((n, "ecc", True) for n in sorted(ecc))
    meant = set()
    for evidence in found:
        signature, n = evidence.signature, evidence.first
        if signature.strength >= _SURE and signature.role == "root" and n not in ecc:
            kind = KINDS.get(signature.incident)
            # torch's watchdog ends its own rank so: a consequence, not a cause.
            aborted = signature.incident == "terminated_by_signal" and "SIGABRT" in evidence.text
            explains = kind != "nccl" and not aborted and signature.incident not in _NO_CAUSE
            meant.add((n, kind or "", explains))
    yield from ((n, kind or None, explains) for n, kind, explains in sorted(meant))
