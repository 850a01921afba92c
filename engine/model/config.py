"""The DiT's shape, read from a checkpoint's ``config.json``. No size is assumed anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

#: Format of quantised weights, its largest number, and the smallest range that is scaled to it.
FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0
FP8_TINY = 1e-12

#: Latent frames that one work item denoises, and pixel frames they decode to.
BLOCK_LATENTS = 3
BLOCK_FRAMES = 12

#: Latent frames that a rolling key-value cache keeps.
RING_LATENTS = 12

#: Motion latents by packing rate, newest first: 1 at full rate, 2 halved, 16 quartered.
MOTION_BUCKETS = (1, 2, 16)


@dataclass(frozen=True)
class Numerics:
    """How to compute: which dtype, and which of the reference's roundings to imitate.

    ``compute`` is the dtype of activations and caches; weights keep their own dtype. ``rope_half``
    rounds the rotation tables to float16 as the reference does. ``norm3_bf16`` rounds the input of
    the norm before text attention to bfloat16 (always so when ``compute`` is bfloat16). ``fp8``
    quantises the linears of layers and injectors.
    """

    compute: torch.dtype = torch.float32
    rope_half: bool = False
    norm3_bf16: bool = False
    fp8: bool = False


@dataclass(frozen=True)
class DiTConfig:
    """Shape of the causal speech-to-video DiT."""

    dim: int
    num_heads: int
    num_layers: int
    ffn_dim: int
    freq_dim: int
    in_dim: int
    out_dim: int
    audio_dim: int
    num_audio_token: int
    audio_inject_layers: tuple[int, ...]
    text_dim: int
    text_len: int
    audio_states: int = 25  # hidden states of the speech encoder that are mixed
    motion_frames: int = 73  # audio frames repeated in front of a block
    eps: float = 1e-6
    patch: tuple[int, int, int] = (1, 2, 2)

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ValueError(f"dim {self.dim} does not split into {self.num_heads} even heads")
        if self.dim % 4:
            raise ValueError(f"dim {self.dim} is no multiple of 4, which the audio encoder needs")
        if any(not 0 <= n < self.num_layers for n in self.audio_inject_layers):
            raise ValueError(
                f"audio_inject_layers {self.audio_inject_layers} reach beyond "
                f"{self.num_layers} layers"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def motion_latents(self) -> int:
        """Latent frames that stand for ``motion_frames`` pixel (and audio) frames."""
        return (self.motion_frames + 3) // 4

    def injector_of(self, layer: int) -> int | None:
        """Number of the audio injector that follows ``layer``, or None."""
        ordered = sorted(self.audio_inject_layers)
        return ordered.index(layer) if layer in ordered else None

    def frame_tokens(self, height: int, width: int) -> int:
        """Tokens of one latent frame of ``height`` × ``width`` latent cells."""
        return (height // self.patch[1]) * (width // self.patch[2])

    def condition_tokens(self, height: int, width: int) -> int:
        """Tokens of reference and packed motion: 1/1, 1/4 and 4 × 1/16 of a frame's cells."""
        fs = self.frame_tokens(height, width)
        return 2 * fs + (height // 4) * (width // 4) + 4 * (height // 8) * (width // 8)

    @classmethod
    def from_dict(
        cls,
        config: Mapping[str, Any],
        *,
        text_dim: int = 4096,
        text_len: int = 512,
        audio_states: int = 25,
    ) -> DiTConfig:
        """From the JSON of ``config.json``; what the file omits comes from the arguments.

        Keys that are not known are passed over. Raises ``ValueError`` for a missing dimension or
        for a variant of the network that this package does not compute.
        """
        needed = ("dim", "num_heads", "num_layers", "ffn_dim")
        missing = [key for key in needed if key not in config]
        if missing:
            raise ValueError(f"config.json lacks {', '.join(missing)}")
        fixed: dict[str, Any] = {
            "enable_adain": True,
            "adain_mode": "attn_norm",
            "zero_timestep": True,
            "enable_framepack": True,
            "framepack_drop_mode": "padd",
            "enable_motioner": False,
            "enable_tsm": False,
        }
        for key, value in fixed.items():
            if config.get(key, value) != value:
                raise ValueError(f"config.json says {key} = {config[key]!r}, not {value!r}")
        return cls(
            dim=int(config["dim"]),
            num_heads=int(config["num_heads"]),
            num_layers=int(config["num_layers"]),
            ffn_dim=int(config["ffn_dim"]),
            freq_dim=int(config.get("freq_dim", 256)),
            in_dim=int(config.get("in_dim", 16)),
            out_dim=int(config.get("out_dim", 16)),
            audio_dim=int(config.get("audio_dim", 1024)),
            num_audio_token=int(config.get("num_audio_token", 4)),
            audio_inject_layers=tuple(int(n) for n in config.get("audio_inject_layers", ())),
            text_dim=int(config.get("text_dim", text_dim)),
            text_len=int(config.get("text_len", text_len)),
            audio_states=int(config.get("audio_states", audio_states)),
            motion_frames=int(config.get("motion_frames", 73)),
            eps=float(config.get("eps", 1e-6)),
            patch=_triple(config.get("patch_size", (1, 2, 2))),
        )


def _triple(value: Any) -> tuple[int, int, int]:
    t, h, w = (int(n) for n in value)
    return t, h, w
