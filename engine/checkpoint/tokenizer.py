"""The sample's tokenizer: a small Unigram model in the layout of ``google/umt5-xxl``.

English and Chinese pieces from the corpus of this package, bytes for everything else, so any text
can be encoded. Special tokens are umT5's: pad 0, end of sequence 1.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from pathlib import Path

from engine.checkpoint.corpus import sentences

SPECIALS = ("<pad>", "</s>", "<s>", "<unk>")


_LONGEST = 10  # characters of a piece


def pieces(count: int) -> list[tuple[str, float]]:
    """The ``count`` best pieces of the corpus with their log probabilities.

    Every printable ASCII character and every character of the corpus is one; then the substrings
    of words that save most. Counting in a fixed order makes the result the same everywhere, which
    the trainer of ``tokenizers`` does not.
    """
    counts: Counter[str] = Counter()
    for line in sentences():
        text = unicodedata.normalize("NFKC", line)
        for word in text.split():
            marked = "▁" + word
            for start in range(len(marked)):
                for end in range(start + 1, min(len(marked), start + _LONGEST) + 1):
                    counts[marked[start:end]] += 1
    single = {chr(code) for code in range(0x21, 0x7F)} | {c for c in counts if len(c) == 1}
    longer = [(p, n) for p, n in counts.items() if len(p) > 1 and n > 1]
    longer.sort(key=lambda item: (-item[1] * (len(item[0]) - 1), item[0]))
    chosen = sorted(single) + [p for p, _ in longer[: max(0, count - len(single))]]
    total = sum(counts[p] + 1 for p in chosen)
    return [(p, round(math.log((counts[p] + 1) / total), 6)) for p in chosen[:count]]


def build(vocab_size: int) -> str:
    """The ``tokenizer.json`` of a model with at most ``vocab_size`` pieces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    vocabulary = [(text, 0.0) for text in SPECIALS] + [(text, -20.0) for text in bytes_]
    vocabulary += pieces(vocab_size - len(vocabulary))
    model = Tokenizer(models.Unigram(vocabulary, SPECIALS.index("<unk>"), True))
    model.normalizer = normalizers.NFKC()
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    model.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()]
    )
    model.add_special_tokens(list(SPECIALS))
    end = SPECIALS.index("</s>")
    model.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)]
    )
    return str(model.to_str(pretty=False))


def write(directory: Path, vocab_size: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json to ``directory``."""
    directory.mkdir(parents=True)
    specials = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        **specials,
    }
    (directory / "tokenizer.json").write_text(build(vocab_size) + "\n", encoding="utf-8")
    for name, data in (("tokenizer_config.json", config), ("special_tokens_map.json", specials)):
        (directory / name).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
