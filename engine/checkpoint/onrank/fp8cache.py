"""fp8 weights kept beside the checkpoint, so that later launches read half the bytes.

One file per unit of weights and set of linears, in a folder named after what it was made from: the
checkpoint's files, the LoRA and its strength. A change of any of them is another folder. Files
appear whole under their name (written aside, then renamed), so ranks need not agree on who writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoint.header import HeaderError, TensorInfo, read_header
from engine.sentence import sentence

FOLDER: Final = "avatop-fp8"
#: Counts up when the same inputs give other bytes.
_FORMAT: Final = 1
#: Bytes of the disk that stay free.
_MARGIN: Final = 1 << 30


class Fp8Cache:
    """Quantised linears of one checkpoint.

    Args:
        beside: the folder of the DiT's files.
        files: everything the weights are made from.
        made: how: the dtype that was quantised, the LoRA's strength.

    ``remark`` says why nothing could be kept, once that was tried.
    """

    def __init__(self, beside: Path, files: Iterable[Path], made: Mapping[str, object]) -> None:
        stamps = []
        for file in files:
            stat = file.stat()
            stamps.append([file.name, stat.st_size, stat.st_mtime_ns])
        what = json.dumps([_FORMAT, sorted(stamps), dict(made)], sort_keys=True, default=str)
        self.folder = beside / FOLDER / hashlib.sha256(what.encode()).hexdigest()[:16]
        self.remark: str | None = None

    def find(self, unit: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
        """Where the tensors of ``shapes`` lie; nothing if they are not all kept."""
        try:
            kept = read_header(self._file(unit, shapes)).tensors
        except HeaderError:
            return {}
        whole = set(kept) == set(shapes) and all(kept[n].shape == s for n, s in shapes.items())
        return dict(kept) if whole else {}

    def keep(self, unit: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors of a unit. A disk that does not take them is told in ``remark``."""
        file = self._file(unit, tensors)
        aside = file.with_suffix(f".{os.getpid()}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            size = sum(tensor.nbytes for tensor in tensors.values())
            if shutil.disk_usage(file.parent).free < size + _MARGIN:
                self.remark = sentence(
                    "{parent}: no room left for {size} bytes", parent=file.parent, size=size
                )
                return
            save_file({name: tensor.cpu() for name, tensor in tensors.items()}, aside)
            aside.replace(file)
        except OSError as error:
            self.remark = f"{file.parent}: {error.strerror or error}"
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def _file(self, unit: str, names: Iterable[str]) -> Path:
        # A unit may be read in parts: what a job needs once is read before the rest.
        part = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:8]
        return self.folder / f"{unit.replace(' ', '-')}-{part}.safetensors"
