"""Is what was written good? Segments while they are made, the joined file at the end (B6)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from engine.geometry import DROPPED_FRAMES
from engine.media.findings import Finding, MediaError
from engine.media.offset import measure_offset, played_mono16k
from engine.media.segment import luma_plane
from engine.media.stats import FrameStats, StatsCounter
from engine.sentence import sentence

#: Repeated frames in a row that count as frozen, in seconds of video.
FROZEN_SECONDS: Final = 1.0
_SILENT_RMS: Final = 1e-4
_SOUND_RATE = 16_000
_AAC_FRAME = 1024


@dataclass(frozen=True)
class SegmentCheck:
    """A segment's frames and findings; ``stats`` is ``None`` where nothing could be decoded."""

    frames: int
    stats: FrameStats | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class OutputCheck:
    """A finished file as a player finds it. ``None`` where it could not be measured."""

    frames: int
    fps: float | None
    seconds: float | None
    video: bool
    audio: bool
    audio_seconds: float | None
    av_offset_seconds: float | None
    findings: tuple[Finding, ...]


def check_frames(
    stats: FrameStats, fps: int = 25, *, nan: bool = False, subject: str = "video"
) -> tuple[Finding, ...]:
    """Findings from counts made while encoding; ``nan`` is the caller's word on the latents."""
    findings = []
    if nan:
        findings.append(
            Finding(
                "error",
                "nan",
                subject,
                sentence("the latents are not finite (NaN or infinity)"),
                sentence("verify the checkpoint and the LoRA; try --dtype fp32"),
            )
        )
    if stats.black:
        whole = stats.black == stats.frames
        findings.append(
            Finding(
                "error" if whole else "warning",
                "black",
                subject,
                sentence(
                    "{black} of {frames} frames are black", black=stats.black, frames=stats.frames
                ),
                sentence("look at the portrait and verify the VAE's weights"),
            )
        )
    if stats.frozen_run >= FROZEN_SECONDS * fps:
        findings.append(
            Finding(
                "error" if stats.frozen == stats.frames - 1 else "warning",
                "frozen",
                subject,
                sentence(
                    "{frozen_run} frames in a row are the same", frozen_run=stats.frozen_run + 1
                ),
                sentence("check that the audio is not silent there"),
            )
        )
    return tuple(findings)


def check_segment(
    path: Path, expected_frames: int | None = None, *, fps: int = 25, nan: bool = False
) -> SegmentCheck:
    """Decode a written segment and look at every frame. A file that cannot be read is a finding."""
    name = path.name
    try:
        stats = _decode(path)
    except MediaError as error:
        text = sentence("cannot be played ({error})", error=error)
        remedy = sentence("generate the clip again")
        return SegmentCheck(0, None, (Finding("error", "unplayable", name, text, remedy),))
    findings = list(check_frames(stats, fps, nan=nan, subject=name))
    if expected_frames is not None and stats.frames != expected_frames:
        findings.insert(0, _wrong_count(name, stats.frames, expected_frames))
    return SegmentCheck(stats.frames, stats, tuple(findings))


def check_output(
    path: Path,
    expected_frames: int | None = None,
    *,
    source_audio: Path | None = None,
    expected_offset: float | None = None,
    every_frame: bool = False,
) -> OutputCheck:
    """Check a joined file: streams, frame count, duration, sound present, long enough, in place.

    Frames are counted from their packets; the first and the last second are decoded, or all with
    ``every_frame`` (black and frozen frames of the clips are known from their encoding).
    ``expected_offset`` is the source time at file time 0, by default 3 frames.
    """
    name = path.name
    findings: list[Finding] = []
    try:
        frames, fps, seconds, has_audio = _streams(path)
    except MediaError as error:
        finding = Finding(
            "error",
            "unplayable",
            name,
            sentence("cannot be played ({error})", error=error),
            sentence("join again"),
        )
        return OutputCheck(0, None, None, False, False, None, None, (finding,))
    if expected_frames is not None and frames != expected_frames:
        findings.append(_wrong_count(name, frames, expected_frames))
    if not frames or fps is None:
        text = sentence("has no video stream with frames")
        findings.append(Finding("error", "no_video", name, text, sentence("join the clips again")))
    else:
        findings += _picture(path, name, fps, frames, every_frame)
    audio_seconds = offset = None
    if not has_audio:
        text = sentence("has no audio stream")
        findings.append(
            Finding("error", "no_audio", name, text, sentence("join again with the audio"))
        )
    else:
        try:
            sound = played_mono16k(path)
            audio_seconds = len(sound) / _SOUND_RATE
            findings += _sound(name, sound, seconds)
            if source_audio is not None and fps:
                wanted = DROPPED_FRAMES / fps if expected_offset is None else expected_offset
                offset = measure_offset(path, source_audio, wanted)
                findings += _placement(name, offset, wanted, fps)
        except MediaError as error:
            text = sentence("its sound cannot be played ({error})", error=error)
            findings.append(
                Finding("error", "bad_audio", name, text, sentence("join the clips again"))
            )
    return OutputCheck(
        frames, fps, seconds, frames > 0, has_audio, audio_seconds, offset, tuple(findings)
    )


