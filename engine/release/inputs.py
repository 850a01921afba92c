"""What releases are compared on: fixed portraits, voices and seeds, in sizes the model can bear."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from engine.geometry import DEFAULT_FPS
from engine.parameters.request import DEFAULT_PROMPT
from engine.release.settings import Settings
from engine.resources import sample_data
from engine.sentence import sentence

#: Width of the 14B model, for whose sizes the settings are written.
_FULL_DIM: Final = 5120
#: A model narrower than this is for tests and demonstrations: its runs are made small.
_SMALL_DIM: Final = 1024
_GRID: Final = 64
_SMALL_FRAMES: Final = 12
_SEED: Final = 420


@dataclass(frozen=True)
class FixedInput:
    """One portrait with one voice and one seed."""

    name: str
    image: str
    audio: str
    prompt: str
    seed: int

    def request(self) -> dict[str, Any]:
        """Its request fields."""
        return {
            "image": self.image,
            "audio": self.audio,
            "prompt": self.prompt,
            "base_seed": self.seed,
        }


@dataclass(frozen=True)
class Sizes:
    """The settings' sizes for one checkpoint."""

    paired: dict[str, Any]
    clips: dict[str, Any]
    high: dict[str, Any]
    trip: dict[str, Any]  # the shortest job there is
    scale: float  # 1 for the full model


def fixed_inputs(settings: Settings) -> tuple[FixedInput, ...]:
    """As many as the settings ask for: their files, or the samples; seeds tell rounds apart.

    Raises:
        FileNotFoundError: the installation lacks its sample data, and no files are set.
    """
    files = [(f["image"], f["audio"], f.get("prompt", DEFAULT_PROMPT)) for f in settings.files]
    if not files:
        folder = sample_data()
        images = sorted((folder / "portraits").glob("*.png"))
        sounds = sorted((folder / "speech").glob("*.wav"))
        files = [(str(i), str(a), DEFAULT_PROMPT) for i, a in product(images, sounds)]
    if not files:
        raise FileNotFoundError(
            sentence("there are no sample portraits and voices to compare releases on")
        )
    found = []
    for number in range(settings.inputs):
        image, audio, prompt = files[number % len(files)]
        name = f"{Path(image).stem}+{Path(audio).stem}"
        seed = _SEED + number
        found.append(FixedInput(f"{name} seed {seed}", image, audio, prompt, seed))
    return tuple(found)


def sizes(settings: Settings, config: Mapping[str, Any]) -> Sizes:
    """The settings' sizes; a small model's are scaled down with its width, told as ``scale``."""
    dim = config.get("dim")
    if not isinstance(dim, int) or dim >= _SMALL_DIM:
        high = {"size": settings.high_size, "num_clip": _clips(settings.high_seconds, 48)}
        return Sizes(
            {"size": settings.size, "num_clip": settings.clips},
            {"size": settings.validate_size, "num_clip": settings.validate_clips},
            high,
            {"size": settings.size, "num_clip": 1},
            1.0,
        )
    scale = dim / _FULL_DIM
    short = {"infer_frames": _SMALL_FRAMES}
    small = {**short, "size": _scaled(settings.size, scale)}
    seconds = settings.high_seconds * scale
    return Sizes(
        {**small, "num_clip": settings.clips},
        {**short, "size": _scaled(settings.validate_size, scale),
         "num_clip": settings.validate_clips},
        {**short, "size": _scaled(settings.high_size, 3 * scale),
         "num_clip": _clips(seconds, _SMALL_FRAMES)},
        {**small, "num_clip": 1},
        scale,
    )  # fmt: skip


def _clips(seconds: float, frames: int) -> int:
    return max(1, math.ceil(seconds * DEFAULT_FPS / frames))


def _scaled(size: str, scale: float) -> str:
    sides = [int(side) for side in size.replace("x", "*").split("*")]
    return "*".join(str(max(_GRID, round(side * scale / _GRID) * _GRID)) for side in sides)
