"""Prompt and audio to embeddings: encoded once, by one rank, kept by hash for other jobs.

The encoders exist only while they work. What they give lies in a file per prompt and per audio,
which every rank maps: pages are shared, and a long audio is never in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.layout import read_json
from engine.checkpoint.onrank.files import state_dict
from engine.checkpoint.parts import component, speech_weights
from engine.media.audio import load_mono16k
from engine.model import bucket
from engine.ranks.embeddings import Shelf, Wanted


@dataclass(frozen=True)
class Embeddings:
    """What a video hears and is told.

    ``context [L, text_dim]``; ``audio [1, states, audio_dim, clips · infer_frames]``, mapped.
    """

    context: Tensor
    audio: Tensor
    clips: int


class Encoders:
    """The text and speech encoders of one checkpoint, and the folder that keeps what they gave.

    Args:
        paths: ``Layout.paths()``.
        dtype: of the encoders' weights and arithmetic.
        device: where they run.
        text_on_host: the text encoder, by far the larger, runs in host memory instead.
    """

    def __init__(
        self,
        paths: Mapping[str, str],
        folder: Path,
        dtype: torch.dtype,
        device: torch.device,
        *,
        text_on_host: bool = False,
    ) -> None:
        self._paths, self._folder = paths, folder
        self._dtype, self._device = dtype, device
        self._text_device = torch.device("cpu") if text_on_host else device
        self._shelf = Shelf(paths, folder, str(dtype), device.type, self._text_device.type)

    def missing(self, wanted: Wanted) -> list[tuple[str, Callable[[], None]]]:
        """What is not kept yet: its name, and the function that makes and keeps it."""
        jobs: list[tuple[str, Path, Callable[[], dict[str, Tensor]]]] = [
            ("prompt", self._shelf.prompt(wanted), lambda: self._encode_text(wanted)),
            ("audio", self._shelf.audio(wanted), lambda: self._encode_audio(wanted)),
        ]
        return [
            (name, lambda path=path, make=make: keep(path, make()))  # type: ignore[misc]
            for name, path, make in jobs
            if not _readable(path)
        ]

    def device_bytes(self, names: Iterable[str]) -> int:
        """The most that the weights of these encoders take on the device, one after another."""
        sizes = []
        for name in names:
            text = name == "prompt"
            if not (text and self._text_device != self._device):
                path = component(self._paths, "t5") if text else speech_weights(self._paths)
                sizes.append(Path(path).stat().st_size)
        # Files hold two bytes a parameter, or more.
        return max(sizes, default=0) * self._dtype.itemsize // 2

    def read(self, wanted: Wanted) -> Embeddings:
        """What was kept.

        Raises:
            CheckpointError: it cannot be read, though it was made.
        """
        try:
            with safe_open(str(self._shelf.prompt(wanted)), framework="pt") as file:
                context = file.get_tensor("context")
            with safe_open(str(self._shelf.audio(wanted)), framework="pt") as file:
                audio = file.get_tensor("audio")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                "kept embeddings cannot be read",
                where=str(self._folder),
                why=str(error)[:200],
                remedy="delete this folder; it is made again",
            ) from error
        # Frames come first in the file, so that a block's are one run of pages.
        frames = audio.permute(1, 2, 0).unsqueeze(0)
        return Embeddings(context, frames, len(audio) // wanted.infer_frames)

    # Text

    def _encode_text(self, wanted: Wanted) -> dict[str, Tensor]:
        from engine.model.text import TextEncoder  # late: most jobs find it encoded

        path = component(self._paths, "t5")
        with _as_checkpoint_error(path):
            encoder = TextEncoder.from_state_dict(
                {n: t.to(self._text_device, self._dtype) for n, t in state_dict(path).items()},
                text_len=wanted.text_len,
                tokenizer_dir=component(self._paths, "tokenizer"),
            )
        with _host_threads(wanted=self._text_device.type != self._device.type):
            return {"context": encoder.encode(wanted.prompt).cpu().contiguous()}

    # Audio

    def _encode_audio(self, wanted: Wanted) -> dict[str, Tensor]:
        from engine.model.speech import SpeechEncoder

        path = speech_weights(self._paths)
        config = read_json(Path(component(self._paths, "wav2vec")) / "config.json")
        with _as_checkpoint_error(path):
            encoder = SpeechEncoder.from_state_dict(
                config, {n: t.to(self._device, self._dtype) for n, t in state_dict(path).items()}
            )
        features = bucket.resample(encoder.encode(load_mono16k(wanted.audio)).cpu())
        del encoder
        clips = min(
            wanted.num_clip, bucket.clips(features.shape[1], wanted.fps, wanted.infer_frames)
        )
        whole = bucket.bucket(features, fps=wanted.fps, infer_frames=wanted.infer_frames)
        frames = whole[0, :, :, : clips * wanted.infer_frames]
        return {"audio": frames.permute(2, 0, 1).contiguous()}


@contextmanager
def _host_threads(*, wanted: bool) -> Iterator[None]:
    """All processors for work on the host that a GPU's rank does, which has one thread otherwise.

    A CPU rank keeps to one, so that it computes the same beside any number of others.
    """
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _as_checkpoint_error:  # noqa: N801 - reads as a statement
    """Turns the models' ``ValueError`` about tensors into one that names the file."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError) and not isinstance(error, CheckpointError):
            raise CheckpointError(
                "not the encoder that is expected",
                where=self._where,
                why=str(error)[:300],
                remedy="take it from the model's source again",
            ) from error


def _readable(path: Path) -> bool:
    try:
        with safe_open(str(path), framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def keep(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
