"""Inputs looked at before a device is touched (F5): portrait, voice, prompt."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from engine.geometry import BLOCK_FRAMES, DEFAULT_FPS, clips_in_audio
from engine.media.audio import MODEL_RATE, audio_info, load_mono16k
from engine.media.findings import Finding, MediaError
from engine.media.image import image_info, load_rgb
from engine.media.words import OPPOSITES
from engine.sentence import sentence

MIN_SIDE: Final = 512
MIN_RATE: Final = 16_000
MIN_TOKENS: Final = 10
MAX_TOKENS: Final = 512
#: Silence is below this level, and worth a word from this length on.
SILENCE_DBFS: Final = -50.0
SILENCE_SECONDS: Final = 0.5
_QUIET_DBFS = -35.0
_WINDOW = MODEL_RATE // 50

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af]")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class InputFacts:
    """What the inputs hold; ``None`` where one could not be read."""

    image_wh: tuple[int, int] | None = None
    audio_samples: int | None = None  # at 16 kHz, as the model will hear it
    audio_rate: int | None = None  # of the file
    audio_channels: int | None = None
    prompt_tokens: int | None = None

    @property
    def audio_seconds(self) -> float | None:
        return None if self.audio_samples is None else self.audio_samples / MODEL_RATE


@dataclass(frozen=True)
class Lint:
    """Findings, errors first, and the facts they rest on."""

    findings: tuple[Finding, ...]
    facts: InputFacts

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "warning")


def lint_inputs(
    image: Path,
    audio: Path,
    prompt: str,
    *,
    infer_frames: int = 48,
    fps: int = DEFAULT_FPS,
    count_tokens: Callable[[str], int] | None = None,
    accept_low_quality: bool = False,
) -> Lint:
    """Look at all inputs of a job.

    Args:
        count_tokens: the checkpoint's tokenizer; without it words and CJK characters are counted.
        accept_low_quality: too small a picture or too low a rate only warn.
    """
    findings: list[Finding] = []
    wh, found = lint_image(image, accept_low_quality=accept_low_quality)
    findings += found
    facts, found = lint_audio(
        audio, infer_frames=infer_frames, fps=fps, accept_low_quality=accept_low_quality
    )
    findings += found
    tokens, found = lint_prompt(prompt, count_tokens)
    findings += found
    findings.sort(key=lambda f: f.level)  # "error" < "warning"
    return Lint(
        tuple(findings),
        InputFacts(
            wh, facts.audio_samples, facts.audio_rate, facts.audio_channels, prompt_tokens=tokens
        ),
    )


def lint_image(
    path: Path, *, accept_low_quality: bool = False
) -> tuple[tuple[int, int] | None, list[Finding]]:
    """The portrait's (width, height), ``None`` if unreadable, and findings."""
    try:
        info = image_info(path)
        pixels = np.asarray(load_rgb(path).convert("L").resize((64, 64)))
    except MediaError as error:
        text, remedy = str(error), sentence("give a JPEG, PNG or WebP portrait of at least 512x512")
        return None, [Finding("error", "image_unreadable", "image", text, remedy)]
    findings = []
    if min(info.width, info.height) < MIN_SIDE:
        findings.append(
            Finding(
                "warning" if accept_low_quality else "error",
                "image_small",
                "image",
                sentence(
                    "{name} is {width}x{height}, under {min_side}x{min_side}",
                    name=path.name,
                    width=info.width,
                    height=info.height,
                    min_side=MIN_SIDE,
                ),
                sentence("use a larger original, or --accept_low_quality to run all the same"),
            )
        )
    if info.frames > 1:
        text = sentence(
            "{name} is animated; only the first of {frames} frames is used",
            name=path.name,
            frames=info.frames,
        )
        findings.append(
            Finding("warning", "image_animated", "image", text, sentence("save the frame you want"))
        )
    if info.alpha:
        text = sentence("{name} has transparency; it is shown on white", name=path.name)
        findings.append(
            Finding(
                "warning",
                "image_alpha",
                "image",
                text,
                sentence("give a background of your choice"),
            )
        )
    if int(pixels.max()) - int(pixels.min()) < 8:
        text = sentence("{name} is one flat colour, there is no face in it", name=path.name)
        findings.append(
            Finding(
                "warning", "image_flat", "image", text, sentence("check that it is the right file")
            )
        )
    return (info.width, info.height), findings


def lint_audio(
    path: Path,
    *,
    infer_frames: int = 48,
    fps: int = DEFAULT_FPS,
    accept_low_quality: bool = False,
) -> tuple[InputFacts, list[Finding]]:
    """Facts of the sound and findings; decodes the whole file, once for as long as it is the same.

    Every plan of a job asks anew, and an hour of sound takes seconds.
    """
    try:
        sound = _heard(path, _file(path))
    except MediaError as error:
        text, remedy = str(error), sentence("give a WAV or MP3 of at least 16 kHz")
        return InputFacts(), [Finding("error", "audio_unreadable", "audio", text, remedy)]
    facts = InputFacts(None, sound.samples, sound.rate, sound.channels)
    findings = []
    if sound.rate < MIN_RATE:
        findings.append(
            Finding(
                "warning" if accept_low_quality else "error",
                "audio_rate",
                "audio",
                sentence(
                    "{name} has {rate} Hz, under {min_rate} Hz",
                    name=path.name,
                    rate=sound.rate,
                    min_rate=MIN_RATE,
                ),
                sentence("record at 16 kHz or more, or --accept_low_quality to run all the same"),
            )
        )
    samples = sound.samples
    seconds = samples / MODEL_RATE
    needed = BLOCK_FRAMES / fps
    if not samples or not clips_in_audio(samples, infer_frames, fps) or seconds < needed:
        text = (
            sentence(
                "{name} lasts {seconds:.2f} s; at least {needed:.2f} s (one block) are needed",
                name=path.name,
                seconds=seconds,
                needed=needed,
            )
            if samples
            else sentence(
                "{name} is empty; at least {needed:.2f} s (one block) are needed",
                name=path.name,
                needed=needed,
            )
        )
        findings.append(
            Finding("error", "audio_short", "audio", text, sentence("give a longer recording"))
        )
        return facts, findings
    if seconds < infer_frames / fps:
        text = sentence(
            "{name} lasts {seconds:.2f} s, less than one clip ({clip:.2f} "
            "s); the rest of the video is silent",
            name=path.name,
            seconds=seconds,
            clip=infer_frames / fps,
        )
        findings.append(
            Finding(
                "warning",
                "audio_under_clip",
                "audio",
                text,
                sentence("a lower infer_frames fits it"),
            )
        )
    return facts, findings + _levels(path.name, sound)


