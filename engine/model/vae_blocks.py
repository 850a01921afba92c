"""The causal VAE's building blocks, and the history they keep between chunks of one video.

A convolution over time looks at its own frame and the two before it. What came before lives in a
``History`` that the caller owns and passes in, so one set of weights serves any number of videos at
once. Every module's input and output is ``[B, C, T, H, W]`` unless stated.

Module and parameter names are those of ``Wan2.1_VAE.pth``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.accel import kernels_for

#: Frames that a convolution over time remembers: its kernel of 3 less the frame itself.
CONTEXT = 2
#: Convolutions of these widths (from, up to) run faster on a GPU over three frames' channels side
#: by side than over time: cuDNN's 3D kernels for few channels do not use Hopper's matrix units.
UNROLLED: Final = (16, 128)
#: Whether this torch has oneDNN's convolutions.
ONEDNN: Final[bool] = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class History:
    """What the convolutions of one half of the VAE remember of one video.

    A remembered tensor is replaced, never written to: ``state()`` is a true snapshot for free.
    """

    def __init__(self, slots: int) -> None:
        self.slots: list[Tensor | None] = [None] * slots

    @property
    def fresh(self) -> bool:
        """Whether nothing of a video was seen yet."""
        return all(slot is None for slot in self.slots)

    @property
    def nbytes(self) -> int:
        """Bytes of all remembered frames."""
        return sum(slot.nbytes for slot in self.slots if slot is not None)

    def state(self) -> list[Tensor]:
        """One tensor per convolution, empty where nothing is remembered."""
        return [torch.empty(0) if slot is None else slot for slot in self.slots]

    def load_state(self, state: Sequence[Tensor]) -> None:
        """Take over what ``state()`` of another history of the same model gave.

        Raises:
            ValueError: the number of tensors is not this model's.
        """
        if len(state) != len(self.slots):
            raise ValueError(f"history of {len(state)} tensors for {len(self.slots)} convolutions")
        self.slots = [tensor if tensor.numel() else None for tensor in state]


def per_frame(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module of images to every frame of ``x`` by itself."""
    frames = module(x.transpose(1, 2).flatten(0, 1))
    out: Tensor = frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
    return out


class CausalConv3d(nn.Conv3d):
    """Convolution that sees the present and the remembered past, zeros before the first frame."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int, int], slots: Iterator[int]
    ) -> None:
        self.sides = (0, kernel[1] // 2, kernel[2] // 2)
        super().__init__(inputs, outputs, kernel, padding=self.sides)
        self.slot = next(slots)
        self._flat: tuple[Tensor | None, Tensor | None] = (None, None)

    def forward(  # type: ignore[override]
        self, x: Tensor, history: History, before: RMSNorm | None = None
    ) -> Tensor:
        """``before``: a norm that ``x`` goes through first, and SiLU after it."""
        if (kernels := fast(x)) is not None:
            out = self.bare(x, history, before)
            assert self.bias is not None  # every convolution here has one
            biased: Tensor = kernels.add_bias(out, self.bias)
            return biased
        if before is not None:
            x = F.silu(before(x))
        past = history.slots[self.slot]
        if past is None:
            past = x.new_zeros(*x.shape[:2], CONTEXT, *x.shape[3:])
        joined = torch.cat([past, x], dim=2)
        history.slots[self.slot] = joined[:, :, -CONTEXT:].clone()
        if joined.device.type == "cpu" and joined.dtype == torch.float32 and ONEDNN:
            # On one thread torch takes its plain convolution for narrow layers, ten times slower.
            still = (1, 1, 1)
            return torch.mkldnn_convolution(
                joined, self.weight, self.bias, self.sides, still, still, 1
            )
        return super().forward(joined)

    def bare(
        self, x: Tensor, history: History, before: RMSNorm | None, bias: Tensor | None = None
    ) -> Tensor:
        """``forward`` of ``x`` plus ``bias``, its own bias left out; where ``fast`` has kernels."""
        narrow = all(n in range(*UNROLLED) for n in (self.in_channels, self.out_channels))
        unrolled = narrow and self.kernel_size == (3, 3, 3)
        gamma = None if before is None else before.gamma
        kernels = fast(x)
        assert kernels is not None
        read, history.slots[self.slot] = kernels.causal(
            x, bias, gamma, history.slots[self.slot], unrolled=unrolled
        )
        if not unrolled:
            return F.conv3d(read, self.weight, None, padding=self.sides)
        frames = F.conv2d(read, self._side_by_side(), None, padding=self.sides[1:])
        return frames[None].transpose(1, 2)

    def _side_by_side(self) -> Tensor:
        """The weight over three frames whose channels lie side by side, ``[out, 3·in, 3, 3]``."""
        made_of, flat = self._flat
        if made_of is not self.weight or flat is None or flat.dtype != self.weight.dtype:
            flat = self.weight.transpose(1, 2).flatten(1, 2)
            flat = flat.contiguous(memory_format=torch.channels_last)
            self._flat = self.weight, flat
        return flat


def fast(x: Tensor) -> ModuleType | None:
    """The kernels, for one video on a GPU whose channels lie last in memory."""
    if x.dim() == 5 and len(x) == 1 and x.is_contiguous(memory_format=torch.channels_last_3d):
        return kernels_for(x)
    return None


class RMSNorm(nn.Module):
    """``x / ‖x‖ · √C · gamma`` over the channels, in float32."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":  # where the reduction below is slow along this axis
            norm = x.float().square().sum(dim=1, keepdim=True).sqrt()
        else:
            norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        scaled = x * (x.shape[1] ** 0.5 / norm.clamp_min(1e-12))
        out: Tensor = scaled.mul_(self.gamma).to(x.dtype)
        return out


