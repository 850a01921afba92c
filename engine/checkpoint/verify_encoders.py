"""Checks of what stands beside the DiT: VAE, umT5, its tokenizer, wav2vec2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.encoders import (
    T5Shape,
    VAEShape,
    t5_tensors,
    vae_tensors,
    wav2vec_tensors,
)
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import AUDIO_STATES, DiTShape
from engine.checkpoint.findings import Findings
from engine.checkpoint.header import read_header
from engine.checkpoint.layout import Layout, read_json
from engine.checkpoint.pth import check_pth
from engine.checkpoint.pthlist import list_pth
from engine.sentence import sentence

Shape = tuple[int, ...]
_AGAIN: Final = sentence("take this file from the model's source again")
_TOKENIZER_LIMIT: Final = 64_000_000


def verify_encoders(
    layout: Layout, shape: DiTShape | None, findings: Findings, *, headers_only: bool
) -> None:
    """Add what is wrong with the components beside the DiT; missing ones are told elsewhere."""
    pickles = [
        path for path in (layout.vae, layout.t5) if path is not None and _whole(path, findings)
    ]
    speech = layout.wav2vec_weights()
    if speech is not None and speech.suffix != ".safetensors" and _whole(speech, findings):
        pickles.append(speech)
    tables = {} if headers_only else _listed(pickles, findings)
    if layout.vae in tables:
        _compare(layout.vae, tables[layout.vae], _vae_table, findings)
    if layout.t5 in tables:
        table = tables[layout.t5]
        _compare(layout.t5, table, _t5_table, findings)
        _check_text_dim(layout.t5, table, shape, findings)
    if layout.tokenizer is not None:
        _tokenizer(layout.tokenizer / "tokenizer.json", findings)
    if layout.wav2vec is not None and speech is not None:
        _wav2vec(layout.wav2vec, speech, tables.get(speech), shape, findings)


def _whole(path: Path, findings: Findings) -> bool:
    try:
        if path.suffix == ".safetensors":
            read_header(path)
        else:
            check_pth(path)
    except CheckpointError as error:
        findings.add_error(error)
        return False
    return True


def _listed(paths: list[Path], findings: Findings) -> dict[Path | None, dict[str, Shape]]:
    tables: dict[Path | None, dict[str, Shape]] = {}
    try:
        answers = list_pth(paths)
    except CheckpointError as error:
        findings.add_error(error)
        return {}
    for path, answer in answers.items():
        if isinstance(answer, CheckpointError):
            findings.add_error(answer)
        else:
            tables[path] = {name: tensor.shape for name, tensor in answer.items()}
    return tables


def _vae_table(found: Mapping[str, Shape]) -> dict[str, Shape]:
    return vae_tensors(VAEShape.of(found))


def _t5_table(found: Mapping[str, Shape]) -> dict[str, Shape]:
    vocabulary, dim = found["token_embedding.weight"]
    buckets, heads = found["blocks.0.pos_embedding.embedding.weight"]
    layers = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("blocks."))
    inner, ffn = found["blocks.0.attn.q.weight"][0], found["blocks.0.ffn.fc1.weight"][0]
    return t5_tensors(T5Shape(vocabulary, dim, inner, ffn, heads, min(layers, 1000), buckets))


def _compare(
    path: Path | None,
    found: Mapping[str, Shape],
    make: Callable[[Mapping[str, Shape]], dict[str, Shape]],
    findings: Findings,
) -> None:
    """Against the table that the file's own widths ask for."""
    where = path or ""
    try:
        expected = make(found)
    except (KeyError, ValueError, IndexError) as error:
        lacking = str(error.args[0])[:120] if isinstance(error, KeyError) else None
        findings.add(where, sentence("not this component's weights"), _AGAIN, tensor=lacking)
        return
    _compare_tables(where, found, expected, findings)


