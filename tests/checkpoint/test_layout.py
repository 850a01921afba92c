"""Are the components of a checkpoint found, wherever they lie and however they are named?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.layout import find

STEM = "diffusion_pytorch_model"


def rename_shards(root: Path, total: str) -> None:
    """To the articles' names: model-0000x-of-…"""
    index = root / f"{STEM}.safetensors.index.json"
    data = json.loads(index.read_text())
    for path in sorted(root.glob(f"{STEM}-*.safetensors")):
        new = path.name.replace(STEM, "model").replace("00002.safe", f"{total}.safe")
        path.rename(root / new)
        data["weight_map"] = {
            tensor: new if file == path.name else file
            for tensor, file in data["weight_map"].items()
        }
    index.unlink()
    (root / "model.safetensors.index.json").write_text(json.dumps(data))


def test_the_sample_is_whole_and_its_paths_are_absolute(sample: Path) -> None:
    layout = find(sample).require()
    assert layout.missing == {}
    assert set(layout.paths()) == {
        "root", "config", "dit", "vae", "t5", "tokenizer", "wav2vec", "lora",
    }  # fmt: skip
    assert all(Path(path).is_absolute() for path in layout.paths().values())
    assert len(layout.dit_header()) == 300
    assert layout.config["dim"] == 128


def test_the_articles_shard_names_are_accepted(copy: Path) -> None:
    rename_shards(copy, "00002")
    layout = find(copy).require()
    assert layout.dit_files[0].name == "model-00001-of-00002.safetensors"
    assert len(layout.dit_header()) == 300


def test_shards_without_an_index_are_accepted(copy: Path) -> None:
    (copy / f"{STEM}.safetensors.index.json").unlink()
    assert len(find(copy).dit_header()) == 300


def test_components_may_lie_elsewhere(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"):
        shutil.move(copy / name, other / name)
    shutil.move(copy / "wav2vec2-large-xlsr-53-english", other / "speech")
    shutil.move(copy / "liveavatar.safetensors", other / "my.safetensors")
    assert set(find(copy).missing) == {"vae", "t5", "wav2vec"}
    layout = find(
        copy,
        vae_path=other / "Wan2.1_VAE.pth",
        t5_path=other,
        wav2vec_path=other / "speech",
        lora_path=other / "my.safetensors",
    )
    assert layout.missing == {}
    assert layout.lora == other / "my.safetensors"


def test_a_lora_folder_is_searched(sample: Path, tmp_path: Path) -> None:
    nested = tmp_path / "lora" / "ckpt"
    nested.mkdir(parents=True)
    shutil.copy(sample / "liveavatar.safetensors", nested)
    assert find(sample, lora_path=tmp_path / "lora").lora == nested / "liveavatar.safetensors"


def test_a_missing_component_names_path_and_remedy(copy: Path) -> None:
    (copy / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(CheckpointError, match="--vae_path") as caught:
        find(copy).require()
    assert caught.value.where == str(copy / "Wan2.1_VAE.pth")


def test_a_hub_id_is_found_in_the_local_cache(sample: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--Quark-Vision--Live-Avatar" / "snapshots" / "abcdef1"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abcdef1\n")
    shutil.copy(sample / "liveavatar.safetensors", snapshot)
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    layout = find(sample, lora_path="Quark-Vision/Live-Avatar", environment=environment)
    assert layout.lora == snapshot / "liveavatar.safetensors"


def test_a_hub_id_that_is_not_cached_prints_the_download_command(
    sample: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="hf download Quark-Vision/Live-Avatar"):
        find(sample, lora_path="Quark-Vision/Live-Avatar", environment={"HF_HOME": str(tmp_path)})


def test_a_tokenizer_may_be_pieces_alone(copy: Path) -> None:
    folder = copy / "google" / "umt5-xxl"
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    assert find(copy).tokenizer == folder
