"""Streaming VAE decode of one block, 12 frames, with random weights in Wan 2.1's shape.

From the repository's root: ``python -m benchmarks.vae_decode --json FILE``. ``--size 64*64`` tries
the script on a CPU.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import cuda
from engine.model.vae import VAE, StreamDecoder, VAEConfig

WAN = VAEConfig(96, (96, 192, 384, 384), 2, (False, True, True))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--size", default="704*384")
    parser.add_argument("--dim", type=int, default=WAN.dim, help="narrower networks")
    args = parser.parse_args()
    device = cuda.settle()
    width, height = (int(side) // 8 for side in args.size.split("*"))
    result = cuda.about() | {"size": args.size} | measure(device, args.dim, height, width)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def build(device: torch.device, dim: int) -> VAE:
    """Random weights with which the signal keeps its size."""
    torch.manual_seed(0)
    cfg = VAEConfig(dim, (dim, 2 * dim, 4 * dim, 4 * dim), WAN.blocks, WAN.temporal)
    with torch.device(device):
        vae = VAE(cfg)
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.bias is not None:
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.normal_(module.bias, std=0.02)
    vae = vae.to(torch.bfloat16 if device.type == "cuda" else torch.float32).eval()
    if device.type == "cuda":
        vae.set_layout(torch.channels_last_3d)
    return vae


def measure(device: torch.device, dim: int, height: int, width: int) -> dict[str, Any]:
    vae = build(device, dim)
    latents = torch.randn(16, 3, height, width, device=device)
    began = time.perf_counter()
    stream = StreamDecoder(vae)
    for _ in range(3):
        frames = stream.decode(latents)
    cuda.wait(device)
    warm_up = time.perf_counter() - began
    decode = cuda.seconds(lambda: stream.decode(latents), device, times=7)
    return {
        "frames": frames.shape[1],
        "finite": bool(torch.isfinite(frames).all()),
        "warm_up_seconds": warm_up,
        "seconds": decode,
        "waits": cuda.waits(lambda: stream.decode(latents), device),
        "history_bytes": stream.nbytes,
        "errors": errors(vae, latents),
        "sha256": [digest(vae, latents) for _ in range(2)],
        "profile": cuda.profile(lambda: stream.decode(latents), device),
    }


def errors(vae: VAE, latents: torch.Tensor) -> dict[str, float]:
    """‖out − ref‖ / ‖ref‖ against the plain definitions in float32 with channels first."""
    plain = copy.deepcopy(vae).float().set_layout(torch.contiguous_format)
    wide = copy.deepcopy(vae).float()
    video = torch.tanh(torch.randn(3, 9, *(8 * side for side in latents.shape[2:]))).to(latents)
    found = {}
    for what, given in (("decode", latents), ("encode", video)):
        exact = getattr(plain, what)(given)
        for kind, other in (("float32", wide), ("bfloat16", vae)):
            out = getattr(other, what)(given)
            found[f"{what} {kind}"] = float((out - exact).norm() / exact.norm())
    return found


def digest(vae: VAE, latents: torch.Tensor) -> str:
    """Of the frames of a video begun anew: equal every time."""
    pixels = vae.decode(latents).cpu().numpy()
    return hashlib.sha256(pixels.tobytes()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
