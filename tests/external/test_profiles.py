"""Does a profile say what is wrong with it, and do values stay within their word?"""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.external.fill import OURS, fill_words, injected, values_of
from engine.external.prepare import prepare_command
from engine.external.profile import SHIPPED, from_command, load, names
from engine.messages import DeviceReading
from engine.parameters.problems import ParamError
from engine.parameters.request import Request
from engine.parameters.resolve import resolve
from engine.preflight import Machine, PreflightError

GPUS = tuple(
    DeviceReading(n, "H200", f"GPU-{n}", "nvml", memory_total=100, memory_used=n) for n in range(6)
)
GIVEN = {"image": "/a b/face.png", "audio": "/a b/voice.wav", "ckpt_dir": "/ckpt"}


@pytest.mark.parametrize("name", names([SHIPPED]))
def test_every_shipped_profile_fills(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LIVE_AVATAR_REPO", "AVATOP_SCRIPT", "AVATOP_IMAGE_NAME"):
        monkeypatch.setenv(variable, "/somewhere")
    profile = load(name, [SHIPPED])
    request = Request.from_dict({**GIVEN, "profile": name, "prompt": 'a "quoted" face'})
    words = fill_words(
        profile.argv, values_of(request, {**dict.fromkeys(OURS, 1), "output": "/o.mp4"})
    )
    assert not [word for word in words if word.startswith("{")]
    if name.startswith("reference"):
        assert 'a "quoted" face' in words
        assert words[words.index("--image") + 1] == "/a b/face.png"


def test_flags_come_and_go_with_their_parameter() -> None:
    words = ("{fp8?--fp8}", "{load_lora?--lora={lora_path_dmd}}", "{{x}}")
    off = values_of(Request(), {})
    assert fill_words(words, off) == ("{x}",)
    on = values_of(Request(fp8=True, load_lora=True, lora_path_dmd="a b"), {})
    assert fill_words(words, on) == ("--fp8", "--lora=a b", "{x}")


def test_every_name_of_B3_is_in_the_environment() -> None:
    given = injected(Request.from_dict({**GIVEN, "enable_online_decode": True}))
    wanted = {
        "MODEL_CKPT_DIR", "INFER_RES", "SAMPLE_STEPS", "ENABLE_ONLINE_DECODE", "PROMPT",
        "IMAGE_PATH", "AUDIO_PATH", "RESOLUTION", "CLIP_COUNT",
    }  # fmt: skip
    assert wanted <= set(given)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("argv = 'python x'", "argv is a list"),
        ("summary = 'nothing'", "has no argv"),
        ("argv = ['x']\nprogess = 'y'", "Did you mean progress?"),
        ("argv = ['x']\nprogress = '(\\d+)'", "needs the groups"),
        ("argv = ['x']\nready = '('", "no regular expression"),
        ("argv = ['x']\ngpus = -1", "whole number"),
        ("argv = ['x']\n[env]\nA = 1", "table of texts"),
        ("argv = [", "cannot be read"),
    ],
)
def test_a_bad_profile_says_why(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ParamError, match=says.replace("(", "\\(").replace("?", "\\?")):
        load("bad", [tmp_path])


def test_unknown_profiles_and_placeholders_have_neighbours() -> None:
    with pytest.raises(ParamError, match="reference-single"):
        load("reference-singel", [SHIPPED])
    with pytest.raises(ParamError, match="Did you mean image"):
        fill_words(("{imag}",), {})
    with pytest.raises(ParamError, match="--audio: is needed by"):
        fill_words(("{audio}",), {})
    with pytest.raises(ParamError, match="cannot be split"):
        from_command("bash 'oops")


def test_a_profile_takes_the_emptiest_gpus_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVE_AVATAR_REPO", "/")
    request = Request.from_dict({**GIVEN, "profile": "reference-tpp5", "image": None})
    with pytest.raises(PreflightError, match="--image"):
        prepare_command(request, Machine(GPUS))
    request = Request.from_dict({"profile": "reference-tpp5", **GIVEN})
    with pytest.raises(PreflightError, match="takes 5 GPUs, 4 are here"):
        prepare_command(request, Machine(GPUS[:4]))


def test_a_command_needs_no_checkpoint_and_knows_where_it_was_called(tmp_path: Path) -> None:
    found = resolve({"command": "bash run.sh"}, cwd=tmp_path).request
    assert (found.external, found.workdir) == (True, str(tmp_path))
    with pytest.raises(ParamError, match="both say which program"):
        resolve({"command": "x", "profile": "docker"}, cwd=tmp_path)
    with pytest.raises(ParamError, match="ckpt_dir"):
        resolve({}, cwd=tmp_path)
