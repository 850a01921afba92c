"""What a plan is made for: devices, the host, and hardware that is not here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from engine.sentence import sentence

#: The first compute capability whose tensor cores multiply fp8.
FP8_CAPABILITY: Final = (8, 9)


@dataclass(frozen=True)
class DeviceOffer:
    """A device that a rank may have. For CPU ranks every offer names the host's memory."""

    device: str  # "cuda:0" or "cpu"
    uuid: str | None = None
    capacity_bytes: int | None = None
    usable_bytes: int | None = None  # what is free for us; None: not known, never a misfit
    name: str | None = None
    capability: tuple[int, int] | None = None  # of CUDA; None: not known
    link_bytes_per_second: float | None = None  # pinned host memory to the device

    @property
    def kind(self) -> str:
        return self.device.split(":")[0]


@dataclass(frozen=True)
class HostOffer:
    """What the host still gives, in bytes; cgroup limits respected. None: not known."""

    memory_available: int | None = None
    disk_available: int | None = None


def hypothetical(
    count: int,
    usable_bytes: int | None,
    *,
    capability: tuple[int, int] | None = None,
    link_bytes_per_second: float | None = None,
) -> list[DeviceOffer]:
    """``count`` equal GPUs that need not exist.

    Raises:
        ValueError: fewer than one device.
    """
    if count < 1:
        raise ValueError(sentence("a plan needs at least one device"))
    return [
        DeviceOffer(
            f"cuda:{n}",
            capacity_bytes=usable_bytes,
            usable_bytes=usable_bytes,
            capability=capability,
            link_bytes_per_second=link_bytes_per_second,
        )
        for n in range(count)
    ]


def parse_capability(text: str) -> tuple[int, int]:
    """``8.9``, ``89`` or ``sm_89`` → ``(8, 9)``.

    Raises:
        ValueError: anything else.
    """
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)a?", text.strip().lower())
    if found is None:
        raise ValueError(
            sentence("{text!r} is no compute capability; write it as 8.9 or sm_89", text=text[:20])
        )
    return int(found[1]), int(found[2])
