"""Figures told in the lines themselves: whose memory, how long, which rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from engine.sentence import sentence

_RAN_FOR: Final = re.compile(r"Timeout\(ms\)=(\d+)\) ran for (\d+)", re.IGNORECASE)
_TRIED: Final = re.compile(
    r"Tried to allocate (?:more than )?([\d.]+) ?([KMGTPE]i?B)", re.IGNORECASE
)
_HOLDER: Final = re.compile(r"Process (\d+) has ([\d.]+ [KMGT]iB) memory in use")
_OWN: Final = re.compile(r"this process has ([\d.]+ [KMGT]iB) memory in use", re.IGNORECASE)
_FREE: Final = re.compile(r"of which ([\d.]+ [KMGT]?i?B(?:ytes)?) is free", re.IGNORECASE)
_ALLOWED: Final = re.compile(r"([\d.]+) ([KMGT]iB) allowed", re.IGNORECASE)
_UNUSED: Final = re.compile(r"([\d.]+) ([KMGT]iB) is reserved by PyTorch but unallocated")
_LAST_DONE: Final = re.compile(r"last completed (?:NCCL )?work: (-?\d+)", re.IGNORECASE)
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


def allowed_bytes(text: str) -> int | None:
    """The cap below a device's capacity that an allocator names, where it names one."""
    found = _ALLOWED.search(text)
    if found is None:
        return None
    return int(float(found[1]) * 1024 ** ("KMGT".index(found[2][0].upper()) + 1))


def much_unused(texts: Sequence[str]) -> bool:
    """Whether the allocator says that it holds a gibibyte or more for nothing."""
    found = [match for text in texts for match in _UNUSED.finditer(text)]
    return any(m[2] == "TiB" or (m[2] == "GiB" and float(m[1]) >= 1) for m in found)


def cause_with_figures(cause: str, incident: str, told: Sequence[tuple[int | None, str]]) -> str:
    """The sentence, with what its lines (each with the rank that wrote it) say in figures."""
    texts = [text for _, text in told]
    extra: list[str] = []
    if incident in ("cuda_oom", "fsdp_memory_growth"):
        extra = _memory(texts)
    elif incident == "nccl_timeout_watchdog":
        extra = _slowest(told)
    elif incident == "xid_or_fallen_off_bus":
        codes = dict.fromkeys((m[2], m[1]) for text in texts for m in _XID.finditer(text))
        extra = [
            sentence("Xid {code} on {device}", code=code, device=device) for code, device in codes
        ]
    if not extra:
        return cause
    return sentence("{cause} ({figures}).", cause=cause.rstrip("."), figures=extra)


def _memory(texts: Sequence[str]) -> list[str]:
    parts: list[str] = []
    for text in texts:
        own, cap = _OWN.search(text), _ALLOWED.search(text)
        if own is not None and cap is not None:  # the card's free memory is none of this process's
            held, allowed = own[1].removesuffix(f" {cap[2]}"), f"{cap[1]} {cap[2]}"
            parts.append(sentence("{held} of {allowed} allowed", held=held, allowed=allowed))
        if found := _TRIED.search(text):
            size = f"{found[1]} {found[2]}"
            parts.append(sentence("tried to allocate {size}", size=size))
        if cap is None and (found := _FREE.search(text)):
            parts.append(sentence("{size} free", size=found[1]))
        if cap is None and own is not None:
            parts.append(sentence("this process holds {size}", size=own[1]))
        if found := _HOLDER.search(text):
            parts.append(sentence("process {pid} holds {size}", pid=found[1], size=found[2]))
        if found := _UNUSED.search(text):
            size = f"{found[1]} {found[2]}"
            parts.append(sentence("{size} reserved but unallocated", size=size))
        if parts:
            break
    return parts


def _slowest(told: Sequence[tuple[int | None, str]]) -> list[str]:
    done: dict[int, int] = {}
    for rank, text in told:
        found = _LAST_DONE.search(text)
        if found is not None and rank is not None:
            done[rank] = max(done.get(rank, -1), int(found[1]))
    if len(done) < 2 or len(set(done.values())) == 1:
        return []
    slowest = min(done, key=lambda r: done[r])
    behind = sentence(
        "rank {rank} is behind: it completed work {done}, others up to {most}",
        rank=slowest, done=done[slowest], most=max(done.values()),
    )  # fmt: skip
    return [behind]
