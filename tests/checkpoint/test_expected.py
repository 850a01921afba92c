"""Do the tables of expected tensors describe the released model exactly?"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from engine.checkpoint.encoders import T5Shape, VAEShape, t5_tensors, vae_tensors, wav2vec_tensors
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import (
    DiTShape,
    dit_params,
    dit_tensors,
    lora_modules,
    unit_of,
    unit_params,
)
from engine.checkpoint.header import read_header
from engine.checkpoint.shapes import DIT_14B, DIT_TINY, SHAPES

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def test_the_released_shape_has_its_known_tensors_and_parameters() -> None:
    assert len(dit_tensors(DIT_14B)) == 1260
    assert dit_params(DIT_14B) == 16_295_755_609


def test_the_root_unit_of_the_references_wrapping_is_the_articles_unshard() -> None:
    counts = unit_params(DIT_14B, "reference")
    assert counts["root"] == 2_239_983_449
    assert sum(counts.values()) == dit_params(DIT_14B)
    assert round(counts["root"] * 2 / 2**30, 4) == 4.1723


def test_our_wrapping_leaves_two_thirds_of_a_gibibyte_at_the_root() -> None:
    counts = unit_params(DIT_14B)
    assert round(counts["root"] * 2 / 2**30, 2) == 0.66
    assert round(counts["layer 0"] * 2 / 2**30, 2) == 0.65
    assert sum(counts.values()) == dit_params(DIT_14B)
    assert len(counts) == 1 + 40 + 12


def test_an_injector_and_its_norm_share_a_unit() -> None:
    names = ("audio_injector.injector.3.q.weight",)
    names += ("audio_injector.injector_adain_layers.3.linear.bias",)
    assert {unit_of(name, DIT_14B) for name in names} == {"injector 3"}
    assert {unit_of(name, DIT_14B, "reference") for name in names} == {"root"}


def test_the_published_lora_adapts_448_linears() -> None:
    assert len(lora_modules(DIT_14B)) == 448


@pytest.mark.parametrize("case", sorted(GOLDEN.glob("dit/*/c*")), ids=lambda path: path.name)
def test_the_table_equals_the_reference_models_own_names_and_shapes(case: Path) -> None:
    config = json.loads((case / "config.json").read_text())
    found = {
        name: info.shape
        for path in case.glob("diffusion_pytorch_model-*.safetensors")
        for name, info in read_header(path).tensors.items()
    }
    assert dit_tensors(config) == found


def test_the_encoders_of_the_released_checkpoint_have_their_files_sizes() -> None:
    kind = SHAPES["14b"]

    def params(table: dict[str, tuple[int, ...]]) -> int:
        return sum(map(math.prod, table.values()))

    assert params(vae_tensors(kind.vae)) * 4 == 507_570_124  # Wan2.1_VAE.pth, 508 MB
    assert params(t5_tensors(kind.t5)) * 2 == 11_361_820_672  # 11.4 GB
    assert round(params(wav2vec_tensors(kind.wav2vec)) * 4 / 1e9, 2) == 1.26


def test_small_encoders_follow_from_their_widths() -> None:
    assert vae_tensors(VAEShape(4))["decoder.upsamples.4.shortcut.weight"] == (16, 8, 1, 1, 1)
    table = t5_tensors(T5Shape(200, 48, 64, 96, 4, 3))
    assert table["blocks.2.attn.o.weight"] == (48, 64)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dim": None}, "dim is missing"),
        ({"dim": "128"}, "dim"),
        ({"dim": 130}, "heads of even width"),
        ({"num_heads": 0}, "num_heads"),
        ({"num_layers": True}, "num_layers"),
        ({"audio_inject_layers": [0, 99]}, "audio_inject_layers"),
        ({"audio_inject_layers": "all"}, "audio_inject_layers"),
        ({"ffn_dim": 10**12}, "ffn_dim"),
    ],
)
def test_a_configuration_that_fits_nothing_names_its_field(
    change: dict[str, object], told: str
) -> None:
    with pytest.raises(CheckpointError, match=told):
        DiTShape.from_config(DIT_TINY | change)
