"""Audio files in: any format PyAV decodes → float32, mono at 16 kHz for the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from engine.media.findings import MediaError
from engine.sentence import sentence

MODEL_RATE: Final = 16_000


@dataclass(frozen=True)
class AudioInfo:
    """What the header says; ``seconds`` is ``None`` where it says nothing."""

    codec: str
    rate: int
    channels: int
    seconds: float | None


def audio_info(path: Path) -> AudioInfo:
    """Header facts of the first audio stream.

    Raises:
        MediaError: unreadable, or no audio stream.
    """
    with _open(path) as container:
        stream = _stream(container, path)
        seconds = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / 1_000_000
        codec = stream.codec_context
        return AudioInfo(codec.name, int(codec.sample_rate), int(codec.channels), seconds)


def decode_blocks(
    path: Path, rate: int | None = None, channels: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """The decoded sound in order, float32 ``[channels, n]`` in −1…1, resampled to ``rate``.

    ``None`` keeps the file's own rate or channels. A damaged packet ends the stream with an
    error rather than with silence.

    Raises:
        MediaError: unreadable, no audio stream, or damaged.
    """
    layout = None if channels is None else ("mono" if channels == 1 else "stereo")
    with _open(path) as container:
        stream = _stream(container, path)
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        try:
            for frame in container.decode(stream):
                frame.pts = None  # the resampler would pad gaps; samples count, not stamps
                for part in resampler.resample(frame):
                    yield part.to_ndarray()
            for part in resampler.resample(None):
                yield part.to_ndarray()
        except (OSError, av.error.FFmpegError) as error:
            raise MediaError(
                sentence(
                    "{path} is damaged: its audio stops decoding ({strerror})",
                    path=path,
                    strerror=error.strerror or error,
                )
            ) from error


def load_mono16k(path: Path, limit_seconds: float | None = None) -> NDArray[np.float32]:
    """The sound as float32 ``[samples]``, the mean of its channels, at 16 kHz.

    Args:
        limit_seconds: stop reading after this much (for measurements).

    Raises:
        MediaError: as ``decode_blocks``.
    """
    blocks: list[NDArray[np.float32]] = []
    count = 0
    for block in decode_blocks(path, MODEL_RATE):
        blocks.append(block.mean(axis=0, dtype=np.float32))
        count += block.shape[1]
        if limit_seconds is not None and count >= limit_seconds * MODEL_RATE:
            break
    if not blocks:
        return np.zeros(0, np.float32)
    return np.concatenate(blocks)


def _open(path: Path) -> Any:
    try:
        return av.open(str(path))
    except (OSError, av.error.FFmpegError) as error:
        reason = error.strerror or str(error)
        raise MediaError(
            sentence("{path} cannot be read as audio: {reason}", path=path, reason=reason)
        ) from error


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.audio:
        raise MediaError(sentence("{path} has no audio stream", path=path))
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(
            sentence("{path} has an audio stream in a format that cannot be decoded", path=path)
        )
    return stream
