"""One denoising step of the DiT against its floor, with random weights in the checkpoint's shape.

From the repository's root, on a host with a GPU that holds the model (36 GiB in bf16)::

    python -m benchmarks.dit_step --json benchmarks/results/dit-step.json

The floor is the step's matrix products and its cuDNN attention alone, on the same weights, in the
same run. ``--shape tiny`` tries the script on a CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import cuda
from engine.geometry import FrameGeometry
from engine.model import fused
from engine.model.attention import attend, attend_frames
from engine.model.caches import Conditioning, JobMemory, RollingCache
from engine.model.config import DiTConfig, Numerics
from engine.model.dit import BlockAudio, BlockItem, DiT, PrefillItem
from engine.model.fp8 import Linear8, Rows8, product, quantise_rows, quantise_weight
from engine.model.layers import Layer
from engine.model.rope import block_table, rotate

SHAPES: dict[str, dict[str, Any]] = {
    "14b": {
        "dim": 5120,
        "num_heads": 40,
        "num_layers": 40,
        "ffn_dim": 13824,
        "freq_dim": 256,
        "audio_dim": 1024,
        "text_dim": 4096,
        "text_len": 512,
        "audio_inject_layers": (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
    },
    "tiny": {
        "dim": 64,
        "num_heads": 4,
        "num_layers": 2,
        "ffn_dim": 128,
        "freq_dim": 32,
        "audio_dim": 16,
        "text_dim": 32,
        "text_len": 16,
        "audio_inject_layers": (0,),
    },
}
SIZES = {"14b": (704, 384), "tiny": (128, 64)}
T = 857.7


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="14b")
    parser.add_argument("--layers", type=int, help="fewer layers")
    parser.add_argument("--dtypes", default="bf16,fp8")
    parser.add_argument("--no-profile", action="store_true")
    args = parser.parse_args()
    device = cuda.settle()
    shape = SHAPES[args.shape] | ({"num_layers": args.layers} if args.layers else {})
    shape["audio_inject_layers"] = [
        n for n in shape["audio_inject_layers"] if n < shape["num_layers"]
    ]
    cfg = DiTConfig.from_dict({"in_dim": 16, "out_dim": 16, **shape})
    frame = FrameGeometry(*SIZES[args.shape])
    result = cuda.about()
    result["shape"] = {
        "layers": cfg.num_layers,
        "tokens": frame.tokens_per_block,
        "ring": frame.ring_tokens,
        "conditioning": frame.conditioning_tokens,
    }
    for dtype in args.dtypes.split(","):
        result[dtype] = Bench(cfg, frame, device, fp8=dtype == "fp8").measure(
            profiled=not args.no_profile
        )
        print(dtype, json.dumps(result[dtype], indent=1), flush=True)
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n")
    result["operations"] = operations(cfg, frame, device)
    print(json.dumps(result["operations"], indent=1))
    for dtype in args.dtypes.split(","):
        found = result[dtype]
        print(dtype, {k: found[k] for k in ("step_seconds", "floor_seconds", "of_floor", "waits")})
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


class Bench:
    """One network with random weights, and one video's caches in their steady state."""

    def __init__(
        self, cfg: DiTConfig, frame: FrameGeometry, device: torch.device, *, fp8: bool
    ) -> None:
        self.cfg, self.frame, self.device, self.fp8 = cfg, frame, device, fp8
        numerics = Numerics(compute=torch.bfloat16, fp8=fp8)
        with torch.device("meta"):
            self.dit = DiT(cfg, numerics)
        random_weights(self.dit, device)
        heads = (cfg.num_heads, cfg.head_dim, torch.bfloat16, device)
        n, tokens = cfg.num_layers, frame.conditioning_tokens
        self.job = JobMemory(n, cfg.text_len, *heads)
        self.cond = Conditioning(n, tokens, frame.tokens_per_frame, *heads, self.job)
        self.ring = RollingCache(n, frame.ring_tokens, *heads, lead=tokens)
        self.draw = torch.Generator(device).manual_seed(1)
        self.block = 0

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.draw, device=self.device, dtype=torch.bfloat16)

    def prefill(self) -> None:
        h, w = self.frame.latent_height, self.frame.latent_width
        context = self._random(self.cfg.text_len // 2, self.cfg.text_dim)
        item = PrefillItem(
            self._random(16, 1, h, w), self._random(16, 19, h, w), context, self.cond
        )
        self.dit([item])

    def item(self) -> BlockItem:
        """The next block's work item; its reference moves, as it does at every step."""
        h, w = self.frame.latent_height, self.frame.latent_width
        features = self._random(1, self.cfg.audio_states, self.cfg.audio_dim, 12)
        item = BlockItem(
            x=self._random(16, 3, h, w),
            t=T,
            audio=BlockAudio(features),
            f0=3 * self.block,
            relative_dist=4 + self.block % 26,
            kv=self.ring,
            cond=self.cond,
        )
        self.block += 1
        return item

    def step(self) -> Tensor:
        out = self.dit([self.item()])[0]
        assert out is not None
        return out

    def measure(self, *, profiled: bool) -> dict[str, Any]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        self.prefill()
        first = self.step()
        cuda.wait(self.device)
        warm_up = time.perf_counter() - began
        while self.block < 12:  # the ring is full, and the reference moves
            self.step()
        floor = cuda.seconds(self.floor(), self.device)
        step = cuda.seconds(self.step, self.device, times=9)
        wall = self._wall()
        again = cuda.seconds(self.floor(), self.device)
        found: dict[str, Any] = {
            "warm_up_seconds": warm_up,
            "finite": bool(torch.isfinite(first).all()),
            "spread": float(first.float().std()),
            "step_seconds": step,
            "floor_seconds": [floor, again],
            "of_floor": step / min(floor, again),
            "host_seconds": wall,
            "waits": cuda.waits(self.step, self.device),
            "same_bits": self.same_bits(),
        }
        if self.device.type == "cuda":
            found["peak_bytes"] = torch.cuda.max_memory_allocated()
        if profiled:
            found["profile"] = cuda.profile(self.step, self.device)
            found["floor_profile"] = cuda.profile(self.floor(), self.device)
        return found

    def _wall(self) -> float:
        """Seconds the host takes to hand out one step."""
        cuda.wait(self.device)
        began = time.perf_counter()
        self.step()
        spent = time.perf_counter() - began
        cuda.wait(self.device)
        return spent

    def same_bits(self) -> bool:
        """One step twice, the second with a layer's weights moved elsewhere, as streaming does."""
        item = self.item()
        first = self.dit([item])[0]
        layer = self.dit.blocks[0]
        for module in layer.modules():
            for key, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, key, nn.Parameter(parameter.clone(), requires_grad=False))
        second = self.dit([item])[0]
        assert first is not None and second is not None  # noqa: PT018
        return bool(torch.equal(first, second))

    def floor(self) -> Callable[[], None]:
        """The step's products and attention, one after the other, and nothing else."""
        cfg, frame = self.cfg, self.frame
        tokens, active = frame.tokens_per_block, frame.ring_tokens
        x, inner = self._random(tokens, cfg.dim), self._random(tokens, cfg.ffn_dim)
        q = self._random(tokens, cfg.num_heads, cfg.head_dim)
        few = self._random(3 * (cfg.num_audio_token + 1), cfg.dim)
        audio = self._random(3, cfg.num_audio_token + 1, cfg.num_heads, cfg.head_dim)
        frames = q.reshape(3, -1, cfg.num_heads, cfg.head_dim)
        if self.fp8:
            rows = {id(t): quantise_rows(t) for t in (x, inner, few)}
            rows[0] = quantise_rows(few[:3])

        def mm(linear: nn.Module, what: Tensor, key: int | None = None) -> None:
            if isinstance(linear, Linear8):
                source: Rows8 = rows[id(what) if key is None else key]
                product(source, linear.weight, linear.weight_scale, linear.bias)
            else:
                F.linear(what, linear.weight, linear.bias)

        def run() -> None:
            for n, layer in enumerate(self.dit.blocks):
                assert isinstance(layer, Layer)
                own, text = layer.self_attn, layer.cross_attn
                for linear in (own.q, own.k, own.v, own.o, text.q, text.o, layer.ffn[0]):
                    mm(linear, x)
                mm(layer.ffn[2], inner)
                attend(q, *self.ring.window(n, active))
                attend(q, self.job.k[n], self.job.v[n])
                if (k := cfg.injector_of(n)) is not None:
                    injector = self.dit.audio_injector
                    mm(injector.injector_adain_layers[k].linear, few[:3], 0)
                    for linear in (injector.injector[k].q, injector.injector[k].o):
                        mm(linear, x)
                    mm(injector.injector[k].k, few)
                    mm(injector.injector[k].v, few)
                    attend_frames(frames, audio, audio)

        return run


