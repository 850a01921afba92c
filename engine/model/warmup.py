"""Building the kernels before the first block needs them, so that the wait is seen as what it is.

Kernels are kept on disk between runs (``TRITON_CACHE_DIR``): only a new version builds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from engine.model import fused
from engine.model.accel import kernels_for
from engine.model.config import DiTConfig, Numerics
from engine.model.fp8 import quantise_rows
from engine.model.rope import rotate
from engine.model.vae import VAE

#: Told what is built now and which share is done.
Told = Callable[[str, float], None]

# Rows of the tensors that kernels are tried on; three groups of sixteen.
_ROWS = 48


def warm_up(
    cfg: DiTConfig, numerics: Numerics, vae: VAE | None, device: torch.device, told: Told
) -> None:
    """Build every kernel of a rank; nothing to do without kernels."""
    if kernels_for(torch.empty(0, device=device)) is None:
        return
    works = [*_layer(cfg, numerics, device), *(() if vae is None else _decoder(vae, device))]
    for number, (name, work) in enumerate(works):
        told(name, number / len(works))
        work()
    torch.cuda.synchronize(device)


def _layer(
    cfg: DiTConfig, numerics: Numerics, device: torch.device
) -> Iterator[tuple[str, Callable[[], object]]]:
    kind, fp8 = numerics.compute, numerics.fp8
    x = torch.ones(_ROWS, cfg.dim, dtype=kind, device=device)
    wide, row = x.float(), x[0].float()
    modulated = fused.Modulated(row, row, cfg.eps)
    per_frame = fused.Modulated(x[:3], x[:3], cfg.eps)
    affine = fused.Affine(x[0], x[0], cfg.eps, kind)
    table = torch.ones(_ROWS, cfg.head_dim // 2, dtype=torch.complex64, device=device)
    heads = cfg.num_heads
    yield "norm", lambda: fused.norm(x, modulated, kind, fp8=fp8)
    yield "norm by frame", lambda: fused.norm(x, per_frame, kind, fp8=fp8)
    yield "gated sum and norm", lambda: fused.add_norm(x, x, row, affine, kind, fp8=fp8)
    yield "sum and norm", lambda: fused.add_norm(wide, x, None, modulated, kind, fp8=fp8)
    yield "gated sum", lambda: fused.add(wide, x, row, kind)
    yield "norm of heads", lambda: fused.norm_heads(x, x[0], cfg.eps, heads)
    yield "norm of heads and rotation", lambda: fused.norm_heads(x, x[0], cfg.eps, heads, table)
    yield "rotation", lambda: rotate(x.view(_ROWS, heads, -1), table)
    if fp8:
        inner = torch.ones(_ROWS, cfg.ffn_dim, dtype=kind, device=device)
        yield "quantisation", lambda: quantise_rows(x)
        yield "GELU and quantisation", lambda: fused.gelu_rows(inner)


def _decoder(vae: VAE, device: torch.device) -> Iterator[tuple[str, Callable[[], object]]]:
    latents = torch.zeros(vae.cfg.z_dim, 3, 4, 4, device=device)
    yield "VAE", lambda: vae.decode(latents)
