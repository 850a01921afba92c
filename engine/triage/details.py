"""Figures told in the lines themselves: whose memory, how long, which rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_RAN_FOR: Final = re.compile(r"Timeout\(ms\)=(\d+)\) ran for (\d+)", re.IGNORECASE)
_TRIED: Final = re.compile(
    r"Tried to allocate (?:more than )?([\d.]+) ?([KMGTPE]i?B)", re.IGNORECASE
)
_HOLDER: Final = re.compile(r"Process (\d+) has ([\d.]+ [KMGT]iB) memory in use")
_OWN: Final = re.compile(r"this process has ([\d.]+ [KMGT]iB) memory in use", re.IGNORECASE)
_FREE: Final = re.compile(r"of which ([\d.]+ [KMGT]?i?B(?:ytes)?) is free", re.IGNORECASE)
_UNUSED: Final = re.compile(r"([\d.]+) ([KMGT]iB) is reserved by PyTorch but unallocated")
_LAST_DONE: Final = re.compile(
    r"\[?Rank (\d+)\].*last completed (?:NCCL )?work: (-?\d+)", re.IGNORECASE
)
_XID: Final = re.compile(r"Xid \(PCI:([0-9a-f:.]+)\): (\d+)", re.IGNORECASE)
#: A collective that ends before this share of its limit did not time out.
_HANG_SHARE: Final = 0.9


def is_early(text: str) -> bool:
    """Whether a "timeout" fired long before its own limit: then a peer died."""
    found = _RAN_FOR.search(text)
    return found is not None and int(found[2]) < _HANG_SHARE * int(found[1])


def is_absurd(text: str) -> bool:
    """Whether an allocation is so large that memory is not the trouble."""
    found = _TRIED.search(text)
    return (found is not None and found[2][0].upper() in "PE") or "more than 1EB" in text


def cause_with_figures(cause: str, incident: str, texts: Sequence[str]) -> str:
    """The sentence, with what its lines say in figures."""
    extra = ""
    if incident in ("cuda_oom", "fsdp_memory_growth"):
        extra = _memory(texts)
    elif incident == "nccl_timeout_watchdog":
        extra = _slowest(texts)
    elif incident == "xid_or_fallen_off_bus":
        codes = dict.fromkeys((m[2], m[1]) for text in texts for m in _XID.finditer(text))
        extra = ", ".join(f"Xid {code} on {device}" for code, device in codes)
    if not extra:
        return cause
    return f"{cause.rstrip('.')} ({extra})."


def _memory(texts: Sequence[str]) -> str:
    parts: list[str] = []
    for text in texts:
        for pattern, words in (
            (_TRIED, "tried to allocate {0} {1}"),
            (_FREE, "{0} free"),
            (_OWN, "this process holds {0}"),
            (_HOLDER, "process {0} holds {1}"),
            (_UNUSED, "{0} {1} reserved but unallocated"),
        ):
            found = pattern.search(text)
            if found is not None:
                parts.append(words.format(*found.groups()))
        if parts:
            break
    return ", ".join(parts)


def _slowest(texts: Sequence[str]) -> str:
    done: dict[int, int] = {}
    for text in texts:
        for found in _LAST_DONE.finditer(text):
            rank, work = int(found[1]), int(found[2])
            done[rank] = max(done.get(rank, work), work)
    if len(done) < 2 or len(set(done.values())) == 1:
        return ""
    rank = min(done, key=lambda r: done[r])
    return (
        f"rank {rank} is behind: it completed work {done[rank]}, others up to {max(done.values())}"
    )