def _compare_tables(
    where: Path | str,
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    findings: Findings,
) -> None:
    lost = [name for name in expected if name not in found]
    if lost:
        findings.add_group(where, lost, sentence("it lacks a tensor"), _AGAIN)
        return
    wrong = [name for name in expected if found[name] != expected[name]]
    if wrong:
        why = sentence(
            "{found}, {expected} is asked for",
            found=str(list(found[wrong[0]])),
            expected=str(list(expected[wrong[0]])),
        )
        findings.add_group(where, wrong, sentence("wrong shape"), _AGAIN, why)


def _check_text_dim(
    path: Path | None, found: Mapping[str, Shape], shape: DiTShape | None, findings: Findings
) -> None:
    embedding = found.get("token_embedding.weight")
    if shape is not None and embedding is not None and embedding[1:] != (shape.text_dim,):
        findings.add(
            path or "",
            sentence(
                "text of width {embedding}, the DiT asks for {text_dim}",
                embedding=embedding[-1],
                text_dim=shape.text_dim,
            ),
            sentence("take the umT5 encoder that belongs to this model, or name it with --t5_path"),
            tensor="token_embedding.weight",
        )


def _tokenizer(path: Path, findings: Findings) -> None:
    if not path.is_file():
        return  # a lone spiece.model, which only its own library reads
    try:
        data = read_json(path, limit=_TOKENIZER_LIMIT)
    except CheckpointError as error:
        findings.add_error(error)
        return
    if not isinstance(data.get("model"), dict):
        findings.add(path, sentence("no tokenizer: it has no model"), _AGAIN)


def _wav2vec(
    folder: Path,
    weights: Path,
    listed: Mapping[str, Shape] | None,
    shape: DiTShape | None,
    findings: Findings,
) -> None:
    """Its configuration against the DiT's, and its weights against its configuration."""
    config_file = folder / "config.json"
    try:
        config = read_json(config_file)
        expected = _fixed_names(wav2vec_tensors(config))
        if weights.suffix == ".safetensors":
            listed = {name: info.shape for name, info in read_header(weights).tensors.items()}
    except CheckpointError as error:
        findings.add_error(_at(error, config_file))
        return
    if shape is not None and not _fits(config, shape, config_file, findings):
        return
    if listed is not None:
        bare = "wav2vec2.masked_spec_embed" not in listed and not any(
            name.startswith("wav2vec2.") for name in listed
        )
        found = {f"wav2vec2.{name}" if bare else name: size for name, size in listed.items()}
        _compare_tables(weights, found, expected, findings)


def _at(error: CheckpointError, config_file: Path) -> CheckpointError:
    if Path(error.where).is_absolute():
        return error
    return CheckpointError(
        error.what, where=str(config_file), why=error.why, remedy=error.remedy, tensor=error.tensor
    )


def _fixed_names(table: Mapping[str, Shape]) -> dict[str, Shape]:
    """Without what other releases name otherwise or leave out, and no inference needs."""
    skipped = (
        "lm_head.",
        "wav2vec2.masked_spec_embed",
        "wav2vec2.encoder.pos_conv_embed.conv.weight",
    )
    return {name: size for name, size in table.items() if not name.startswith(skipped)}


def _fits(config: Mapping[str, Any], shape: DiTShape, where: Path, findings: Findings) -> bool:
    remedy = sentence(
        "take the wav2vec2 that belongs to this model, or name it with --wav2vec_path"
    )
    if config["hidden_size"] != shape.audio_dim:
        findings.add(
            where,
            sentence(
                "audio features of width {hidden_size}, the DiT asks for {audio_dim}",
                hidden_size=config["hidden_size"],
                audio_dim=shape.audio_dim,
            ),
            remedy,
        )
        return False
    if config["num_hidden_layers"] + 1 != AUDIO_STATES:
        findings.add(
            where,
            sentence(
                "{num_hidden_layers} layers, the DiT mixes {audio_states}",
                num_hidden_layers=config["num_hidden_layers"],
                audio_states=AUDIO_STATES - 1,
            ),
            remedy,
        )
        return False
    return True
