"""Does the text encoder give the reference's features, and clean prompts as it does?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.model.text import TextEncoder, clean
from tests.parity import golden

TOLERANCE = 1e-5
BF16_TOLERANCE = 2e-2


@dataclass
class Case:
    encoder: TextEncoder
    halved: TextEncoder  # the same weights as stored, in bfloat16
    io: dict[str, Tensor]
    spec: dict[str, Any]

    def ids(self, sample: int) -> Tensor:
        """A sample's tokens without padding."""
        return self.io["in/ids"][sample, : int(self.io["in/mask"][sample].sum())]


@pytest.fixture(scope="module", params=golden.variants("t5"))
def case(request: pytest.FixtureRequest) -> Case:
    folder = golden.ROOT / "t5" / request.param
    spec = golden.read_json(folder / "spec.json")
    state = golden.tensors(folder / "t5_encoder.safetensors")
    length = spec["config"]["text_len"]
    return Case(
        TextEncoder.from_state_dict(state, text_len=length, dtype=torch.float32),
        TextEncoder.from_state_dict(state, text_len=length, dtype=torch.bfloat16),
        golden.tensors(folder / "io.safetensors"),
        spec,
    )


def test_the_configuration_is_read_off_the_tensors(case: Case) -> None:
    ours, theirs = case.encoder.model.config, case.spec["config"]
    assert ours.vocab_size == theirs["vocab_size"]
    assert ours.d_model == theirs["dim"]
    assert ours.num_heads * ours.d_kv == theirs["dim_attn"]
    assert ours.num_heads == theirs["num_heads"]
    assert ours.d_ff == theirs["dim_ffn"]
    assert ours.num_layers == theirs["encoder_layers"]


def test_prompts_encode_to_the_same_features(case: Case) -> None:
    assert [len(case.ids(n)) for n in range(len(case.spec["lens"]))] == case.spec["lens"]
    for n in range(len(case.spec["lens"])):
        golden.close(case.encoder.embed(case.ids(n)), case.io[f"out/fp32/{n}"], TOLERANCE, f"{n}")


def test_bfloat16_stays_within_its_rounding(case: Case) -> None:
    for n in range(len(case.spec["lens"])):
        ours = case.halved.embed(case.ids(n))
        assert ours.dtype == torch.bfloat16
        for theirs in (f"out/fp32/{n}", f"out/bf16/{n}"):
            golden.close(ours, case.io[theirs], BF16_TOLERANCE, theirs)


def test_relative_positions_fall_into_the_same_buckets(case: Case) -> None:
    attention = case.encoder.model.encoder.block[0].layer[0].SelfAttention
    length = case.io["in/ids"].shape[1]
    bias = attention.compute_bias(length, length)[0]  # [heads, query, key]
    golden.close(bias[:, 0], case.io["tap/block0_pos_bias_row0"], TOLERANCE)
    golden.close(bias[:, :, 0], case.io["tap/block0_pos_bias_col0"], TOLERANCE)
    at = torch.arange(length, device=bias.device)
    bucket = case.io["bucket_table"][at[None, :] - at[:, None] + length - 1]
    assert torch.equal(bias, attention.relative_attention_bias.weight[bucket].permute(2, 0, 1))


def test_the_first_layer_agrees(case: Case) -> None:
    block = case.encoder.model.encoder.block[0]
    taps = {
        "block0_attn_out": block.layer[0].SelfAttention,
        "block0_ffn_out": block.layer[1].DenseReluDense,
        "block0_out": block,
    }
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: object, _args: object, out: Any) -> None:
            seen[name] = (out[0] if isinstance(out, tuple) else out)[0]

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in taps.items()]
    case.encoder.embed(case.ids(1))
    for handle in handles:
        handle.remove()
    for name in taps:
        theirs = case.io[f"tap/{name}/1"]
        golden.close(seen[name][: len(theirs)], theirs, TOLERANCE, name)


def test_prompts_are_cleaned_as_in_training(case: Case) -> None:
    for raw, cleaned in case.spec["clean_whitespace"]:
        assert clean(raw) == cleaned
