"""Are fp8 weights what the mathematics says, with the LoRA in them, and kept only where asked?"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.checkpoint.expected import DiTShape
from engine.checkpoint.layout import find
from engine.checkpoint.onrank import load
from engine.checkpoint.onrank.fp8cache import FOLDER
from engine.checkpoint.onrank.load import DiTSource, load_dit
from engine.checkpoint.verify import verify
from engine.model.config import FP8, Numerics
from engine.model.dit import DiT
from engine.model.fp8 import Linear8, quantise_weight
from engine.placement.units import units

NUMERICS = Numerics(compute=torch.bfloat16, fp8=True)


@pytest.fixture
def ckpt(sample: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample, tmp_path / "ckpt"))


def loaded(root: Path, *, cache: bool) -> tuple[DiT, DiTSource]:
    paths = find(root).paths()
    source = DiTSource(paths, dtype=torch.bfloat16, lora=paths["lora"], fp8_cache=cache)
    with source:
        dit = source.build(NUMERICS)
        for _, modules in source.units(dit):
            source.fill(modules, "cpu")
    return dit, source


def test_the_linears_of_layers_and_injectors_are_quantised_after_the_lora(sample: Path) -> None:
    paths = find(sample).paths()
    plain = load_dit(paths, "cpu", dtype=torch.bfloat16, lora=paths["lora"])
    made, _ = loaded(sample, cache=False)
    wide = dict(plain.named_parameters())
    linears = {name: m for name, m in made.named_modules() if isinstance(m, Linear8)}
    assert all(name.startswith(("blocks.", "audio_injector.")) for name in linears)
    for name, linear in linears.items():
        data, scale = quantise_weight(wide[f"{name}.weight"])
        assert linear.weight.dtype == FP8
        assert torch.equal(linear.weight.view(torch.uint8), data.view(torch.uint8)), name
        assert torch.equal(linear.weight_scale, scale[:, 0])
        assert torch.equal(linear.bias, wide[f"{name}.bias"])
    assert torch.equal(made.head.head.weight, wide["head.head.weight"])
    shape = DiTShape.from_config(find(sample).config)
    held = sum(p.nbytes for p in made.parameters())
    assert held == sum(unit.bytes("fp8") for unit in units(shape, 1))


def test_nothing_is_written_beside_the_checkpoint_unasked(ckpt: Path) -> None:
    loaded(ckpt, cache=False)
    assert not (ckpt / FOLDER).exists()


def test_kept_weights_are_taken_as_they_are(ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, source = loaded(ckpt, cache=True)
    assert source.fp8_cache is not None
    assert source.fp8_cache.remark is None
    monkeypatch.setattr(load, "quantise_into", None)  # nothing may be quantised again
    second, _ = loaded(ckpt, cache=True)
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(a.view(torch.uint8), b.view(torch.uint8)), name
    # The checkpoint is as good as it was before.
    assert FOLDER not in str(verify(find(ckpt), headers_only=True))


def test_another_checkpoint_or_lora_is_kept_apart(ckpt: Path) -> None:
    folder = loaded(ckpt, cache=True)[1].fp8_cache
    paths = find(ckpt).paths()
    Path(paths["lora"]).touch()
    again = loaded(ckpt, cache=True)[1].fp8_cache
    assert folder is not None
    assert again is not None
    assert folder.folder != again.folder


def test_a_damaged_file_is_made_anew(ckpt: Path) -> None:
    first, source = loaded(ckpt, cache=True)
    assert source.fp8_cache is not None
    victim = sorted(source.fp8_cache.folder.iterdir())[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    second, _ = loaded(ckpt, cache=True)
    assert victim.read_bytes() == whole
    assert torch.equal(first.blocks[0].ffn[0].weight_scale, second.blocks[0].ffn[0].weight_scale)


def test_a_full_disk_is_told_and_loading_goes_on(
    ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    dit, source = loaded(ckpt, cache=True)
    assert source.fp8_cache is not None
    assert "no room left" in str(source.fp8_cache.remark)
    assert isinstance(dit.blocks[0].ffn[0], Linear8)
