"""Plays a DiT case's calls and keeps what the reference kept: outputs, caches, taps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.caches import Conditioning, JobMemory, RollingCache
from engine.model.config import DiTConfig, Numerics
from engine.model.dit import BlockAudio, BlockItem, DiT, PrefillItem
from engine.model.layers import State
from tests.parity import golden

MODES = {
    "fp32": Numerics(rope_half=True),
    "rope64": Numerics(),
    "norm3bf16": Numerics(rope_half=True, norm3_bf16=True),
    "bf16": Numerics(compute=torch.bfloat16, rope_half=True),
}


class Case:
    """One folder of the dit group."""

    def __init__(self, name: str) -> None:
        folder = golden.ROOT / "dit" / name
        self.spec: dict[str, Any] = golden.read_json(folder / "spec.json")
        cfg = DiTConfig.from_dict(golden.read_json(folder / "config.json"))
        self.cfg = replace(cfg, motion_frames=self.spec["motion_frames"][0])
        self.io = golden.tensors(folder / "io.safetensors")
        self.weights = golden.weights(folder)
        self.taps = golden.tensors(folder / "taps.safetensors")
        self.kv = golden.tensors(folder / "kv.safetensors")

    def dit(self, numerics: Numerics, weights: dict[str, Tensor] | None = None) -> DiT:
        with torch.device("meta"):
            dit = DiT(self.cfg, numerics)
        source = self.weights if weights is None else weights
        stored = {name: t.to(numerics.compute) for name, t in source.items()}
        dit.load_state_dict(stored, strict=True, assign=True)
        return dit.requires_grad_(False)

    def memory(self, numerics: Numerics) -> tuple[RollingCache, Conditioning]:
        cfg, layers = self.cfg, self.cfg.num_layers
        heads = (cfg.num_heads, cfg.head_dim, numerics.compute, golden.DEVICE)
        tokens = cfg.condition_tokens(*self.spec["latent_hw"])
        job = JobMemory(layers, cfg.text_len, *heads)
        ring = RollingCache(layers, self.spec["kv_cache_tokens"], *heads, lead=tokens)
        return ring, Conditioning(layers, tokens, self.spec["tokens_per_frame"], *heads, job)

    def prefill(self, number: int, cond: Conditioning) -> PrefillItem:
        ref = self.io["in/ref_latents_r1" if number else "in/ref_latents"][0]
        return PrefillItem(ref, self.io["in/motion_latents"][0], self.io["in/context"], cond)

    def call(self, k: int, ring: RollingCache, cond: Conditioning) -> BlockItem:
        call = self.spec["calls"][k]
        first, last = call["audio_slice"]
        pose = self.io.get("in/cond_states")
        return BlockItem(
            x=self.io["in/x"][k],
            t=self.io["in/t"][k].item(),
            audio=BlockAudio(self.io["in/audio"][..., first:last]),
            f0=call["start_frame"],
            relative_dist=call["relative_dist"],
            kv=ring,
            cond=cond,
            pose=None if pose is None else pose[k],
        )


@dataclass
class Played:
    outputs: list[Tensor] = field(default_factory=list)
    prefills: list[dict[str, Tensor]] = field(default_factory=list)
    ring: dict[str, Tensor] = field(default_factory=dict)
    taps: dict[str, Tensor] = field(default_factory=dict)


@cache
def case(name: str) -> Case:
    return Case(name)


@cache
def played(name: str, mode: str) -> Played:
    """All calls of a case in one of ``MODES``."""
    return play(case(name), case(name).dit(MODES[mode]), MODES[mode])


def play(what: Case, dit: DiT, numerics: Numerics, calls: int | None = None) -> Played:
    out = Played()
    ring, cond = what.memory(numerics)
    recorder = Recorder(dit, cond)
    for k in range(len(what.spec["calls"]) if calls is None else calls):
        if k in (0, what.spec["blocks_per_clip"]):
            number = int(k > 0)
            with recorder.recording() as taps:
                assert dit([what.prefill(number, cond)]) == [None]
            out.taps |= {f"prefill{number}/{n}": t for n, t in taps.items()}
            out.prefills.append({n: t.clone() for n, t in cond.snapshot().items()})
        with recorder.recording() as taps:
            (velocity,) = dit([what.call(k, ring, cond)])
        assert velocity is not None
        out.outputs.append(velocity)
        out.taps |= {f"call{k}/{n}": t for n, t in taps.items()}
    out.ring = {n: t.clone() for n, t in ring.snapshot().items()}
    return out


class Recorder:
    """Keeps intermediate values of a walk under the reference's names and in its layouts."""

    def __init__(self, dit: DiT, cond: Conditioning) -> None:
        self.dit, self.cond = dit, cond
        self.got: dict[str, Tensor] = {}

    def recording(self) -> Recording:
        return Recording(self)

    def state(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[list[State]], output: None) -> None:
            self.got[name] = args[0][0].x[None].clone()

        return hook

    def entering(self, module: nn.Module, args: tuple[list[State]]) -> None:
        (state,) = args[0]
        self.got["block0_in"] = state.x[None].clone()
        self.got["rope_freqs"] = torch.view_as_real(state.table)[None]
        cfg = self.dit.cfg
        e0, m0 = self.dit.time(0.0, self.cond)
        e, m = e0, m0
        if state.block is not None:
            motion = self.cond.motion_table
            assert motion is not None
            table = torch.cat([state.block.reference_table, motion])
            self.got["cond_rope_freqs"] = torch.view_as_real(table)[None]
            self.got["audio_emb_global"] = state.block.audio_global[:, :, None]
            self.got["merged_audio_emb"] = state.block.audio_local
            e = state.block.head
            m = state.modulation
        self.got["time_embedding_out"] = torch.stack([e] * 3 + [e0] * 3)
        self.got["time_projection_out"] = torch.stack([m] * 3 + [m0] * 3).reshape(6, 6 * cfg.dim)

    def output(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self.got[name] = output[None].clone()

        return hook

    def grid(self, name: str) -> Any:
        """Tokens in a convolution's layout: channels, frames, rows, columns."""

        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            _, frames, height, width = args[0].shape
            grid = output.reshape(frames, height // 2, width // 2, -1)
            self.got[name] = grid.permute(3, 0, 1, 2)[None].clone()

        return hook

    def audio(self, module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> None:
        self.got["audio_encoder_global"] = output[0][:, :, None].clone()
        self.got["audio_encoder_local"] = output[1].clone()


class Recording:
    """Hooks in place for one call."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __enter__(self) -> dict[str, Tensor]:
        r, dit = self.recorder, self.recorder.dit
        r.got = {}
        first, last = dit.blocks[0], dit.blocks[-1]
        injected = sorted(dit.cfg.audio_inject_layers)
        self.handles = [
            dit.patch_embedding.register_forward_hook(r.grid("patch_embedding_out")),
            dit.cond_encoder.register_forward_hook(r.grid("cond_encoder_out")),
            dit.frame_packer.register_forward_hook(r.output("framepack_tokens")),
            dit.text_embedding.register_forward_hook(r.output("text_embedding_out")),
            dit.casual_audio_encoder.encoder.register_forward_hook(r.audio),
            first.register_forward_pre_hook(r.entering),
            first.self_attn.o.register_forward_hook(r.output("block0_self_attn_out")),
            first.cross_attn.o.register_forward_hook(r.output("block0_cross_attn_out")),
            first.ffn.register_forward_hook(r.output("block0_ffn_out")),
            first.register_forward_hook(r.state("block0_out")),
            last.register_forward_hook(r.state("block_last_out")),
            last.register_forward_hook(r.state("x_before_head")),
            dit.head.register_forward_hook(r.output("head_out")),
        ]
        for k, n in enumerate(injected):
            injector = dit.audio_injector.injector[k]
            name = f"after_audio_inject_block{n}"
            self.handles.append(injector.register_forward_hook(r.state(name)))
        if injected and injected[-1] == dit.cfg.num_layers - 1:
            injector = dit.audio_injector.injector[-1]
            self.handles.append(injector.register_forward_hook(r.state("x_before_head")))
        return r.got

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
