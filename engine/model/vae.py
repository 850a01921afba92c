"""The causal video VAE of Wan 2.1: pixels to latents and back, whole or as a stream.

The first frame of a video makes one latent frame, every further four make one more. Decoding goes
through the network one latent frame at a time and encoding in chunks of 1, 4, 4, …; what a chunk
needs of those before it is kept in a ``History``. So a stream and a whole call do the same work in
the same order and give the same bits, and peak memory does not grow with the video's length.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.model.vae_blocks import (
    CausalConv3d,
    Chain,
    Downsample,
    History,
    ResidualBlock,
    Upsample,
    head,
    middle,
)

#: Wan 2.1's published statistics of its 16 latent channels.
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip

Shape = Sequence[int]


@dataclass(frozen=True)
class VAEConfig:
    """Widths and depth. ``widths`` are the encoder's levels, outermost first."""

    dim: int
    widths: tuple[int, ...]
    blocks: int  # residual blocks per level of the encoder; the decoder has one more
    temporal: tuple[bool, ...]  # whether the step from level to level also halves time
    z_dim: int = 16
    mean: tuple[float, ...] = LATENT_MEAN
    std: tuple[float, ...] = LATENT_STD

    def __post_init__(self) -> None:
        if len(self.temporal) != len(self.widths) - 1:
            raise ValueError(f"{len(self.widths)} levels but {len(self.temporal)} steps between")
        if not len(self.mean) == len(self.std) == self.z_dim:
            raise ValueError(
                f"{self.z_dim} latent channels need as many means and standard deviations, "
                f"not {len(self.mean)} and {len(self.std)}"
            )

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell and side."""
        return int(2 ** len(self.temporal))

    @property
    def temporal_stride(self) -> int:
        """Pixel frames per latent frame, except the first."""
        return int(2 ** sum(self.temporal))

    @classmethod
    def from_shapes(
        cls,
        shapes: Mapping[str, Shape],
        mean: Sequence[float] = LATENT_MEAN,
        std: Sequence[float] = LATENT_STD,
    ) -> VAEConfig:
        """Read the structure off a state dict's names and shapes.

        Raises:
            ValueError: a tensor that fixes the structure is missing or has an odd shape.
        """
        found = re.compile(r"encoder\.downsamples\.(\d+)\.(residual|resample)\.")
        kinds = {int(m[1]): m[2] for m in map(found.match, shapes) if m}
        if sorted(kinds) != list(range(len(kinds))) or not kinds:
            raise ValueError("no VAE of Wan 2.1: encoder.downsamples.0, 1, … are not all there")
        levels: list[list[int]] = [[]]
        temporal = []
        for number in range(len(kinds)):
            path = f"encoder.downsamples.{number}"
            if kinds[number] == "resample":
                temporal.append(f"{path}.time_conv.weight" in shapes)
                levels.append([])
            else:
                levels[-1].append(_axis(shapes, f"{path}.residual.2.weight", 0))
        depths = {len(level) for level in levels}
        if len(depths) != 1 or 0 in depths or any(len(set(level)) != 1 for level in levels):
            raise ValueError(f"the VAE's levels are uneven: widths {levels}")
        return cls(
            dim=_axis(shapes, "encoder.conv1.weight", 0),
            widths=tuple(level[0] for level in levels),
            blocks=depths.pop(),
            temporal=tuple(temporal),
            z_dim=_axis(shapes, "conv2.weight", 0),
            mean=tuple(mean),
            std=tuple(std),
        )


def _axis(shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    shape = shapes.get(name)
    if shape is None or len(shape) <= axis:
        raise ValueError(f"no VAE of Wan 2.1: {name} is missing or has no axis {axis}")
    return int(shape[axis])


class Encoder(nn.Module):
    """Pixels ``[B, 3, T, H, W]`` → moments ``[B, 2·z, T', H/8, W/8]``, one chunk at a time."""

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        slots = itertools.count()
        self.conv1 = CausalConv3d(3, cfg.dim, (3, 3, 3), slots)
        stages: list[nn.Module] = []
        width = cfg.dim
        for level, out in enumerate(cfg.widths):
            for _ in range(cfg.blocks):
                stages.append(ResidualBlock(width, out, slots))
                width = out
            if level < len(cfg.temporal):
                stages.append(Downsample(width, cfg.temporal[level], slots))
        self.downsamples = Chain(*stages)
        self.middle = middle(width, slots)
        self.head = head(width, 2 * cfg.z_dim, slots)
        self.slots = next(slots)

    def forward(self, x: Tensor, history: History) -> Tensor:
        x = self.downsamples(self.conv1(x, history), history)
        out: Tensor = self.head(self.middle(x, history), history)
        return out


class Decoder(nn.Module):
    """One latent frame ``[B, z, 1, h, w]`` → pixels ``[B, 3, 1 or 4, 8h, 8w]``."""

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        slots = itertools.count()
        width = cfg.widths[-1]
        self.conv1 = CausalConv3d(cfg.z_dim, width, (3, 3, 3), slots)
        self.middle = middle(width, slots)
        stages: list[nn.Module] = []
        temporal = cfg.temporal[::-1]
        for level, out in enumerate(cfg.widths[::-1]):
            for _ in range(cfg.blocks + 1):
                stages.append(ResidualBlock(width, out, slots))
                width = out
            if level < len(temporal):
                stages.append(Upsample(width, temporal[level], slots))
                width //= 2
        self.upsamples = Chain(*stages)
        self.head = head(width, 3, slots)
        self.slots = next(slots)

    def forward(self, x: Tensor, history: History) -> Tensor:
        x = self.middle(self.conv1(x, history), history)
        out: Tensor = self.head(self.upsamples(x, history), history)
        return out


class VAE(nn.Module):
    """Encoder and decoder under the checkpoint's parameter names, without a video's state.

    Weights may be float32 or bfloat16, arithmetic follows them; results are float32.
    """

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.layout = torch.contiguous_format
        self._rounded: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        self.encoder = Encoder(cfg)
        self.conv1 = nn.Conv3d(2 * cfg.z_dim, 2 * cfg.z_dim, 1)
        self.conv2 = nn.Conv3d(cfg.z_dim, cfg.z_dim, 1)
        self.decoder = Decoder(cfg)

    def set_layout(self, layout: torch.memory_format) -> VAE:
        """Choose the memory format of weights and activations, ``torch.channels_last_3d`` or
        ``torch.contiguous_format``, here and nowhere else."""
        self.layout = layout
        images = layout
        if layout == torch.channels_last_3d:
            images = torch.channels_last
        for parameter in self.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=layout)
            elif parameter.dim() == 4 and parameter.shape[-1] > 1:  # no gamma
                parameter.data = parameter.data.contiguous(memory_format=images)
            else:  # nothing may keep the memory alive that the others have left
                parameter.data = parameter.data.clone()
        return self

    @torch.no_grad()
    def encode(self, video: Tensor, history: History | None = None) -> Tensor:
        """Pixels in [−1, 1] → normalised latents.

        Args:
            video: ``[3, T, H, W]``, sides multiples of 8; T is 1 + 4k at a video's start and 4k
                when ``history`` holds its beginning.
            history: a video's state (``encoder_history()``), updated; a video of its own if None.

        Returns:
            float32 ``[z, T', H/8, W/8]`` with T' = 1 + k, or k in a continued video.

        Raises:
            ValueError: the shape is none of those above.
        """
        history = self.encoder_history() if history is None else history
        step, side = self.cfg.temporal_stride, self.cfg.spatial_stride
        begin = 1 if history.fresh else 0
        if video.dim() != 4 or video.shape[0] != 3 or min(video.shape) < 1:
            raise ValueError(f"video must be [3, T, H, W], not {list(video.shape)}")
        frames, height, width = video.shape[1:]
        if (frames - begin) % step:
            asked = f"1 + {step}·k frames" if begin else f"{step}·k more frames"
            raise ValueError(f"{frames} frames: the VAE takes {asked}")
        if height % side or width % side:
            raise ValueError(f"{width}x{height} pixels: both must be multiples of {side}")
        cuts = [begin] * begin + [step] * ((frames - begin) // step)
        x = self._enter(video)
        chunks = [self.conv1(self.encoder(part, history)) for part in torch.split(x, cuts, dim=2)]
        moments = torch.cat(chunks, dim=2)[0, : self.cfg.z_dim].float()
        mean, scale = self._statistics(moments.device)
        return ((moments - mean) * scale).contiguous()

    @torch.no_grad()
    def decode(self, latents: Tensor, history: History | None = None) -> Tensor:
        """Normalised latents → pixels clamped to [−1, 1].

        Args:
            latents: ``[z, n, h, w]``, n ≥ 1.
            history: a video's state (``decoder_history()``), updated; a video of its own if None.

        Returns:
            float32 ``[3, frames, 8h, 8w]``: 4n − 3 frames at a video's start, 4n in one continued.

        Raises:
            ValueError: the shape is not as above.
        """
        if latents.dim() != 4 or latents.shape[0] != self.cfg.z_dim or min(latents.shape) < 1:
            raise ValueError(
                f"latents must be [{self.cfg.z_dim}, n, h, w], not {list(latents.shape)}"
            )
        history = self.decoder_history() if history is None else history
        mean, scale = self._statistics(latents.device)
        z = latents.float() / scale + mean
        frames = []
        for n in range(z.shape[1]):
            pixels = self.decoder(self.conv2(self._enter(z[:, n : n + 1])), history)
            frames.append(pixels[0].float().clamp_(-1, 1))
        return torch.cat(frames, dim=1)

    def encoder_history(self) -> History:
        """The empty state of a video about to be encoded."""
        return History(self.encoder.slots)

    def decoder_history(self) -> History:
        """The empty state of a video about to be decoded."""
        return History(self.decoder.slots)

    @property
    def dtype(self) -> torch.dtype:
        return self.conv1.weight.dtype

    def _enter(self, x: Tensor) -> Tensor:
        batch = x.unsqueeze(0).to(self.conv1.weight.device, self.dtype)
        return batch.contiguous(memory_format=self.layout)

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and 1/std ``[z, 1, 1, 1]``, rounded to the weights' dtype as upstream does."""
        key = device, self.dtype
        if key not in self._rounded:  # once: the copy makes the host wait
            mean = torch.tensor(self.cfg.mean, dtype=self.dtype, device=device)
            scale = 1.0 / torch.tensor(self.cfg.std, dtype=self.dtype, device=device)
            pair = mean.float().view(-1, 1, 1, 1), scale.float().view(-1, 1, 1, 1)
            self._rounded[key] = pair
        return self._rounded[key]


class StreamDecoder:
    """Decodes one video piece by piece; never reset inside a video, one object per video."""

    def __init__(self, vae: VAE) -> None:
        self.vae = vae
        self.history = vae.decoder_history()

    def decode(self, latents: Tensor) -> Tensor:
        """``latents [z, k, h, w]`` → ``[3, frames, H, W]``: 4k − 3 frames first, 4k from then on.

        Bitwise what ``VAE.decode`` of all latents in one call gives for these frames.
        """
        return self.vae.decode(latents, self.history)

    @property
    def nbytes(self) -> int:
        """Bytes of the frames remembered between calls."""
        return self.history.nbytes

    def state(self) -> list[Tensor]:
        """A snapshot from which decoding can go on; later calls do not change it."""
        return self.history.state()

    def load_state(self, state: Sequence[Tensor]) -> None:
        """Go on where another decoder's ``state()`` was taken. Raises ValueError as ``History``."""
        self.history.load_state(state)


class StreamEncoder:
    """Encodes one video piece by piece: first 1 + 4k frames, then multiples of 4."""

    def __init__(self, vae: VAE) -> None:
        self.vae = vae
        self.history = vae.encoder_history()

    def encode(self, video: Tensor) -> Tensor:
        """``video [3, T, H, W]`` → its latents; equal to ``VAE.encode`` of the whole video."""
        return self.vae.encode(video, self.history)

    @property
    def nbytes(self) -> int:
        """Bytes of the frames remembered between calls."""
        return self.history.nbytes
