"""Where device readings come from, and which devices a run may use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.messages import DeviceReading
from engine.sentence import sentence
from engine.telemetry.host import HostSource
from engine.telemetry.nvml import NvmlError, NvmlSource


class DeviceSource(Protocol):
    """One way to see devices. Called from one thread at a time."""

    name: str  # "nvml" | "host" | "replay"

    def memory(self) -> dict[str, int | None]:
        """Bytes used per device UUID, quickly; None where one device cannot be read now."""

    def read(self) -> tuple[DeviceReading, ...]:
        """Everything, in the order of indices. A device that fails carries its ``error``."""

    def close(self) -> None:
        """Let go of the driver."""


@dataclass(frozen=True)
class Picked:
    """The source in use and, if it is not NVML, why not."""

    source: DeviceSource
    reason: str | None


def pick_source() -> Picked:
    """NVML where there is a driver with at least one GPU, else the host itself."""
    try:
        return Picked(NvmlSource(), None)
    except NvmlError as error:
        return Picked(HostSource(), str(error))


class DeviceSelectionError(ValueError):
    """The devices asked for are not there."""


def select_devices(
    readings: Sequence[DeviceReading], gpus: str | None, env: Mapping[str, str]
) -> list[DeviceReading]:
    """The GPUs a run may use, in the order asked for.

    ``CUDA_VISIBLE_DEVICES`` in ``env`` narrows what there is; ``gpus`` chooses from that. Both
    name GPUs by the index that ``avatop gpus`` shows (PCI order) or by UUID, which may be cut
    short as long as it is unique. As in CUDA, an entry of the environment that names nothing ends
    its list. Ranks are then given UUIDs, so CUDA's own numbering plays no part.

    Raises:
        DeviceSelectionError: an entry of ``gpus`` names nothing, or more than one, or twice the
            same, or a GPU that the environment hides.
    """
    there = [r for r in readings if r.source != "host"]
    visible = _visible(there, env.get("CUDA_VISIBLE_DEVICES"))
    if gpus is None:
        return visible
    words = [word.strip() for word in gpus.split(",")]
    if not any(words):
        raise DeviceSelectionError(
            sentence("--gpus names no device; give indices or UUIDs, e.g. --gpus 0,2")
        )
    if not there:
        raise DeviceSelectionError(
            sentence("--gpus {gpus}: this host has no GPU that NVML can see", gpus=gpus)
        )
    chosen: list[DeviceReading] = []
    for word in words:
        reading = _named(there, word)
        if reading is None:
            known = ", ".join(f"{r.index} ({r.uuid})" for r in there)
            raise DeviceSelectionError(
                sentence(
                    "--gpus: no GPU is called {word!r}; there are {known}", word=word, known=known
                )
            )
        if reading not in visible:
            raise DeviceSelectionError(
                sentence(
                    "--gpus: GPU {word} is hidden by "
                    "CUDA_VISIBLE_DEVICES={cuda_visible_devices}; change one of the two",
                    word=word,
                    cuda_visible_devices=env.get("CUDA_VISIBLE_DEVICES"),
                )
            )
        if reading in chosen:
            raise DeviceSelectionError(
                sentence("--gpus: GPU {index} is named twice", index=reading.index)
            )
        chosen.append(reading)
    return chosen


def _visible(there: list[DeviceReading], value: str | None) -> list[DeviceReading]:
    if value is None:
        return there
    visible: list[DeviceReading] = []
    for word in value.split(","):
        try:
            reading = _named(there, word.strip())
        except DeviceSelectionError:
            reading = None
        if reading is None:
            break
        if reading not in visible:
            visible.append(reading)
    return visible


def _named(there: Sequence[DeviceReading], word: str) -> DeviceReading | None:
    if re.fullmatch(r"\d{1,4}", word):
        return next((r for r in there if r.index == int(word)), None)
    if not word.upper().startswith(("GPU-", "MIG-")):
        return None
    fitting = [r for r in there if r.uuid.lower().startswith(word.lower())]
    if len(fitting) > 1:
        raise DeviceSelectionError(
            sentence(
                "--gpus: {word!r} fits {fitting} GPUs; give more of it",
                word=word,
                fitting=len(fitting),
            )
        )
    return fitting[0] if fitting else None
