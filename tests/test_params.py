"""Does a request come out as its writer meant it, and is a bad one refused with its reason?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from engine.params import (
    ALL_MODES,
    GROUPS,
    PARAMETERS,
    ParamError,
    Request,
    Resolved,
    find,
    parse_bytes,
    presets,
    resolve,
)

F2 = """
    prompt image audio size num_clip infer_frames sample_steps sample_guide_scale num_gpus_dit
    ulysses_size enable_vae_parallel offload_model enable_online_decode ckpt_dir load_lora
    lora_path_dmd base_seed sample_solver fp8
"""
B3 = """
    MODEL_CKPT_DIR INFER_RES SAMPLE_STEPS ENABLE_ONLINE_DECODE PROMPT IMAGE_PATH AUDIO_PATH
    RESOLUTION CLIP_COUNT
"""


def of(flags: dict[str, Any], env: dict[str, str] | None = None, **more: Any) -> Resolved:
    """Resolve without asking for input files."""
    return resolve(flags, env, required=(), check_paths=False, **more)


def refusal(flags: dict[str, Any], env: dict[str, str] | None = None, **more: Any) -> str:
    with pytest.raises(ParamError) as caught:
        of(flags, env, **more)
    return str(caught.value)


def test_are_all_parameters_and_names_of_the_articles_there() -> None:
    assert set(F2.split()) <= {p.name for p in PARAMETERS}
    assert set(B3.split()) <= {name for p in PARAMETERS for name in p.env_names}


def test_does_the_table_describe_exactly_the_request() -> None:
    fields = {field.name for field in dataclasses.fields(Request)}
    assert {p.name for p in PARAMETERS if not p.no_effect} == fields
    for parameter in PARAMETERS:
        assert parameter.group in GROUPS
        assert parameter.help.endswith(".")
        assert parameter.env_names[0] == f"AVATOP_{parameter.name.upper()}"


def test_are_flags_understood_with_hyphens_and_underscores() -> None:
    steps = find("--sample-steps")
    assert steps is not None
    assert steps.flags == ("--sample_steps", "--sample-steps")
    assert of({"infer-frames": "24", "save_file": "/tmp/a.mp4"}).request.infer_frames == 24


def test_who_wins_flag_environment_file_preset_default(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('preset = "quick"\nsample-steps = 5\nnum_clip = 7\nsize = "128*64"\n')
    env = {"CLIP_COUNT": "8", "RESOLUTION": "256x128", "AVATOP_BASE_SEED": "9"}
    got = of({"size": "512x256"}, env, file=file)
    request, sources = got.request, got.sources
    assert (request.size, sources["size"]) == ("512*256", "flag")
    assert (request.num_clip, sources["num_clip"]) == (8, "environment CLIP_COUNT")
    assert (request.base_seed, sources["base_seed"]) == (9, "environment AVATOP_BASE_SEED")
    assert (request.sample_steps, sources["sample_steps"]) == (5, "file job.toml")
    assert (request.infer_frames, sources["infer_frames"]) == (48, "default")
    assert got.preset == "quick"
    assert any("CLIP_COUNT" in remark for remark in got.remarks)
    file.write_text('preset = "quick"\n')
    got = of({}, file=file)
    assert (got.request.size, got.sources["size"]) == ("384*256", "preset quick")


def test_does_an_own_variable_win_over_a_shared_one_and_an_empty_one_not_count() -> None:
    env = {"RESOLUTION": "704*384", "AVATOP_SIZE": "384*256", "SAMPLE_STEPS": ""}
    got = of({}, env)
    assert (got.request.size, got.request.sample_steps) == ("384*256", 4)


def test_may_two_names_of_one_parameter_agree() -> None:
    assert of({}, {"INFER_RES": "384*256", "RESOLUTION": "384x256"}).request.size == "384*256"
    text = refusal({}, {"INFER_RES": "384*256", "RESOLUTION": "704*384"})
    assert "INFER_RES=384*256 and RESOLUTION=704*384" in text
    both = {"size": "384*256", "resolution": "704*384"}
    assert "different values" in refusal(both)


def test_is_a_near_variable_pointed_out() -> None:
    remarks = of({}, {"AVATOP_SAMPLE_STEP": "3", "AVATOP_STATE_DIR": "/tmp/x"}).remarks
    assert any("AVATOP_SAMPLE_STEPS is one" in remark for remark in remarks)
    assert not any("STATE_DIR" in remark for remark in remarks)


@pytest.mark.parametrize("word", ["True", "1", "yes", True, "ON"])
def test_which_words_are_true(word: object) -> None:
    assert of({"load_lora": word}).request.load_lora is True


@pytest.mark.parametrize("word", ["False", "0", "no", False])
def test_which_words_are_false(word: object) -> None:
    assert of({"offload_model": word}).request.offload_model is False


def test_does_a_request_survive_json() -> None:
    request = of({"size": "384x256", "gpu_memory_cap": "22.15GiB", "gpus": "0, 2"}).request
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    assert request.gpu_memory_cap == round(22.15 * 2**30)
    assert request.gpus == "0,2"
    assert request.replace(sample_steps=3).sample_steps == 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"infer_frames": 50}, "multiple of 12"),
        ({"sampel_steps": 3}, "did you mean sample_steps"),
        ({"num_clip": True}, "whole number"),
        ({"prompt": 3}, "not a text"),
        ({"sample_shift": float("nan")}, "finite"),
    ],
)
def test_is_a_request_from_another_process_checked(data: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamError) as caught:
        Request.from_dict(data)
    assert says in str(caught.value).replace("Did", "did")


def test_are_all_problems_told_at_once_each_on_its_line() -> None:
    text = refusal({"infer_frames": 80, "num_clip": 0, "bogus_flag": 1})
    assert len(text.splitlines()) == 3


def test_does_a_remark_say_what_has_no_effect_and_why(tmp_path: Path) -> None:
    flags = {
        "enable_online_decode": True,
        "lora_path_dmd": "Quark-Vision/Live-Avatar",
        "training_config": "x.yaml",
    }
    remarks = " ".join(of(flags).remarks)
    assert "enable_online_decode has no effect" in remarks
    assert "lora_path_dmd has no effect without load_lora" in remarks
    assert "--training_config has no effect" in remarks
    assert "default is used" in remarks  # no prompt was given


def test_what_lora_is_read_when_none_is_named() -> None:
    got = of({"load_lora": True})
    assert got.request.lora_path_dmd == "Quark-Vision/Live-Avatar"
    assert any("Quark-Vision" in remark for remark in got.remarks)


def test_are_paths_made_absolute_against_where_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "job.toml"
    file.parent.mkdir()
    file.write_text('image = "face.png"\n')
    request = of({"audio": "voice.wav"}, file=file, cwd=tmp_path).request
    assert request.image == str(tmp_path / "conf" / "face.png")
    assert request.audio == str(tmp_path / "voice.wav")


def test_what_is_said_when_inputs_are_missing() -> None:
    with pytest.raises(ParamError) as caught:
        resolve({}, {})
    names = [problem.parameter for problem in caught.value.problems]
    assert names == ["--image", "--audio", "--ckpt_dir"]
    assert "IMAGE_PATH" in str(caught.value)


def test_are_the_presets_those_of_the_article() -> None:
    values = {p.name: dict(p.values) for p in presets()}
    assert values["quick"] == {"size": "384*256", "num_clip": 10, "sample_steps": 3}
    assert values["standard"] == {"size": "688*368", "num_clip": 100, "sample_steps": 4}
    assert values["long"]["num_clip"] == 1000
    assert values["long"]["enable_online_decode"] is True
    assert values["high"] == {"size": "704*384", "num_clip": 50, "sample_steps": 4}
    assert {p.name: p.predicted_frames for p in presets()}["quick"] == 477
    for preset in presets():
        assert of({}, preset=preset.name, modes=ALL_MODES).preset == preset.name
    assert "did you mean quick" in refusal({}, preset="quik").lower()


def test_is_a_hostile_value_shown_harmlessly() -> None:
    text = refusal({"size": "\x1b[31m" + "9" * 500})
    assert "\x1b" not in text
    assert len(text) < 300


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1GiB", 2**30), ("500MB", 500_000_000), ("2k", 2000), ("77", 77), (5, 5), ("1.5 kib", 1536)],
)
def test_how_are_bytes_written(text: object, amount: int) -> None:
    assert parse_bytes(text) == amount
