"""What a user of the text encoder may rely on, at random weights and a small tokenizer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from engine.model.text import TextEncoder, clean, renamed

WORDS = ["<pad>", "</s>", "<unk>", "▁a", "▁man", "▁speaks"]


def state(vocabulary: int = len(WORDS), layers: int = 2) -> dict[str, Tensor]:
    dim, inner, hidden, heads = 6, 8, 10, 2
    torch.manual_seed(0)
    found = {"token_embedding.weight": torch.randn(vocabulary, dim), "norm.weight": torch.ones(dim)}
    for n in range(layers):
        shapes = {
            "norm1": (dim,),
            "norm2": (dim,),
            "attn.q": (inner, dim),
            "attn.k": (inner, dim),
            "attn.v": (inner, dim),
            "attn.o": (dim, inner),
            "ffn.gate.0": (hidden, dim),
            "ffn.fc1": (hidden, dim),
            "ffn.fc2": (dim, hidden),
            "pos_embedding.embedding": (32, heads),
        }
        for name, shape in shapes.items():
            found[f"blocks.{n}.{name}.weight"] = torch.randn(shape)
    return found


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    """A word per piece, in the layout of Hugging Face."""
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    data = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": space,
        "post_processor": template,
        # Files may ask for padding to a fixed length: it must not reach the encoder.
        "padding": {
            "strategy": {"Fixed": 20},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        },
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [[word, -1.0] for word in WORDS]},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    return tmp_path


def encoder(tokenizer_dir: Path | None = None, text_len: int = 8) -> TextEncoder:
    return TextEncoder.from_state_dict(state(), text_len=text_len, tokenizer_dir=tokenizer_dir)


def test_a_prompt_comes_out_at_its_real_length(tokenizer_dir: Path) -> None:
    text = encoder(tokenizer_dir)
    assert text.encode("a man speaks").shape == (4, 6)
    assert text.encode("").shape == (1, 6)
    assert torch.equal(text.encode("  a   man\n"), text.encode("a man"))


def test_a_long_prompt_is_cut_and_still_closed(tokenizer_dir: Path) -> None:
    text = encoder(tokenizer_dir, text_len=5)
    assert text.tokenize is not None
    assert text.tokenize("a man " * 30) == [3, 4, 3, 4, 1]


def test_the_given_tensors_become_the_parameters() -> None:
    given = state()
    text = TextEncoder.from_state_dict(given, text_len=8)
    held = {p.data_ptr() for p in text.parameters()}
    assert held == {t.data_ptr() for t in given.values()}
    assert sum(p.nbytes for p in text.parameters()) == sum(t.nbytes for t in given.values())
    assert not any(p.requires_grad for p in text.parameters())


def test_another_dtype_is_used_throughout() -> None:
    text = TextEncoder.from_state_dict(state(), text_len=8, dtype=torch.bfloat16)
    assert {p.dtype for p in text.parameters()} == {torch.bfloat16}
    assert text.embed(torch.tensor([3, 1])).dtype == torch.bfloat16


def test_every_tensor_of_the_checkpoint_has_a_place() -> None:
    assert all(renamed(name) for name in state())
    assert renamed("decoder.weight") is None
    assert renamed("blocks.0.attn.z.weight") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"token_embedding.weight": None}, "token_embedding.weight is missing"),
        ({"blocks.1.attn.k.weight": None}, "block.1.layer.0.SelfAttention.k"),
        ({"blocks.1.ffn.fc2.weight": torch.zeros(3, 3)}, "size mismatch"),
        ({"blocks.0.cross.weight": torch.zeros(3)}, "blocks.0.cross.weight"),
    ],
)
def test_wrong_tensors_are_refused_by_name(change: dict[str, Tensor | None], said: str) -> None:
    given = {n: t for n, t in (state() | change).items() if t is not None}
    with pytest.raises(ValueError, match=said):
        TextEncoder.from_state_dict(given, text_len=8)


def test_a_tokenizer_of_another_model_is_noticed(tokenizer_dir: Path) -> None:
    text = TextEncoder.from_state_dict(state(4), text_len=8, tokenizer_dir=tokenizer_dir)
    with pytest.raises(ValueError, match="do not belong together"):
        text.encode("a man speaks")


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither tokenizer\.json nor spiece\.model"):
        encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{ not json", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot read .*tokenizer\.json"):
        encoder(tmp_path)
    with pytest.raises(ValueError, match="without a tokenizer"):
        encoder().encode("a man")


def test_a_lone_piece_model_is_read_by_sentencepiece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pieces:
        def __init__(self, model_file: str) -> None:
            assert model_file == str(tmp_path / "spiece.model")

        def encode(self, text: str) -> list[int]:
            return [3 + len(word) % 3 for word in text.split()]

        def eos_id(self) -> int:
            return 1

    (tmp_path / "spiece.model").write_bytes(b"pieces")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ValueError, match="needs the sentencepiece package"):
        encoder(tmp_path)
    fake = SimpleNamespace(SentencePieceProcessor=Pieces)
    monkeypatch.setitem(sys.modules, "sentencepiece", fake)
    text = encoder(tmp_path, text_len=3)
    assert text.tokenize is not None
    assert text.tokenize("a man speaks") == [4, 3, 1]


def test_prompts_are_cleaned() -> None:
    assert clean("  “Hello” \t &amp;lt;world&amp;gt;\n") == '"Hello" <world>'
    assert clean("你好　世界") == "你好 世界"
