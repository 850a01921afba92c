"""A short child process: the tensors of one ``.pth`` as JSON, without reading their data.

    python -m engine.checkpoint.onrank.pth_list FILE

prints ``{"tensors": {name: [dtype, [shape]]}}``, or ``{"error": {what, where, why, remedy}}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.onrank.files import DTYPES, state_dict


def main(path: str) -> int:
    """Print the list of one file; 1 when it cannot be loaded."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    try:
        tensors = state_dict(Path(path))
    except CheckpointError as error:
        told = {"what": error.what, "where": error.where, "why": error.why, "remedy": error.remedy}
        print(json.dumps({"error": told}))
        return 1
    listed = {
        name: [names.get(tensor.dtype, str(tensor.dtype).removeprefix("torch.")), [*tensor.shape]]
        for name, tensor in tensors.items()
    }
    print(json.dumps({"tensors": listed}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
