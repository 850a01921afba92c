"""What a user of the speech encoder may rely on, at random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.geometry import wav2vec_frames
from engine.model.speech import SAMPLE_RATE, SpeechEncoder, normalise

CONFIG: dict[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "conv_dim": [4] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_bias": True,
    "num_feat_extract_layers": 7,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 5,
    "mask_time_prob": 0.05,
}
POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv"


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """A CTC checkpoint under the released names, written by transformers' own module."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    state = Wav2Vec2ForCTC(Wav2Vec2Config(**CONFIG)).state_dict()
    base = f"{POSITIONS}.parametrizations.weight"
    state[f"{POSITIONS}.weight_g"] = state.pop(f"{base}.original0") * 2
    state[f"{POSITIONS}.weight_v"] = state.pop(f"{base}.original1")
    return dict(state)


def voice(seconds: float, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    noise = np.random.default_rng(seed).normal(size=int(seconds * SAMPLE_RATE))
    return (noise * 0.1 + 0.2).astype(np.float32)


def test_a_waveform_gives_every_layers_state(released: dict[str, Tensor]) -> None:
    speech = SpeechEncoder.from_state_dict(CONFIG, released)
    waveform = voice(0.5)
    states = speech.encode(waveform)
    assert states.shape == (CONFIG["num_hidden_layers"] + 1, wav2vec_frames(len(waveform)), 8)
    assert states.isfinite().all()
    assert torch.equal(states, speech.encode(waveform)), "two calls differ"
    assert not any(module._forward_pre_hooks for module in speech.modules())


def test_loudness_and_offset_do_not_matter(released: dict[str, Tensor]) -> None:
    speech = SpeechEncoder.from_state_dict(CONFIG, released)
    waveform = voice(0.3)
    torch.testing.assert_close(
        speech.encode(waveform), speech.encode(waveform * 3 - 1), rtol=1e-3, atol=1e-4
    )
    scaled = normalise(waveform)
    assert abs(float(scaled.mean())) < 1e-5
    assert abs(float(scaled.std()) - 1) < 1e-4


def test_old_and_new_names_of_the_positional_weights_mean_the_same(
    released: dict[str, Tensor],
) -> None:
    newer = dict(released)
    base = f"{POSITIONS}.parametrizations.weight"
    newer[f"{base}.original0"] = newer.pop(f"{POSITIONS}.weight_g")
    newer[f"{base}.original1"] = newer.pop(f"{POSITIONS}.weight_v")
    bare = {
        name.removeprefix("wav2vec2."): t
        for name, t in released.items()
        if not name.startswith("lm_head")
    }
    waveform = voice(0.2)
    one = SpeechEncoder.from_state_dict(CONFIG, released).encode(waveform)
    for state in (newer, bare):
        assert torch.equal(SpeechEncoder.from_state_dict(CONFIG, state).encode(waveform), one)


def test_heads_and_training_leftovers_are_left_out(released: dict[str, Tensor]) -> None:
    names = dict(SpeechEncoder.from_state_dict(CONFIG, released).named_parameters())
    assert not any("lm_head" in name or "masked_spec" in name for name in names)
    assert "model.encoder.pos_conv_embed.conv.weight" in names


def test_silence_gives_finite_features(released: dict[str, Tensor]) -> None:
    speech = SpeechEncoder.from_state_dict(CONFIG, released)
    assert speech.encode(np.zeros(4000, np.float32)).isfinite().all()


def test_the_shortest_waveform_is_known(released: dict[str, Tensor]) -> None:
    speech = SpeechEncoder.from_state_dict(CONFIG, released)
    assert speech.shortest == 400
    assert speech.encode(voice(1)[:400]).shape[1] == 1
    with pytest.raises(ValueError, match="399 samples are too few"):
        speech.encode(voice(1)[:399])


def test_what_is_no_mono_waveform_is_refused(released: dict[str, Tensor]) -> None:
    speech = SpeechEncoder.from_state_dict(CONFIG, released)
    with pytest.raises(ValueError, match="mono"):
        speech.encode(np.zeros((2, 800), np.float32))
    broken = voice(0.1)
    broken[7] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        speech.encode(broken)


def test_wrong_tensors_are_refused_by_name(released: dict[str, Tensor]) -> None:
    lost = "wav2vec2.encoder.layers.1.layer_norm.weight"
    with pytest.raises(ValueError, match=r"layers\.1\.layer_norm"):
        SpeechEncoder.from_state_dict(CONFIG, {n: t for n, t in released.items() if n != lost})
