"""Does merging a LoRA give the reference's weights and outputs?"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from engine.model import lora
from tests.parity import golden
from tests.parity.player import MODES, Case, play

VARIANTS = golden.variants("lora")


@cache
def base(variant: str) -> Case:
    return Case(f"{variant}/c2")


def merged(variant: str, file: str, dtype: torch.dtype) -> dict[str, Tensor]:
    folder = golden.ROOT / "lora" / variant
    held = golden.tensors(folder / file)
    alpha = golden.read_json(folder / "spec.json")["lora_alpha"]
    found = lora.index(held)
    assert found.parameters <= set(base(variant).weights)
    assert not found.halves
    return {
        name: lora.apply(name, weight.to(dtype), found, held.__getitem__, alpha)
        for name, weight in base(variant).weights.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_merged_weights(variant: str) -> None:
    io = golden.tensors(golden.ROOT / "lora" / variant / "io.safetensors")
    dtypes = {"merged_fp32": torch.float32, "merged_bf16": torch.bfloat16}
    for group, dtype in dtypes.items():
        got = merged(variant, "lora.safetensors", dtype)
        keys = golden.subset(io, group + "/")
        assert keys
        for key in keys:
            actual, expected = got[key.removeprefix(group + "/")], io[key]
            assert actual.dtype == expected.dtype
            if dtype == torch.float32:
                golden.close(actual, expected, 1e-5, key)
            else:  # one unit in the last place
                ulp = expected.float().abs().clamp_min(2.0**-126) * 2.0**-7
                assert ((actual.float() - expected.float()).abs() <= ulp).all(), key


@pytest.mark.parametrize("file", ["lora", "lora_partial_plus_full"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_with_merged_weights(variant: str, file: str) -> None:
    what, numerics = base(variant), MODES["fp32"]
    io = golden.tensors(golden.ROOT / "lora" / variant / "io.safetensors")
    expected = io[f"out/{file}_first3calls"]
    dit = what.dit(numerics, merged(variant, f"{file}.safetensors", torch.float32))
    for k, velocity in enumerate(play(what, dit, numerics, calls=len(expected)).outputs):
        golden.close(velocity, expected[k], 1e-5, f"call {k}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_targeted_module_has_its_pair(variant: str) -> None:
    folder = golden.ROOT / "lora" / variant
    modules = golden.read_json(folder / "spec.json")["lora_modules"]
    found = lora.index(golden.tensors(folder / "lora.safetensors"))
    assert set(found.pairs) == {f"{module}.weight" for module in modules}
    assert not found.replaced
