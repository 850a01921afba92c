"""An item before a device is touched: is it still what was frozen, can it be read, 16 kHz mono."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from engine.batch.keys import file_digest
from engine.batch.rows import ItemRow
from engine.media.audio import MODEL_RATE, audio_info, load_mono16k
from engine.media.findings import Finding, MediaError
from engine.media.lint import lint_audio, lint_image, lint_prompt
from engine.media.segment import PART
from engine.sentence import sentence

_PER_FRAME: Final = 1 << 14


class NotPrepared(Exception):  # noqa: N818 - says what happened
    """An item that cannot be made as it is: another try would read the same bytes."""

    def __init__(self, message: str, cause: str = "bad_input") -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Ready:
    """An item that may go to a device. ``audio`` is what the job hears."""

    audio: Path
    resampled: bool
    findings: tuple[Finding, ...]


def prepare_item(item: ItemRow, work: Path) -> Ready:
    """Check one item and put its sound into ``work`` as 16 kHz mono, if it is not that already.

    The samples are the very ones that a job would compute from the original (float, not rounded),
    so the video's picture is the same. Blocks; decodes the whole sound.

    Raises:
        NotPrepared: it is not what was frozen, or cannot be used.
        OSError: ``work`` cannot be written (a full disk: may pass).
    """
    audio, image = Path(item.audio), Path(item.image)
    for path, frozen in ((audio, item.audio_sha256), (image, item.image_sha256)):
        try:
            same = file_digest(path) == frozen
        except OSError as error:
            raise NotPrepared(
                sentence(
                    "{path} cannot be read any more: {strerror}", path=path, strerror=error.strerror
                )
            ) from error
        if not same:
            raise NotPrepared(
                sentence("{path} changed after the batch was frozen", path=path), "changed_input"
            )
    findings = lint_item(item)
    bad = [finding.sentence for finding in findings if finding.level == "error"]
    if bad:
        raise NotPrepared(" ".join(bad))
    try:
        info = audio_info(audio)
        if (info.rate, info.channels) == (MODEL_RATE, 1) and info.codec.startswith("pcm_"):
            return Ready(audio, False, findings)
        sound = load_mono16k(audio)
    except MediaError as error:  # it was read a moment ago
        raise NotPrepared(str(error)) from error
    target = work / f"{item.key[:32]}.wav"
    write_mono16k(target, sound)
    return Ready(target, True, findings)


def write_mono16k(path: Path, sound: NDArray[np.float32]) -> None:
    """Write float32 ``[samples]`` at 16 kHz as WAV; whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + PART)
    try:
        with av.open(str(temporary), "w", format="wav") as container:
            stream = container.add_stream("pcm_f32le", rate=MODEL_RATE)
            stream.layout = "mono"
            for start in range(0, len(sound), _PER_FRAME):
                part = np.ascontiguousarray(sound[None, start : start + _PER_FRAME])
                frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
                frame.sample_rate = MODEL_RATE
                frame.pts = start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        os.replace(temporary, path)  # noqa: PTH105 (says what it does)
    except av.error.FFmpegError as error:
        raise OSError(
            error.errno,
            sentence("{path} cannot be written: {strerror}", path=path, strerror=error.strerror),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def lint_item(item: ItemRow) -> tuple[Finding, ...]:
    """What the job's own lint would say of an item's files (F5), errors first. Decodes them."""
    request: dict[str, Any] = item.request
    low = bool(request.get("accept_low_quality"))
    _, found = lint_image(Path(item.image), accept_low_quality=low)
    findings = list(found)
    frames = int(request.get("infer_frames") or 48)
    _, found = lint_audio(Path(item.audio), infer_frames=frames, accept_low_quality=low)
    findings += found
    _, found = lint_prompt(str(request.get("prompt") or ""))
    return tuple(sorted([*findings, *found], key=lambda f: f.level))
