"""Is everything encoded once, and the text on the host where that was asked for?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.checkpoint.layout import find, read_json
from engine.checkpoint.onrank.encoders import load_vae
from engine.model.config import DiTConfig
from engine.parameters.request import Request
from engine.ranks.embeddings import Shelf, Wanted, at_hand
from engine.ranks.onrank.encode import Encoders
from engine.ranks.onrank.video import VideoSize, portrait_latents
from engine.resources import sample_data
from tests.placement.harness import CKPT
from tests.ranks.job_harness import portrait, specs

AUDIO = sample_data() / "speech" / "english.wav"
WANTED = Wanted("a person speaking", AUDIO, 48, 1, 25, 64)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_prompt_needs_no_gpu_with_the_encoder_on_the_host(device: str, tmp_path: Path) -> None:
    """Its embedding is kept as the host's, whatever device the rank has."""
    threads = torch.get_num_threads()
    encoders = Encoders(
        find(CKPT).paths(), tmp_path, torch.float32, torch.device(device), text_on_host=True
    )
    with torch.no_grad():
        dict(encoders.missing(WANTED))["prompt"]()
    assert torch.get_num_threads() == threads
    (kept,) = tmp_path.iterdir()
    there = Encoders(find(CKPT).paths(), tmp_path, torch.float32, torch.device("cpu"))
    assert [name for name, _ in there.missing(WANTED)] == ["audio"]
    assert kept.name.startswith("prompt-")


def test_the_engine_knows_what_ranks_will_find(tmp_path: Path) -> None:
    """Or they would be forked without the encoders' library, or wait for it in vain."""
    (spec,) = specs(tmp_path, "single")
    assert not at_hand(spec)
    wanted = Wanted.of(Request.from_dict(spec.request), read_json(Path(spec.layout["config"])))
    rank = Encoders(spec.layout, Path(spec.cache_dir), torch.float32, torch.device(spec.device))
    with torch.no_grad():
        for _, encode in rank.missing(wanted):
            assert not at_hand(spec)
            encode()
    assert at_hand(spec)


def test_a_portrait_is_encoded_once_and_again_where_what_was_kept_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, face = find(CKPT), portrait(tmp_path / "face.png")
    cfg = DiTConfig.from_dict(layout.config)
    vae = load_vae(layout.paths(), torch.device("cpu"), torch.float32)
    shelf = Shelf(layout.paths(), tmp_path / "cache", "torch.float32", "cpu", "cpu")
    asked = (vae, cfg, face, VideoSize(64, 64, 25), shelf)
    first = portrait_latents(*asked)
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(vae, "encode", None)  # who called it would fail
        again = portrait_latents(*asked)
    kept.write_bytes(whole[: len(whole) // 2])
    anew = portrait_latents(*asked)
    assert kept.read_bytes() == whole
    for one, *others in zip(first, again, anew, strict=True):
        assert all(torch.equal(one, other) for other in others)
    assert kept != shelf.portrait(face, (128, 64), cfg.motion_frames)
    face.write_bytes(face.read_bytes() + b"\0")
    assert kept != shelf.portrait(face, (64, 64), cfg.motion_frames)
