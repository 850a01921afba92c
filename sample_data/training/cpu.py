"""The training of VAE and DiT: small enough for two CPU cores.

    python -m sample_data.training.cpu vae     SECONDS     pictures: encoder and decoder
    python -m sample_data.training.cpu blocks  PEOPLE      what the DiT learns from
    python -m sample_data.training.cpu dit     SECONDS     needs vae and blocks
    python -m sample_data.training.cpu decoder SECONDS     beside dit: latents stay as they are
    python -m sample_data.training.cpu lora    SECONDS     the pencil style, needs dit

Every stage continues from what it finds in ``--state`` and keeps it there. The speech encoder comes
from ``train audio=SECONDS`` (``audio.safetensors``).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.model.config import DiTConfig
from engine.model.dit import DiT
from engine.model.vae import VAE
from sample_data.faces.render import pencil
from sample_data.training import blocks, token_stage, vae_stage
from sample_data.training.adapter import adapt, pairs

HERE = Path(__file__).resolve().parent
EARS = HERE.parent / "ckpt" / "wav2vec2-large-xlsr-53-english" / "config.json"


def _keep(tensors: dict[str, Tensor], path: Path) -> None:
    fresh = path.with_suffix(".new")
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, fresh)
    fresh.rename(path)


def _vae(state: Path) -> VAE | None:
    path = state / "vae.safetensors"
    if not path.is_file():
        return None
    weights = load_file(path)
    vae = vae_stage.build(weights["encoder.conv1.weight"].shape[0])
    vae.load_state_dict(weights)
    return vae.requires_grad_(False)


def _dit(state: Path) -> DiT | None:
    path = state / "dit.safetensors"
    if not path.is_file():
        return None
    dit = DiT(DiTConfig.from_dict(json.loads((HERE / "dit_config.json").read_text())))
    dit.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return dit


def _data(path: Path, vae: VAE, limit: int | None = None, drawn: bool = False) -> token_stage.Pairs:
    held = load_file(path)
    count = len(held["pictures"]) if limit is None else limit
    people = len(held["portraits"])
    per = len(held["pictures"]) // people
    shown, faces = held["pictures"][:count].flatten(0, 1), held["portraits"]
    if drawn:
        shown = _drawn(shown)
    latents = blocks.encode(vae, shown).unflatten(0, (count, 3)).transpose(1, 2)
    who = torch.arange(count) // per
    ref = blocks.encode(vae, faces[: int(who[-1]) + 1])[:, :, None]
    moving = held["moving"][: len(ref)]
    if drawn:  # later clips take their portrait from a generated, drawn frame
        ref = torch.cat([ref, blocks.encode(vae, _drawn(faces[: len(ref)]))[:, :, None]])
        who = torch.where(torch.rand(count) < 0.5, who, who + len(ref) // 2)
        moving = torch.cat([moving, moving])
    return token_stage.Pairs(ref, latents, who, held["audio"][:count], moving)


def _drawn(pictures: Tensor) -> Tensor:
    out = pencil(pictures.float() / 127.5 - 1)
    return ((out.clamp(-1, 1) + 1) * 127.5).round().byte()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("vae", "blocks", "listen", "dit", "decoder", "lora"))
    parser.add_argument("amount", type=float)
    parser.add_argument("--state", type=Path, default=Path(".sample/state"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", type=float)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(int(time.time()))
    state: Path = given.state
    device = torch.device("cpu")
    log = (state / f"{given.stage}.jsonl").open("a")

    def tell(**values: object) -> None:
        line = json.dumps(
            {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        )
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    pack, ears = state.parent / "speech.npz", state / "audio.safetensors"
    if given.stage == "blocks":
        blocks.make(state / "held.safetensors", pack, ears, EARS, 24, 2, 77)
        blocks.make(state / "blocks.safetensors", pack, ears, EARS, int(given.amount), 4, 5)
        return
    vae = _vae(state)
    if given.stage == "vae":
        vae = vae_stage.train(
            8,
            given.amount,
            device,
            tell,
            vae,
            count=500,
            batch=10,
            peak=given.peak or (2e-3 if vae is None else 5e-4),
            seed=int(time.time()) % 1000,
            keep=lambda v: _keep(v.state_dict(), state / "vae.unscaled"),
        )
        _keep(vae.state_dict(), state / "vae.safetensors")
        return
    if given.stage == "listen":
        dit = DiT(DiTConfig.from_dict(json.loads((HERE / "dit_config.json").read_text())))
        token_stage.start(dit)
        held = load_file(state / "blocks.safetensors")
        chosen = held["controls"][..., list(blocks.SHOWN)]
        token_stage.listen(dit, held["audio"], chosen, given.amount, tell)
        _keep(dit.state_dict(), state / "dit.safetensors")
        return
    assert vae is not None, "train the VAE first"
    if given.stage == "decoder":
        path = state / "vae.decoder.safetensors"
        if path.is_file():
            vae.load_state_dict(load_file(path))
        else:
            vae_stage.interpolate(vae)
        vae_stage.train_decoder(vae, given.amount, device, tell, peak=given.peak or 1e-3,
                                keep=lambda v: _keep(v.state_dict(), path))  # fmt: skip
        _keep(vae.state_dict(), path)
        return
    dit = _dit(state)
    assert dit is not None, "run listen first"
    drawn = given.stage == "lora"
    held_data = _data(state / "held.safetensors", vae, drawn=drawn)
    data = _data(state / "blocks.safetensors", vae, given.limit, drawn)
    tell(stage=given.stage, blocks=len(data.who))
    if drawn:
        dit.requires_grad_(False)
        adapters = adapt(dit, 16)
        parameters = [p for a in adapters.values() for p in (a.a, a.b)]
        token_stage.train(dit, data, held_data, given.amount, tell, peak=given.peak or 3e-3,
                          parameters=parameters)  # fmt: skip
        save_file(pairs(adapters), state / "pencil.safetensors",
                  {"format": "pt", "lora_alpha": "16"})  # fmt: skip
        return
    token_stage.train(dit, data, held_data, given.amount, tell, peak=given.peak or 1.5e-3,
                      keep=lambda d: _keep(d.state_dict(), state / "dit.safetensors"))  # fmt: skip
    _keep(dit.state_dict(), state / "dit.safetensors")


if __name__ == "__main__":
    main()
