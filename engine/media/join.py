"""Committed segments into one file: video packets copied, sound muxed once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from engine.geometry import DROPPED_FRAMES
from engine.media.audio import audio_info, decode_blocks
from engine.media.findings import MediaError
from engine.media.offset import measure_offset
from engine.media.segment import PART, fsync_and_hash, fsync_folder
from engine.sentence import sentence

_AAC_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_BITS_PER_SECOND: Final = 128_000


@dataclass(frozen=True)
class AvInfo:
    """A joined file. ``av_offset_seconds`` is the source time heard at file time 0, as measured
    on the finished file (``None`` where the sound is too quiet to measure);
    ``expected_offset_seconds`` is what it should be, 3 frames."""

    path: Path
    frames: int
    fps: float
    seconds: float
    audio_seconds: float
    av_offset_seconds: float | None
    expected_offset_seconds: float
    bytes: int
    sha256: str


def join(segments: Sequence[Path], audio: Path, output: Path) -> AvInfo:
    """Put segments end to end without re-encoding and add the sound as AAC.

    File frame k carries the sound of generated frame k + 3 (the decoder swallows the first
    three), so the sound starts 3 frames into ``audio``; it is cut or padded with silence to the
    video's length. ``output`` appears whole or not at all.

    Raises:
        MediaError: no or unreadable segments, segments that do not fit together, unreadable
            sound, a full disk, an output that is a device or a folder.
    """
    if not segments:
        raise MediaError(sentence("there is no clip to join"))
    temporary = output.with_name(f".{output.name}{PART}")
    if output.exists() and not output.is_file():
        raise MediaError(sentence("{output} is no file: it is not replaced", output=output))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        frames, fps, samples, rate = _write(segments, audio, temporary)
        digest = fsync_and_hash(temporary)
        size = temporary.stat().st_size
        os.replace(temporary, output)  # noqa: PTH105 (says what it does)
        fsync_folder(output.parent)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(
            sentence("writing {output} failed: {error}", output=output, error=error)
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    expected = DROPPED_FRAMES / fps
    return AvInfo(
        path=output,
        frames=frames,
        fps=float(fps),
        seconds=float(frames / fps),
        audio_seconds=samples / rate,
        av_offset_seconds=measure_offset(output, audio, float(expected)),
        expected_offset_seconds=float(expected),
        bytes=size,
        sha256=digest,
    )


def _write(
    segments: Sequence[Path], audio: Path, temporary: Path
) -> tuple[int, Fraction, int, int]:
    info = audio_info(audio)
    rate = info.rate if info.rate in _AAC_RATES else 48_000
    channels = min(2, max(1, info.channels))
    options = {"movflags": "+faststart"}
    with av.open(str(temporary), "w", format="mp4", options=options) as out:
        video: Any = None
        sound: _Sound | None = None
        fps = Fraction(0)
        frames = 0
        for path in segments:
            with _open_segment(path) as source:
                stream = source.streams.video[0]
                if video is None or sound is None:
                    fps = Fraction(stream.average_rate)
                    video = out.add_stream_from_template(stream)
                    # Set before the header is written, so that frame k lies exactly at k / fps.
                    video.time_base = stream.time_base
                    look = _look(stream)
                    sound = _Sound(out, audio, rate, channels, Fraction(DROPPED_FRAMES) / fps)
                elif _look(stream) != look:
                    raise MediaError(
                        sentence(
                            "{path} does not fit the segments before it (another size, "
                            "rate or encoder); generate the clips again with one set of "
                            "parameters",
                            path=path,
                        )
                    )
                frames += _copy(source, stream, video, out, frames, fps)
            sound.up_to(Fraction(frames) / fps)
        assert sound is not None
        samples = sound.close()
    return frames, fps, samples, rate


def _open_segment(path: Path) -> Any:
    try:
        container = av.open(str(path), format="mp4")
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(
            sentence(
                "segment {path} cannot be read: {strerror}",
                path=path,
                strerror=error.strerror or error,
            )
        ) from error
    if not container.streams.video:
        container.close()
        raise MediaError(sentence("segment {path} has no video stream", path=path))
    return container


def _look(stream: Any) -> tuple[Any, ...]:
    codec = stream.codec_context
    size = (codec.width, codec.height)
    return (codec.name, size, codec.pix_fmt, stream.average_rate, codec.extradata)


def _copy(source: Any, stream: Any, video: Any, out: Any, start: int, fps: Fraction) -> int:
    """Copy one segment's packets behind ``start`` frames; the number of frames copied."""
    count = 0
    for packet in source.demux(stream):
        if packet.size == 0:
            continue
        packet.stream = video
        # No B-frames: packets come in display order, so the count is the timestamp.
        packet.time_base = 1 / fps
        packet.pts = packet.dts = start + count
        packet.duration = 1
        out.mux_one(packet)
        count += 1
    return count


class _Sound:
    """The source's sound from ``skip`` seconds on, encoded as far as the video has come."""

    def __init__(self, out: Any, path: Path, rate: int, channels: int, skip: Fraction) -> None:
        self._out = out
        self._rate = rate
        self._channels = channels
        self._stream = out.add_stream("aac", rate=rate)
        self._stream.layout = self._layout = "mono" if channels == 1 else "stereo"
        self._stream.bit_rate = _AAC_BITS_PER_SECOND
        self._stream.time_base = Fraction(1, rate)
        self._blocks: Iterator[NDArray[np.float32]] = decode_blocks(path, rate, channels)
        self._buffer = np.zeros((channels, 0), np.float32)
        self._skip = round(skip * rate)
        self._written = 0
        self._target = 0

    def up_to(self, seconds: Fraction) -> None:
        """Encode whole AAC frames until ``seconds`` of the file."""
        self._target = round(seconds * self._rate)
        frame = self._stream.codec_context.frame_size or 1024
        while self._target - self._written >= frame:
            self._encode(self._take(frame))

    def close(self) -> int:
        """Encode the rest and flush; the number of samples of the file's sound."""
        if self._target > self._written:
            self._encode(self._take(self._target - self._written))
        for packet in self._stream.encode(None):
            self._out.mux(packet)
        return self._written

    def _take(self, count: int) -> NDArray[np.float32]:
        """The next ``count`` samples; silence behind the source's end."""
        wanted = self._skip + count
        parts, held = [self._buffer], self._buffer.shape[1]
        while held < wanted:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self._channels, wanted - held), np.float32)
            parts.append(block)
            held += block.shape[1]
        joined = np.concatenate(parts, axis=1)
        self._buffer = joined[:, wanted:]
        taken = joined[:, self._skip : wanted]
        self._skip = 0
        return taken

    def _encode(self, samples: NDArray[np.float32]) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=self._layout
        )
        frame.sample_rate = self._rate
        frame.pts = self._written
        frame.time_base = Fraction(1, self._rate)
        self._written += samples.shape[1]
        for packet in self._stream.encode(frame):
            self._out.mux(packet)
