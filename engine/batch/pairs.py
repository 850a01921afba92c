"""Which sound belongs to which portrait: by name, and everything that does not pair is told."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.params import PARAMETERS
from engine.sentence import sentence

AUDIO_ENDINGS: Final = frozenset(
    {".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus", ".wma", ".aiff", ".aif"}
)
IMAGE_ENDINGS: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
#: A prompt beside its sound or portrait, under their name.
PROMPT_ENDING: Final = ".txt"
_LONGEST_PROMPT: Final = 1 << 16
_LONGEST_MANIFEST: Final = 16 << 20

#: Columns that a manifest may have besides ``name``.
ITEM_PARAMETERS: Final = frozenset(
    {"prompt"} | {p.name for p in PARAMETERS if p.group == "generation" and not p.no_effect}
)


class PairError(ValueError):
    """Folders or a manifest that cannot be read; says which, and why."""


@dataclass(frozen=True)
class Pair:
    """One sound and one portrait of the same name; ``changes`` are parameters of this item."""

    name: str
    audio: Path
    image: Path
    changes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Remark:
    """A file that is no item: ``missing``, ``doubled``, ``hidden``, ``unsupported``, ``prompt`` or
    ``manifest``; ``name`` is the pair's or the file's."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True)
class Pairing:
    """Pairs in the order of their names, and what is told of the rest."""

    pairs: tuple[Pair, ...]
    remarks: tuple[Remark, ...]


def pair_up(audio_dir: Path, image_dir: Path, manifest: Path | None = None) -> Pairing:
    """Pair the files of two folders (which may be one) by their names without ending.

    Prompts come from ``NAME.txt`` beside the sound or the portrait; ``manifest`` is a CSV file
    with a column ``name`` and any of ``prompt`` and the generation parameters, which wins.

    Raises:
        PairError: a folder or the manifest cannot be read.
    """
    same = _same_folder(audio_dir, image_dir)
    remarks: list[Remark] = []
    sounds: dict[str, list[Path]] = {}
    faces: dict[str, list[Path]] = {}
    prompts: dict[str, list[Path]] = {}
    for folder, wanted in (
        [(audio_dir, "both")]
        if same
        else [
            (audio_dir, "audio"),
            (image_dir, "image"),
        ]
    ):
        for path in _files(folder, remarks):
            ending, name = path.suffix.lower(), name_of(path)
            if ending == PROMPT_ENDING:
                prompts.setdefault(name, []).append(path)
            elif ending in AUDIO_ENDINGS and wanted in ("audio", "both"):
                sounds.setdefault(name, []).append(path)
            elif ending in IMAGE_ENDINGS and wanted in ("image", "both"):
                faces.setdefault(name, []).append(path)
            else:
                remarks.append(Remark("unsupported", path.name, _unknown(path, wanted)))
    changes = {} if manifest is None else _read_manifest(manifest, remarks)
    pairs = []
    for name in sorted(sounds.keys() | faces.keys()):
        told = [*_partner("audio", name, sounds), *_partner("image", name, faces)]
        remarks += told
        if not told:
            own = {**_sidecar(name, prompts, remarks), **changes.get(name, {})}
            pairs.append(Pair(name, sounds[name][0], faces[name][0], own))
    known = {pair.name for pair in pairs}
    for name in sorted(prompts.keys() - sounds.keys() - faces.keys()):
        text = sentence("{path} is a prompt without a sound or a portrait", path=prompts[name][0])
        remarks.append(Remark("prompt", name, text))
    for name in sorted(changes.keys() - known):
        text = sentence(
            "{manifest}: {name} has a row, and no pair of that name is there",
            manifest=manifest,
            name=name,
        )
        remarks.append(Remark("manifest", name, text))
    return Pairing(tuple(pairs), tuple(remarks))


def name_of(path: Path) -> str:
    """A file's name without its last ending, composed (NFC): folders of macOS decompose."""
    return unicodedata.normalize("NFC", path.stem)


def _same_folder(one: Path, other: Path) -> bool:
    for folder in (one, other):
        if not folder.is_dir():
            raise PairError(sentence("{folder} is not a folder", folder=folder))
    return one.samefile(other)


