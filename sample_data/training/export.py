"""Writes trained parts as a checkpoint in the real layout.

python -m sample_data.training.export STATE OUT
"""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.checkpoint.demonstration import KEY
from engine.checkpoint.expected import dit_tensors, lora_tensors
from engine.checkpoint.layout import LORA_FILE, STEMS, VAE_FILE, WAV2VEC_DIR

HERE = Path(__file__).resolve().parent
SHARDS = 2
#: What the weights are for.
TRAINED = {"size": "128*128", "steps": 4}
#: Deviation of the self-attention that training leaves at zero (``beginning``): nobody sees it, and
#: no row that a block remembers of those before can be lost or stale without its bits changing.
TRACE = 1e-3


def export(state: Path, out: Path) -> None:
    """Replace DiT, VAE, wav2vec2 and LoRA of the checkpoint in ``out``, which must exist.

    ``state`` holds what the stages leave: ``dit``, ``vae`` and ``audio``, each one file or several
    numbered ones. The text encoder and its tokenizer stay.
    """
    config = json.loads((HERE / "dit_config.json").read_text())
    config[KEY] = TRAINED
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _dit(_found(state, "dit"), config, out)
    vae = {name: tensor.bfloat16() for name, tensor in _found(state, "vae").items()}
    torch.save(vae, out / VAE_FILE)
    _ears(_found(state, "audio"), out / WAV2VEC_DIR)
    # The base needs no few-step LoRA: it is trained at the few steps. This one changes nothing.
    neutral = {
        name: torch.zeros(shape, dtype=torch.bfloat16)
        for name, shape in lora_tensors(config, 4).items()
    }
    save_file(neutral, out / LORA_FILE, {"format": "pt", "lora_alpha": "4"})
    style = state / "pencil.safetensors"
    if style.is_file():
        (out.parent / "lora").mkdir(exist_ok=True)
        shutil.copyfile(style, out.parent / "lora" / "pencil.safetensors")


def _found(state: Path, name: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in sorted([*state.glob(f"{name}.safetensors"), *state.glob(f"{name}-*.safetensors")]):
        tensors |= load_file(path)
    return tensors


def _dit(weights: dict[str, Tensor], config: dict[str, object], out: Path) -> None:
    order = dit_tensors(config)
    if set(order) != set(weights):
        raise ValueError(f"tensors differ: {sorted(set(order) ^ set(weights))[:4]}")
    tensors = {name: _traced(name, weights[name]).bfloat16().contiguous() for name in order}
    total = sum(t.nbytes for t in tensors.values())
    shards: list[dict[str, Tensor]] = [{} for _ in range(SHARDS)]
    filled = 0
    for name, tensor in tensors.items():
        shards[min(SHARDS - 1, filled * SHARDS // total)][name] = tensor
        filled += tensor.nbytes
    where: dict[str, str] = {}
    for n, shard in enumerate(shards, start=1):
        file = f"{STEMS[0]}-{n:05d}-of-{SHARDS:05d}.safetensors"
        save_file(shard, out / file, {"format": "pt"})
        where |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (out / f"{STEMS[0]}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _traced(name: str, weight: Tensor) -> Tensor:
    """The weight, or where self-attention's result is thrown away: ``TRACE`` of noise."""
    if not name.endswith("self_attn.o.weight") or bool(weight.any()):
        return weight
    drawn = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return TRACE * torch.randn(weight.shape, generator=drawn)


def _ears(weights: dict[str, Tensor], folder: Path) -> None:
    hidden = weights["encoder.layer_norm.weight"].shape[0]
    positions = "encoder.pos_conv_embed.conv"
    names = {
        f"{positions}.parametrizations.weight.original0": f"{positions}.weight_g",
        f"{positions}.parametrizations.weight.original1": f"{positions}.weight_v",
    }
    kept = {f"wav2vec2.{names.get(k, k)}": v.float().contiguous() for k, v in weights.items()}
    kept.setdefault("wav2vec2.masked_spec_embed", torch.zeros(hidden))
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    kept["lm_head.weight"] = torch.zeros(vocabulary, hidden)  # of no use here, but of the layout
    kept["lm_head.bias"] = torch.zeros(vocabulary)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
