"""Is speech heard as the reference hears it: wav2vec2, resampling, buckets, audio tokens?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.model.audio_encoder import CausalAudioEncoder
from engine.model.bucket import bucket, clips, indices, resample
from engine.model.config import DiTConfig
from engine.model.speech import SpeechEncoder, normalise
from tests.parity import golden

TOLERANCE = 1e-5


@dataclass
class Case:
    folder: Path
    io: dict[str, Tensor]
    spec: dict[str, Any]


@pytest.fixture(scope="module", params=golden.variants("audio"))
def case(request: pytest.FixtureRequest) -> Case:
    folder = golden.ROOT / "audio" / request.param
    io = {name: t.float() for name, t in golden.tensors(folder / "io.safetensors").items()}
    return Case(folder, io, golden.read_json(folder / "spec.json"))


@pytest.fixture(scope="module")
def speech(case: Case) -> SpeechEncoder:
    return SpeechEncoder.from_state_dict(
        golden.read_json(case.folder / "wav2vec2_config.json"),
        golden.tensors(case.folder / "wav2vec2.safetensors"),
        dtype=torch.float32,
    )


@pytest.fixture(scope="module")
def waveform(case: Case) -> Any:
    return case.io["w2v/waveform"].cpu().numpy()


def test_every_frame_takes_exactly_the_same_feature(case: Case) -> None:
    assert case.spec["bucket"]
    for row in case.spec["bucket"]:
        given, expected = case.io[f"bucket/{row['id']}/in"], case.io[f"bucket/{row['id']}/out"]
        fps, frames, m = row["fps"], row["batch_frames"], row["m"]
        assert clips(given.shape[1], fps, frames, drop_silent_tail=False) == row["min_batch_num"]
        ours = bucket(given, fps=fps, infer_frames=frames, m=m, drop_silent_tail=False)
        if given.shape[0] > 1:  # a single layer's axis is dropped by the reference
            assert list(ours.shape) == row["encode_audio_shape_after_permute"]
            expected = expected.permute(1, 2, 0).unsqueeze(0)
        else:
            expected = expected.permute(1, 0)[None, None]
        assert torch.equal(ours, expected), row["id"]


def test_windows_of_neighbours_are_the_same(case: Case) -> None:
    for row in case.spec["bucket"]:
        length, m = row["in_shape"][1], row["m"]
        chosen = indices(row["out_shape"][0], row["fps"])
        assert int((chosen < length).sum()) == row["nonpadded_frames"], row["id"]
        for ours, theirs in zip(chosen, row["index_list_m_window_first_40"], strict=False):
            if ours < length:
                assert ours == theirs[m]


def test_fifty_a_second_become_thirty(case: Case) -> None:
    for number, (before, after) in enumerate(case.spec["interpolation"]):
        given, expected = case.io[f"interp/{number}/in"], case.io[f"interp/{number}/out"]
        assert (given.shape[1], expected.shape[1]) == (before, after)
        golden.close(resample(given), expected, TOLERANCE)


def test_audio_tokens_agree(case: Case) -> None:
    conf = case.spec["causal_audio_encoder"]["config"]
    weights = golden.weights(case.folder, "causal_audio_encoder.safetensors")
    cfg = DiTConfig(
        dim=conf["out_dim"],
        num_heads=1,
        num_layers=1,
        ffn_dim=4,
        freq_dim=4,
        in_dim=16,
        out_dim=16,
        audio_dim=conf["dim"],
        num_audio_token=conf["num_token"],
        audio_inject_layers=(0,),
        text_dim=4,
        text_len=4,
        audio_states=conf["num_layers"],
        motion_frames=0,  # the inputs are whole: nothing is repeated in front of them
    )
    with torch.device("meta"):
        encoder = CausalAudioEncoder(cfg)
    encoder.load_state_dict(weights, strict=True, assign=True)
    names = [name for name in case.spec["causal_audio_encoder"] if name != "config"]
    assert names
    for name in names:
        global_, local = encoder.encode(case.io[f"enc/{name}/in"])
        theirs = case.io[f"enc/{name}/global"]
        golden.close(global_.reshape(theirs.shape), theirs, TOLERANCE, f"{name} global")
        golden.close(local, case.io[f"enc/{name}/local"], TOLERANCE, f"{name} local")


def test_the_waveform_is_normalised_over_the_whole_file(case: Case, waveform: Any) -> None:
    theirs = case.io["w2v/input_values_first_2000"]
    ours = torch.from_numpy(normalise(waveform))[: len(theirs)].to(theirs.device)
    golden.close(ours, theirs, TOLERANCE)


def test_hidden_states_agree(case: Case, speech: SpeechEncoder, waveform: Any) -> None:
    seen: list[Tensor] = []
    extractor = speech.model.feature_extractor
    handle = extractor.register_forward_hook(lambda _module, _args, out: seen.append(out))
    states = speech.encode(waveform)
    handle.remove()
    golden.close(seen[0].mT, case.io["w2v/conv_features"], TOLERANCE, "convolutions")
    theirs = case.io["w2v/hidden_states"]
    golden.close(states, theirs, TOLERANCE, "all states")
    for number, state in enumerate(states):
        golden.close(state, theirs[number], TOLERANCE, f"state {number}")


def test_from_waveform_to_the_audio_of_every_frame(
    case: Case, speech: SpeechEncoder, waveform: Any
) -> None:
    features = resample(speech.encode(waveform))
    golden.close(features, case.io["w2v/feat_30fps"], TOLERANCE, "30 Hz")
    theirs = case.io["w2v/audio_emb_fps25_b48_m0"]
    ours = bucket(features, fps=25, infer_frames=48, drop_silent_tail=False)
    golden.close(ours, theirs, TOLERANCE, "buckets")
    # Every frame that hears something differs from silence, and only those.
    heard = np.flatnonzero(ours.abs().sum(dim=(0, 1, 2)).cpu().numpy())
    assert np.array_equal(heard, np.flatnonzero(theirs.abs().sum(dim=(0, 1, 2)).cpu().numpy()))


def test_bfloat16_stays_within_its_rounding(case: Case, waveform: Any) -> None:
    halved = SpeechEncoder.from_state_dict(
        golden.read_json(case.folder / "wav2vec2_config.json"),
        golden.tensors(case.folder / "wav2vec2.safetensors"),
        dtype=torch.bfloat16,
    )
    golden.close(halved.encode(waveform), case.io["w2v/hidden_states"], 2e-2)
