"""Does ``avatop ckpt synth`` write a checkpoint that is whole, repeatable and sane?"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from console.commands.ckpt import ckpt
from engine.checkpoint import synth as module
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.layout import find
from engine.checkpoint.randoms import bf16
from engine.checkpoint.synth import DiskTooSmallError, synth
from engine.checkpoint.verify import verify


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_the_sample_is_what_its_script_makes(sample: Path, tmp_path: Path) -> None:
    synth("tiny", tmp_path / "again", 20250, workers=3)
    assert contents(tmp_path / "again") == contents(sample)


def test_the_command_tells_directory_bytes_and_parameters(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "ckpt"
    flags = ["--shape", "tiny", "--out", str(out), "--seed", "3", "--json"]
    result = CliRunner().invoke(ckpt, ["synth", *flags])
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["dir"] == str(out)
    assert body["bytes"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert verify(find(out), deep=True).findings == ()


def test_another_seed_gives_other_weights_and_one_component_the_same(tmp_path: Path) -> None:
    synth("tiny", tmp_path / "a", 1, ["lora"])
    synth("tiny", tmp_path / "b", 2, ["lora"])
    synth("tiny", tmp_path / "c", 1, ["lora", "wav2vec"])
    a, b, c = (load_file(tmp_path / name / "liveavatar.safetensors") for name in "abc")
    name = "blocks.0.ffn.0.lora_A.default.weight"
    assert not torch.equal(a[name], b[name])
    assert torch.equal(a[name], c[name])
    assert not (tmp_path / "a" / "config.json").exists()


def test_pickles_written_without_torch_are_read_by_torch(sample: Path) -> None:
    for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"):
        with zipfile.ZipFile(sample / name) as archive:
            assert archive.testzip() is None
        mapped = torch.load(sample / name, weights_only=True, mmap=True)
        read = torch.load(sample / name, weights_only=True, mmap=False)
        assert all(torch.equal(mapped[key], read[key]) for key in read)
        assert all(bool(tensor.isfinite().all()) for tensor in read.values())


def test_rows_of_a_matrix_do_not_repeat(sample: Path) -> None:
    shard = load_file(sample / "diffusion_pytorch_model-00001-of-00002.safetensors")
    weight = shard["blocks.0.ffn.0.weight"].float()
    assert torch.linalg.matrix_rank(weight) == min(weight.shape)
    assert abs(float(weight.std()) * weight.shape[1] ** 0.5 - 1) < 0.1


def test_rounding_to_bfloat16_is_torchs() -> None:
    values = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    values[:4] = (1.00390625, 1.01171875, -0.0, 3.3e38)
    wanted = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert (bf16(values) == wanted).all()


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    if usage.free > 46_000_000_000:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=10**9))
            with pytest.raises(DiskTooSmallError, match="free"):
                synth("14b", tmp_path / "big", 0)
    else:
        with pytest.raises(DiskTooSmallError, match="free"):
            synth("14b", tmp_path / "big", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_tensor", full)
    with pytest.raises(CheckpointError, match="No space left"):
        synth("tiny", tmp_path / "a" / "b", 0)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_not_overwritten(copy: Path) -> None:
    before = contents(copy)
    flags = ["--shape", "tiny", "--out", str(copy), "--seed", "1"]
    result = CliRunner().invoke(ckpt, ["synth", *flags])
    assert result.exit_code == 2
    assert contents(copy) == before


def test_the_released_shape_is_laid_out_exactly() -> None:
    """Sizes and names of the 14b files, without writing them."""
    plans = [plan for make in module._FILES.values() for plan in make(module.SHAPES["14b"])]
    dit = [drawn for plan in plans[:4] for _, drawn in plan.tensors]
    assert len(dit) == 1260
    assert sum(drawn.count for drawn in dit) == 16_295_755_609
    assert [plan.path for plan in plans[:4]] == [
        f"diffusion_pytorch_model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)
    ]
    t5 = next(plan for plan in plans if plan.path.startswith("models_t5"))
    assert t5.size > 11_361_820_672  # beyond 4 GB: the zip64 form
