"""Prompts and what the checkpoint's text encoder makes of them.

python -m sample_data.training.texts CKPT OUT.safetensors [prompts]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from engine.checkpoint.layout import find
from engine.checkpoint.onrank.encoders import component
from engine.checkpoint.onrank.files import state_dict
from engine.model.config import DiTConfig
from engine.model.text import TextEncoder
from sample_data.faces.prompts import prompts


def write(ckpt: Path, out: Path, count: int) -> None:
    """``context [count, text_len, text_dim]``, padded with zeros, and ``smile [count]``."""
    layout = find(ckpt)
    paths, length = layout.paths(), DiTConfig.from_dict(layout.config).text_len
    encoder = TextEncoder.from_state_dict(
        state_dict(component(paths, "t5")),
        text_len=length,
        tokenizer_dir=component(paths, "tokenizer"),
        dtype=torch.float32,
    )
    made = prompts(count)
    with torch.no_grad():
        found = [encoder.encode(text) for text, _ in made]
    context = torch.stack([F.pad(one, (0, 0, 0, length - len(one))) for one in found])
    save_file({"context": context.half(), "smile": torch.tensor([glad for _, glad in made])}, out)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 192)
