"""Where prompts, voices and portraits lie encoded: a file each, named by all that decides it.

No torch: the engine asks whether a job's are there before its ranks start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.layout import read_json
from engine.checkpoint.parts import component, speech_weights
from engine.geometry import DEFAULT_FPS
from engine.parameters.request import Request
from engine.ranks.protocol import RankSpec

_FORMAT: Final = 1  # raise it when what is kept changes
#: What a rank computes in, by a plan's word; as torch writes it.
_DTYPES: Final = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp8": "torch.bfloat16"}
#: Tokens of a prompt where the checkpoint does not say.
_TEXT_LEN: Final = 512


@dataclass(frozen=True)
class Wanted:
    """What decides the embeddings of one job."""

    prompt: str
    audio: Path
    infer_frames: int
    num_clip: int
    fps: int
    text_len: int

    @classmethod
    def of(cls, request: Request, config: Mapping[str, Any]) -> Self:
        """What a request asks of a checkpoint with this ``config.json``."""
        return cls(
            prompt=request.prompt,
            audio=Path(str(request.audio)),
            infer_frames=request.infer_frames,
            num_clip=request.num_clip,
            fps=int(config.get("sample_fps", DEFAULT_FPS)),
            text_len=int(config.get("text_len", _TEXT_LEN)),
        )


@dataclass(frozen=True)
class Shelf:
    """What one checkpoint encoded, in one folder.

    Attributes:
        paths: ``Layout.paths()``.
        dtype, device, text_device: of the encoders: numbers and kernels differ with them.
    """

    paths: Mapping[str, str]
    folder: Path
    dtype: str
    device: str
    text_device: str

    def prompt(self, wanted: Wanted) -> Path:
        """The prompt's file, be it there or not."""
        parts = {
            "prompt": wanted.prompt,
            "text_len": wanted.text_len,
            "t5": _identity(component(self.paths, "t5")),
            "tokenizer": _identity(component(self.paths, "tokenizer")),
        }
        return self._file("prompt", parts, self.text_device)

    def audio(self, wanted: Wanted) -> Path:
        """The audio's file, be it there or not."""
        parts = {
            "audio": _digest(wanted.audio),
            "infer_frames": wanted.infer_frames,
            "num_clip": wanted.num_clip,
            "fps": wanted.fps,
            "wav2vec": _identity(speech_weights(self.paths)),
        }
        return self._file("audio", parts, self.device)

    def portrait(self, image: Path, size: tuple[int, int], frames: int) -> Path:
        """The file of a portrait's latents, be it there or not.

        Args:
            size: width and height of the video.
            frames: still ones that the motion latents are of.
        """
        parts = {
            "portrait": _digest(image),
            "size": size,
            "frames": frames,
            "vae": _identity(component(self.paths, "vae")),
        }
        return self._file("portrait", parts, self.device)

    def _file(self, kind: str, parts: dict[str, Any], device: str) -> Path:
        parts |= {"format": _FORMAT, "dtype": self.dtype, "device": device}
        name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{kind}-{name}.safetensors"


def at_hand(spec: RankSpec) -> bool:
    """Whether a rank of this specification finds its embeddings and encodes nothing.

    True as well where that cannot be told: the rank will, and say so.
    """
    device = spec.device.partition(":")[0]
    text_device = "cpu" if spec.plan["encoder_device"] == "host" else device
    folder, dtype = Path(spec.cache_dir), _DTYPES[spec.plan["dtype"]]
    shelf = Shelf(spec.layout, folder, dtype, device, text_device)
    try:
        wanted = Wanted.of(Request.from_dict(spec.request), read_json(Path(spec.layout["config"])))
        return shelf.prompt(wanted).exists() and shelf.audio(wanted).exists()
    except (OSError, CheckpointError):
        return True


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _identity(path: str) -> list[str | int]:
    """What tells one file (or folder of files) from another without reading 11 GB."""
    place = Path(path)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found: list[str | int] = []
    for file in files:
        facts = file.stat()
        found += [str(file.resolve()), facts.st_size, facts.st_mtime_ns]
    return found