@dataclass(frozen=True)
class _Sound:
    """What of a sound is judged."""

    rate: int  # of the file
    channels: int
    samples: int  # at 16 kHz
    head: float | None  # seconds of silence that it begins with; None: silent throughout
    tail: float | None
    loudest: float  # dBFS of its loudest window


def _file(path: Path) -> tuple[int, ...]:
    """What is another for another file of a name, and after any change of it."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=64)
def _heard(path: Path, _file: tuple[int, ...]) -> _Sound:
    """Decode a file and measure it.

    Raises:
        MediaError: it cannot be read; that is not remembered.
    """
    info = audio_info(path)
    sound = load_mono16k(path)
    whole = sound[: len(sound) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
    level = 20 * np.log10(np.sqrt(np.mean(np.square(whole, dtype=np.float64), axis=1)) + 1e-9)
    loud = np.flatnonzero(level > SILENCE_DBFS)
    head = tail = None
    if len(loud):
        head = float(loud[0] * _WINDOW / MODEL_RATE)
        tail = float((len(level) - 1 - loud[-1]) * _WINDOW / MODEL_RATE)
    loudest = float(level.max(initial=-np.inf))
    return _Sound(info.rate, info.channels, len(sound), head, tail, loudest)


def _levels(name: str, sound: _Sound) -> list[Finding]:
    """Silence as a whole, at the head or the tail; too quiet."""
    head, tail = sound.head, sound.tail
    if head is None or tail is None:
        text = sentence(
            "{name} is silent throughout (nothing above {silence_dbfs:.0f} dBFS)",
            name=name,
            silence_dbfs=SILENCE_DBFS,
        )
        return [
            Finding(
                "error", "audio_silent", "audio", text, sentence("give a recording with a voice")
            )
        ]
    findings = []
    if head >= SILENCE_SECONDS:
        text = sentence("{name} begins with {seconds:.2f} s of silence", name=name, seconds=head)
        remedy = sentence("trim it: lips seem late when the voice starts late")
        findings.append(Finding("warning", "silence_head", "audio", text, remedy))
    if tail >= SILENCE_SECONDS:
        text = sentence("{name} ends with {seconds:.2f} s of silence", name=name, seconds=tail)
        remedy = sentence("trim it, or the avatar stays mute there")
        findings.append(Finding("warning", "silence_tail", "audio", text, remedy))
    if sound.loudest < _QUIET_DBFS:
        text = sentence(
            "{name} is very quiet (loudest part {max:.0f} dBFS)", name=name, max=sound.loudest
        )
        findings.append(
            Finding(
                "warning",
                "audio_quiet",
                "audio",
                text,
                sentence("raise the volume to about -20 dBFS"),
            )
        )
    return findings


def lint_prompt(
    prompt: str, count_tokens: Callable[[str], int] | None = None
) -> tuple[int, list[Finding]]:
    """The number of tokens and findings."""
    text = prompt.strip()
    tokens = count_tokens(text) if count_tokens and text else _rough_tokens(text)
    advice = sentence("say person, clothes, pose, scene, light and style")
    if not text:
        return 0, [Finding("error", "prompt_empty", "prompt", sentence("it is empty"), advice)]
    findings = []
    if tokens < MIN_TOKENS:
        what = sentence(
            "it has {tokens} tokens, under {min_tokens}: too short to steer the picture",
            tokens=tokens,
            min_tokens=MIN_TOKENS,
        )
        findings.append(Finding("warning", "prompt_short", "prompt", what, advice))
    if tokens > MAX_TOKENS:
        what = sentence(
            "it has {tokens} tokens; the model reads the first {max_tokens}",
            tokens=tokens,
            max_tokens=MAX_TOKENS,
        )
        remedy = sentence("put what matters first, or shorten it")
        findings.append(Finding("warning", "prompt_long", "prompt", what, remedy))
    for one, other in contradictory_words(text):
        what = sentence("“{one}” and “{other}” contradict each other", one=one, other=other)
        findings.append(
            Finding("warning", "prompt_contradiction", "prompt", what, sentence("keep one"))
        )
    return tokens, findings


def contradictory_words(prompt: str) -> list[tuple[str, str]]:
    """The first pair of opposites found for each quality, as written in the table."""
    lowered = prompt.lower()
    found = []
    for ones, others in OPPOSITES:
        one = next((word for word in ones if _has(lowered, word)), None)
        other = next((word for word in others if _has(lowered, word)), None)
        if one and other:
            found.append((one, other))
    return found


def _has(text: str, word: str) -> bool:
    if _CJK.search(word):
        return word in text
    return re.search(rf"(?<!not )(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _rough_tokens(text: str) -> int:
    cjk = len(_CJK.findall(text))
    return cjk + len(_WORD.findall(_CJK.sub(" ", text)))