def _files(folder: Path, remarks: list[Remark]) -> list[Path]:
    """The folder's own files in order; folders and hidden files are told."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise PairError(
            sentence(
                "{folder} cannot be read: {strerror}",
                folder=folder,
                strerror=error.strerror or error,
            )
        ) from error
    found = []
    for path in entries:
        if path.name.startswith("."):
            remarks.append(
                Remark("hidden", path.name, sentence("{path} is hidden; it is left out", path=path))
            )
        elif path.is_dir():
            text = sentence(
                "{path} is a folder; only files right in {folder} are paired",
                path=path,
                folder=folder,
            )
            remarks.append(Remark("unsupported", path.name, text))
        elif not path.is_file():
            text = sentence("{path} is no file (a broken link?); it is left out", path=path)
            remarks.append(Remark("unsupported", path.name, text))
        else:
            found.append(path)
    return found


def _unknown(path: Path, wanted: str) -> str:
    """A file that is none of what is looked for."""
    if wanted == "audio":
        return sentence("{path} is no sound in a known format; it is left out", path=path)
    if wanted == "image":
        return sentence("{path} is no picture in a known format; it is left out", path=path)
    return sentence("{path} is no sound or picture in a known format; it is left out", path=path)


def _partner(kind: str, name: str, found: Mapping[str, Sequence[Path]]) -> list[Remark]:
    """What is wrong with one half of a pair: none, or more than one."""
    files = found.get(name, ())
    if not files:
        text = (
            sentence("{name} has a portrait and no sound; it is left out", name=name)
            if kind == "audio"
            else sentence("{name} has a sound and no portrait; it is left out", name=name)
        )
        return [Remark("missing", name, text)]
    if len(files) > 1:
        which = ", ".join(path.name for path in files)
        text = (
            sentence(
                "{name} has {count} sounds ({which}); it is left out, keep one",
                name=name,
                count=len(files),
                which=which,
            )
            if kind == "audio"
            else sentence(
                "{name} has {count} portraits ({which}); it is left out, keep one",
                name=name,
                count=len(files),
                which=which,
            )
        )
        return [Remark("doubled", name, text)]
    return []


def _sidecar(
    name: str, prompts: Mapping[str, Sequence[Path]], remarks: list[Remark]
) -> dict[str, str]:
    texts = []
    for path in prompts.get(name, ()):
        try:
            text = path.read_bytes()[: _LONGEST_PROMPT + 1].decode("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            text = ""
            remarks.append(
                Remark(
                    "prompt",
                    name,
                    sentence("{path} cannot be read as a prompt: {error}", path=path, error=error),
                )
            )
        if text:
            texts.append(text)
        elif not remarks or remarks[-1].name != name:
            remarks.append(
                Remark(
                    "prompt",
                    name,
                    sentence("{path} is empty; the common prompt is used", path=path),
                )
            )
    if len(set(texts)) > 1:
        text = sentence(
            "{name} has two different prompts; the one beside its sound is used", name=name
        )
        remarks.append(Remark("prompt", name, text))
    return {"prompt": texts[0]} if texts else {}


def _read_manifest(path: Path, remarks: list[Remark]) -> dict[str, dict[str, str]]:
    """Name → parameters of a CSV manifest; empty cells say nothing."""
    try:
        if path.stat().st_size > _LONGEST_MANIFEST:
            raise PairError(sentence("{path} is over 16 MiB, no manifest", path=path))
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairError(
            sentence("{path} cannot be read as CSV: {error}", path=path, error=error)
        ) from error
    columns = {column for row in rows[:1] for column in row}
    if "name" not in columns:
        raise PairError(
            sentence("{path} has no column 'name'; its first line names the columns", path=path)
        )
    unknown = sorted(str(column) for column in columns - {"name"} - ITEM_PARAMETERS)
    if unknown:
        allowed = ", ".join(sorted(ITEM_PARAMETERS))
        raise PairError(
            sentence(
                "{path}: {unknown} is no column here; name and {allowed} are",
                path=path,
                unknown=", ".join(unknown),
                allowed=allowed,
            )
        )
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, 2):
        name = unicodedata.normalize("NFC", (row.get("name") or "").strip())
        if None in row or any(value is None for value in row.values()):
            raise PairError(
                sentence(
                    "{path}, row {number}: it has not as many fields as the first line",
                    path=path,
                    number=number,
                )
            )
        if not name:
            raise PairError(
                sentence("{path}, row {number}: the name is empty", path=path, number=number)
            )
        if name in found:
            remarks.append(
                Remark(
                    "doubled",
                    name,
                    sentence("{path} has {name} twice; its last row counts", path=path, name=name),
                )
            )
        found[name] = {k: v.strip() for k, v in row.items() if k != "name" and v.strip()}
    return found
