"""How each tensor of a synthetic checkpoint is drawn: outputs stay finite and of unit order.

Linears and convolutions by fan-in, norms around one, biases and modulation small, projections that
write into a residual stream divided by the depth's root.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from engine.checkpoint.randoms import Init

Shape = tuple[int, ...]
_ONES = Init(1.0, 0.02)
_SMALL = Init(0.0, 0.02)


def _fan_in(shape: Shape, gain: float = 1.0) -> Init:
    return Init(0.0, round(gain / math.sqrt(math.prod(shape[1:])), 9))


def dit_init(name: str, shape: Shape, layers: int) -> Init:
    if name == "casual_audio_encoder.weights":
        return Init(1.0, 0.1)  # their SiLU is a divisor: keep it away from zero
    if "norm" in name and name.endswith(".weight"):
        return _ONES
    if name.endswith(".bias"):
        return _SMALL
    if name.endswith("modulation"):
        return Init(0.0, 0.1)
    if name == "trainable_cond_mask.weight" or name.endswith("padding_tokens"):
        return Init(0.0, 0.2)
    return _fan_in(shape, _depth_gain(name.removesuffix(".weight"), layers))


def _depth_gain(path: str, layers: int) -> float:
    return 1 / math.sqrt(layers) if path.endswith((".o", ".ffn.2")) else 1.0


def vae_init(name: str, shape: Shape) -> Init:
    if name.endswith("gamma"):
        return _ONES
    return _SMALL if name.endswith(".bias") else _fan_in(shape)


def t5_init(name: str, shape: Shape, head_dim: int) -> Init:
    if "norm" in name:
        return _ONES
    if name == "token_embedding.weight":
        return Init(0.0, 1.0)
    if "pos_embedding" in name:
        return Init(0.0, 0.2)
    # No 1/sqrt(d) in umT5's attention: the query weights carry it.
    return _fan_in(shape, 1 / math.sqrt(head_dim) if name.endswith("attn.q.weight") else 1.0)


def wav2vec_init(name: str, shape: Shape, table: Mapping[str, Shape]) -> Init:
    if name.endswith("weight_g"):
        out, width, _ = table[name.removesuffix("g") + "v"]
        # ‖v‖ over (out, in) per tap, times the wanted deviation 1/sqrt(fan in).
        return Init(math.sqrt(out * width / (width * shape[2])), 0.01)
    if "layer_norm" in name and name.endswith(".weight"):
        return _ONES
    if name.endswith(".bias"):
        return _SMALL
    if name.endswith("masked_spec_embed"):
        return Init(0.0, 0.2)
    return _fan_in(shape)


def lora_init(name: str, shape: Shape, layers: int) -> Init:
    """The merged change is about a tenth of the weight it is added to (at alpha = rank / 2)."""
    if ".lora_A." in name:
        return _fan_in(shape)
    gain = _depth_gain(name.partition(".lora_")[0], layers)
    return Init(0.0, round(0.2 * gain / math.sqrt(shape[1]), 9))
