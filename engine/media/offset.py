"""Where in the source the file's sound begins: cross-correlation of what a player would hear."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from engine.media.audio import MODEL_RATE, load_mono16k
from engine.media.findings import MediaError
from engine.sentence import sentence

#: Sound compared, and how far off it may lie, in seconds.
_WINDOW: Final = 60.0
_REACH: Final = 1.0
_SILENT_RMS: Final = 1e-4
_LEAST_CORRELATION: Final = 0.3
#: Correlations closer than this part of the best are taken as equal.
_NEARLY: Final = 0.02


def played_mono16k(path: Path, limit_seconds: float | None = None) -> NDArray[np.float32]:
    """The first audio track at 16 kHz on the file's own clock: sample n is heard at n/16000 s.

    Encoder priming before time 0 is left out, a late start is filled with silence.

    Raises:
        MediaError: unreadable, or no audio stream.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(sentence("{path} has no audio stream", path=path))
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", rate=MODEL_RATE)
            parts: list[NDArray[np.float32]] = []
            start: float | None = None
            count = 0
            for frame in container.decode(stream):
                if start is None:
                    start = frame.time or 0.0
                frame.pts = None
                for part in resampler.resample(frame):
                    parts.append(part.to_ndarray().mean(axis=0, dtype=np.float32))
                    count += part.samples
                if limit_seconds is not None and count >= limit_seconds * MODEL_RATE:
                    break
            parts += [p.to_ndarray().mean(axis=0) for p in resampler.resample(None)]
    except (OSError, av.error.FFmpegError) as error:
        raise MediaError(
            sentence(
                "{path} cannot be played: {strerror}", path=path, strerror=error.strerror or error
            )
        ) from error
    sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    shift = round((start or 0.0) * MODEL_RATE)
    return sound[-shift:] if shift < 0 else np.concatenate([np.zeros(shift, np.float32), sound])


def measure_offset(file: Path, source: Path, expected: float = 0.0) -> float | None:
    """Source time heard at the file's time 0, in seconds, within ±1 s of ``expected``.

    ``None`` where the first minute is silent or matches nothing.

    Raises:
        MediaError: either file cannot be read.
    """
    heard = played_mono16k(file, _WINDOW)[: round(_WINDOW * MODEL_RATE)]
    original = load_mono16k(source, _WINDOW + 2 * _REACH)
    return best_lag(heard, original, expected)


def best_lag(
    heard: NDArray[np.float32], original: NDArray[np.float32], expected: float
) -> float | None:
    """Seconds L for which ``heard(t)`` is most like ``original(t + L)``; ``None`` if unlike."""
    if not len(heard) or not len(original):
        return None
    if min(float(np.sqrt(np.mean(x**2))) for x in (heard, original)) < _SILENT_RMS:
        return None
    size = 1 << (len(heard) + len(original) - 1).bit_length()
    spectrum = np.conj(np.fft.rfft(heard, size)) * np.fft.rfft(original, size)
    correlation = np.fft.irfft(spectrum, size)
    middle, reach = round(expected * MODEL_RATE), round(_REACH * MODEL_RATE)
    lags = np.arange(middle - reach, middle + reach + 1)
    # A periodic sound is like itself at many lags: of equals, take the one nearest to expected.
    likeness = correlation[lags % size]
    best = float(np.max(likeness))
    equals = lags[likeness >= best - _NEARLY * abs(best)]
    lag = int(equals[np.argmin(np.abs(equals - middle))])
    lag = _peak_near(correlation, lag, size)
    overlap = original[max(0, lag) : max(0, lag) + len(heard)]
    part = heard[max(0, -lag) : max(0, -lag) + len(overlap)]
    overlap = overlap[: len(part)]
    norm = float(np.linalg.norm(part) * np.linalg.norm(overlap))
    if not norm or float(part @ overlap) / norm < _LEAST_CORRELATION:
        return None
    return lag / MODEL_RATE


def _peak_near(correlation: NDArray[np.float64], lag: int, size: int) -> int:
    """Climb from ``lag`` to the top of the hill it lies on."""
    while True:
        around = (lag - 1, lag, lag + 1)
        top = max(around, key=lambda at: float(correlation[at % size]))
        if top == lag:
            return lag
        lag = top