def random_weights(dit: DiT, device: torch.device) -> None:
    """Normal weights with which a signal neither dies nor explodes, drawn on the device."""
    draw = torch.Generator(device).manual_seed(0)
    for module in dit.modules():
        own = dict(module.named_parameters(recurse=False))
        for key, parameter in own.items():
            if key == "weight_scale":
                continue
            wide = torch.randn(parameter.shape, generator=draw, device=device)
            if parameter.dim() > 1:
                wide *= parameter[0].numel() ** -0.5
            elif key == "weight" and "norm" in type(module).__name__.lower():
                wide = 1 + 0.1 * wide
            else:
                wide *= 0.05
            made: Tensor = wide.to(torch.bfloat16)
            if isinstance(module, Linear8) and key == "weight":
                made, scale = quantise_weight(wide)
                module.weight_scale = nn.Parameter(scale[:, 0].contiguous(), requires_grad=False)
            setattr(module, key, nn.Parameter(made, requires_grad=False))


def operations(cfg: DiTConfig, frame: FrameGeometry, device: torch.device) -> dict[str, Any]:
    """Each memory-bound operation by itself: microseconds, and GB/s of what it must move."""
    tokens, c = frame.tokens_per_block, cfg.dim
    draw = torch.Generator(device).manual_seed(2)

    def drawn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return torch.randn(*shape, generator=draw, device=device).to(dtype)

    x, y, inner = drawn(tokens, c), drawn(tokens, c), drawn(tokens, cfg.ffn_dim)
    wide, gate, scale = (drawn(*s, dtype=torch.float32) for s in ((tokens, c), (c,), (c,)))
    weight = drawn(c)
    heads = x.reshape(tokens, cfg.num_heads, -1)
    table = block_table(
        9, 3, frame.latent_height // 2, frame.latent_width // 2, cfg.head_dim, device, False
    )
    how = fused.Modulated(scale, gate, cfg.eps)
    affine = fused.Affine(weight, weight, cfg.eps, torch.bfloat16)
    bf16, size = torch.bfloat16, tokens * c
    works: dict[str, tuple[Callable[[], object], int]] = {
        "norm and modulation": (lambda: fused.norm(x, how, bf16), 4 * size),
        "norm and modulation to fp8": (lambda: fused.norm(x, how, bf16, fp8=True), 3 * size),
        "gated sum and affine norm": (lambda: fused.add_norm(x, y, gate, affine, bf16), 10 * size),
        "sum, norm and modulation": (lambda: fused.add_norm(wide, y, None, how, bf16), 12 * size),
        "gated sum": (lambda: fused.add(wide, y, gate, bf16), 8 * size),
        "norm of heads and rotation": (
            lambda: fused.norm_heads(x, weight, cfg.eps, cfg.num_heads, table),
            4 * size,
        ),
        "rotation": (lambda: rotate(heads, table), 4 * size),
        "quantisation": (lambda: quantise_rows(x), 3 * size),
        "GELU and quantisation": (lambda: fused.gelu_rows(inner), 3 * inner.numel()),
    }
    found: dict[str, Any] = {}
    for name, (work, moved) in works.items():
        spent = cuda.short_seconds(work, device)
        found[name] = {
            "microseconds": round(spent * 1e6, 2),
            "gb_per_second": round(moved / spent / 1e9, 1),
        }
    return found


if __name__ == "__main__":
    raise SystemExit(main())
