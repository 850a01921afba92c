"""What the sample model is worth, measured on faces and voices it was not trained on.

    python -m benchmarks.sample_quality [--save] [--seconds 30] [--strip docs/pictures/NAME.png]

Everything runs through the engine's own code. A mouth's opening is measured by projecting a frame's
mouth region onto the difference of two drawings of the same person, mouth open and closed.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import platform
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.checkpoint.layout import find, read_json
from engine.checkpoint.onrank.encoders import load_vae
from engine.checkpoint.onrank.files import state_dict
from engine.checkpoint.onrank.load import load_dit
from engine.checkpoint.parts import component, speech_weights
from engine.media.audio import load_mono16k
from engine.model import bucket
from engine.model.generate import Generation, Inputs, Options
from engine.model.pixels import StreamedPixels, starting_latents
from engine.model.speech import SpeechEncoder
from engine.model.text import TextEncoder
from sample_data.faces import control
from sample_data.faces.identity import Identity, draw
from sample_data.faces.render import render
from sample_data.training import portrait

ROOT = Path(__file__).resolve().parents[1]
CKPT = ROOT / "sample_data" / "ckpt"
SPEECH = ROOT / "sample_data" / "speech"
#: People that training never drew.
HELD_OUT = 424_242
DROPPED = 3
FPS = 25


@dataclass
class Models:
    """The checkpoint's parts on the CPU, loaded when they are needed."""

    ckpt: Path = CKPT
    lora: Path | None = None

    @cached_property
    def paths(self) -> dict[str, str]:
        return find(self.ckpt).paths()

    @cached_property
    def vae(self) -> Any:
        return load_vae(self.paths, "cpu", torch.float32)

    @cached_property
    def dit(self) -> Any:
        return load_dit(self.paths, "cpu", lora=self.lora)

    @cached_property
    def text(self) -> TextEncoder:
        state = state_dict(component(self.paths, "t5"))
        return TextEncoder.from_state_dict(
            state,
            text_len=self.dit.cfg.text_len,
            tokenizer_dir=component(self.paths, "tokenizer"),
            dtype=torch.float32,
        )

    @cached_property
    def ears(self) -> SpeechEncoder:
        config = read_json(Path(component(self.paths, "wav2vec")) / "config.json")
        state = state_dict(speech_weights(self.paths))
        return SpeechEncoder.from_state_dict(config, state, dtype=torch.float32)

    def speak(
        self,
        face: Tensor,
        wave: NDArray[np.float32],
        *,
        seed: int = 0,
        prompt: str = "A person speaks",
    ) -> Tensor:
        """Frames ``[T, 3, H, W]`` in [−1, 1]; frame k is heard at (k + 3)/25 s of ``wave``."""
        audio = bucket.bucket(bucket.resample(self.ears.encode(wave)), fps=FPS, infer_frames=48)
        clips = audio.shape[-1] // 48
        ref, motion = starting_latents(self.vae, face, self.dit.cfg)
        inputs = Inputs(ref, motion, self.text.encode(prompt), audio)
        generation = Generation(self.dit.cfg, Options(clips=clips, seed=seed), inputs)
        pixels = StreamedPixels(self.vae, motion)
        with torch.no_grad():
            parts = [pixels.push(latents) for _, latents in generation.run(self.dit)]
        return torch.cat(parts, dim=1).transpose(0, 1)


def portraits(who: Identity) -> Tensor:
    """``[N, 3, 128, 128]``, at rest."""
    return render(who, torch.zeros(len(who), 1, 7))[:, 0]


def _region(who: Identity, size: int = 128) -> Tensor:
    """Where the mouth may be, ``[N, H, W]`` boolean."""
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    x, y = axis[None, None, :], axis[None, :, None]
    s = who.scale[:, None, None]
    mx, my = who.x[:, None, None], who.y[:, None, None] + s * (who.mouth_y[:, None, None] + 0.12)
    return ((x - mx).abs() < 0.55 * s) & ((y - my).abs() < 0.42 * s)


def _shut_and_open() -> Tensor:
    states = torch.zeros(2, 7)
    states[1, 0] = 1.0
    return states


