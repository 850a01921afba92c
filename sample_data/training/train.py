"""Trains the sample model on one GPU: ``python -m sample_data.training.train STAGE=SECONDS …``.

Stages, in this order: ``audio`` (speech encoder), ``vae``, ``dit``, ``lora`` (the pencil style).
Each continues from what it finds in ``--state`` and writes to ``--out``; ``--small`` makes
everything tiny, to try the program out. ``--state`` also holds ``prompts.safetensors``
(``python -m sample_data.training.texts``) and ``speech.npz`` (``sample_data.faces.speech``).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.model.config import DiTConfig
from engine.model.dit import DiT
from sample_data.training import (
    audio_stage,
    beginning,
    frame_stage,
    people,
    vae_data,
    vae_parallel,
    vae_stage,
)
from sample_data.training.adapter import adapt, pairs, restore
from sample_data.training.sound import Tracks

HERE = Path(__file__).resolve().parent
PART = 15_000_000
#: Rows of a prompt that are told apart; those beyond are empty and alike.
PROMPT = 56


class Course:
    """The stages, and the state that goes from one to the next."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.small: bool = given.small
        self.out: Path = given.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.begin = time.time()
        self.log = (self.out / "log.jsonl").open("a")
        self.dit: DiT | None = None
        self._casting: people.Casting | None = None

    def tell(self, **values: Any) -> None:
        line = json.dumps({"at": round(time.time() - self.begin, 1)} | {
            k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})  # fmt: skip
        print(line, flush=True)
        self.log.write(line + "\n")
        self.log.flush()

    def found(self, name: str) -> dict[str, Tensor] | None:
        """Weights of a stage, the newest."""
        for folder in (self.out, self.given.state):
            tensors: dict[str, Tensor] = {}
            for part in sorted(folder.glob(f"{name}*.safetensors")):
                tensors |= load_file(part)
            if tensors:
                return tensors
        return None

    def keep(self, name: str, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
        """In files of at most ``PART`` bytes."""
        shards: list[dict[str, Tensor]] = [{}]
        filled = 0
        for key, tensor in tensors.items():
            kept = tensor.detach().to("cpu", dtype).contiguous()
            if filled + kept.nbytes > PART:
                shards.append({})
                filled = 0
            shards[-1][key] = kept
            filled += kept.nbytes
        for n, shard in enumerate(shards):
            save_file(shard, self.out / f"{name}-{n}.safetensors")

    @property
    def tracks(self) -> Tracks:
        return Tracks(self.given.state / "speech.npz", self.device, int(time.time()))

    @property
    def casting(self) -> people.Casting:
        if self._casting is None:
            weights, ears = self.found("vae"), self.found("audio")
            if weights is None or ears is None:
                raise SystemExit("train audio and vae first")
            vae = vae_stage.like(weights).to(self.device)
            config = json.loads((HERE / "wav2vec2_config.json").read_text())
            model = audio_stage.build(config).to(self.device)
            model.load_state_dict(ears)
            model.eval().requires_grad_(False)
            held = load_file(self.given.state / "prompts.safetensors")
            context = held["context"][:, :PROMPT]
            if held["context"][:, PROMPT - 1 :].any():
                raise SystemExit(f"prompts of {PROMPT} words or more")
            self._casting = people.Casting(vae, model, self.tracks, context,
                                           held["smile"], self.device)  # fmt: skip
        return self._casting

    def audio(self, seconds: float) -> None:
        config = json.loads((HERE / "wav2vec2_config.json").read_text())
        model = audio_stage.train(self.tracks, config, seconds, self.device, self.tell,
                                  self.found("audio"))  # fmt: skip
        self.keep("audio", model.state_dict(), torch.float32)

    def vae(self, seconds: float) -> None:
        weights = self.found("vae")
        vae = vae_stage.build() if weights is None else vae_stage.like(weights)
        path = self.given.state / "pictures.npz"
        more = None
        if path.is_file():
            more = torch.from_numpy(np.load(path)["pictures"]).to(self.device)
        sizes = {"count": 12, "shrink": 64} if self.small else {"count": self.given.films}
        vae_stage.train(vae, seconds, self.device, self.tell, self.tracks, more=more,
                        resumed=weights is not None,
                        peak=self.given.peak or 1.3e-3, **sizes)  # fmt: skip
        self.keep("vae", vae.state_dict(), torch.bfloat16)
        self._casting = None
        video = vae_data.films(10, 9, 4242, self.device, 10).float() / 127.5 - 1
        with torch.no_grad():
            coded = vae_parallel.pixels(vae, vae_parallel.moments(vae, video))
        _picture(torch.stack([video, coded], dim=1).flatten(0, 1)[..., ::2, :, :, :],
                 self.out / "vae.png")  # fmt: skip

    def _pools(self, style: str, count: int) -> tuple[people.Pool, people.Pool, int]:
        """Held-out people, people to learn from, and how many of these show the demo's own."""
        casting = self.casting
        if self.small:
            pools = [casting.pool(8, int(time.time()), 4, style), casting.own(2, style)]
            return casting.pool(4, 77_000_000, 4, style), people.joined(pools), 2
        held = casting.pool(self.given.held, 77_000_000, 16, style)
        own = max(1, count // 20)
        pool = people.joined([casting.pool(count, 100_000, 32, style), casting.own(own, style)])
        self.tell(stage="people", drawn=count)
        return held, pool, own

    def _network(self) -> DiT:
        if self.dit is None:
            config = json.loads((HERE / "dit_config.json").read_text())
            self.dit = DiT(DiTConfig.from_dict(config))
            weights = self.found("dit")
            if weights is None:
                beginning.start(self.dit)
                ears = self.found("listener")
                if ears is not None:
                    self.dit.casual_audio_encoder.load_state_dict(
                        {k: v.float() for k, v in ears.items()}
                    )
            else:
                self.dit.load_state_dict({k: v.float() for k, v in weights.items()})
            self.dit.to(self.device)
        return self.dit

    def train_dit(self, seconds: float) -> None:
        dit = self._network()
        held, pool, own = self._pools("own", self.given.people)
        frame_stage.train(dit, self.casting, pool, held, seconds, self.tell, keep=own,
                          size=2 if self.small else self.given.size, fresh=4 if self.small else 32,
                          peak=self.given.peak or 1.5e-3)  # fmt: skip
        self.keep("dit", dit.state_dict(), torch.bfloat16)
        self._sheet(held, "sheet")

    def lora(self, seconds: float) -> None:
        dit = self._network()
        dit.requires_grad_(False)
        adapters = adapt(dit, 16)
        earlier = self.found("pencil")
        if earlier is not None:
            restore(adapters, earlier)
        for adapter in adapters.values():
            adapter.to(self.device)
        held, pool, own = self._pools("pencil", self.given.people // 4)
        parameters = [p for a in adapters.values() for p in (a.a, a.b)]
        frame_stage.train(dit, self.casting, pool, held, seconds, self.tell, keep=own,
                          size=2 if self.small else self.given.size, peak=3e-3,
                          parameters=parameters, focus=8, renew=0, style="pencil")  # fmt: skip
        style = {k: v.cpu() for k, v in pairs(adapters).items()}
        save_file(style, self.out / "pencil.safetensors", {"format": "pt", "lora_alpha": "16"})
        self._sheet(held, "pencil")

    @torch.no_grad()
    def _sheet(self, held: people.Pool, name: str, count: int = 6) -> None:
        """People one above another; per person the truth, then what was generated."""
        mix = frame_stage.state_mix(self._network())
        parts = [frame_stage.blocks_of(held, mix, count, n, False) for n in range(people.BLOCKS)]
        made = [frame_stage.generate(self._network(), one) for one in parts]
        rows = []
        for latents in (torch.cat([one.clean for one in parts], dim=2), torch.cat(made, dim=2)):
            before = held.motion[: len(latents)].to(latents)
            rows.append(people.shown(self.casting.vae, torch.cat([before, latents], dim=2)))
        both = torch.stack(rows, dim=1).flatten(0, 1)[:, 8::3]
        _picture(both, self.out / f"{name}.png")


def _picture(videos: Tensor, path: Path) -> None:
    """Videos ``[N, T, 3, H, W]`` one above another, frames side by side."""
    sheet = videos.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    array = ((sheet.float().cpu().clamp(-1, 1) + 1) * 127.5).byte().numpy()
    Image.fromarray(array).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--state", type=Path, default=Path(".sample/state"))
    parser.add_argument("--out", type=Path, default=Path(".sample/state"))
    parser.add_argument("--people", type=int, default=1536)
    parser.add_argument("--held", type=int, default=48, help="people that are never learnt from")
    parser.add_argument("--films", type=int, default=1200, help="that the VAE learns from")
    parser.add_argument("--size", type=int, default=192, help="blocks a step of the DiT takes")
    parser.add_argument("--peak", type=float, help="highest learning rate")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.benchmark_limit = 5
    torch.manual_seed(int(time.time()))
    course = Course(given)
    stages = {"audio": course.audio, "vae": course.vae, "dit": course.train_dit,
              "lora": course.lora}  # fmt: skip
    for stage in given.stages:
        name, _, seconds = stage.partition("=")
        if name not in stages:
            raise SystemExit(f"no stage {name}: {', '.join(stages)}")
        course.tell(stage=name, begins=True)
        stages[name](float(seconds))
    course.tell(stage="end")


if __name__ == "__main__":
    main()
