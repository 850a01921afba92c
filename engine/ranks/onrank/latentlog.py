"""Final latents of a video on disk, in order: its hash can be told however often it was resumed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from engine.placement.onrank.state import raw

#: The file's name in the folder of a job's clips; removed when the job has ended for good.
LATENT_LOG: Final = "latents.bin"


class LatentLog:
    """Latents ``[16,3,h,w]`` of one dtype, block by block. A block cut short does not count.

    Args:
        like: shape and dtype of every latent.

    Raises (also later):
        OSError: it cannot be written or read.
    """

    def __init__(self, path: Path, like: Tensor) -> None:
        self._shape, self._dtype = like.shape, like.dtype
        self._size = like.numel() * like.element_size()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def blocks(self) -> int:
        """Blocks it holds from the first on."""
        return os.fstat(self._descriptor).st_size // self._size

    def write(self, block: int, latent: Tensor) -> None:
        """Keep a block in host memory; blocks come in order, one written before may come again."""
        data, done = raw(latent.contiguous()), 0
        while done < self._size:
            done += os.pwrite(self._descriptor, data[done:], block * self._size + done)

    def read(self, block: int) -> Tensor:
        """Raises ``OSError`` for a block that is not there."""
        latent = torch.empty(self._shape, dtype=self._dtype)
        if os.preadv(self._descriptor, [raw(latent)], block * self._size) != self._size:
            raise OSError(f"the latents of block {block} were not kept")
        return latent

    def cut(self, blocks: int) -> None:
        """Forget all but the first ``blocks``."""
        os.truncate(self._descriptor, min(self.blocks, blocks) * self._size)

    def sync(self) -> None:
        """Make it survive a loss of power."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
