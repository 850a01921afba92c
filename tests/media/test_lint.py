"""What is said of a portrait, a voice and a prompt before a device is touched?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.media import lint
from engine.media.audio import audio_info, load_mono16k
from engine.media.findings import MediaError
from engine.media.image import image_info, load_portrait
from engine.media.lint import contradictory_words, lint_audio, lint_image, lint_prompt
from tests.bad_inputs import voice, write_wav


def portrait(path: Path, width: int = 600, height: int = 512, mode: str = "RGB") -> Path:
    ramp = np.linspace(0, 255, width * height * len(mode)).astype(np.uint8)
    Image.fromarray(ramp.reshape(height, width, len(mode)), mode=None).save(path)
    return path


def test_is_a_good_portrait_good(tmp_path: Path) -> None:
    assert lint_image(portrait(tmp_path / "a.png")) == ((600, 512), [])


def test_is_a_small_portrait_refused_unless_accepted(tmp_path: Path) -> None:
    path = portrait(tmp_path / "a.png", 512, 511)
    (finding,) = lint_image(path)[1]
    assert (finding.level, finding.kind) == ("error", "image_small")
    assert "--accept_low_quality" in finding.remedy
    assert lint_image(path, accept_low_quality=True)[1][0].level == "warning"


def test_are_transparency_animation_and_flatness_told(tmp_path: Path) -> None:
    kinds = [f.kind for f in lint_image(portrait(tmp_path / "a.png", mode="RGBA"))[1]]
    assert kinds == ["image_alpha"]
    frames = [Image.new("L", (512, 512), n * 80) for n in range(3)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    kinds = [f.kind for f in lint_image(tmp_path / "b.gif")[1]]
    assert kinds == ["image_animated", "image_flat"]


def test_is_a_turned_photo_seen_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (800, 600)).save(tmp_path / "a.jpg", exif=exif)
    info = image_info(tmp_path / "a.jpg")
    assert (info.width, info.height) == (600, 800)
    assert load_portrait(tmp_path / "a.jpg", 64, 64).shape == (64, 64, 3)


def test_is_a_huge_claim_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (11_000, 11_000)).save(path)
    with pytest.raises(MediaError, match="11000x11000"):
        image_info(path)


@pytest.mark.parametrize("size", [(384, 704), (704, 384), (512, 512), (64, 128)])
def test_does_the_portrait_fill_the_frame_from_its_middle(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    pixels = np.full((600, 700, 3), 90, np.uint8)
    pixels[250:350, 300:400] = 250
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = load_portrait(tmp_path / "a.png", *size)
    assert (got.shape, got.dtype) == ((*size, 3), np.uint8)
    assert got.min() >= 80  # no black bars
    assert got[size[0] // 2, size[1] // 2].min() > 240
    with pytest.raises(MediaError, match="both sides"):
        load_portrait(tmp_path / "a.png", 0, 64)


def test_is_transparent_paper_white(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert load_portrait(tmp_path / "a.png", 64, 64).min() == 255


def test_is_sound_heard_as_mono_at_16_khz(tmp_path: Path) -> None:
    sound = voice(2.0, 44_100, 2)
    sound[:, 1] *= 0.5
    write_wav(tmp_path / "a.wav", sound, 44_100)
    info = audio_info(tmp_path / "a.wav")
    assert (info.rate, info.channels, info.seconds) == (44_100, 2, 2.0)
    got = load_mono16k(tmp_path / "a.wav")
    assert got.dtype == np.float32
    assert len(got) == pytest.approx(32_000, abs=2)
    expected = 0.75 * voice(2.0, 16_000)[:, 0]
    middle = slice(4000, 28_000)
    assert np.abs(got[middle] - expected[middle]).max() < 0.01


def test_is_a_good_voice_good(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice(3.0, 16_000), 16_000)
    facts, findings = lint_audio(tmp_path / "a.wav")
    assert findings == []
    assert (facts.audio_samples, facts.audio_seconds) == (48_000, 3.0)


def test_is_silence_at_either_end_told_with_its_length(tmp_path: Path) -> None:
    quiet = np.zeros((16_000, 1))
    write_wav(tmp_path / "a.wav", np.concatenate([quiet, voice(2.0, 16_000), quiet[:9600]]), 16_000)
    findings = {f.kind: f.text for f in lint_audio(tmp_path / "a.wav")[1]}
    assert set(findings) == {"silence_head", "silence_tail"}
    assert "1.00 s" in findings["silence_head"]
    assert "0.60 s" in findings["silence_tail"]


def test_is_a_quiet_or_short_voice_told(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 0.03 * voice(1.0, 16_000), 16_000)
    kinds = {(f.level, f.kind) for f in lint_audio(tmp_path / "a.wav")[1]}
    assert kinds == {("warning", "audio_under_clip"), ("warning", "audio_quiet")}
    assert "audio_under_clip" not in {
        f.kind for f in lint_audio(tmp_path / "a.wav", infer_frames=24)[1]
    }


def test_is_a_long_voice_decoded_once_and_a_changed_one_heard_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.wav"
    write_wav(path, voice(2.5, 16_000), 16_000)
    decoded = []
    monkeypatch.setattr(lint, "load_mono16k", lambda p: (decoded.append(p), load_mono16k(p))[1])
    first, again = (lint_audio(path, infer_frames=frames) for frames in (48, 96))
    assert first[0] == again[0]
    assert len(decoded) == 1
    assert [f.kind for f in again[1]] == ["audio_under_clip"]
    write_wav(path, voice(3.0, 16_000), 16_000)
    assert lint_audio(path)[0].audio_seconds == 3.0
    path.write_bytes(b"no sound")
    for _ in range(2):
        assert [f.kind for f in lint_audio(path)[1]] == ["audio_unreadable"]


def test_when_is_a_prompt_too_short() -> None:
    tokens, findings = lint_prompt("a man")
    assert (tokens, [f.kind for f in findings]) == (2, ["prompt_short"])
    assert lint_prompt("a man", lambda text: 40) == (40, [])
    assert [f.kind for f in lint_prompt("a man", lambda text: 600)[1]] == ["prompt_long"]
    chinese = "一位穿蓝色西装的年轻女性在现代办公室里微笑着讲话"
    assert lint_prompt(chinese)[1] == []
    assert [f.level for f in lint_prompt(" ")[1]] == ["error"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A happy but sad man", [("happy", "sad")]),
        ("开心但悲伤的人", [("开心", "悲伤")]),
        ("An elderly woman, young at heart", [("young", "elderly")]),
        ("She is happy, not sad, in the sad-free city of Sadova", [("happy", "sad")]),
        ("A cheerful dwarf in a forge, laughing heartily, warm lighting", []),
        ("not sad but happy", []),
        ("a golden age, an unhappy old dog", []),
    ],
)
def test_which_words_contradict(prompt: str, words: list[tuple[str, str]]) -> None:
    assert contradictory_words(prompt) == words