class Gauge:
    """Measures one person's mouth; ``drawn [2, 3, H, W]`` shows it closed and open."""

    def __init__(self, who: Identity, drawn: Tensor, vae: Any) -> None:
        # What the VAE makes of the two drawings: its own blur must not count as a movement.
        self.closed, opened = (
            vae.decode(vae.encode(frame[:, None].expand(-1, 5, -1, -1)))[:, -1] for frame in drawn
        )
        self.region = _region(who)[0]
        self.axis = (opened - self.closed)[:, self.region]

    @classmethod
    def of(cls, who: Identity, vae: Any) -> Gauge:
        """For one drawn person."""
        return cls(who, render(who, _shut_and_open()[None])[0], vae)

    @classmethod
    def of_smile(cls, who: Identity, vae: Any) -> Gauge:
        """Of one drawn person's smile instead: 0 as a plain prompt gives it, 1 as a smiling one."""
        states = torch.zeros(1, 2, 7)
        states[0, 1, 6] = 1.0
        return cls(who, render(who, states)[0], vae)

    @classmethod
    def of_demo(cls, vae: Any) -> Gauge:
        """For the demo's portrait."""
        return cls(portrait.who(), portrait.render(_shut_and_open()), vae)

    def openings(self, frames: Tensor) -> Tensor:
        """0 closed … 1 open, ``[T]``."""
        moved = (frames - self.closed)[:, :, self.region]
        found: Tensor = (moved * self.axis).sum((1, 2)) / self.axis.square().sum()
        return found


def heard(wave: NDArray[np.float32], frames: int) -> Tensor:
    """The speech band's amplitude at each frame, averaged over three frames."""
    track = control.envelope(control.normalise(torch.from_numpy(wave)[None]))[..., None]
    times = (torch.arange(frames) + DROPPED) / FPS + 0.01
    loud = control.at_times(track, times)[0, :, 0]
    loud[times > len(wave) / control.RATE] = 0
    return F.avg_pool1d(loud[None, None], 3, 1, 1, count_include_pad=False)[0, 0]


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def lip_sync(opening: Tensor, loud: Tensor, reach: int = 5) -> tuple[float, int]:
    """Best correlation over lags, and that lag in frames (positive: the mouth is late)."""
    scores = {}
    for lag in range(-reach, reach + 1):
        a = opening[max(0, lag) : len(opening) + min(0, lag)]
        b = loud[max(0, -lag) : len(loud) + min(0, -lag)]
        scores[lag] = correlation(a, b)
    best = max(scores, key=lambda lag: scores[lag])
    return scores[best], best


def psnr(a: Tensor, b: Tensor) -> float:
    """Of values in [−1, 1]."""
    return float(-10 * torch.log10((a - b).square().mean() / 4))


def outside(frames: Tensor, face: Tensor, region: Tensor) -> float:
    """PSNR of frames against the portrait ``face`` outside ``region``."""
    return psnr(frames[:, :, ~region], face[:, ~region].expand(len(frames), -1, -1))


def long_voice(seconds: float) -> NDArray[np.float32]:
    """The held-out recordings one after another, over and over."""
    whole: list[NDArray[np.float32]] = []
    have = 0
    files = sorted(SPEECH.glob("*.wav"))
    while have < seconds * control.RATE:
        wave = load_mono16k(files[len(whole) % len(files)])
        whole.append(wave / max(1e-6, float(np.sqrt((wave**2).mean()))))
        have += len(wave)
    return np.concatenate(whole)[: int(seconds * control.RATE)].astype(np.float32)


