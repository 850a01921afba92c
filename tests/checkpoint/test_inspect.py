"""What does ``avatop ckpt inspect`` tell, and does it stay without torch?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from console.commands.ckpt import ckpt
from engine.checkpoint.shapes import SHAPES
from engine.checkpoint.synth import _dit_files


def report(directory: Path, *flags: str) -> dict[str, Any]:
    result = CliRunner().invoke(ckpt, ["inspect", str(directory), "--json", *flags])
    assert result.exit_code == 0, result.output
    body: dict[str, Any] = json.loads(result.stdout)
    return body


def test_every_component_is_told_with_its_tensors_and_bytes(sample: Path) -> None:
    body = report(sample)
    assert body["family"] == "Wan2.2-S2V"
    assert body["config"]["model_type"] == "s2v"
    found = {component["name"]: component for component in body["components"]}
    assert list(found) == ["dit", "vae", "t5", "wav2vec2", "tokenizer", "lora"]
    dit = found["dit"]
    assert (dit["tensors"], dit["dtypes"]) == (300, {"BF16": 300})
    assert dit["bytes"] == 2 * dit["params"]
    assert sum(part["params"] for part in dit["parts"]) == dit["params"]
    assert "other" not in [part["name"] for part in dit["parts"]]
    assert [shard["holds"][0] for shard in dit["shards"]] == ["root", "root"]
    assert found["vae"]["dtypes"] == {"F32": 194}
    assert found["t5"]["bytes"] == 2 * found["t5"]["params"]


def test_headers_only_starts_no_child_and_tells_unknowns_as_null(sample: Path) -> None:
    body = report(sample, "--headers-only")
    vae = next(component for component in body["components"] if component["name"] == "vae")
    assert vae["tensors"] is vae["params"] is vae["dtypes"] is None
    assert vae["bytes"] == (sample / "Wan2.1_VAE.pth").stat().st_size


def test_a_person_gets_a_table(sample: Path) -> None:
    result = CliRunner().invoke(ckpt, ["inspect", str(sample), "--headers-only"])
    assert result.exit_code == 0
    assert "audio injector" in result.stdout


def test_no_torch_in_this_process(sample: Path) -> None:
    code = (
        "import sys\n"
        "from console.commands.ckpt import ckpt\n"
        "ckpt(['inspect', sys.argv[1], '--json'], standalone_mode=False)\n"
        "ckpt(['verify', sys.argv[1]], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(sample)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_damaged_shard_is_one_message_and_exit_2(copy: Path) -> None:
    shard = copy / "diffusion_pytorch_model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    result = CliRunner().invoke(ckpt, ["inspect", str(copy)])
    assert result.exit_code == 2
    assert shard.name in result.output
    assert "Traceback" not in result.output


def test_the_released_shape_is_told_from_its_headers(tmp_path: Path) -> None:
    """Files of the true sizes with nothing but their headers in them (sparse)."""
    kind = SHAPES["14b"]
    (tmp_path / "config.json").write_text(json.dumps(kind.dit_config))
    for plan in _dit_files(kind):
        with (tmp_path / plan.path).open("wb") as file:
            for place, content in plan.fixed:
                file.seek(place)
                file.write(content)
            file.truncate(plan.size)
    body = report(tmp_path)
    assert body["family"] == "Wan2.2-S2V-14B"
    assert set(body["missing"]) == {"vae", "t5", "tokenizer", "wav2vec"}
    dit = body["components"][0]
    assert (dit["tensors"], dit["params"]) == (1260, 16_295_755_609)
    assert dit["bytes"] == 2 * 16_295_755_609
    parts = {part["name"]: round(part["params"] / 1e9, 3) for part in dit["parts"]}
    assert parts["blocks"] == 14.056
    assert parts["audio injector"] == 1.888
    assert parts["time projection"] == 0.157
    assert len(dit["shards"]) == 4
