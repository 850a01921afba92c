"""Is the joined file frame-exact, is its sound where it belongs, and is it whole or absent?"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import av
import numpy as np
import pytest

from engine.media.check import check_output
from engine.media.findings import MediaError
from engine.media.join import join
from tests.bad_inputs import voice, write_wav
from tests.media.makers import noise, number_of, numbered, segment


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Generated frames 3…143 in three clips: the first three frames are swallowed."""
    parts = [(3, 45), (48, 48), (96, 48)]
    return [
        segment(tmp_path / f"clip_{n}.mp4", numbered(first, count))
        for n, (first, count) in enumerate(parts)
    ]


def click_wav(path: Path, rate: int, channels: int, at: float, seconds: float = 8.0) -> Path:
    """Silence with one click."""
    sound = np.zeros((round(seconds * rate), channels))
    sound[round(at * rate) : round(at * rate) + 3] = [[0.9], [-0.9], [0.5]]
    write_wav(path, sound, rate)
    return path


def heard_click(path: Path) -> float:
    """File time of the loudest sample, as a player presents it (no code of ours involved)."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [(f.time, f.to_ndarray()) for f in container.decode(stream)]
        rate = stream.codec_context.sample_rate
    sound = np.concatenate([np.abs(data).max(axis=0) for _, data in frames])
    return frames[0][0] + int(np.argmax(sound)) / rate


def test_are_all_frames_there_in_order_at_25_a_second(clips: list[Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "voice.wav", voice(6.0, 16_000), 16_000)
    info = join(clips, tmp_path / "voice.wav", tmp_path / "out.mp4")
    assert (info.frames, info.fps, info.seconds) == (141, 25, 5.64)
    with av.open(str(info.path)) as container:
        frames = list(container.decode(video=0))
    numbers = [number_of(frame.to_ndarray(format="rgb24")) for frame in frames]
    assert numbers == list(range(3, 144))
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(141)])


def test_are_the_packets_copied_not_encoded_again(clips: list[Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "voice.wav", voice(6.0, 16_000), 16_000)
    info = join(clips, tmp_path / "voice.wav", tmp_path / "out.mp4")

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(video=0) if p.size]

    assert packets(info.path) == [data for clip in clips for data in packets(clip)]


@pytest.mark.parametrize(
    ("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1), (11_025, 1), (37_800, 2)]
)
def test_does_file_frame_k_carry_the_sound_of_generated_frame_k_plus_3(
    clips: list[Path], tmp_path: Path, rate: int, channels: int
) -> None:
    # A click at the start of generated frame 50 must be heard with file frame 47.
    audio = click_wav(tmp_path / "click.wav", rate, channels, at=50 / 25)
    info = join(clips, audio, tmp_path / "out.mp4")
    assert heard_click(info.path) == pytest.approx(47 / 25, abs=0.001)
    assert info.av_offset_seconds == pytest.approx(3 / 25, abs=0.001)
    assert info.expected_offset_seconds == pytest.approx(3 / 25)


def test_is_the_sound_cut_to_the_video_and_padded_when_it_ends_first(
    clips: list[Path], tmp_path: Path
) -> None:
    for seconds in (20.0, 2.0):
        write_wav(tmp_path / "voice.wav", voice(seconds, 44_100, 2), 44_100)
        info = join(clips, tmp_path / "voice.wav", tmp_path / "out.mp4")
        assert info.audio_seconds == pytest.approx(5.64)
        with av.open(str(info.path)) as container:
            stream = container.streams.audio[0]
            assert float(stream.duration * stream.time_base) == pytest.approx(5.64, abs=0.03)
            assert stream.codec_context.name == "aac"
        assert info.sha256 == hashlib.sha256(info.path.read_bytes()).hexdigest()


def test_is_a_good_output_found_good(clips: list[Path], tmp_path: Path) -> None:
    write_wav(tmp_path / "voice.wav", voice(6.0, 22_050), 22_050)
    info = join(clips, tmp_path / "voice.wav", tmp_path / "out.mp4")
    for every_frame in (False, True):
        check = check_output(
            info.path, 141, source_audio=tmp_path / "voice.wav", every_frame=every_frame
        )
        assert check.findings == ()
    assert (check.frames, check.fps, check.seconds) == (141, 25, 5.64)
    assert check.av_offset_seconds == pytest.approx(0.12, abs=0.001)


def test_what_is_found_wrong_with_an_output(clips: list[Path], tmp_path: Path) -> None:
    def kinds(path: Path, audio: Path | None = None, expected: int = 141) -> set[str]:
        return {f.kind for f in check_output(path, expected, source_audio=audio).findings}

    silent = tmp_path / "silent.wav"
    write_wav(silent, np.zeros((16_000, 1)), 16_000)
    mute = join(clips, silent, tmp_path / "mute.mp4")
    assert mute.av_offset_seconds is None
    assert kinds(mute.path) == {"silent"}
    assert kinds(mute.path, expected=144) == {"silent", "frame_count"}
    assert kinds(clips[0], expected=45) == {"no_audio"}
    assert kinds(silent) == {"no_video", "frame_count", "silent"}
    assert kinds(tmp_path / "nowhere.mp4") == {"unplayable"}
    # Another recording's click lies elsewhere: the sound is off the picture.
    late = join(clips, click_wav(tmp_path / "a.wav", 16_000, 1, 2.5), tmp_path / "late.mp4")
    assert kinds(late.path, click_wav(tmp_path / "b.wav", 16_000, 1, 2.0)) == {"av_offset"}


def test_does_a_failed_join_leave_the_old_file_and_nothing_half(
    clips: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out" / "video.mp4"
    out.parent.mkdir()
    out.write_text("old")
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(clips[1].read_bytes()[:3000])
    other = segment(tmp_path / "other.mp4", noise(12, width=64))
    write_wav(tmp_path / "voice.wav", voice(6.0, 16_000), 16_000)
    for segments, says in (
        ([clips[0], torn], "cannot be read"),
        ([clips[0], other], "does not fit"),
        ([], "no clip"),
    ):
        with pytest.raises(MediaError, match=says):
            join(segments, tmp_path / "voice.wav", out)
    with pytest.raises(MediaError, match="cannot be read as audio"):
        join(clips, tmp_path / "nowhere.wav", out)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="no file"):  # as would be with /dev/null
        join(clips, tmp_path / "voice.wav", tmp_path / "pipe.mp4")
    assert (tmp_path / "pipe.mp4").is_fifo()
    assert [p.name for p in out.parent.iterdir()] == ["video.mp4"]
    assert out.read_text() == "old"


def test_a_steady_tone_is_not_taken_for_a_late_start() -> None:
    """A tone is like itself once a period; of equal lags the expected one is meant."""
    from engine.media.offset import best_lag

    rate, expected = 16000, 0.12
    tone = np.sin(2 * np.pi * 110 * np.arange(4 * rate) / rate).astype(np.float32)
    heard = tone[round(expected * rate) :]
    measured = best_lag(heard, tone, expected)
    assert measured == pytest.approx(expected, abs=0.002)