def _decode(path: Path, start: float | None = None, seconds: float | None = None) -> FrameStats:
    counter = StatsCounter()
    try:
        # The container is named: a temporary name's ending says nothing.
        with av.open(str(path), format="mp4") as container:
            if not container.streams.video:
                raise MediaError(sentence("no video stream"))
            stream = container.streams.video[0]
            if start:
                container.seek(round(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if seconds is not None and (frame.time or 0.0) >= (start or 0.0) + seconds:
                    break
                counter.add(luma_plane(frame.reformat(format="yuv420p")))
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(error.strerror or str(error)) from error
    return counter.stats


def _streams(path: Path) -> tuple[int, float | None, float | None, bool]:
    try:
        with av.open(str(path)) as container:
            has_audio = bool(container.streams.audio)
            if not container.streams.video:
                return 0, None, None, has_audio
            stream: Any = container.streams.video[0]
            frames = sum(1 for packet in container.demux(stream) if packet.size)
            fps = float(stream.average_rate) if stream.average_rate else None
            seconds = frames / fps if fps else None
            return frames, fps, seconds, has_audio
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(error.strerror or str(error)) from error


def _picture(path: Path, name: str, fps: float, frames: int, every_frame: bool) -> list[Finding]:
    try:
        if every_frame or frames <= 2 * fps:
            stats = _decode(path)
            findings = list(check_frames(stats, round(fps), subject=name))
            if stats.frames != frames:
                findings.insert(0, _wrong_count(name, stats.frames, frames))
            return findings
        heads = _decode(path, 0.0, 1.0)
        tail = _decode(path, frames / fps - 1.0)
        if not heads.frames or not tail.frames:
            raise MediaError(sentence("its beginning or end does not decode"))
    except MediaError as error:
        text = sentence("its picture cannot be played ({error})", error=error)
        return [Finding("error", "unplayable", name, text, sentence("join the clips again"))]
    return []


def _sound(name: str, sound: Any, video_seconds: float | None) -> list[Finding]:
    findings = []
    if not len(sound) or float(np.sqrt(np.mean(np.square(sound)))) < _SILENT_RMS:
        text = sentence("the sound is silent")
        findings.append(Finding("error", "silent", name, text, sentence("look at the audio given")))
    slack = 2 * _AAC_FRAME / 8000  # the last AAC frame may be incomplete at the lowest rate
    if video_seconds is not None and len(sound) / _SOUND_RATE < video_seconds - slack:
        text = sentence(
            "the sound ends after {sound:.2f} of {video_seconds:.2f} s",
            sound=len(sound) / _SOUND_RATE,
            video_seconds=video_seconds,
        )
        findings.append(
            Finding("error", "short_audio", name, text, sentence("join the clips again"))
        )
    return findings


def _placement(name: str, offset: float | None, wanted: float, fps: float) -> list[Finding]:
    if offset is None or abs(offset - wanted) <= 0.5 / fps:
        return []
    text = sentence("the sound lies {late:+.0f} ms off the picture", late=1000 * (offset - wanted))
    return [Finding("error", "av_offset", name, text, sentence("join the clips again"))]


def _wrong_count(name: str, frames: int, expected: int) -> Finding:
    return Finding(
        "error",
        "frame_count",
        name,
        sentence("has {frames} frames where {expected} are due", frames=frames, expected=expected),
        sentence("generate what is missing and join again"),
    )
