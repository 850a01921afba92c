"""Tensors out of files: safetensors by position, ``.pth`` by torch with ``weights_only=True``."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import torch
from torch import Tensor

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.header import DOWNLOAD_AGAIN, TensorInfo, read_header

DTYPES: Final[dict[str, torch.dtype]] = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
}


class TensorReader:
    """Reads tensors by their place in files, through one reused staging buffer.

    A tensor that the target can take as it is (host memory, same dtype) is read straight into it.
    """

    def __init__(self, tensors: Mapping[str, TensorInfo]) -> None:
        self.tensors = tensors
        self._open: dict[str, int] = {}
        self._staging: Tensor | None = None

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and let the staging buffer go."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        self._staging = None

    def dtype(self, name: str) -> torch.dtype:
        info = self.tensors[name]
        if info.dtype not in DTYPES:
            raise CheckpointError(
                "wrong dtype",
                where=info.file,
                why=f"{info.dtype} cannot be computed with",
                tensor=name,
                remedy="take the bf16 weights of the model's source",
            )
        return DTYPES[info.dtype]

    def into(self, name: str, target: Tensor) -> None:
        """Read tensor ``name`` into ``target`` (its shape), rounded once to its dtype."""
        info = self.tensors[name]
        if info.bytes == 0:
            return
        dtype = self.dtype(name)
        if target.device.type == "cpu" and target.dtype == dtype and target.is_contiguous():
            self._read(info, target.view(-1).view(torch.uint8))
            return
        staging = self._stage(info.bytes, pinned=target.device.type == "cuda")
        self._read(info, staging)
        target.copy_(staging.view(dtype).view(target.shape))

    def read(self, name: str) -> Tensor:
        """Tensor ``name`` in host memory, in the file's dtype."""
        tensor = torch.empty(self.tensors[name].shape, dtype=self.dtype(name))
        self.into(name, tensor)
        return tensor

    def _stage(self, size: int, *, pinned: bool) -> Tensor:
        if self._staging is None or self._staging.numel() < size:
            self._staging = None  # the old one goes before the new one comes
            self._staging = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        return self._staging[:size]

    def _read(self, info: TensorInfo, target: Tensor) -> None:
        view = target.numpy().data
        try:
            if info.file not in self._open:
                self._open[info.file] = os.open(info.file, os.O_RDONLY)
            descriptor, at = self._open[info.file], info.offset
            while view:
                count = os.preadv(descriptor, [view[: 1 << 30]], at)
                if count == 0:
                    raise CheckpointError("truncated file", where=info.file, remedy=DOWNLOAD_AGAIN)
                view, at = view[count:], at + count
        except OSError as error:
            raise CheckpointError(
                "cannot be read",
                where=info.file,
                why=error.strerror or str(error),
                remedy="check the disk and the file's permissions",
            ) from error


def state_dict(path: Path | str) -> dict[str, Tensor]:
    """All tensors of a ``.pth``, ``.bin`` or ``.safetensors`` file, mapped rather than read.

    A pickle is loaded with ``weights_only=True`` and in no other way.

    Raises:
        CheckpointError: unreadable, damaged, or a pickle that wants to run code.
    """
    where = str(path)
    if Path(path).suffix == ".safetensors":
        from safetensors import safe_open

        read_header(path)  # our own bounded check first
        with safe_open(where, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "refused: it holds more than tensors",
            where=where,
            why=str(error).splitlines()[0][:200],
            remedy="take the weights from a source you trust; this file could run code",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            "cannot be loaded",
            where=where,
            why=(str(error).splitlines() or [""])[0][:200],
            remedy=DOWNLOAD_AGAIN,
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise CheckpointError(
            "no state dict", where=where, remedy="name the file that holds the weights alone"
        )
    return {str(name): tensor for name, tensor in loaded.items()}
