"""Which parameter does a LoRA tensor change, and what happens to a wrong one?"""

from __future__ import annotations

import pytest
import torch

from engine.model import lora

PATH = "blocks.0.self_attn.q"


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
@pytest.mark.parametrize("adapter", [".default", ".other", ""])
def test_names_with_and_without_prefix_and_adapter(prefix: str, adapter: str) -> None:
    keys = [f"{prefix}{PATH}.lora_{side}{adapter}.weight" for side in "AB"]
    found = lora.index([*keys, f"{prefix}head.head.bias"])
    assert found.pairs == {f"{PATH}.weight": (keys[0], keys[1])}
    assert found.replaced == {"head.head.bias": f"{prefix}head.head.bias"}
    assert found.parameters == {f"{PATH}.weight", "head.head.bias"}


def test_a_half_pair_is_told() -> None:
    key = f"{PATH}.lora_A.default.weight"
    found = lora.index([key])
    assert found.halves == (key,)
    assert not found.parameters


def test_alpha_over_rank_scales_the_product() -> None:
    a, b = torch.full((2, 3), 1.0), torch.full((4, 2), 1.0)
    assert torch.equal(lora.merge(torch.ones(4, 3), a, b, 1.0, 2), torch.full((4, 3), 2.0))
    held = {f"{PATH}.lora_A.weight": a, f"{PATH}.lora_B.weight": b}
    merged = lora.apply(f"{PATH}.weight", torch.ones(4, 3), lora.index(held), held.__getitem__)
    assert torch.equal(merged, torch.full((4, 3), 3.0))


def test_merging_keeps_dtype_and_leaves_the_weight_alone() -> None:
    weight = torch.ones(4, 3, dtype=torch.bfloat16)
    merged = lora.merge(weight, torch.ones(2, 3), torch.ones(4, 2), 2.0, 2)
    assert merged.dtype == torch.bfloat16
    assert torch.equal(weight, torch.ones(4, 3, dtype=torch.bfloat16))


def test_a_parameter_that_is_not_in_the_file_stays() -> None:
    weight = torch.ones(2)
    assert lora.apply("norm", weight, lora.index([]), {}.__getitem__) is weight


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        lora.merge(torch.ones(4, 3), torch.ones(2, 4), torch.ones(4, 2), 1.0, 2)
    held = {"head.head.bias": torch.ones(3)}
    with pytest.raises(ValueError, match="replaced"):
        lora.apply("head.head.bias", torch.ones(4), lora.index(held), held.__getitem__)
