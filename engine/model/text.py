"""Prompts to text features: cleaning, tokens, the umT5 encoder.

The encoder is transformers' ``UMT5EncoderModel``; the checkpoint names its tensors otherwise, so
they are renamed on the way in. Widths, heads and layers are read off the tensors themselves.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ftfy
import torch
from torch import Tensor, nn

from engine.model.tokens import Tokenize, open_tokenizer

if TYPE_CHECKING:  # slow to import: only who builds an encoder does
    from transformers import UMT5Config, UMT5EncoderModel

_WHOLE = {
    "token_embedding.weight": "shared.weight",
    "norm.weight": "encoder.final_layer_norm.weight",
}
_IN_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.weight")


def clean(text: str) -> str:
    """The prompt as the model was trained to see it.

    Broken encodings mended, HTML entities resolved twice, whitespace collapsed.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


def renamed(name: str) -> str | None:
    """transformers' name of the checkpoint's tensor ``name``; None where there is none."""
    if name in _WHOLE:
        return _WHOLE[name]
    found = _BLOCK.fullmatch(name)
    if found is None or found[2] not in _IN_BLOCK:
        return None
    return f"encoder.block.{found[1]}.{_IN_BLOCK[found[2]]}.weight"


def config_of(state: Mapping[str, Tensor]) -> UMT5Config:
    """The encoder's configuration, read off the checkpoint's tensors.

    Raises:
        ValueError: a tensor that fixes the configuration is missing.
    """
    try:
        vocabulary, dim = state["token_embedding.weight"].shape
        inner = state["blocks.0.attn.q.weight"].shape[0]
        hidden = state["blocks.0.ffn.fc1.weight"].shape[0]
        buckets, heads = state["blocks.0.pos_embedding.embedding.weight"].shape
    except KeyError as missing:
        raise ValueError(f"no umT5 encoder: {missing.args[0]} is missing") from None
    if inner % heads:
        raise ValueError(f"no umT5 encoder: {inner} channels do not divide into {heads} heads")
    numbers = {int(found[1]) for found in map(_BLOCK.fullmatch, state) if found}
    from transformers import UMT5Config

    return UMT5Config(
        vocab_size=vocabulary,
        d_model=dim,
        d_kv=inner // heads,
        d_ff=hidden,
        num_heads=heads,
        num_layers=max(numbers) + 1,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=128,
        dropout_rate=0.0,
        layer_norm_epsilon=1e-6,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        attn_implementation="eager",
    )


class TextEncoder(nn.Module):
    """umT5's encoder with its tokenizer."""

    def __init__(self, model: UMT5EncoderModel, tokenize: Tokenize | None) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenize = tokenize

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Tensor],
        *,
        text_len: int,
        tokenizer_dir: Path | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> TextEncoder:
        """Build around tensors under the checkpoint's names, on the device they are on.

        They become the parameters themselves: nothing is copied unless ``dtype`` differs from
        theirs, so a memory-mapped file stays mapped.

        Args:
            text_len: most tokens of a prompt, the closing one included; the rest is cut off.
            tokenizer_dir: Hugging Face layout (``tokenizer.json`` or ``spiece.model``). Without
                it ``encode`` is not available, ``embed`` is.
            dtype: of the weights and the arithmetic; None keeps the tensors'.

        Raises:
            ValueError: tensors are missing, unknown or of another shape than the others imply;
                or the tokenizer cannot be read or has more pieces than the encoder.
        """
        config = config_of(state)
        weights = {}
        for name, tensor in state.items():
            new = renamed(name)
            if new is None:
                raise ValueError(f"no tensor of a umT5 encoder: {name}")
            weights[new] = tensor.detach().to(dtype=dtype)
        weights["encoder.embed_tokens.weight"] = weights["shared.weight"]
        from transformers import UMT5EncoderModel

        with torch.device("meta"):
            model = UMT5EncoderModel(config)
        try:
            model.load_state_dict(weights, strict=True, assign=True)
        except RuntimeError as error:
            raise ValueError(f"umT5 encoder: {error}") from None
        # Assigning made two parameters of the one embedding: join them again.
        model.set_input_embeddings(model.shared)
        tokenize = None
        if tokenizer_dir is not None:
            tokenize = open_tokenizer(Path(tokenizer_dir), text_len, config.vocab_size)
        return cls(model, tokenize)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def encode(self, prompt: str) -> Tensor:
        """``prompt`` → ``[L, dim]``, L its real number of tokens, in the weights' dtype.

        Raises:
            ValueError: built without a tokenizer.
        """
        if self.tokenize is None:
            raise ValueError("this text encoder was built without a tokenizer")
        return self.embed(torch.tensor(self.tokenize(clean(prompt))))

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """Token ids ``[L]``, without padding → ``[L, dim]``.

        Padding would be masked and cut off again, so it is never computed.
        """
        out: Any = self.model(input_ids=ids.to(self.device).unsqueeze(0))
        features: Tensor = out.last_hidden_state[0]
        return features
