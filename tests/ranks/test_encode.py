"""Does the text encoder run on the host where that was asked for?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.checkpoint.layout import find
from engine.ranks.embeddings import Wanted
from engine.ranks.onrank.encode import Encoders
from engine.resources import sample_data
from tests.placement.harness import CKPT

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
