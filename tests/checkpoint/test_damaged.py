"""Twenty and more damaged checkpoints: does each give one clear leading finding, and exit 2?"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from console.commands.ckpt import ckpt
from engine.checkpoint.header import read_header

ONE = "diffusion_pytorch_model-00001-of-00002.safetensors"
TWO = "diffusion_pytorch_model-00002-of-00002.safetensors"
INDEX = "diffusion_pytorch_model.safetensors.index.json"
VAE = "Wan2.1_VAE.pth"
T5 = "models_t5_umt5-xxl-enc-bf16.pth"
SPEECH = "wav2vec2-large-xlsr-53-english"
LORA = "liveavatar.safetensors"

Header = dict[str, Any]


def verify(directory: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(ckpt, ["verify", str(directory), "--json", *flags])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_header(path: Path, change: Callable[[Header], None]) -> None:
    """Change a safetensors header, leaving the data as it is."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    change(header)
    body = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(body)) + body + raw[8 + length :])


def truncate(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def set_length(path: Path, length: int) -> None:
    raw = path.read_bytes()
    path.write_bytes(struct.pack("<Q", length) + raw[8:])


def rename_tensor(old: str, new: str) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        header[new] = header.pop(old)

    return change


def shift(name: str, by: int) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        header[name]["data_offsets"] = [at + by for at in header[name]["data_offsets"]]

    return change


def reshape(name: str, shape: list[int]) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        header[name]["shape"] = shape

    return change


def redtype(name: str, dtype: str) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        header[name]["dtype"] = dtype

    return change


def corrupt(path: Path, at: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(value)


def place(path: Path, name: str, value: bytes) -> None:
    corrupt(path, read_header(path).tensors[name].offset, value)


FFN = "blocks.0.ffn.0.weight"
INJECTED = "audio_injector.injector.0.q.weight"

#: name → (damage, file of the leading finding, its tensor, words of its problem)
DAMAGES: dict[str, tuple[Callable[[Path], object], str, str | None, str]] = {
    "missing shard": (lambda d: (d / TWO).unlink(), TWO, None, "missing shard"),
    "surplus shard": (
        lambda d: (d / "diffusion_pytorch_model-00003-of-00003.safetensors").write_bytes(
            (d / TWO).read_bytes()
        ),
        "diffusion_pytorch_model-00003-of-00003.safetensors",
        None,
        "surplus shard",
    ),
    "truncated shard": (lambda d: truncate(d / TWO, 1000), TWO, None, "truncated"),
    "truncated in the header": (
        lambda d: (d / ONE).write_bytes((d / ONE).read_bytes()[:2000]), ONE, None, "truncated",
    ),
    "empty shard": (lambda d: (d / ONE).write_bytes(b""), ONE, None, "empty"),
    "damaged header": (lambda d: corrupt(d / ONE, 20, b"\x00\x00"), ONE, None, "damaged header"),
    "oversized header": (lambda d: set_length(d / ONE, 1 << 40), ONE, None, "oversized header"),
    "overlapping tensors": (
        lambda d: edit_header(d / ONE, shift("blocks.0.modulation", -256)),
        ONE, "blocks.0.modulation", "overlapping",
    ),
    "offsets beyond the file": (
        lambda d: edit_header(d / ONE, shift(FFN, 10**9)), ONE, FFN, "out of range",
    ),
    "wrong shape": (
        lambda d: edit_header(d / ONE, reshape(FFN, [128, 256])), ONE, FFN, "wrong shape",
    ),
    "wrong dtype": (
        lambda d: edit_header(d / ONE, redtype(FFN, "F16")), ONE, FFN, "wrong dtype",
    ),
    "index names a tensor no shard has": (
        lambda d: edit_json(d / INDEX, lambda i: i["weight_map"].update({"blocks.99.x": ONE})),
        INDEX, "blocks.99.x", "disagrees",
    ),
    "index forgets a tensor": (
        lambda d: edit_json(d / INDEX, lambda i: i["weight_map"].pop(FFN)), INDEX, FFN, "disagrees",
    ),
    "index puts a tensor in the other shard": (
        lambda d: edit_json(d / INDEX, lambda i: i["weight_map"].update({FFN: TWO})),
        INDEX, FFN, "disagrees",
    ),
    "index is no JSON": (lambda d: (d / INDEX).write_text("{"), INDEX, None, "not valid"),
    "index leaves the directory": (
        lambda d: edit_json(d / INDEX, lambda i: i["weight_map"].update({FFN: "../../x"})),
        INDEX, FFN, "no file name",
    ),
    "tensor of another name": (
        lambda d: (
            edit_header(d / ONE, rename_tensor(FFN, "blocks.0.ffn.9.weight")), (d / INDEX).unlink(),
        ),
        ONE, FFN, "lack",
    ),
    "tensor the configuration does not know": (
        lambda d: edit_json(d / "config.json", lambda c: c.update(num_layers=7)),
        TWO, "blocks.7.modulation", "does not know",
    ),
    "configuration of another model": (
        lambda d: edit_json(d / "config.json", lambda c: c.update(ffn_dim=512)),
        ONE, FFN, "wrong shape",
    ),
    "no configuration": (lambda d: (d / "config.json").unlink(), "config.json", None, "missing"),
    "configuration is no JSON": (
        lambda d: (d / "config.json").write_text("not json"), "config.json", None, "not valid",
    ),
    "configuration without a size": (
        lambda d: edit_json(d / "config.json", lambda c: c.pop("dim")),
        "config.json", None, "dim is missing",
    ),
    "Git LFS pointer": (
        lambda d: (d / ONE).write_text("version https://git-lfs.github.com/spec/v1\n"),
        ONE, None, "Git LFS",
    ),
    "web page": (lambda d: (d / TWO).write_text("<html>Sign in</html>"), TWO, None, "web page"),
    "no shards": (
        lambda d: [(d / name).unlink() for name in (ONE, TWO, INDEX)],
        "diffusion_pytorch_model-00001-of-0000N.safetensors", None, "dit is missing",
    ),
    "no VAE": (lambda d: (d / VAE).unlink(), VAE, None, "vae is missing"),
    "no umT5": (lambda d: (d / T5).unlink(), T5, None, "t5 is missing"),
    "no tokenizer": (
        lambda d: (d / "google/umt5-xxl/tokenizer.json").unlink(),
        "google/umt5-xxl/tokenizer.json", None, "tokenizer is missing",
    ),
    "no speech encoder": (
        lambda d: (d / SPEECH / "model.safetensors").unlink(), SPEECH, None, "wav2vec is missing",
    ),
    "truncated VAE": (lambda d: truncate(d / VAE, 3000), VAE, None, "zip directory"),
    "damaged directory of the VAE": (
        lambda d: corrupt(d / VAE, (d / VAE).stat().st_size - 22, b"\x00\x00\x00\x00"),
        VAE, None, "zip directory",
    ),
    "umT5 is a web page": (lambda d: (d / T5).write_text("<html>"), T5, None, "web page"),
    "speech encoder of another width": (
        lambda d: edit_json(d / SPEECH / "config.json", lambda c: c.update(hidden_size=128)),
        f"{SPEECH}/config.json", None, "width 128",
    ),
    "speech encoder of another depth": (
        lambda d: edit_json(d / SPEECH / "config.json", lambda c: c.update(num_hidden_layers=12)),
        f"{SPEECH}/config.json", None, "12 layers",
    ),
    "LoRA with a wrong shape": (
        lambda d: edit_header(
            d / LORA, reshape("blocks.0.ffn.0.lora_B.default.weight", [128, 8])
        ),
        LORA, "blocks.0.ffn.0", "does not fit",
    ),
    "LoRA with an unknown target": (
        lambda d: edit_header(
            d / LORA,
            rename_tensor(
                "blocks.0.ffn.0.lora_A.default.weight", "blocks.88.ffn.0.lora_A.default.weight"
            ),
        ),
        LORA, "blocks.88.ffn.0.lora_A.default.weight", "targets",
    ),
}  # fmt: skip


def test_the_sample_itself_is_usable(sample: Path) -> None:
    code, verdict = verify(sample)
    assert (code, verdict) == (0, {"ok": True, "findings": []})


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_gives_its_one_clear_finding(name: str, copy: Path) -> None:
    damage, file, tensor, told = DAMAGES[name]
    damage(copy)
    code, verdict = verify(copy, "--headers-only")
    assert code == 2
    assert verdict["ok"] is False
    leading = verdict["findings"][0]
    assert leading["severity"] == "error"
    assert leading["file"] == file
    assert leading["tensor"] == tensor
    assert told in leading["problem"]
    assert leading["remedy"]
    errors = [finding for finding in verdict["findings"] if finding["severity"] == "error"]
    assert len(errors) == 1, "consequences are not told again"


def test_a_value_that_is_not_finite_is_found_by_the_deep_scan(copy: Path) -> None:
    place(copy / ONE, FFN, struct.pack("<H", 0x7FC0))
    assert verify(copy, "--headers-only")[0] == 0
    code, verdict = verify(copy, "--headers-only", "--deep")
    assert code == 2
    assert verdict["findings"][0]["tensor"] == FFN


def test_a_pickle_that_runs_code_is_refused_and_not_run(copy: Path, tmp_path: Path) -> None:
    import zipfile

    witness = tmp_path / "witness"
    body = b"cos\nsystem\n(V" + f"touch {witness}".encode() + b"\ntR."
    with zipfile.ZipFile(copy / VAE, "w") as archive:
        archive.writestr("x/data.pkl", body)
        archive.writestr("x/version", "3\n")
        archive.writestr("x/byteorder", "little")
    code, verdict = verify(copy)
    assert code == 2
    assert verdict["findings"][0]["file"] == VAE
    assert "more than tensors" in verdict["findings"][0]["problem"]
    assert not witness.exists()


def test_a_vae_of_other_weights_is_told_by_its_tensor(copy: Path) -> None:
    (copy / VAE).write_bytes((copy / T5).read_bytes())
    code, verdict = verify(copy)
    assert code == 2
    assert verdict["findings"][0]["file"] == VAE
    assert verdict["findings"][0]["tensor"] == "encoder.conv1.weight"


def test_a_person_reads_one_line_with_file_and_remedy(copy: Path) -> None:
    (copy / TWO).unlink()
    result = CliRunner().invoke(ckpt, ["verify", str(copy), "--headers-only"])
    assert result.exit_code == 2
    assert TWO in result.stderr
    assert "download" in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == "unusable\n"


def test_a_directory_that_is_not_there_is_one_finding(tmp_path: Path) -> None:
    code, verdict = verify(tmp_path / "nowhere")
    assert code == 2
    assert len(verdict["findings"]) == 1
