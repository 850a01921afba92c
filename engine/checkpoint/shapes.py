"""The shapes ``synth`` writes: the released model's, and a small one of the same structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from engine.checkpoint.encoders import T5Shape, VAEShape

#: Wan2.2-S2V-14B. ``text_dim`` is absent, as in the released file.
DIT_14B: Final[dict[str, Any]] = {
    "dim": 5120,
    "num_heads": 40,
    "num_layers": 40,
    "ffn_dim": 13824,
    "audio_inject_layers": [0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39],
    "audio_dim": 1024,
    "text_len": 512,
    "freq_dim": 256,
}
DIT_TINY: Final[dict[str, Any]] = {
    "dim": 128,
    "num_heads": 4,
    "num_layers": 8,
    "ffn_dim": 256,
    "audio_inject_layers": [0, 2, 4, 6],
    "audio_dim": 64,
    "text_dim": 64,
    "text_len": 128,
    "freq_dim": 256,
}
_DIT_COMMON: Final[dict[str, Any]] = {
    "_class_name": "WanModel_S2V",
    "_diffusers_version": "0.34.0",
    "model_type": "s2v",
    "in_dim": 16,
    "out_dim": 16,
    "cond_dim": 16,
    "num_audio_token": 4,
    "enable_adain": True,
    "adain_mode": "attn_norm",
    "zero_init": False,
    "zero_timestep": True,
    "enable_motioner": False,
    "add_last_motion": True,
    "enable_tsm": False,
    "enable_framepack": True,
    "framepack_drop_mode": "padd",
}


def _wav2vec(hidden: int, inner: int, heads: int, conv: int, groups: int, vocab: int) -> Any:
    return {
        "architectures": ["Wav2Vec2ForCTC"],
        "model_type": "wav2vec2",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_hidden_layers": 24,
        "conv_dim": [conv] * 7,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "conv_bias": True,
        "num_feat_extract_layers": 7,
        "feat_extract_norm": "layer",
        "feat_extract_activation": "gelu",
        "do_stable_layer_norm": True,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
        "num_conv_pos_embeddings": 128 if hidden > 256 else 32,
        "num_conv_pos_embedding_groups": groups,
        "vocab_size": vocab,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


@dataclass(frozen=True)
class SynthShape:
    """Everything that fixes the tensors of one synthetic checkpoint."""

    name: str
    dit: dict[str, Any]
    dit_shards: int
    vae: VAEShape
    t5: T5Shape
    wav2vec: dict[str, Any] = field(repr=False)
    lora_rank: int

    @property
    def dit_config(self) -> dict[str, Any]:
        return _DIT_COMMON | self.dit


SHAPES: Final[dict[str, SynthShape]] = {
    "14b": SynthShape(
        name="14b",
        dit=DIT_14B,
        dit_shards=4,
        vae=VAEShape(dim=96),
        t5=T5Shape(256384, 4096, 4096, 10240, 64, 24),
        wav2vec=_wav2vec(1024, 4096, 16, 512, 16, 33),
        lora_rank=128,
    ),
    "tiny": SynthShape(
        name="tiny",
        dit=DIT_TINY,
        dit_shards=2,
        vae=VAEShape(dim=4),
        t5=T5Shape(2048, 64, 64, 128, 4, 2),
        wav2vec=_wav2vec(64, 96, 4, 32, 16, 33),
        lora_rank=4,
    ),
}