def measure(models: Models, seconds: float) -> dict[str, Any]:
    who = draw(6, HELD_OUT)
    faces = portraits(who)
    result: dict[str, Any] = {}
    moves = torch.zeros(6, 21, 7)
    phase = torch.arange(21) / 21 * 2 * np.pi
    moves[..., 0] = (0.5 - 0.5 * torch.cos(2 * phase)).clamp(0, 1)
    moves[..., 1] = torch.sin(phase)
    films = render(who, moves)
    still, film = [], []
    for person in range(6):
        one = faces[person][:, None]
        still.append(psnr(models.vae.decode(models.vae.encode(one)), one))
        video = films[person].transpose(0, 1)
        film.append(psnr(models.vae.decode(models.vae.encode(video)), video))
    result["vae_psnr_still_db"] = round(float(np.mean(still)), 2)
    result["vae_psnr_moving_db"] = round(float(np.mean(film)), 2)

    waves = [load_mono16k(file) for file in sorted(SPEECH.glob("*.wav"))]
    videos: dict[tuple[int, int], Tensor] = {}
    openings: dict[tuple[int, int], Tensor] = {}
    sync, lags, shut = [], [], []
    for person in range(4):
        gauge = Gauge.of(who[person : person + 1], models.vae)
        for voice, wave in enumerate(waves):
            if person > 1 and voice > 0:
                continue
            frames = models.speak(faces[person], wave, seed=person)
            frames = frames[: int(len(wave) / control.RATE * FPS) - DROPPED]
            opening = gauge.openings(frames)
            loud = heard(wave, len(frames))
            score, lag = lip_sync(opening, loud)
            sync.append(score)
            lags.append(lag)
            quiet = F.max_pool1d(loud[None, None], 9, 1, 4)[0, 0] < 0.08
            if int(quiet.sum()) > 3:
                shut.append(float((opening[quiet] < 0.2).float().mean()))
            videos[person, voice], openings[person, voice] = frames, opening
    frames = models.speak(portrait.picture(), waves[0])
    opening = Gauge.of_demo(models.vae).openings(frames)
    score, lag = lip_sync(opening, heard(waves[0], len(frames)))
    result["demo_lip_sync_correlation"], result["demo_lip_sync_lag_frames"] = round(score, 3), lag
    result["lip_sync_correlation"] = round(float(np.mean(sync)), 3)
    result["lip_sync_correlation_worst"] = round(min(sync), 3)
    result["lip_sync_lags_frames"] = lags
    result["silence_closed_share"] = round(float(np.mean(shut)), 3) if shut else None
    span = min(len(openings[0, 0]), len(openings[0, 1]))
    result["other_voice_opening_correlation"] = round(
        correlation(openings[0, 0][:span], openings[0, 1][:span]), 3)  # fmt: skip
    smiles = Gauge.of_smile(who[:1], models.vae)
    glad = models.speak(faces[0], waves[0], prompt="A smiling person speaks")
    result["smile_plain_prompt"], result["smile_smiling_prompt"] = (
        round(float(smiles.openings(part).mean()), 3) for part in (videos[0, 0], glad)
    )
    regions = _region(who)
    result["own_portrait_db"] = round(outside(videos[1, 0], faces[1], regions[1]), 2)
    result["other_portrait_db"] = round(outside(videos[1, 0], faces[0], regions[1]), 2)

    began = time.perf_counter()
    frames = models.speak(faces[2], long_voice(seconds), seed=9)
    result["long_seconds"] = round(len(frames) / FPS, 1)
    result["long_wall_seconds"] = round(time.perf_counter() - began, 1)
    for name, part in (("first", frames[:FPS]), ("last", frames[-FPS:])):
        result[f"identity_{name}_second_db"] = round(outside(part, faces[2], regions[2]), 2)
    result["identity_every_ten_seconds_db"] = [
        round(outside(frames[at : at + FPS], faces[2], regions[2]), 2)
        for at in range(0, len(frames) - FPS + 1, 10 * FPS)
    ]
    # What the VAE alone makes of the portrait: no video can be closer.
    still = models.vae.decode(models.vae.encode(faces[2][:, None]))[:, 0][None]
    result["identity_of_the_vae_db"] = round(outside(still, faces[2], regions[2]), 2)
    return result


def strip(models: Models, path: Path, people: int = 5) -> None:
    """Every fifth frame of the demo's portrait and of people never seen, with the sound beneath."""
    from PIL import Image, ImageDraw

    faces = [portrait.picture(), *portraits(draw(6, HELD_OUT))][:people]
    wave = load_mono16k(sorted(SPEECH.glob("*.wav"))[0])
    columns, step, side = 14, 5, 128
    sheet = Image.new("RGB", ((columns + 1) * side, people * side + 60), "white")
    loud = None
    for person in range(people):
        frames = models.speak(faces[person], wave)
        shown = [faces[person], *frames[10 : 10 + columns * step : step]]
        loud = heard(wave, len(frames))[10 : 10 + columns * step]
        for n, frame in enumerate(shown):
            pixels = ((frame.clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels), (n * side, person * side))
    pen = ImageDraw.Draw(sheet)
    assert loud is not None
    base = people * side + 58
    points = [(side + (k + 0.5) * side / step, base - float(v) * 24) for k, v in enumerate(loud)]
    pen.line(points, fill=(30, 80, 160), width=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ckpt", type=Path, default=CKPT)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--strip", type=Path)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    models = Models(given.ckpt)
    if given.strip is not None:
        strip(models, given.strip)
    result = measure(models, given.seconds)
    # Which weights these are: the figures hold for no others.
    digest = hashlib.sha256()
    for shard in sorted(given.ckpt.glob("*.safetensors")):
        digest.update(shard.read_bytes())
    result["dit_sha256"] = digest.hexdigest()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    result |= {"date": today, "torch": torch.__version__, "machine": platform.machine(),
               "threads": torch.get_num_threads()}  # fmt: skip
    print(json.dumps(result, indent=2))
    if given.save:
        target = ROOT / "benchmarks" / "results" / f"sample-quality-{today}.json"
        target.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
