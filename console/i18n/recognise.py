"""What a plain text was made of, found by the templates of the catalogue.

A sentence of the engine knows its template (``engine.sentence``) until it is written where only
text is kept: a row of the job store, a recording of an earlier version, another program's log. Such
a text is said anew where it is, from its first to its last character, one template filled in.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

#: Letters and digits of its own that a template needs: fewer would fit anything.
_LEAST: Final = 4
#: What a value is where it stands alone in its sentence, and where it is one itself.
_WORDS: Final = r"(?:(?!;\s|[.!?:]\s|\n).)+?"
_SENTENCES: Final = ".+?"
_FIGURE: Final = r"[-+]?\d(?:[\d.,]*\d)?(?:e[-+]?\d+)?%?"  # of a template that formats it
_END: Final = "(?<![.:;,])"  # it never ends in what belongs to the sentence
_QUOTES: Final = ('"', "'", "`")
_ENDS: Final = frozenset({";", "(", ",", ".", ":"})
#: Longer texts are no sentence of ours.
_LONGEST: Final = 4000


@dataclass(frozen=True)
class _Known:
    template: str
    own: int  # characters that are the template's own
    longest: str  # a piece of it that every text made from it holds
    parts: tuple[tuple[str, str | None, bool], ...]  # literal text, what follows: name, a figure?


@dataclass(frozen=True)
class Found:
    """The template a text was made from, and what it was filled with: texts."""

    template: str
    values: Mapping[str, str]


class Templates:
    """Templates by which texts are recognised; the one with most text of its own is preferred."""

    def __init__(self, templates: Iterable[str]) -> None:
        known = (_known(template) for template in templates)
        self._known = sorted((k for k in known if k is not None), key=lambda k: -k.own)
        self._compiled: dict[str, re.Pattern[str]] = {}

    def find(self, text: str) -> Found | None:
        """The template that fits the whole of ``text``; None where there is none."""
        if len(text) > _LONGEST:
            return None
        for known in self._known:
            if known.longest in text:
                match = self._pattern(known).fullmatch(text)
                if match is not None:
                    return Found(known.template, match.groupdict())
        return None

    def _pattern(self, known: _Known) -> re.Pattern[str]:
        pattern = self._compiled.get(known.template)
        if pattern is None:
            seen: set[str] = set()
            out = []
            after = [literal for literal, _, _ in known.parts[1:]] + [""]
            for (literal, name, figure), next_one in zip(known.parts, after, strict=True):
                out.append(re.escape(literal))
                if name in seen:
                    out.append(f"(?P={name})")
                elif name is not None:
                    seen.add(name)
                    end = "" if figure or next_one[:1] in _QUOTES else _END
                    kind = _FIGURE if figure else _kind(literal, next_one)
                    out.append(f"(?P<{name}>{kind}){end}")
            pattern = self._compiled[known.template] = re.compile("".join(out), re.DOTALL)
        return pattern


def _kind(before: str, after: str) -> str:
    """A value may be several sentences behind a colon, in brackets, and before a clause's end."""
    begins = before.endswith((": ", "(", "; ", *_QUOTES)) or (
        not before and after[:2].strip() in _ENDS
    )
    return _SENTENCES if begins else _WORDS


def plain(template: str) -> str:
    """The template without formats and conversions: what fills it in is text already."""
    return "".join(
        literal.replace("{", "{{").replace("}", "}}") + ("" if name is None else f"{{{name}}}")
        for literal, name, _, _ in string.Formatter().parse(template)
    )


def _known(template: str) -> _Known | None:
    try:
        parsed = [
            (text, name, bool(spec)) for text, name, spec, _ in string.Formatter().parse(template)
        ]
    except ValueError:
        return None
    names = [name for _, name, _ in parsed if name is not None]
    literals = [text for text, _, _ in parsed]
    own = sum(len("".join(text.split())) for text in literals)
    letters = sum(char.isalnum() for text in literals for char in text)
    if not names or letters < _LEAST or not all(name.isidentifier() for name in names):
        return None
    return _Known(template, own, max(literals, key=len), tuple(parsed))
