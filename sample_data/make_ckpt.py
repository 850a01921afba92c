"""Remakes ``sample_data/ckpt``: the small random checkpoint in the real layout.

python sample_data/make_ckpt.py
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from engine.checkpoint.synth import synth  # noqa: E402

SEED = 20250


def main() -> None:
    out = HERE / "ckpt"
    fresh = HERE / "ckpt.new"
    shutil.rmtree(fresh, ignore_errors=True)
    result = synth("tiny", fresh, SEED)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    print(f"{out}: {result.bytes:,} bytes, {result.params:,} parameters")


if __name__ == "__main__":
    main()
