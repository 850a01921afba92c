"""Where the components of a checkpoint lie. Recognises the real ``Wan2.2-S2V-14B`` directory.

No torch: directory listings, ``config.json`` and safetensors headers only.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.header import TensorInfo, read_header
from engine.sentence import sentence

VAE_FILE: Final = "Wan2.1_VAE.pth"
T5_FILE: Final = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER_DIR: Final = "google/umt5-xxl"
WAV2VEC_DIR: Final = "wav2vec2-large-xlsr-53-english"
LORA_FILE: Final = "liveavatar.safetensors"
#: File-name stems of DiT shards: the release's own, and the one its articles draw.
STEMS: Final = ("diffusion_pytorch_model", "model")

#: Components a job needs; the LoRA is optional.
REQUIRED: Final = ("dit", "vae", "t5", "tokenizer", "wav2vec")

_JSON_LIMIT: Final = 16_000_000
_SHARD = re.compile(r"(?P<stem>[A-Za-z0-9_]+)-(?P<n>\d{5})-of-(?P<total>\d{5})\.safetensors")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_REMEDIES: Final = {
    "dit": sentence("download the shards of Wan2.2-S2V-14B and their index into this directory"),
    "vae": sentence("put {vae_file} there, or name it with --vae_path", vae_file=VAE_FILE),
    "t5": sentence("put {t5_file} there, or name it with --t5_path", t5_file=T5_FILE),
    "tokenizer": sentence("put the folder {tokenizer_dir} there", tokenizer_dir=TOKENIZER_DIR),
    "wav2vec": sentence(
        "put the folder {wav2vec_dir} there, or name it with --wav2vec_path",
        wav2vec_dir=WAV2VEC_DIR,
    ),
    "lora": sentence("put {lora_file} there, or name it with --lora_path_dmd", lora_file=LORA_FILE),
}


@dataclass(frozen=True)
class Layout:
    """The files of one checkpoint. A component that was not found is ``None`` (or no files)."""

    root: Path
    dit_files: tuple[Path, ...] = ()
    dit_index: Path | None = None
    vae: Path | None = None
    t5: Path | None = None
    tokenizer: Path | None = None
    wav2vec: Path | None = None  # the directory
    lora: Path | None = None  # the file
    #: What was looked for and is not there: component → path.
    missing: dict[str, Path] = field(default_factory=dict)

    @property
    def config_file(self) -> Path:
        return self.root / "config.json"

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The DiT's ``config.json``. Raises ``CheckpointError`` when absent or not an object."""
        return read_json(self.config_file)

    def paths(self) -> dict[str, str]:
        """Component → path, as it crosses to the ranks: ``root``, ``config``, ``dit`` (directory),
        ``vae``, ``t5``, ``tokenizer``, ``wav2vec`` (directory), ``lora``; only those that exist."""
        known = {
            "vae": self.vae,
            "t5": self.t5,
            "tokenizer": self.tokenizer,
            "wav2vec": self.wav2vec,
            "lora": self.lora,
        }
        paths = {"root": str(self.root), "config": str(self.config_file)}
        if self.dit_files:
            paths["dit"] = str(self.root)
        return paths | {name: str(path) for name, path in known.items() if path is not None}

    def require(self, *components: str) -> Layout:
        """Return self when all ``components`` (default: all that a job needs) are there.

        Raises:
            CheckpointError: naming the first missing one, the path looked at, and the remedy.
        """
        for name in components or REQUIRED:
            if name in self.missing:
                raise missing_component(name, self.missing[name])
        return self

    def dit_header(self) -> dict[str, TensorInfo]:
        """Every DiT tensor: dtype, shape, file, offset and bytes, from the shards' headers.

        Raises:
            CheckpointError: no shards, a damaged one, or a tensor that two shards hold.
        """
        self.require("dit")
        tensors: dict[str, TensorInfo] = {}
        for path in self.dit_files:
            for name, info in read_header(path).tensors.items():
                if name in tensors:
                    raise CheckpointError(
                        sentence("the same tensor in two shards"),
                        where=str(path),
                        why=sentence("{name} holds it too", name=Path(tensors[name].file).name),
                        tensor=name,
                        remedy=sentence("remove the shards that do not belong to this checkpoint"),
                    )
                tensors[name] = info
        return tensors

    def wav2vec_weights(self) -> Path | None:
        """The weights' file of wav2vec2, safetensors preferred."""
        if self.wav2vec is None:
            return None
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (self.wav2vec / name).is_file():
                return self.wav2vec / name
        return None


