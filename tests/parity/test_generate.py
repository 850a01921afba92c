"""Does the loop over clips, blocks and steps give the reference's latents, in every semantics?"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.model.config import DiTConfig, Numerics
from engine.model.dit import DiT
from engine.model.generate import Generation, Inputs, Options, Semantics
from engine.model.schedule import Schedule
from tests.parity import golden

VARIANTS = golden.variants("generate")
TOLERANCE = 2e-5


def folder(variant: str) -> Path:
    return golden.ROOT / "generate" / variant


@cache
def spec(variant: str) -> dict[str, Any]:
    found: dict[str, Any] = golden.read_json(folder(variant) / "spec.json")
    return found


@cache
def given(variant: str) -> dict[str, Tensor]:
    return golden.tensors(folder(variant) / "inputs.safetensors")


@cache
def expected(variant: str) -> dict[str, Tensor]:
    return golden.tensors(folder(variant) / "latents.safetensors")


@cache
def network(variant: str) -> DiT:
    cfg = DiTConfig.from_dict(golden.read_json(folder(variant) / "config.json"))
    with torch.device("meta"):
        dit = DiT(cfg, Numerics(rope_half=True))
    dit.load_state_dict(golden.weights(folder(variant)), strict=True, assign=True)
    return dit.requires_grad_(False)


def generation(variant: str, semantics: Semantics) -> Generation:
    g, s = given(variant), spec(variant)
    source, motion = ("tpp", "tpp") if semantics == "tpp" else ("single", "single_last19")
    options = Options(
        clips=s["clips"],
        steps=len(g["timesteps"]),
        infer_frames=s["infer_frames"],
        seed=s["base_seed"],
        semantics=semantics,
    )
    inputs = Inputs(
        ref=g[f"ref_latents_{source}"][0],
        motion=g[f"motion_latents_{motion}"][0],
        context=g["context"],
        audio=g["audio_emb"],
        noise=g["noise"],
        relative_dist=g["relative_dist"].tolist(),
    )
    return Generation(network(variant).cfg, options, inputs, device=golden.DEVICE)


@cache
def walked(variant: str, semantics: Semantics) -> tuple[Generation, Tensor, Tensor]:
    """The generation at its end, latents and velocities ``[blocks, steps, 16, 3, h, w]``."""
    dit, g = network(variant), generation(variant, semantics)
    latents, velocities = [], []
    for block in range(g.blocks):
        clip = g.clip_of(block)
        if block % g.blocks_per_clip == 0 and g.needs_prefill(clip):
            if semantics == "single_online" and clip == 1:
                after = expected(variant)["single_online/motion_latents_after_clip0_last19"]
                g.renew_motion(after[0])
            dit([g.prefill(clip)])
        for step in range(g.steps):
            (velocity,) = dit([g.item(step, block)])
            assert velocity is not None
            velocities.append(velocity)
            latents.append(g.apply(step, block, velocity))
    shape = (g.blocks, g.steps, *latents[0].shape)
    return g, torch.stack(latents).reshape(shape), torch.stack(velocities).reshape(shape)


def numbered(variant: str, prefix: str) -> tuple[Tensor, list[int]]:
    """The tensor whose name is ``prefix`` and two block numbers, with those numbers."""
    for name, tensor in expected(variant).items():
        if match := re.fullmatch(re.escape(prefix) + r"(\d+)_(\d+)", name):
            return tensor, [int(n) for n in match.groups()]
    raise AssertionError(f"no tensor {prefix}N_M")


@pytest.mark.parametrize("variant", VARIANTS)
def test_schedule(variant: str) -> None:
    g = given(variant)
    schedule = Schedule.flow_match(len(g["timesteps"]))
    torch.testing.assert_close(
        torch.tensor(schedule.timesteps), g["timesteps"].cpu(), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(torch.tensor(schedule.sigmas), g["sigmas"].cpu(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("semantics", ["core", "tpp", "single_offline"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_final_latents(variant: str, semantics: Semantics) -> None:
    _, latents, _ = walked(variant, semantics)
    final = expected(variant)[f"{semantics}/latents_final"]
    assert len(final) == len(latents)
    for block, reference in enumerate(final):
        golden.close(latents[block, -1], reference, TOLERANCE, f"block {block}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_renewed_motion(variant: str) -> None:
    _, latents, _ = walked(variant, "single_online")
    _, offline, _ = walked(variant, "single_offline")
    clip = spec(variant)["blocks_per_clip"]
    assert torch.equal(latents[:clip], offline[:clip])
    final, (first, last) = numbered(variant, "single_online/latents_final_blocks")
    for block in range(first, last + 1):
        golden.close(latents[block, -1], final[block - first], TOLERANCE, f"block {block}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_latents_between_steps(variant: str) -> None:
    core, tpp = walked(variant, "core")[1], walked(variant, "tpp")[1]
    velocities = walked(variant, "single_offline")[2]
    many, (first, last) = numbered(variant, "core/latents_blocks")
    some, blocks = numbered(variant, "tpp/latents_block")
    flow, flow_blocks = numbered(variant, "single_offline/velocity_block")
    for step in range(core.shape[1]):
        for block in range(first, last + 1):
            reference = many[block - first, step]
            golden.close(core[block, step], reference, TOLERANCE, f"core {block}, {step}")
        for i, block in enumerate(blocks):
            golden.close(tpp[block, step], some[i, step], TOLERANCE, f"tpp {block}, {step}")
        for i, block in enumerate(flow_blocks):
            golden.close(velocities[block, step], flow[i, step], TOLERANCE, f"{block}, {step}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_at_the_end(variant: str) -> None:
    g, _, _ = walked(variant, "tpp")
    keys = golden.subset(expected(variant), "tpp/kv_end/")
    assert keys
    for key in keys:
        _, _, step, layer, kind = key.split("/")
        ring = g.rings[int(step.removeprefix("step"))]
        actual = getattr(ring, kind)(int(layer.removeprefix("layer")))
        golden.close(actual, expected(variant)[key][0], TOLERANCE, key)
    for key in golden.subset(expected(variant), "tpp/cond_end/"):
        _, _, layer, kind = key.split("/")
        cond = g.epochs[1]
        store = cond.k if kind == "cond_k" else cond.v
        golden.close(
            store[int(layer.removeprefix("layer"))], expected(variant)[key][0], TOLERANCE, key
        )
