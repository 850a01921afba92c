"""What an item is made from, as one digest: the same key, the same video.

``key = sha256(audio bytes, image bytes, release or checkpoint, parameters, seed, schema)``.
Placement is no part of it: every placement gives the same video.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.checkpoint import layout as layouts
from engine.params import PARAMETERS

#: Version of this derivation.
SCHEMA: Final = 1

#: Of the groups below these change what is seen, not only where it is computed.
_SEEN: Final = frozenset({"dtype", "fp8", "kv_dtype", "convert_model_dtype", "allow_degrade"})
_FILES: Final = frozenset({p.name for p in PARAMETERS if p.kind in ("path", "file")})
_NOT_SEEN: Final = frozenset(
    p.name
    for p in PARAMETERS
    if p.name not in _SEEN and p.group in ("placement", "output and watching")
)
#: JSON files of a checkpoint are read whole; weights are known by name, size and time.
_READ_WHOLE: Final = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parameters_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that change what is seen, but for files."""
    left_out = _FILES | _NOT_SEEN
    return {name: value for name, value in sorted(request.items()) if name not in left_out}


def checkpoint_identity(request: Mapping[str, Any]) -> str:
    """A digest over every file that the weights come from.

    Small files count by their bytes, weights by name, size and time of change: reading tens of
    gigabytes before a batch begins would cost more than making an item anew after a copy.

    Raises:
        CheckpointError: there is no such checkpoint.
        OSError: a file cannot be looked at.
    """
    lora = request.get("lora_path_dmd") if request.get("load_lora") else None
    found = layouts.find(
        str(request["ckpt_dir"]),
        t5_path=request.get("t5_path"),
        vae_path=request.get("vae_path"),
        wav2vec_path=request.get("wav2vec_path"),
        lora_path=lora,
    ).paths()
    if lora is None:
        found.pop("lora", None)
    digest = hashlib.sha256()
    for component in sorted(found.keys() - {"root"}):
        place = Path(found[component])
        files = sorted(p for p in place.iterdir() if p.is_file()) if place.is_dir() else [place]
        for path in files:
            info = path.stat()
            small = info.st_size <= _READ_WHOLE
            told = file_digest(path) if small else f"{info.st_size} {info.st_mtime_ns}"
            digest.update(f"{component}\0{path.name}\0{told}\n".encode())
    return digest.hexdigest()


def item_key(audio: str, image: str, weights: str, request: Mapping[str, Any]) -> str:
    """The key of an item.

    Args:
        audio, image: digests of their bytes. weights: of the release, or the checkpoint's identity.
    """
    parts = {
        "schema": SCHEMA,
        "audio": audio,
        "image": image,
        "weights": weights,
        "parameters": parameters_of(request),
        "seed": request.get("base_seed"),
    }
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