def missing_component(name: str, path: Path) -> CheckpointError:
    return CheckpointError(
        sentence("{name} is missing", name=name), where=str(path), remedy=_REMEDIES[name]
    )


def read_json(path: Path, limit: int = _JSON_LIMIT) -> dict[str, Any]:
    """A JSON object of at most ``limit`` bytes.

    Raises:
        CheckpointError: absent, too large, not JSON, or not an object.
    """
    try:
        if path.stat().st_size > limit:
            raise _bad_json(path, sentence("it is larger than {limit:,} bytes", limit=limit))
        data = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except FileNotFoundError as error:
        raise CheckpointError(
            sentence("{name} is missing", name=path.name),
            where=str(path),
            remedy=sentence("download it from the model's source"),
        ) from error
    except OSError as error:
        raise CheckpointError(
            sentence("cannot be read"),
            where=str(path),
            why=error.strerror or str(error),
            remedy=sentence("check that this user may read it"),
        ) from error
    except (ValueError, RecursionError) as error:
        raise _bad_json(path, str(error)[:200]) from error
    if not isinstance(data, dict):
        raise _bad_json(path, sentence("it is no JSON object"))
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(sentence("a key occurs twice"))
    return found


def _bad_json(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        sentence("{name} is not valid", name=path.name),
        where=str(path),
        why=why,
        remedy=sentence("download it from the model's source again"),
    )


def read_index(path: Path) -> dict[str, str]:
    """The index's ``weight_map``: tensor → shard file name.

    Raises:
        CheckpointError: not JSON, no such map, or a file name that leaves the directory.
    """
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _bad_json(path, sentence("it has no weight_map"))
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not shard or Path(shard).name != shard:
            raise CheckpointError(
                sentence("{name} is not valid", name=path.name),
                where=str(path),
                why=sentence("{shard!r} is no file name", shard=str(shard)[:80]),
                tensor=tensor,
                remedy=sentence("download it from the model's source again"),
            )
    return weight_map


def shard_number(name: str) -> tuple[str, int, int] | None:
    """``("model", 2, 3)`` for ``model-00002-of-00003.safetensors``; ``None`` for other names."""
    match = _SHARD.fullmatch(name)
    if match is None or match["stem"] not in STEMS:
        return None
    return match["stem"], int(match["n"]), int(match["total"])


def shards_present(root: Path) -> tuple[Path, ...]:
    """Files of ``root`` that are named like DiT weights, in order."""
    names = sorted(entry.name for entry in root.iterdir() if entry.name.endswith(".safetensors"))
    numbered = [name for name in names if shard_number(name)]
    single = [f"{stem}.safetensors" for stem in STEMS if f"{stem}.safetensors" in names]
    return tuple(root / name for name in numbered or single[:1])


