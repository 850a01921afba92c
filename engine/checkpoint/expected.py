"""What a checkpoint must hold: names and shapes of every DiT tensor, from ``config.json`` alone.

Plain arithmetic, no torch. The same tables serve verification, synthesis and the memory model of
the plans. Nothing here knows the size of a particular model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.checkpoint.errors import CheckpointError
from engine.sentence import sentence

Shape = tuple[int, ...]
Wrap = Literal["block", "reference"]

#: Hidden states of wav2vec2 that the audio encoder mixes: 24 layers and the layer before them.
AUDIO_STATES = 25
#: Patches of the frame packer: kernels of the projections named in it.
PACKER_KERNELS: dict[str, Shape] = {
    "proj": (1, 2, 2),
    "proj_2x": (2, 4, 4),
    "proj_4x": (4, 8, 8),
}
PATCH: Shape = (1, 2, 2)
LORA_TARGETS = ("q", "k", "v", "o", "ffn.0", "ffn.2")


@dataclass(frozen=True)
class DiTShape:
    """The numbers of ``config.json`` that fix the DiT's tensors (names as in the file)."""

    dim: int
    num_heads: int
    num_layers: int
    ffn_dim: int
    audio_inject_layers: tuple[int, ...]
    audio_dim: int = 1024
    num_audio_token: int = 4
    in_dim: int = 16
    out_dim: int = 16
    cond_dim: int = 16
    text_dim: int = 4096
    text_len: int = 512
    freq_dim: int = 256

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str = "config.json") -> DiTShape:
        """Raises ``CheckpointError`` naming the field that is missing or does not fit."""
        values: dict[str, Any] = {}
        for name, default in _FIELDS.items():
            value = config.get(name, default)
            if value is None:
                raise _bad(where, sentence("{name} is missing", name=name))
            if name == "audio_inject_layers":
                if not isinstance(value, list | tuple) or not all(_is_size(v, 0) for v in value):
                    raise _bad(where, sentence("{name} must be a list of layer numbers", name=name))
                values[name] = tuple(value)
            elif _is_size(value, 1):
                values[name] = value
            else:
                raise _bad(
                    where,
                    sentence("{name} = {value!r} is no size", name=name, value=str(value)[:40]),
                )
        shape = cls(**values)
        if shape.dim % shape.num_heads or (shape.dim // shape.num_heads) % 2:
            raise _bad(
                where,
                sentence(
                    "dim {dim} does not divide into {num_heads} heads of even width",
                    dim=shape.dim,
                    num_heads=shape.num_heads,
                ),
            )
        if shape.dim % 4:
            raise _bad(where, sentence("dim {dim} is not a multiple of 4", dim=shape.dim))
        layers = shape.audio_inject_layers
        if list(layers) != sorted(set(layers)) or (layers and layers[-1] >= shape.num_layers):
            raise _bad(
                where,
                sentence(
                    "audio_inject_layers {layers} do not rise within {num_layers}",
                    layers=str(list(layers)),
                    num_layers=shape.num_layers,
                ),
            )
        return shape


_FIELDS: dict[str, Any] = {
    "dim": None,
    "num_heads": None,
    "num_layers": None,
    "ffn_dim": None,
    "audio_inject_layers": None,
    "audio_dim": 1024,
    "num_audio_token": 4,
    "in_dim": 16,
    "out_dim": 16,
    "cond_dim": 16,
    "text_dim": 4096,
    "text_len": 512,
    "freq_dim": 256,
}
_LARGEST = 1 << 20


def _is_size(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def _bad(where: str, why: str) -> CheckpointError:
    return CheckpointError(
        sentence("invalid configuration"),
        where=where,
        why=why,
        remedy=sentence("take config.json from the model's source again"),
    )


def as_shape(config: Mapping[str, Any] | DiTShape) -> DiTShape:
    return config if isinstance(config, DiTShape) else DiTShape.from_config(config)


def _linear(path: str, out: int, fan_in: int) -> dict[str, Shape]:
    return {f"{path}.weight": (out, fan_in), f"{path}.bias": (out,)}


def _conv(path: str, out: int, fan_in: int, kernel: Shape) -> dict[str, Shape]:
    return {f"{path}.weight": (out, fan_in, *kernel), f"{path}.bias": (out,)}


def _attention(path: str, dim: int) -> dict[str, Shape]:
    table: dict[str, Shape] = {}
    for name in ("q", "k", "v", "o"):
        table |= _linear(f"{path}.{name}", dim, dim)
    return table | {f"{path}.norm_q.weight": (dim,), f"{path}.norm_k.weight": (dim,)}


def _block(path: str, shape: DiTShape) -> dict[str, Shape]:
    dim = shape.dim
    return {
        f"{path}.modulation": (1, 6, dim),
        f"{path}.norm3.weight": (dim,),
        f"{path}.norm3.bias": (dim,),
        **_attention(f"{path}.self_attn", dim),
        **_attention(f"{path}.cross_attn", dim),
        **_linear(f"{path}.ffn.0", shape.ffn_dim, dim),
        **_linear(f"{path}.ffn.2", dim, shape.ffn_dim),
    }


def _audio_encoder(shape: DiTShape) -> dict[str, Shape]:
    dim, path = shape.dim, "casual_audio_encoder"
    narrow = dim // 4
    inner = f"{path}.encoder"
    return {
        f"{path}.weights": (1, AUDIO_STATES, 1, 1),
        f"{inner}.padding_tokens": (1, 1, 1, dim),
        **_conv(f"{inner}.conv1_local.conv", narrow * shape.num_audio_token, shape.audio_dim, (3,)),
        **_conv(f"{inner}.conv1_global.conv", narrow, shape.audio_dim, (3,)),
        **_conv(f"{inner}.conv2.conv", dim // 2, narrow, (3,)),
        **_conv(f"{inner}.conv3.conv", dim, dim // 2, (3,)),
        **_linear(f"{inner}.final_linear", dim, dim),
    }


def dit_tensors(config: Mapping[str, Any] | DiTShape) -> dict[str, Shape]:
    """Every tensor of the DiT under its checkpoint name, in the order of the forward pass."""
    shape = as_shape(config)
    dim = shape.dim
    table: dict[str, Shape] = {
        **_conv("patch_embedding", dim, shape.in_dim, PATCH),
        **_conv("cond_encoder", dim, shape.cond_dim, PATCH),
        "trainable_cond_mask.weight": (3, dim),
        **_linear("text_embedding.0", dim, shape.text_dim),
        **_linear("text_embedding.2", dim, dim),
        **_linear("time_embedding.0", dim, shape.freq_dim),
        **_linear("time_embedding.2", dim, dim),
        **_linear("time_projection.1", 6 * dim, dim),
    }
    for name, kernel in PACKER_KERNELS.items():
        table |= _conv(f"frame_packer.{name}", dim, shape.in_dim, kernel)
    table |= _audio_encoder(shape)
    for layer in range(shape.num_layers):
        table |= _block(f"blocks.{layer}", shape)
    for index in range(len(shape.audio_inject_layers)):
        table |= _attention(f"audio_injector.injector.{index}", dim)
        table |= _linear(f"audio_injector.injector_adain_layers.{index}.linear", 2 * dim, dim)
    return table | {
        "head.modulation": (1, 2, dim),
        **_linear("head.head", math.prod(PATCH) * shape.out_dim, dim),
    }


#: Parts of the DiT, as ``inspect`` tells them: first match wins.
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("blocks", ("blocks.",)),
    ("audio injector", ("audio_injector.",)),
    ("time projection", ("time_projection.",)),
    ("time embedding", ("time_embedding.",)),
    ("audio encoder", ("casual_audio_encoder.",)),
    ("text", ("text_embedding.",)),
    ("frame packer", ("frame_packer.",)),
    ("patch and condition", ("patch_embedding.", "cond_encoder.", "trainable_cond_mask.")),
    ("head", ("head.",)),
)


def part_of(name: str) -> str:
    """The part of the DiT a tensor belongs to; ``"other"`` for a name of none."""
    for part, prefixes in PARTS:
        if name.startswith(prefixes):
            return part
    return "other"


def unit_of(name: str, config: Mapping[str, Any] | DiTShape, wrap: Wrap = "block") -> str:
    """The unit of weights a tensor travels with: ``"layer 7"``, ``"injector 3"`` or ``"root"``.

    ``block`` is our wrapping: a transformer block, or an injector with its AdaIN layer, is a unit.
    ``reference`` wraps blocks only and leaves the injectors in the root.
    """
    parts = name.split(".")
    shape = as_shape(config)
    if parts[0] == "blocks" and len(parts) > 1 and parts[1].isdecimal():
        return f"layer {int(parts[1])}" if int(parts[1]) < shape.num_layers else "root"
    if wrap == "block" and parts[0] == "audio_injector" and len(parts) > 2:
        known = parts[1] in ("injector", "injector_adain_layers") and parts[2].isdecimal()
        if known and int(parts[2]) < len(shape.audio_inject_layers):
            return f"injector {int(parts[2])}"
    return "root"


def unit_params(config: Mapping[str, Any] | DiTShape, wrap: Wrap = "block") -> dict[str, int]:
    """Parameters per unit: ``root`` first, then the layers and injectors in order."""
    shape = as_shape(config)
    counts: dict[str, int] = {"root": 0}
    for name, size in dit_tensors(shape).items():
        unit = unit_of(name, shape, wrap)
        counts[unit] = counts.get(unit, 0) + math.prod(size)
    return counts


def dit_params(config: Mapping[str, Any] | DiTShape) -> int:
    return sum(math.prod(size) for size in dit_tensors(config).values())


def lora_modules(config: Mapping[str, Any] | DiTShape) -> dict[str, tuple[int, int]]:
    """Linears the published LoRA adapts: module path → (out, in) features."""
    found: dict[str, tuple[int, int]] = {}
    for name, size in dit_tensors(config).items():
        path = name.removesuffix(".weight")
        if path == name or not path.startswith(("blocks.", "audio_injector.injector.")):
            continue
        if path.endswith(tuple(f".{target}" for target in LORA_TARGETS)):
            found[path] = (size[0], size[1])
    return found


def lora_tensors(config: Mapping[str, Any] | DiTShape, rank: int) -> dict[str, Shape]:
    """The LoRA file's tensors, PEFT key names, without the ``base_model.model.`` prefix."""
    table: dict[str, Shape] = {}
    for path, (out, fan_in) in lora_modules(config).items():
        table[f"{path}.lora_A.default.weight"] = (rank, fan_in)
        table[f"{path}.lora_B.default.weight"] = (out, rank)
    return table
