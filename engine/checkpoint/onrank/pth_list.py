"""A short child process: the tensors of ``.pth`` files as JSON, without reading their data.

    python -m engine.checkpoint.onrank.pth_list FILE…

prints a list with one object per file: ``{"tensors": {name: [dtype, [shape]]}}`` or
``{"error": {what, where, why, remedy}}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.onrank.files import DTYPES, state_dict


def listed(path: Path) -> dict[str, Any]:
    """What is printed for one file."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    try:
        tensors = state_dict(path)
    except CheckpointError as error:
        told = {"what": error.what, "where": error.where, "why": error.why, "remedy": error.remedy}
        return {"error": told}
    return {
        "tensors": {
            name: [names.get(t.dtype, str(t.dtype).removeprefix("torch.")), [*t.shape]]
            for name, t in tensors.items()
        }
    }


if __name__ == "__main__":
    print(json.dumps([listed(Path(path)) for path in sys.argv[1:]]))
