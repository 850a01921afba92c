"""Opening the text encoder's tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

#: A cleaned prompt to its token ids, the closing token included.
Tokenize = Callable[[str], list[int]]


def open_tokenizer(directory: Path, text_len: int, vocabulary: int) -> Tokenize:
    """The tokenizer in ``directory``, cutting after ``text_len`` tokens (the closing one stays).

    ``tokenizer.json`` is read where there is one; a lone ``spiece.model`` needs the
    ``sentencepiece`` package, which is no dependency of ours.

    Raises:
        ValueError: neither file is there or can be read; or a token beyond ``vocabulary``.
    """
    file = directory / "tokenizer.json"
    if file.is_file():
        tokenize = _from_json(file, text_len)
    elif (pieces := directory / "spiece.model").is_file():
        tokenize = _from_pieces(pieces, text_len)
    else:
        raise ValueError(f"no tokenizer in {directory}: neither tokenizer.json nor spiece.model")

    def checked(text: str) -> list[int]:
        ids = tokenize(text)
        if max(ids, default=0) >= vocabulary:
            raise ValueError(
                f"the tokenizer in {directory} gave token {max(ids)}, but the text encoder knows "
                f"{vocabulary}: they do not belong together"
            )
        return ids

    return checked


def _from_json(file: Path, text_len: int) -> Tokenize:
    try:
        text = file.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001  tokenizers raises bare Exception for a bad file
        raise ValueError(f"cannot read {file}: {error}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=text_len)

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text).ids
        return ids

    return tokenize


def _from_pieces(file: Path, text_len: int) -> Tokenize:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise ValueError(
            f"{file} needs the sentencepiece package: install it, or put the model's "
            f"tokenizer.json beside it"
        ) from None
    try:
        pieces = SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"cannot read {file}: {error}") from None

    def tokenize(text: str) -> list[int]:
        return [*pieces.encode(text)[: text_len - 1], pieces.eos_id()]

    return tokenize
