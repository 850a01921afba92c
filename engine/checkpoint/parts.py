"""Single files of a checkpoint, out of ``Layout.paths()``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.checkpoint.errors import CheckpointError
from engine.sentence import sentence


def speech_weights(paths: Mapping[str, str]) -> str:
    """The weights' file in the wav2vec2 folder.

    Raises:
        CheckpointError: the folder holds none.
    """
    folder = Path(component(paths, "wav2vec"))
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return str(folder / name)
    raise CheckpointError(
        sentence("no weights in it"),
        where=str(folder),
        remedy=sentence("download model.safetensors into it"),
    )


def component(paths: Mapping[str, str], name: str) -> str:
    """The path of one component. Raises ``CheckpointError`` when the checkpoint lacks it."""
    if name not in paths:
        raise CheckpointError(
            sentence("{name} is missing", name=name),
            where=paths.get("root", ""),
            remedy=sentence("run `avatop ckpt verify` on this directory"),
        )
    return paths[name]
