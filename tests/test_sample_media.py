"""Are the sample portraits and recordings what a first job needs, and what the scripts make?"""

from __future__ import annotations

import tomllib
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.geometry import clips_in_audio
from sample_data import make_media
from sample_data.drawing.canvas import mirrored, spline

FOLDER = Path(make_media.__file__).parent
PORTRAITS = {"flat": (640, 640), "ink": (768, 512), "painted": (512, 768)}
#: Rate, channels and seconds (about).
SPEECH = {
    "english": (22_050, 1, 6),
    "mandarin": (16_000, 1, 3),
    "spanish": (44_100, 2, 12),
}


def pixels(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(picture, dtype=np.float64)


@pytest.mark.parametrize(("name", "size"), PORTRAITS.items())
def test_a_portrait_is_large_and_full_of_colour(name: str, size: tuple[int, int]) -> None:
    with Image.open(FOLDER / "portraits" / f"{name}.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", size)
        assert min(picture.size) >= 512
        assert pixels(picture).std() > 20


@pytest.mark.parametrize("name", PORTRAITS)
def test_drawing_it_again_gives_the_same_portrait(name: str) -> None:
    drawn = make_media.PORTRAITS[name]()
    with Image.open(FOLDER / "portraits" / f"{name}.png") as committed:
        # Another Pillow may round an edge otherwise; another drawing would differ everywhere.
        assert np.abs(pixels(drawn) - pixels(committed)).mean() < 0.5


@pytest.mark.parametrize(("name", "facts"), SPEECH.items())
def test_a_recording_has_a_voice_in_every_channel(name: str, facts: tuple[int, int, int]) -> None:
    rate, channels, seconds = facts
    with wave.open(str(FOLDER / "speech" / f"{name}.wav")) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (rate, channels)
        assert sound.getsampwidth() == 2
        frames = sound.getnframes()
        samples = np.frombuffer(sound.readframes(frames), "<i2").reshape(frames, channels)
    assert abs(frames / rate - seconds) < 0.5
    level = samples / 32768
    assert (np.sqrt((level**2).mean(axis=0)) > 0.02).all()
    assert np.abs(level).max() < 0.9, "clipped"
    assert clips_in_audio(round(frames * 16_000 / rate), infer_frames=48) >= 2
    if channels == 2:
        assert not np.array_equal(samples[:, 0], samples[:, 1])


def test_every_portrait_has_a_prompt_and_a_recording() -> None:
    table = tomllib.loads((FOLDER / "prompts.toml").read_text(encoding="utf-8"))
    assert set(table) == set(PORTRAITS) == set(make_media.PORTRAITS)
    for entry in table.values():
        assert (FOLDER / entry["image"]).is_file()
        assert (FOLDER / entry["audio"]).is_file()
        assert len(entry["prompt"]) > 30
    assert any("\u4e00" <= letter <= "\u9fff" for e in table.values() for letter in e["prompt"])


def test_the_media_stay_small() -> None:
    files = [*(FOLDER / "portraits").iterdir(), *(FOLDER / "speech").iterdir()]
    assert len(files) == 6
    assert sum(file.stat().st_size for file in files) < 6_000_000


def test_resampling_keeps_a_tone() -> None:
    time = np.arange(2205) / 22_050
    tone = np.sin(2 * np.pi * 400 * time)
    for rate in (16_000, 44_100):
        expected = np.sin(2 * np.pi * 400 * np.arange(rate // 10) / rate)
        assert np.abs(make_media.resampled(tone, 22_050, rate) - expected).max() < 1e-6


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    tone = np.sin(np.linspace(0, 100, 1600))
    stereo = make_media.in_a_room(tone, 16_000)
    assert stereo.ndim == 2
    make_media.write_wav(tmp_path / "tone.wav", stereo, 16_000)
    with wave.open(str(tmp_path / "tone.wav")) as sound:
        assert (sound.getnchannels(), sound.getnframes()) == (2, len(stereo))


def test_without_the_synthesizer_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="espeak-ng is not installed"):
        make_media.make_speech(tmp_path / "speech")
    assert not (tmp_path / "speech").exists()


def test_curves_pass_through_their_points_and_mirror() -> None:
    half = [(5.0, 0.0), (1.0, 4.0), (5.0, 8.0)]
    outline = mirrored(half, 5.0)
    assert outline == [(5.0, 0.0), (1.0, 4.0), (5.0, 8.0), (9.0, 4.0)]
    curve = spline(outline, steps=8)
    assert len(curve) == 32
    assert np.allclose(curve[::8], outline)
