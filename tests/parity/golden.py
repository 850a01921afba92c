"""The reference's numbers: where they lie, how to read them, how to compare.

``AVATOP_GOLDEN`` names another root of the same layout; ``AVATOP_TEST_DEVICE`` another device.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(os.environ.get("AVATOP_GOLDEN") or Path(__file__).parents[1] / "golden")
DEVICE = torch.device(os.environ.get("AVATOP_TEST_DEVICE", "cpu"))


def variants(group: str) -> list[str]:
    """Names of the variants of a group, each a folder with ``spec.json`` in it or below it."""
    folders = sorted(p for p in (ROOT / group).iterdir() if p.is_dir())
    assert folders, f"no variant under {ROOT / group}"
    return [p.name for p in folders]


def cases(group: str) -> list[str]:
    """``variant/case`` of a group whose variants have several cases."""
    found = sorted((ROOT / group).glob("*/*/spec.json"))
    assert found, f"no case under {ROOT / group}"
    return [f"{p.parent.parent.name}/{p.parent.name}" for p in found]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file on the test's device, in the dtype they are stored in."""
    return load_file(path, device=str(DEVICE))


def weights(
    folder: Path, pattern: str = "diffusion_pytorch_model-*.safetensors"
) -> dict[str, Tensor]:
    """All shards of a checkpoint, in float32."""
    found: dict[str, Tensor] = {}
    for shard in sorted(folder.glob(pattern)):
        found |= {name: t.float() for name, t in tensors(shard).items()}
    return found


def rel_l2(actual: Tensor, expected: Tensor) -> float:
    """``|a − b| / |b|`` over a whole tensor, in float64."""
    a, b = actual.double(), expected.double()
    assert a.shape == b.shape, f"{list(a.shape)} against {list(b.shape)}"
    return float((a - b).norm() / b.norm())


def close(actual: Tensor, expected: Tensor, tolerance: float, what: str = "") -> None:
    """Fails with the measured distance."""
    assert torch.isfinite(actual).all(), f"{what}: not finite"
    distance = rel_l2(actual, expected)
    assert distance <= tolerance, f"{what}: {distance:.2e} > {tolerance:.0e}"


def subset(names: Iterable[str], prefix: str) -> list[str]:
    return sorted(name for name in names if name.startswith(prefix))
