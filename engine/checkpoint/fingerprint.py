"""Are a checkpoint's files those that a video was begun with? Told from samples of their bytes.

Reading 45 GB takes longer than a job may wait. Weights that were trained on differ everywhere, and
a copy that was cut off or is still being written differs in its size.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from engine.checkpoint.layout import Layout

#: The checkpoint's folder as such, which may hold what no job reads.
_WHOLE: Final = frozenset({"root", "dit"})
#: How many pieces are read of a file, and how large they are.
_PIECES: Final = 64
_PIECE: Final = 64 << 10


def files_of(layout: Layout) -> frozenset[Path]:
    """The real files that a job reads (links followed, folders opened)."""
    found = {layout.config_file.resolve()}
    found |= {Path(file).resolve() for file in layout.dit_files}
    found |= {index.resolve() for index in layout.root.glob("*.index.json")}
    for name, where in layout.paths().items():
        path = Path(where)
        if name not in _WHOLE:
            parts = path.rglob("*") if path.is_dir() else (path,)
            found |= {part.resolve() for part in parts if part.is_file()}
    return frozenset(found)


def fingerprint(layout: Layout) -> str:
    """The same as long as the files hold the same, wherever they lie. Blocks.

    Raises:
        OSError: one cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(files_of(layout), key=lambda path: (path.name, str(path))):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb", buffering=0) as file:
            step = max(_PIECE, (size - _PIECE) // (_PIECES - 1))
            for start in range(0, size, step):
                file.seek(start)
                digest.update(file.read(_PIECE))
    return digest.hexdigest()
