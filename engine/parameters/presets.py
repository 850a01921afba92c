"""Presets: named sets of values for the common purposes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from engine.geometry import DEFAULT_FPS, predicted_frames
from engine.parameters.problems import ParamError, Problem, closest
from engine.parameters.request import DEFAULTS


@dataclass(frozen=True)
class Preset:
    """A name, what it is for, and the values it sets (below flags, environment and file)."""

    name: str
    purpose: str
    values: Mapping[str, Any]

    @property
    def predicted_frames(self) -> int:
        """Frames if the audio lasts as long as the clips asked for."""
        clips = int(self.values["num_clip"])
        return predicted_frames(clips, clips, DEFAULTS["infer_frames"])

    @property
    def predicted_seconds(self) -> float:
        """Length at 25 fps if the audio lasts; the articles count the same frames at 16 fps."""
        return self.predicted_frames / DEFAULT_FPS


def _preset(name: str, purpose: str, **values: Any) -> Preset:
    return Preset(name, purpose, MappingProxyType(values))


_PRESETS = (
    _preset(
        "quick", "see at once how inputs work out", size="384*256", num_clip=10, sample_steps=3
    ),
    _preset("standard", "a presentable video", size="688*368", num_clip=100, sample_steps=4),
    _preset(
        "long",
        "lectures and courses",
        size="688*368",
        num_clip=1000,
        sample_steps=4,
        enable_online_decode=True,
    ),
    _preset(
        "high",
        "the highest resolution of the articles",
        size="704*384",
        num_clip=50,
        sample_steps=4,
    ),
)


def presets() -> tuple[Preset, ...]:
    """All presets, the quickest first."""
    return _PRESETS


def find_preset(name: str) -> Preset:
    """Raises ``ParamError`` for an unknown name."""
    for preset in _PRESETS:
        if preset.name == name.strip().lower():
            return preset
    names = [preset.name for preset in _PRESETS]
    advice = closest(name, names) or f"use {', '.join(names[:-1])} or {names[-1]}"
    raise ParamError([Problem("--preset", name, "is not a preset", advice)])
