"""Names and shapes of the tensors of the VAE, the umT5 encoder and wav2vec2.

Each table follows from a few widths (the ``.pth`` files carry no configuration; wav2vec2 has one).
``NAMED_SHAPES`` holds those of the released checkpoint and of the small sample.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.checkpoint.errors import CheckpointError
from engine.sentence import sentence

Shape = tuple[int, ...]


@dataclass(frozen=True)
class VAEShape:
    """Wan 2.1's causal VAE: everything follows from the width of its first level.

    Smaller ones than the released may have other widths of their levels, outermost first, and
    another number of residual blocks.
    """

    dim: int
    z_dim: int = 16
    widths: tuple[int, ...] = ()
    blocks: int = 2

    @property
    def levels(self) -> tuple[int, ...]:
        """Width of each level, outermost first."""
        return self.widths or tuple(self.dim * multiple for multiple in _MULTIPLES)

    @classmethod
    def of(cls, found: Mapping[str, Shape]) -> VAEShape:
        """The shape whose encoder has the levels of ``found``; as released where these are uneven.

        Raises:
            KeyError: a tensor that fixes the widths is missing.
        """
        dim, z_dim = found["encoder.conv1.weight"][0], found["conv2.weight"][0]
        kinds = {int(m[1]): m[2] for m in map(_STAGE.match, found) if m}
        levels: list[list[int]] = [[]]
        for number in range(len(kinds)):
            width = found.get(f"encoder.downsamples.{number}.residual.2.weight")
            if kinds.get(number) == "resample":
                levels.append([])
            elif width:
                levels[-1].append(width[0])
        even = len(levels) == len(_MULTIPLES) and all(len(set(level)) == 1 for level in levels)
        if not even or len({len(level) for level in levels}) != 1:
            return cls(dim, z_dim)
        return cls(dim, z_dim, tuple(level[0] for level in levels), len(levels[0]))


@dataclass(frozen=True)
class T5Shape:
    """The umT5 encoder."""

    vocab_size: int
    dim: int
    dim_attn: int
    dim_ffn: int
    num_heads: int
    layers: int
    num_buckets: int = 32


_MULTIPLES = (1, 2, 4, 4)
_TEMPORAL_DOWN = (False, True, True)
_STAGE = re.compile(r"encoder\.downsamples\.(\d+)\.(residual|resample)\.")


def _conv(path: str, out: int, fan_in: int, *kernel: int) -> dict[str, Shape]:
    return {f"{path}.weight": (out, fan_in, *kernel), f"{path}.bias": (out,)}


def _residual(path: str, fan_in: int, out: int) -> dict[str, Shape]:
    table: dict[str, Shape] = {
        f"{path}.residual.0.gamma": (fan_in, 1, 1, 1),
        **_conv(f"{path}.residual.2", out, fan_in, 3, 3, 3),
        f"{path}.residual.3.gamma": (out, 1, 1, 1),
        **_conv(f"{path}.residual.6", out, out, 3, 3, 3),
    }
    return table | (_conv(f"{path}.shortcut", out, fan_in, 1, 1, 1) if fan_in != out else {})


def _middle(path: str, dim: int) -> dict[str, Shape]:
    return {
        **_residual(f"{path}.0", dim, dim),
        f"{path}.1.norm.gamma": (dim, 1, 1),
        **_conv(f"{path}.1.to_qkv", 3 * dim, dim, 1, 1),
        **_conv(f"{path}.1.proj", dim, dim, 1, 1),
        **_residual(f"{path}.2", dim, dim),
    }


def _head(path: str, dim: int, out: int) -> dict[str, Shape]:
    return {f"{path}.0.gamma": (dim, 1, 1, 1), **_conv(f"{path}.2", out, dim, 3, 3, 3)}


def vae_tensors(shape: VAEShape) -> dict[str, Shape]:
    """Every tensor of ``Wan2.1_VAE.pth``; modules are numbered in order, resamplers included."""
    widths = shape.levels
    table = _conv("encoder.conv1", shape.dim, 3, 3, 3, 3)
    number, width = 0, shape.dim
    for level, out in enumerate(widths):
        for _ in range(shape.blocks):
            table |= _residual(f"encoder.downsamples.{number}", width, out)
            number, width = number + 1, out
        if level < len(widths) - 1:
            path = f"encoder.downsamples.{number}"
            table |= _conv(f"{path}.resample.1", width, width, 3, 3)
            if _TEMPORAL_DOWN[level]:
                table |= _conv(f"{path}.time_conv", width, width, 3, 1, 1)
            number += 1
    table |= _middle("encoder.middle", width) | _head("encoder.head", width, 2 * shape.z_dim)
    table |= _conv("conv1", 2 * shape.z_dim, 2 * shape.z_dim, 1, 1, 1)
    table |= _conv("conv2", shape.z_dim, shape.z_dim, 1, 1, 1)
    table |= _conv("decoder.conv1", width, shape.z_dim, 3, 3, 3) | _middle("decoder.middle", width)
    number = 0
    for level, out in enumerate(reversed(widths)):
        for _ in range(shape.blocks + 1):
            table |= _residual(f"decoder.upsamples.{number}", width, out)
            number, width = number + 1, out
        if level < len(widths) - 1:
            path = f"decoder.upsamples.{number}"
            table |= _conv(f"{path}.resample.1", width // 2, width, 3, 3)
            if tuple(reversed(_TEMPORAL_DOWN))[level]:
                table |= _conv(f"{path}.time_conv", 2 * width, width, 3, 1, 1)
            number, width = number + 1, width // 2
    return table | _head("decoder.head", width, 3)


def t5_tensors(shape: T5Shape) -> dict[str, Shape]:
    """Every tensor of ``models_t5_umt5-xxl-enc-bf16.pth``."""
    dim, inner = shape.dim, shape.dim_attn
    table: dict[str, Shape] = {"token_embedding.weight": (shape.vocab_size, dim)}
    for layer in range(shape.layers):
        path = f"blocks.{layer}"
        table |= {
            f"{path}.norm1.weight": (dim,),
            f"{path}.attn.q.weight": (inner, dim),
            f"{path}.attn.k.weight": (inner, dim),
            f"{path}.attn.v.weight": (inner, dim),
            f"{path}.attn.o.weight": (dim, inner),
            f"{path}.norm2.weight": (dim,),
            f"{path}.ffn.gate.0.weight": (shape.dim_ffn, dim),
            f"{path}.ffn.fc1.weight": (shape.dim_ffn, dim),
            f"{path}.ffn.fc2.weight": (dim, shape.dim_ffn),
            f"{path}.pos_embedding.embedding.weight": (shape.num_buckets, shape.num_heads),
        }
    return table | {"norm.weight": (dim,)}


def _sizes(config: Mapping[str, Any], name: str) -> list[int]:
    value = config.get(name)
    if not isinstance(value, list) or not all(isinstance(v, int) and v > 0 for v in value):
        raise _bad(sentence("{name} is missing or no list of sizes", name=name))
    return value


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _bad(sentence("{name} is missing or no size", name=name))
    return value


def _bad(why: str) -> CheckpointError:
    return CheckpointError(
        sentence("invalid configuration"),
        where="wav2vec2 config.json",
        why=why,
        remedy=sentence("take config.json from the model's source again"),
    )


def wav2vec_tensors(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensors of a wav2vec2 CTC checkpoint with layer-norm feature extractor, from its config.

    Raises:
        CheckpointError: a needed field is missing or no size.
    """
    base, hidden = "wav2vec2", _size(config, "hidden_size")
    table: dict[str, Shape] = {f"{base}.masked_spec_embed": (hidden,)}
    width = 1
    kernels = _sizes(config, "conv_kernel")
    for number, (out, kernel) in enumerate(zip(_sizes(config, "conv_dim"), kernels, strict=True)):
        path = f"{base}.feature_extractor.conv_layers.{number}"
        table[f"{path}.conv.weight"] = (out, width, kernel)
        if config.get("conv_bias"):
            table[f"{path}.conv.bias"] = (out,)
        table |= _norm(f"{path}.layer_norm", out)
        width = out
    table |= _norm(f"{base}.feature_projection.layer_norm", width)
    table |= _conv(f"{base}.feature_projection.projection", hidden, width)
    kernel = _size(config, "num_conv_pos_embeddings")
    groups = _size(config, "num_conv_pos_embedding_groups")
    path = f"{base}.encoder.pos_conv_embed.conv"
    table |= {
        f"{path}.bias": (hidden,),
        f"{path}.weight_g": (1, 1, kernel),
        f"{path}.weight_v": (hidden, hidden // groups, kernel),
    }
    inner = _size(config, "intermediate_size")
    for layer in range(_size(config, "num_hidden_layers")):
        path = f"{base}.encoder.layers.{layer}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            table |= _conv(f"{path}.attention.{name}", hidden, hidden)
        table |= _norm(f"{path}.layer_norm", hidden)
        table |= _conv(f"{path}.feed_forward.intermediate_dense", inner, hidden)
        table |= _conv(f"{path}.feed_forward.output_dense", hidden, inner)
        table |= _norm(f"{path}.final_layer_norm", hidden)
    table |= _norm(f"{base}.encoder.layer_norm", hidden)
    return table | _conv("lm_head", _size(config, "vocab_size"), hidden)


def _norm(path: str, dim: int) -> dict[str, Shape]:
    return {f"{path}.weight": (dim,), f"{path}.bias": (dim,)}