def find(
    directory: Path | str,
    *,
    t5_path: Path | str | None = None,
    vae_path: Path | str | None = None,
    wav2vec_path: Path | str | None = None,
    lora_path: Path | str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Layout:
    """Find the components of the checkpoint in ``directory`` (or of a hub id in the local cache).

    A missing component is no error here: ``Layout.missing`` tells it, ``Layout.require`` raises.
    Given paths win over the directory; a directory is searched for the usual file name.

    Raises:
        CheckpointError: ``directory`` does not exist, or a hub id is not in the local cache.
    """
    environ = os.environ if environment is None else environment
    root = resolve(directory, environ).absolute()
    if not root.is_dir():
        raise CheckpointError(
            sentence("not a directory"),
            where=str(root),
            remedy=sentence("ckpt_dir is the folder that holds config.json and the shards"),
        )
    missing: dict[str, Path] = {}
    vae = _component("vae", vae_path, root, VAE_FILE, missing)
    t5 = _component("t5", t5_path, root, T5_FILE, missing)
    # umT5 given elsewhere may have its tokenizer beside it.
    places = [root / TOKENIZER_DIR] + ([t5.parent / TOKENIZER_DIR] if t5 is not None else [])
    tokenizer = next((place for place in places if _has_tokenizer(place)), None)
    if tokenizer is None:
        missing["tokenizer"] = root / TOKENIZER_DIR / "tokenizer.json"
    lora = _lora(lora_path, root, environ, missing)
    index = _index(root)
    dit_files = _dit_files(root, index)
    if not dit_files:
        missing["dit"] = root / f"{STEMS[0]}-00001-of-0000N.safetensors"
    layout = Layout(
        root=root,
        dit_files=dit_files,
        dit_index=index,
        vae=vae,
        t5=t5,
        tokenizer=tokenizer,
        wav2vec=_wav2vec(wav2vec_path, root, environ),
        lora=lora,
        missing=missing,
    )
    if layout.wav2vec_weights() is None:
        missing["wav2vec"] = layout.wav2vec or root / WAV2VEC_DIR
    return layout


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model"))


def _component(
    name: str, given: Path | str | None, root: Path, file: str, missing: dict[str, Path]
) -> Path | None:
    path = Path(given).expanduser().absolute() if given else root / file
    if path.is_dir():
        path = path / file
    if path.is_file():
        return path
    missing[name] = path
    return None


def _wav2vec(given: Path | str | None, root: Path, environ: Mapping[str, str]) -> Path | None:
    path = resolve(given, environ).absolute() if given else root / WAV2VEC_DIR
    if path.is_file():  # the weights' file was named
        path = path.parent
    return path if path.is_dir() else None


def _lora(
    given: Path | str | None, root: Path, environ: Mapping[str, str], missing: dict[str, Path]
) -> Path | None:
    if not given:
        return root / LORA_FILE if (root / LORA_FILE).is_file() else None
    path = resolve(given, environ).absolute()
    if path.is_dir():
        files = sorted(path.rglob("*.safetensors"))
        named = [file for file in files if file.name == LORA_FILE]
        choice = named or files
        if len(choice) == 1:
            return choice[0]
        if choice:
            raise CheckpointError(
                sentence("several LoRA files"),
                where=str(path),
                why=", ".join(file.name for file in choice[:4]),
                remedy=sentence("name the file itself with --lora_path_dmd"),
            )
        path = path / LORA_FILE
    if path.is_file():
        return path
    missing["lora"] = path
    return None


def _index(root: Path) -> Path | None:
    for stem in STEMS:
        path = root / f"{stem}.safetensors.index.json"
        if path.is_file():
            return path
    return None


def _dit_files(root: Path, index: Path | None) -> tuple[Path, ...]:
    """The shards the index names, or those in the directory when no index is usable."""
    present = shards_present(root)
    if index is None:
        return present
    try:
        names = sorted(set(read_index(index).values()))
    except CheckpointError:
        return present  # ``verify`` tells what is wrong with the index
    files = tuple(root / name for name in names)
    return files if any(file.is_file() for file in files) else present


def resolve(given: Path | str, environment: Mapping[str, str]) -> Path:
    """A local path, or the snapshot of a hub id in the local Hugging Face cache.

    Raises:
        CheckpointError: nothing of that name exists; for a hub id with the download command.
    """
    path = Path(given).expanduser()
    if path.exists():
        return path
    if not _HUB_ID.fullmatch(str(given)):
        raise CheckpointError(
            sentence("does not exist"),
            where=str(path),
            remedy=sentence("check the path's spelling"),
        )
    snapshot = _cached_snapshot(str(given), environment)
    if snapshot is None:
        raise CheckpointError(
            sentence("neither a local path nor in the local Hugging Face cache"),
            where=str(given),
            remedy=sentence("download it first: hf download {given}", given=given),
        )
    return snapshot


def _cached_snapshot(hub_id: str, environment: Mapping[str, str]) -> Path | None:
    home = environment.get("HF_HOME") or Path(
        environment.get("XDG_CACHE_HOME") or Path.home() / ".cache", "huggingface"
    )
    cache = Path(environment.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshots = repository / "snapshots"
    try:
        revision = (repository / "refs" / "main").read_text().strip()
        if re.fullmatch(r"[0-9a-f]{7,64}", revision) and (snapshots / revision).is_dir():
            return snapshots / revision
        return max(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None