class Chain(nn.Sequential):
    """Modules in a row; those that look back are given the history.

    A norm and SiLU in front of a convolution over time are left to the convolution.
    """

    def forward(self, x: Tensor, history: History) -> Tensor:  # type: ignore[override]
        before: RMSNorm | None = None
        for module in self:
            if isinstance(module, RMSNorm):
                before = module
            elif isinstance(module, CausalConv3d):
                x = module(x, history, before)
                before = None
            elif before is None:
                x = module(x, history) if isinstance(module, LOOKS_BACK) else module(x)
        return x


class ResidualBlock(nn.Module):
    """[norm, SiLU, convolution] twice, beside a shortcut that fits the width."""

    def __init__(self, inputs: int, outputs: int, slots: Iterator[int]) -> None:
        super().__init__()
        self.residual = Chain(
            RMSNorm(inputs, 3),
            nn.SiLU(),
            CausalConv3d(inputs, outputs, (3, 3, 3), slots),
            RMSNorm(outputs, 3),
            nn.SiLU(),
            nn.Identity(),  # the checkpoint's numbering counts the dropout of training
            CausalConv3d(outputs, outputs, (3, 3, 3), slots),
        )
        self.shortcut = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, history: History) -> Tensor:
        if (kernels := fast(x)) is not None:
            modules = list(self.residual)
            first, second = (m for m in modules if isinstance(m, CausalConv3d))
            before, between = (m for m in modules if isinstance(m, RMSNorm))
            y = second.bare(first.bare(x, history, before), history, between, first.bias)
            fused: Tensor = kernels.add_bias(y, second.bias, self.shortcut(x))
            return fused
        out: Tensor = self.residual(x, history) + self.shortcut(x)
        return out


class FrameAttention(nn.Module):
    """Attention with one head among the positions of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)  # [B·T, C, H, W]
        qkv = self.to_qkv(self.norm(frames)).flatten(2).mT.contiguous()  # [B·T, H·W, 3C]
        q, k, v = qkv.unsqueeze(1).chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v).squeeze(1).mT.reshape(frames.shape)
        out: Tensor = x + self.proj(seen).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        return out


class PadRightBottom(nn.Module):
    """One zero column on the right and one zero row at the bottom: ``[N, C, H+1, W+1]``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 1, 0, 1))


class Downsample(nn.Module):
    """Halves height and width and, where ``temporal``, every second frame after the first."""

    def __init__(self, channels: int, temporal: bool, slots: Iterator[int]) -> None:
        super().__init__()
        self.resample = nn.Sequential(PadRightBottom(), nn.Conv2d(channels, channels, 3, stride=2))
        self.temporal = temporal
        if temporal:
            self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))
            self.slot = next(slots)

    def forward(self, x: Tensor, history: History) -> Tensor:
        """A video's first frame comes alone and stays; later chunks have an even length."""
        x = per_frame(self.resample, x)
        if not self.temporal:
            return x
        last = history.slots[self.slot]
        history.slots[self.slot] = x[:, :, -1:].clone()
        if last is None:
            return x
        out: Tensor = self.time_conv(torch.cat([last, x], dim=2))
        return out


class Upsample(nn.Module):
    """Doubles height and width, halves the channels and, where ``temporal``, doubles the frames."""

    def __init__(self, channels: int, temporal: bool, slots: Iterator[int]) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.Conv2d(channels, channels // 2, 3, padding=1),
        )
        self.temporal = temporal
        if temporal:
            self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1), slots)

    def forward(self, x: Tensor, history: History) -> Tensor:
        """A video's first latent stays one frame, each later one becomes two."""
        if self.temporal:
            slot = self.time_conv.slot
            if history.slots[slot] is None:
                # This convolution never sees the first latent: its history begins as zeros.
                history.slots[slot] = x.new_zeros(*x.shape[:2], CONTEXT, *x.shape[3:])
            else:
                pairs = self.time_conv(x, history).unflatten(1, (2, x.shape[1]))
                x = _interleave(pairs, last=x.stride(1) == 1)
        if (kernels := fast(x)) is not None:
            conv = cast(nn.Conv2d, self.resample[1])
            wide = F.conv2d(kernels.double(x[0].transpose(0, 1)), conv.weight, None, padding=1)
            images: Tensor = kernels.add_bias(wide, conv.bias)
            return images[None].transpose(1, 2)
        return per_frame(self.resample, x)


def _interleave(pairs: Tensor, *, last: bool) -> Tensor:
    """``[B, 2, C, T, H, W]`` → ``[B, C, 2·T, H, W]``, frames of a pair next to each other in time.

    ``last``: with the channels last in memory.
    """
    if not last:
        return pairs.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
    return pairs.permute(0, 3, 1, 4, 5, 2).flatten(1, 2).permute(0, 4, 1, 2, 3)


#: Modules whose ``forward`` takes the history as well.
LOOKS_BACK = (CausalConv3d, ResidualBlock, Downsample, Upsample)


def middle(channels: int, slots: Iterator[int]) -> Chain:
    """The narrowest part of both halves."""
    return Chain(
        ResidualBlock(channels, channels, slots),
        FrameAttention(channels),
        ResidualBlock(channels, channels, slots),
    )


def head(channels: int, outputs: int, slots: Iterator[int]) -> Chain:
    """Norm, SiLU and the last convolution of both halves."""
    return Chain(RMSNorm(channels, 3), nn.SiLU(), CausalConv3d(channels, outputs, (3, 3, 3), slots))
