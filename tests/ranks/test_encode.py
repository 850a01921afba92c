"""Does the text encoder run on the host where that was asked for?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.checkpoint.layout import find, read_json
from engine.parameters.request import Request
from engine.ranks.embeddings import Wanted, at_hand
from engine.ranks.onrank.encode import Encoders
from engine.resources import sample_data
from tests.placement.harness import CKPT
from tests.ranks.job_harness import specs

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
