"""Remakes the sample portraits and spoken WAVs.

    python -m sample_data.make_media [--only portraits|speech]

The portraits need Pillow and numpy; the speech needs the program ``espeak-ng`` as well. Both come
out the same every time.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sample_data.drawing import flat, ink, painted

HERE = Path(__file__).resolve().parent
PORTRAITS: dict[str, Callable[[], Image.Image]] = {
    "flat": flat.draw,
    "ink": ink.draw,
    "painted": painted.draw,
}
Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Speech:
    """One recording: who says what, and how the file is to be."""

    name: str
    voice: str
    words_per_minute: int
    pitch: int
    rate: int
    channels: int
    text: str


SPEECH = (
    Speech(
        "english", "en-gb+f3", 150, 55, 22_050, 1,
        "Good morning, and welcome. Today we look at how a still portrait learns to speak.",
    ),
    # "你好，很高兴认识你。": the program reads Mandarin from pinyin only.
    Speech("mandarin", "cmn-latn-pinyin+f4", 160, 60, 16_000, 1,
           "ni3 hao3, hen3 gao1 xing4 ren4 shi5 ni3."),
    Speech(
        "spanish", "es+m3", 145, 40, 44_100, 2,
        "Buenas tardes. Les cuento una historia breve: un viejo librero guardaba en su tienda "
        "un reloj que nunca se detenía. Cada noche, el reloj le susurraba el nombre de un libro.",
    ),
)  # fmt: skip


def resampled(samples: Samples, before: int, after: int) -> Samples:
    """Band-limited resampling of a whole recording, in its spectrum."""
    length = round(len(samples) * after / before)
    spectrum = np.fft.rfft(samples)
    fitted = np.zeros(length // 2 + 1, dtype=complex)
    kept = min(len(spectrum), len(fitted))
    fitted[:kept] = spectrum[:kept]
    return np.fft.irfft(fitted, length) * (after / before)


def spoken(speech: Speech, program: str) -> tuple[Samples, int]:
    """What ``espeak-ng`` says, as samples in −1…1 and their rate."""
    command = [program, "--stdout", "-v", speech.voice]
    command += ["-s", str(speech.words_per_minute), "-p", str(speech.pitch), speech.text]
    done = subprocess.run(command, capture_output=True, check=True)
    with wave.open(io.BytesIO(done.stdout)) as sound:
        rate = sound.getframerate()
        data = done.stdout[done.stdout.index(b"data") + 8 :]
    data = data[: len(data) // 2 * 2]
    return np.frombuffer(data, dtype="<i2").astype(np.float64) / 32768, rate


def in_a_room(samples: Samples, rate: int) -> Samples:
    """Two channels ``[n, 2]``: the voice a little left of the middle, and the far wall's echo."""
    late, echo = round(rate * 0.0004), round(rate * 0.031)
    left = np.pad(samples, (0, late + echo))
    right = np.pad(samples, (late, echo)) * 0.85
    for channel, far in ((left, 0.10), (right, 0.16)):
        channel[echo:] += far * np.pad(samples, (0, late))
    return np.stack([left, right], axis=1)


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """16-bit PCM, the loudest sample at −2 dBFS."""
    peak = float(np.abs(samples).max())
    levels = np.round(samples / peak * 10 ** (-2 / 20) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(levels.tobytes())


def make_portraits(folder: Path) -> list[Path]:
    """Draw every portrait into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, draw in PORTRAITS.items():
        path = folder / f"{name}.png"
        draw().save(path, optimize=True)
        made.append(path)
    return made


def make_speech(folder: Path) -> list[Path]:
    """Speak every text into ``folder``. Raises ``FileNotFoundError`` without ``espeak-ng``."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise FileNotFoundError("espeak-ng is not installed; it is needed to make the speech")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for speech in SPEECH:
        samples, rate = spoken(speech, program)
        samples = resampled(samples, rate, speech.rate)
        if speech.channels == 2:
            samples = in_a_room(samples, speech.rate)
        path = folder / f"{speech.name}.wav"
        write_wav(path, samples, speech.rate)
        made.append(path)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description="Remake the sample portraits and speech.")
    parser.add_argument("--only", choices=("portraits", "speech"))
    only = parser.parse_args().only
    made: list[Path] = []
    if only != "speech":
        made += make_portraits(HERE / "portraits")
    if only != "portraits":
        try:
            made += make_speech(HERE / "speech")
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 1
    for path in made:
        print(f"{path.relative_to(HERE)}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
