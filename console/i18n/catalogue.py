"""Keep the catalogues in step with the source: ``python -m console.i18n.catalogue``.

Without arguments: every message of the source goes into every ``.po`` (untranslated ones empty,
those no longer used left out), and the ``.mo`` beside it is compiled. ``--missing`` only lists what
lacks a translation; ``--fill FILE`` takes translations from a JSON object, message → translation
(a list for the forms of a count). Needs Babel, which the console itself does not.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from console.i18n import DOMAIN, LANGUAGES, folder
from engine.guard.known import SPARED

SOURCE: Final = Path(__file__).resolve().parents[1]
ENGINE: Final = SOURCE.parent / "engine"
#: What marks a message, and how many texts it has: t(message), N_(message), n(one, many, count);
#: in the engine sentence(template).
KEYWORDS: Final = {"t": 1, "N_": 1, "n": 2, "sentence": 1}
#: Files of the engine that hold sentences: folder, pattern → the fields that are sentences.
DATA: Final = {
    ("triage/signatures", "*.toml"): ("cause", "text"),
    ("alerts", "defaults.toml"): ("message",),
}
#: The header tells no moment, so that nothing is written anew where nothing changed.
WRITTEN: Final = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)


def marked(text: str) -> Iterator[str | tuple[str, str]]:
    """The messages of one module, those within f-strings too."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        count = KEYWORDS.get(node.func.id, 0)
        found = [a.value for a in node.args[:count] if isinstance(a, ast.Constant)]
        texts = [value for value in found if isinstance(value, str) and value]
        if count and len(texts) == count:
            yield texts[0] if count == 1 else (texts[0], texts[1])


def extracted(source: Path = SOURCE) -> Catalog:
    """Every marked message of the source."""
    catalog = Catalog(domain=DOMAIN, charset="utf-8")
    for file in sorted([*source.rglob("*.py"), *ENGINE.rglob("*.py")]):
        for message in marked(file.read_text(encoding="utf-8")):
            name = str(file.relative_to(source.parent))
            catalog.add(message, locations=[(name, 0)])
    for (folder_name, pattern), fields in DATA.items():
        for file in sorted((ENGINE / folder_name).glob(pattern)):
            for message in _fields(tomllib.loads(file.read_text(encoding="utf-8")), fields):
                catalog.add(message, locations=[(str(file.relative_to(source.parent)), 0)])
    for _name, why in SPARED:
        catalog.add(why, locations=[("engine/guard/known.py", 0)])
    return catalog


def _fields(value: Any, names: tuple[str, ...]) -> Iterator[str]:
    """The sentences of a data file. A cause is also said within another one, without its stop."""
    if isinstance(value, list):
        for each in value:
            yield from _fields(each, names)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in names and isinstance(each, str):
                yield each
                if key == "cause":
                    yield each.rstrip(".")
            yield from _fields(each, names)


def path(language: str, kind: str = "po") -> Path:
    return folder() / language / "LC_MESSAGES" / f"{DOMAIN}.{kind}"


def languages() -> list[str]:
    """Languages that have a catalogue: all but that of the source."""
    return [language for language in LANGUAGES if language != "en"]


def read(language: str) -> Catalog:
    """The catalogue as it lies on disk; empty if there is none yet."""
    file = path(language)
    if not file.exists():
        return Catalog(locale=language, domain=DOMAIN, charset="utf-8")
    with file.open("rb") as stream:
        return read_po(stream, locale=language, domain=DOMAIN)


def messages(catalog: Catalog) -> Iterator[Message]:
    return (message for message in catalog if message.id)


def translated(message: Message) -> bool:
    """Whether every form has a translation."""
    said = message.string
    return all([said] if isinstance(said, str) else said or [""])


def missing(language: str, source: Catalog | None = None) -> list[str]:
    """Messages of the source without a translation, sorted."""
    have = read(language)
    lacking = []
    for message in messages(source or extracted()):
        known = have.get(message.id)
        if known is None or not translated(known):
            lacking.append(message.id if isinstance(message.id, str) else message.id[0])
    return sorted(lacking)


def update(language: str, fill: Mapping[str, Any]) -> None:
    """Write the ``.po`` anew from the source, its translations and ``fill``; compile it."""
    before = read(language)
    after = Catalog(
        locale=language, domain=DOMAIN, charset="utf-8", project="avatop", version="1", fuzzy=False,
        msgid_bugs_address="",
        creation_date=WRITTEN, revision_date=WRITTEN, last_translator="", language_team="",
        header_comment="# Words of the console. Written by python -m console.i18n.catalogue",
    )  # fmt: skip
    for message in messages(extracted()):
        key = message.id if isinstance(message.id, str) else message.id[0]
        known = before.get(message.id)
        said = fill.get(key) or (known.string if known is not None else None)
        if not said and f"{key}." in fill:  # the same sentence within another one
            said = str(fill[f"{key}."]).rstrip("。.")
        if isinstance(message.id, tuple) and isinstance(said, str):
            said = (said,) * after.num_plurals
        after.add(
            message.id, tuple(said) if isinstance(said, list) else said, locations=message.locations
        )
    file = path(language)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        write_po(stream, after, sort_output=True, include_lineno=False, width=96)
    with path(language, "mo").open("wb") as stream:
        write_mo(stream, after)


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the catalogues in step with the source.")
    parser.add_argument("--missing", action="store_true", help="only list what lacks a translation")
    parser.add_argument("--fill", type=Path, help="JSON: message → translation")
    options = parser.parse_args()
    fill = json.loads(options.fill.read_text(encoding="utf-8")) if options.fill else {}
    for language in languages():
        if not options.missing:
            update(language, fill)
        lacking = missing(language)
        for message in lacking:
            print(f"{language}: {message!r}")
        print(f"{language}: {len(lacking)} without a translation", file=sys.stderr)


if __name__ == "__main__":
    main()
