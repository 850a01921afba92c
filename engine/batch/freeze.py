"""From pairs to a frozen manifest: every item with its whole request and its key."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from engine.batch.keys import file_digest, item_key
from engine.batch.pairs import Pair
from engine.batch.rows import ALIAS, FAILED, WAITING, ItemRow
from engine.batch.sizes import parse_sizes
from engine.batch.spec import BatchSpec
from engine.geometry import clips_in_audio
from engine.media.audio import MODEL_RATE, audio_info
from engine.media.findings import MediaError
from engine.params import ParamError, Request

#: Most clips that a request may ask for.
_MOST_CLIPS: Final = 100_000


def freeze(
    batch: str,
    spec: BatchSpec,
    pairs: Iterable[Pair],
    weights: str,
    known: Iterable[ItemRow] = (),
) -> list[ItemRow]:
    """Items for pairs, in their order. Reads every file once.

    A pair whose key another has is its alias: it gets the same video under its own name. One that
    cannot be read, or whose own parameters are refused, is an item that has failed.

    Args:
        weights: digest of what the weights are. known: items that the batch has already.
    """
    earlier = tuple(known)
    first = {item.key: item.key for item in earlier if item.alias_of is None}
    seq = 1 + max((item.seq for item in earlier), default=-1)
    rows: list[ItemRow] = []
    for number, pair in enumerate(pairs, seq):
        row = _item(batch, number, spec, pair, weights)
        if row.state == WAITING and row.key in first:
            twin = row.key
            row = dataclasses.replace(
                row, key=_own_key(twin, pair.name), alias_of=twin, state=ALIAS
            )
        elif row.state == WAITING:
            first[row.key] = row.key
        rows.append(row)
    return rows


def whole_request(spec: BatchSpec, pair: Pair, seconds: float | None) -> dict[str, Any]:
    """The request of one item: common fields, what its sound's length says, its own parameters.

    Raises:
        ParamError: its own parameters are refused.
    """
    fields = dict(spec.request)
    if seconds is not None:
        if spec.sizes:
            fields["size"] = parse_sizes(spec.sizes).size(seconds)
        if spec.whole_audio:
            frames = int(fields.get("infer_frames") or 48)
            # One more than the header says: the request may ask for more than there is.
            heard = clips_in_audio(round(seconds * MODEL_RATE), frames) + 1
            fields["num_clip"] = min(heard, _MOST_CLIPS)
    fields = {name: value for name, value in fields.items() if value is not None}
    fields |= pair.changes
    inputs = {"image": str(pair.image), "audio": str(pair.audio)}
    return Request.from_dict({**fields, **inputs}).to_dict()


def _item(batch: str, seq: int, spec: BatchSpec, pair: Pair, weights: str) -> ItemRow:
    facts: dict[str, Any] = {}
    request: dict[str, Any] = {}
    try:
        facts["audio_sha256"] = file_digest(pair.audio)
        facts["image_sha256"] = file_digest(pair.image)
        facts["audio_seconds"] = _seconds(pair.audio)
        request = whole_request(spec, pair, facts["audio_seconds"])
    except (OSError, ParamError) as error:
        facts |= {"state": FAILED, "error": str(error), "cause": "bad_input"}
        key = _own_key("unreadable", pair.name)
    else:
        key = item_key(facts["audio_sha256"], facts["image_sha256"], weights, request)
    audio, image = str(pair.audio), str(pair.image)
    return ItemRow(batch, key, seq, pair.name, audio, image, request, **facts)


def _seconds(path: Path) -> float | None:
    """By the header; what cannot be read is told when the item is prepared."""
    try:
        return audio_info(path).seconds
    except MediaError:
        return None


def _own_key(of: str, name: str) -> str:
    return hashlib.sha256(f"{of}\0{name}".encode()).hexdigest()
