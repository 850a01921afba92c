"""Runs stages of the training: ``python -m sample_data.training.train STAGE=SECONDS …``.

State and pictures go to ``--out``; what is found in ``--state`` is continued.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sample_data.training import audio_stage, vae_stage
from sample_data.training.sound import Tracks

CKPT = Path(__file__).resolve().parents[1] / "ckpt"
WAV2VEC = CKPT / "wav2vec2-large-xlsr-53-english" / "config.json"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--pack", type=Path, default=Path(".sample/speech.npz"))
    parser.add_argument("--state", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--videos", type=int, default=12000)
    parser.add_argument("--vae-peak", type=float, default=1.5e-3)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    begin = time.time()
    log = (given.out / "log.jsonl").open("a")

    def tell(**values: object) -> None:
        line = json.dumps({"at": round(time.time() - begin, 1)} | {
            k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})  # fmt: skip
        print(line, flush=True)
        log.write(line + "\n")
        log.flush()

    tracks = Tracks(given.pack, device)
    state = {}
    if given.state is not None:
        for file in sorted(given.state.glob("*.safetensors")):
            state.setdefault(file.stem.split("-")[0], {}).update(load_file(file))
    for stage in given.stages:
        name, _, seconds = stage.partition("=")
        _run(name, float(seconds), given, tracks, state, device, tell)
    tell(stage="end")


def _run(name, seconds, given, tracks, state, device, tell) -> None:  # type: ignore[no-untyped-def]
    if name in ("vae", "films"):
        start = None
        if "vae" in state:
            start = vae_stage.build(state["vae"]["encoder.conv1.weight"].shape[0])
            start.load_state_dict(state["vae"])
        moving = name == "films"
        peak = given.vae_peak if start is not None else 2e-3
        count = given.videos // 12 if moving else given.videos
        batch = 24 if moving else 96
        vae = vae_stage.train(given.dim, seconds, device, tell, start, moving, count, batch, peak)
        state["vae"] = {k: v.cpu().contiguous() for k, v in vae.state_dict().items()}
        save_file(state["vae"], given.out / "vae.safetensors")
    elif name == "audio":
        config = json.loads(WAV2VEC.read_text())
        model = audio_stage.train(tracks, config, seconds, device, tell, state.get("audio"))
        state["audio"] = {k: v.cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(state["audio"], given.out / "audio.safetensors")
    else:
        raise SystemExit(f"no stage {name}: vae, films, audio")


if __name__ == "__main__":
    sys.exit(main())
