"""Tensor lists of ``.pth`` files, asked of a short child process: this one never loads torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.errors import CheckpointError
from engine.sentence import sentence

_MODULE: Final = "engine.checkpoint.onrank.pth_list"
_TIMEOUT: Final = 300.0  # seconds; torch may have to come from a cold disk


@dataclass(frozen=True)
class PthTensor:
    """dtype (as in safetensors) and shape of one tensor of a ``.pth``."""

    dtype: str
    shape: tuple[int, ...]


def list_pth(paths: Sequence[Path]) -> dict[Path, dict[str, PthTensor] | CheckpointError]:
    """The tensors of each file, or why it cannot be loaded. One child for all.

    Raises:
        CheckpointError: the child itself failed or took too long.
    """
    if not paths:
        return {}
    root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": search, "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE, *map(str, paths)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
        answers = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError, OSError) as error:
        raise CheckpointError(
            sentence("the tensors of .pth files could not be listed"),
            where=str(paths[0]),
            why=sentence("{name} in the child process", name=type(error).__name__),
            remedy=sentence("try again with --headers-only"),
        ) from error
    return {path: _answer(answer) for path, answer in zip(paths, answers, strict=True)}


def _answer(answer: dict[str, Any]) -> dict[str, PthTensor] | CheckpointError:
    error = answer.get("error")
    if error is not None:
        return CheckpointError(
            error["what"], where=error["where"], why=error["why"], remedy=error["remedy"]
        )
    return {
        name: PthTensor(dtype, tuple(shape)) for name, (dtype, shape) in answer["tensors"].items()
    }
