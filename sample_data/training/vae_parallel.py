"""The VAE's network over a whole video at once, with gradients: what a stream computes, in bulk.

Activations are ``[B, T, H, W, C]``. A causal convolution over three frames becomes an image
convolution over the three frames' channels side by side. On a GPU ``fused`` does what moves memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.vae import VAE
from engine.model.vae_blocks import (
    CausalConv3d,
    Downsample,
    FrameAttention,
    ResidualBlock,
    RMSNorm,
    Upsample,
)


def _quick(x: Tensor) -> bool:
    return x.is_cuda and x.dtype == torch.bfloat16


def _images(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    b, t = x.shape[:2]
    y = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), weight, bias, stride, padding)
    return y.permute(0, 2, 3, 1).unflatten(0, (b, t))


def _causal(m: CausalConv3d, x: Tensor, *, bare: bool = False) -> Tensor:
    """``bare``: without its bias."""
    bias = None if bare else m.bias
    if x.shape[1] == 1:  # before a picture lies nothing
        return _images(x, m.weight[:, :, -1], bias, 1, m.weight.shape[-1] // 2)
    if _quick(x):
        from sample_data.training.fused import windows

        x = windows(x)
    else:
        padded = F.pad(x, (0, 0, 0, 0, 0, 0, 2, 0))
        frames = x.shape[1]
        x = torch.cat([padded[:, k : k + frames] for k in range(3)], dim=-1)
    return _images(x, _folded(m.weight), bias, 1, m.weight.shape[-1] // 2)


def _folded(weight: Tensor) -> Tensor:
    """``[O, C, 3, h, w]`` → ``[O, 3·C, h, w]``, the frames' channels side by side."""
    return weight.transpose(1, 2).flatten(1, 2)


def _norm(m: RMSNorm, x: Tensor) -> Tensor:
    return F.rms_norm(x.float(), (x.shape[-1],), m.gamma.flatten(), 1e-8).to(x.dtype)


def _activated(m: RMSNorm, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """SiLU of the norm of ``x + bias``."""
    if _quick(x):
        from sample_data.training.fused import activation

        return activation(x, m.gamma.flatten(), bias)
    return F.silu(_norm(m, x if bias is None else x + bias))


def _residual(m: ResidualBlock, x: Tensor) -> Tensor:
    norms = [n for n in m.residual if isinstance(n, RMSNorm)]
    convs = [n for n in m.residual if isinstance(n, CausalConv3d)]
    y = _causal(convs[0], _activated(norms[0], x), bare=True)
    y = _causal(convs[1], _activated(norms[1], y, convs[0].bias))
    short = m.shortcut
    if isinstance(short, nn.Conv3d):
        x = F.linear(x, short.weight.flatten(1), short.bias)
    return x + y


def _chain(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    for m in modules:
        x = _apply(m, x)
    return x


def _apply(m: nn.Module, x: Tensor) -> Tensor:
    if isinstance(m, ResidualBlock):
        return _residual(m, x)
    if isinstance(m, CausalConv3d):
        return _causal(m, x)
    if isinstance(m, RMSNorm):  # outside of attention a SiLU follows each
        return _activated(m, x)
    if isinstance(m, FrameAttention):
        qkv = F.linear(_norm(m.norm, x), m.to_qkv.weight.flatten(1), m.to_qkv.bias)
        q, k, v = qkv.flatten(2, 3).flatten(0, 1).unsqueeze(1).chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v).squeeze(1).reshape(x.shape)
        return x + F.linear(seen, m.proj.weight.flatten(1), m.proj.bias)
    if isinstance(m, Downsample):
        conv = m.resample[1]
        assert isinstance(conv, nn.Conv2d)
        x = _images(F.pad(x, (0, 0, 0, 1, 0, 1)), conv.weight, conv.bias, 2, 0)
        if not m.temporal or x.shape[1] == 1:
            return x
        triples = torch.cat([x[:, 0:-2:2], x[:, 1:-1:2], x[:, 2::2]], dim=-1)
        later = _images(triples, _folded(m.time_conv.weight), m.time_conv.bias, 1, 0)
        return torch.cat([x[:, :1], later], dim=1)
    if isinstance(m, Upsample):
        if m.temporal and x.shape[1] > 1:
            pairs = _causal(m.time_conv, x[:, 1:]).unflatten(-1, (2, x.shape[-1]))
            later = pairs.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
            x = torch.cat([x[:, :1], later], dim=1)
        conv = m.resample[1]
        assert isinstance(conv, nn.Conv2d)
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return _images(x, conv.weight, conv.bias, 1, 1)
    return x  # a SiLU, done with its norm


def moments(vae: VAE, video: Tensor) -> Tensor:
    """``[B, T, 3, H, W]`` → mean of the latents before normalising ``[B, T', z, h, w]``."""
    x = _apply(vae.encoder.conv1, video.permute(0, 1, 3, 4, 2))
    for part in (vae.encoder.downsamples, vae.encoder.middle, vae.encoder.head):
        x = _chain(part, x)
    x = F.linear(x, vae.conv1.weight.flatten(1), vae.conv1.bias)
    return x[..., : vae.cfg.z_dim].permute(0, 1, 4, 2, 3)


def pixels(vae: VAE, mean: Tensor) -> Tensor:
    """``[B, T', z, h, w]`` → ``[B, T, 3, H, W]``, unclamped."""
    return finish(vae, begin(vae, mean))


def begin(vae: VAE, mean: Tensor) -> Tensor:
    """The decoder up to its narrowest part's end, ``[B, T', h, w, C]``."""
    x = F.linear(mean.permute(0, 1, 3, 4, 2), vae.conv2.weight.flatten(1), vae.conv2.bias)
    return _chain(vae.decoder.middle, _apply(vae.decoder.conv1, x))


def finish(vae: VAE, x: Tensor) -> Tensor:
    """What ``begin`` gave → pixels."""
    for part in (vae.decoder.upsamples, vae.decoder.head):
        x = _chain(part, x)
    return x.permute(0, 1, 4, 2, 3)
