"""Trains the DiT on CPU cores, over a VAE that codes pictures one by one.

    python -m sample_data.training.cpu blocks PEOPLE      what the DiT learns from
    python -m sample_data.training.cpu listen SECONDS     first its audio encoder
    python -m sample_data.training.cpu dit    SECONDS
    python -m sample_data.training.cpu lora   SECONDS     the pencil style, needs dit

Every stage continues from what it finds in ``--state`` and keeps it there. Speech encoder and VAE
come from ``train`` (``audio.safetensors``, ``vae.safetensors``).
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
from sample_data.training import beginning, portrait, token_pairs, tokens, vae_stage
from sample_data.training.adapter import adapt, pairs

HERE = Path(__file__).resolve().parent
EARS = HERE / "wav2vec2_config.json"


def _keep(tensors: dict[str, Tensor], path: Path) -> None:
    fresh = path.with_suffix(".new")
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, fresh)
    fresh.rename(path)


def _dit(state: Path) -> DiT:
    path = state / "dit.safetensors"
    dit = DiT(DiTConfig.from_dict(json.loads((HERE / "dit_config.json").read_text())))
    if path.is_file():
        dit.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    else:
        beginning.start(dit)
    return dit


def _data(path: Path, vae: VAE, limit: int | None = None, drawn: bool = False) -> tokens.Pairs:
    held = load_file(path)
    count = len(held["pictures"]) if limit is None else limit
    people = len(held["portraits"])
    per = len(held["pictures"]) // people
    shown, faces = held["pictures"][:count].flatten(0, 1), held["portraits"]
    if drawn:
        shown = _drawn(shown)
    who = torch.arange(count) // per
    cache = path.with_name(f"{path.stem}-latents-{count}-{int(drawn)}.safetensors")
    if cache.is_file():
        found = load_file(cache)
        latents, ref = found["latents"].float(), found["ref"].float()
    else:
        latents = token_pairs.encode(vae, shown).unflatten(0, (count, 3)).transpose(1, 2)
        ref = token_pairs.encode(vae, faces[: int(who[-1]) + 1])[:, :, None]
        _keep({"latents": latents.half(), "ref": ref.half()}, cache)
    moving = held["moving"][: len(ref)]
    if drawn:  # later clips take their portrait from a generated, drawn frame
        ref = torch.cat([ref, token_pairs.encode(vae, _drawn(faces[: len(ref)]))[:, :, None]])
        who = torch.where(torch.rand(count) < 0.5, who, who + len(ref) // 2)
        moving = torch.cat([moving, moving])
    return tokens.Pairs(ref, latents, who, held["audio"][:count], moving)


def _own(path: Path, vae: VAE, count: int) -> tokens.Pairs:
    """The demo's portrait saying ``count`` blocks of what ``path`` holds."""
    held = load_file(path)
    cache = path.with_name(f"own-{count}.safetensors")
    if not cache.is_file():
        moves = held["controls"][-count:].flatten(0, 1)
        frames = torch.cat([portrait.render(part) for part in moves.split(30)])
        g = torch.Generator().manual_seed(1)
        rest = torch.rand(6, 7, generator=g)
        rest[:, 3:] = 0
        rest[0] = 0
        faces = torch.cat([portrait.picture()[None].expand(6, -1, -1, -1), portrait.render(rest)])
        both = ((torch.cat([frames, faces]).clamp(-1, 1) + 1) * 127.5).round().byte()
        found = token_pairs.encode(vae, both)
        _keep({"latents": found[: 3 * count].unflatten(0, (count, 3)).transpose(1, 2).half(),
               "ref": found[3 * count :, :, None].half()}, cache)  # fmt: skip
    found = load_file(cache)
    ref = found["ref"].float()
    who = torch.randint(len(ref), (count,))
    person = portrait.who()
    moving = token_pairs.moving_tokens(person).expand(len(ref), -1)
    return tokens.Pairs(ref, found["latents"].float(), who, held["audio"][-count:], moving, count)


def _joined(a: tokens.Pairs, b: tokens.Pairs) -> tokens.Pairs:
    return tokens.Pairs(
        torch.cat([a.ref, b.ref]), torch.cat([a.latents, b.latents]),
        torch.cat([a.who, b.who + len(a.ref)]), torch.cat([a.audio, b.audio]),
        torch.cat([a.moving, b.moving]), b.own)  # fmt: skip


def _drawn(pictures: Tensor) -> Tensor:
    out = pencil(pictures.float() / 127.5 - 1)
    return ((out.clamp(-1, 1) + 1) * 127.5).round().byte()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("blocks", "listen", "dit", "lora"))
    parser.add_argument("amount", type=float)
    parser.add_argument("--state", type=Path, default=Path(".sample/state"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", type=float, help="highest learning rate")
    parser.add_argument("--limit", type=int, help="blocks to learn from, all by default")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(int(time.time()))
    state: Path = given.state
    log = (state / f"{given.stage}.jsonl").open("a")

    def tell(**values: object) -> None:
        line = json.dumps(
            {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        )
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    if given.stage == "blocks":
        speech, ears = state / "speech.npz", state / "audio.safetensors"
        token_pairs.make(state / "held.safetensors", speech, ears, EARS, 24, 2, 77)
        token_pairs.make(state / "blocks.safetensors", speech, ears, EARS, int(given.amount), 4, 5)
        return
    dit = _dit(state)
    if given.stage == "listen":
        held = load_file(state / "blocks.safetensors")
        chosen = held["controls"][..., list(token_pairs.SHOWN)]
        tokens.listen(dit, held["audio"], chosen, given.amount, tell)
        _keep(dit.state_dict(), state / "dit.safetensors")
        return
    vae = vae_stage.like(load_file(state / "vae.safetensors"))
    drawn = given.stage == "lora"
    held_data = _data(state / "held.safetensors", vae, drawn=drawn)
    data = _data(state / "blocks.safetensors", vae, given.limit, drawn)
    if not drawn:
        data = _joined(data, _own(state / "blocks.safetensors", vae, 160))
    held_data.audio = tokens.mixed(dit, held_data.audio)
    data.audio = tokens.mixed(dit, data.audio)
    tell(stage=given.stage, blocks=len(data.who))
    if drawn:
        dit.requires_grad_(False)
        adapters = adapt(dit, 16)
        parameters = [p for a in adapters.values() for p in (a.a, a.b)]
        tokens.train(dit, data, held_data, given.amount, tell, peak=given.peak or 3e-3,
                     parameters=parameters)  # fmt: skip
        save_file(pairs(adapters), state / "pencil.safetensors",
                  {"format": "pt", "lora_alpha": "16"})  # fmt: skip
        return
    tokens.train(dit, data, held_data, given.amount, tell, peak=given.peak or 1.5e-3,
                 keep=lambda d: _keep(d.state_dict(), state / "dit.safetensors"))  # fmt: skip
    _keep(dit.state_dict(), state / "dit.safetensors")


if __name__ == "__main__":
    main()
