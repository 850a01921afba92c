"""Signatures as data: the TOML files of ``signatures/``, checked and compiled.

A signature says which text means what: patterns (any of which counts), patterns that must be
absent, context that must or must not stand nearby, the class of incident it is evidence for, its
role, and the remedies with where they are known from. Benign entries mute what they explain.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

from engine.triage.index import LiteralIndex
from engine.triage.literals import MINIMUM, Wording, alternatives, required_runs

Role = Literal["root", "victim", "advice"]
Severity = Literal["info", "warning", "error", "critical"]

ROLES: Final = ("root", "victim", "advice")
SEVERITIES: Final = ("info", "warning", "error", "critical")
#: What a remedy's action may be; who applies it lives elsewhere.
ACTIONS: Final = (
    "relaunch",
    "set_env",
    "kill_holder",
    "other_port",
    "verify_checkpoint",
    "free_disk",
    "drain",
    "edit_request",
    "show_log",
)
#: Lines looked at before and after one for context.
CONTEXT: Final = 8


class CatalogueError(ValueError):
    """The signature data is not what it must be; says which file, which entry and why."""


@dataclass(frozen=True)
class Remedy:
    """What to do. ``action`` is data for a program that can do it, or None.

    ``elsewhere``: for other programs' logs; this engine does so already, or has no such thing.
    """

    id: str
    text: str
    source: str
    action: dict[str, Any] | None = None
    elsewhere: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "text": self.text, "action": self.action}


@dataclass(frozen=True)
class Incident:
    """A class of incidents with what holds for all of its signatures.

    ``explains`` names classes whose findings near a root of this class are its consequences.
    """

    name: str
    severity: Severity
    cause: str
    remedies: tuple[str, ...]
    source: str
    explains: frozenset[str] = frozenset()
    absorbs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Signature:
    """One kind of evidence, compiled. ``strength`` is the confidence a single match gives.

    ``loud``: a line that calls itself a warning or less is no evidence; ``calm``: even one that
    calls itself information is.
    """

    id: str
    incident: str
    role: Role
    severity: Severity
    strength: float
    patterns: tuple[Wording, ...]
    loud: bool = False
    calm: bool = False
    absent: tuple[Wording, ...] = ()
    near: tuple[Wording, ...] = ()
    near_absent: tuple[Wording, ...] = ()
    cause: str = ""
    remedies: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    counter_examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benign:
    """Text that means no harm. It mutes ``classes`` (all when empty) around itself.

    ``before`` and ``after`` count lines; ``spans_only`` cuts the matched text alone out of its
    line, which is what advice in the same line as an error needs.
    """

    id: str
    patterns: tuple[Wording, ...]
    classes: frozenset[str]
    before: int
    after: int
    spans_only: bool
    near: tuple[Wording, ...]
    why: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reach:
    """Harmless texts that mute at most so many lines before and after their own."""

    before: int
    after: int
    index: LiteralIndex[Benign]


@dataclass(frozen=True)
class Catalogue:
    """Everything the classifier knows."""

    incidents: Mapping[str, Incident]
    signatures: tuple[Signature, ...]
    benign: tuple[Benign, ...]
    remedies: Mapping[str, Remedy]
    suspicious: LiteralIndex[Signature]
    harmless: tuple[Reach, ...]


@cache
def catalogue() -> Catalogue:
    """The shipped data, read once.

    Raises:
        CatalogueError: a shipped file is damaged.
    """
    folder = resources.files("engine.triage") / "signatures"
    texts = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
    return build(texts)


def build(texts: Mapping[str, str]) -> Catalogue:
    """A catalogue from TOML texts by file name.

    Raises:
        CatalogueError: not TOML, unknown keys or names, patterns without a plain run of text.
    """
    remedies: dict[str, Remedy] = {}
    incidents: dict[str, Incident] = {}
    raw: list[tuple[str, dict[str, Any]]] = []
    raw_benign: list[tuple[str, dict[str, Any]]] = []
    for name, text in sorted(texts.items()):
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise CatalogueError(f"{name}: {error}") from error
        _known(name, data, {"remedy", "incident", "signature", "benign"})
        for body in data.get("remedy", ()):
            remedy = _remedy(name, body)
            _unique(name, remedy.id, remedies)
            remedies[remedy.id] = remedy
        for body in data.get("incident", ()):
            incident = _incident(name, body)
            _unique(name, incident.name, incidents)
            incidents[incident.name] = incident
        raw += ((name, body) for body in data.get("signature", ()))
        raw_benign += ((name, body) for body in data.get("benign", ()))
    signatures: dict[str, Signature] = {}
    for name, body in raw:
        signature = _signature(name, body, incidents, remedies)
        _unique(name, signature.id, signatures)
        signatures[signature.id] = signature
    benign: dict[str, Benign] = {}
    for name, body in raw_benign:
        entry = _benign(name, body, incidents)
        _unique(name, entry.id, benign)
        benign[entry.id] = entry
    for incident in incidents.values():
        _all_known(incident.name, (*incident.explains, *incident.absorbs), incidents, {"*"})
        _all_known(incident.name, incident.remedies, remedies)
    return Catalogue(
        incidents,
        tuple(signatures.values()),
        tuple(benign.values()),
        remedies,
        LiteralIndex(signatures.values()),
        _reaches(benign.values()),
    )


def _reaches(entries: Iterable[Benign]) -> tuple[Reach, ...]:
    """Those that mute their own line alone, which are most; and the others."""
    own: list[Benign] = []
    others: list[Benign] = []
    for entry in entries:
        (others if entry.before or entry.after else own).append(entry)
    return tuple(
        Reach(
            max((entry.before for entry in members), default=0),
            max((entry.after for entry in members), default=0),
            LiteralIndex(members),
        )
        for members in (own, others)
    )


def _remedy(name: str, body: dict[str, Any]) -> Remedy:
    _known(name, body, {"id", "text", "source", "action", "elsewhere"})
    action = body.get("action")
    if action is not None and action.get("kind") not in ACTIONS:
        raise CatalogueError(f"{name}: remedy {body.get('id')}: unknown action {action!r}")
    return Remedy(
        _text(name, body, "id"), _text(name, body, "text"), _text(name, body, "source"), action,
        body.get("elsewhere") is True,
    )  # fmt: skip


def _incident(name: str, body: dict[str, Any]) -> Incident:
    _known(name, body, {"name", "severity", "cause", "remedies", "source", "explains", "absorbs"})
    title = _text(name, body, "name")
    return Incident(
        title,
        _choice(name, title, body.get("severity", "error"), SEVERITIES),
        _text(name, body, "cause"),
        tuple(body.get("remedies", ())),
        _text(name, body, "source"),
        frozenset(body.get("explains", ())),
        frozenset(body.get("absorbs", ())),
    )


def _signature(
    name: str,
    body: dict[str, Any],
    incidents: Mapping[str, Incident],
    remedies: Mapping[str, Remedy],
) -> Signature:
    keys = {"id", "class", "role", "severity", "strength", "any", "none", "near", "near_none"}
    _known(name, body, keys | {"cause", "remedies", "examples", "counter_examples", "loud", "calm"})
    title = _text(name, body, "id")
    _all_known(f"{name}: {title}", (body.get("class", ""),), incidents)
    incident = incidents[body["class"]]
    strength = float(body.get("strength", 0.9))
    if not 0 < strength < 1:
        raise CatalogueError(f"{name}: {title}: strength {strength} is not between 0 and 1")
    _all_known(f"{name}: {title}", body.get("remedies", ()), remedies)
    patterns = _patterns(name, title, body)
    return Signature(
        id=title,
        incident=incident.name,
        role=_choice(name, title, body.get("role", "root"), ROLES),
        severity=_choice(name, title, body.get("severity", incident.severity), SEVERITIES),
        strength=strength,
        patterns=patterns,
        loud=bool(body.get("loud", False)),
        calm=bool(body.get("calm", False)),
        absent=_compiled(name, title, body.get("none", ())),
        near=_compiled(name, title, body.get("near", ())),
        near_absent=_compiled(name, title, body.get("near_none", ())),
        cause=str(body.get("cause", "")),
        remedies=tuple(body.get("remedies", ())),
        examples=tuple(body.get("examples", ())),
        counter_examples=tuple(body.get("counter_examples", ())),
    )


def _benign(name: str, body: dict[str, Any], incidents: Mapping[str, Incident]) -> Benign:
    keys = {"id", "any", "classes", "before", "after", "spans_only", "near", "why", "examples"}
    _known(name, body, keys)
    title = _text(name, body, "id")
    _all_known(f"{name}: {title}", body.get("classes", ()), incidents)
    patterns = _patterns(name, title, body)
    return Benign(
        id=title,
        patterns=patterns,
        classes=frozenset(body.get("classes", ())),
        before=int(body.get("before", 0)),
        after=int(body.get("after", 0)),
        spans_only=bool(body.get("spans_only", False)),
        near=_compiled(name, title, body.get("near", ())),
        why=_text(name, body, "why"),
        examples=tuple(body.get("examples", ())),
    )


def _patterns(name: str, title: str, body: dict[str, Any]) -> tuple[Wording, ...]:
    sources = body.get("any", ())
    if not sources:
        raise CatalogueError(f"{name}: {title}: 'any' is empty")
    _compiled(name, title, sources)  # what is damaged is told before it is read in pieces
    for source in sources:
        if not required_runs(source):
            raise CatalogueError(
                f"{name}: {title}: {source!r} has no plain run of {MINIMUM} characters that every"
                " match contains"
            )
    return _compiled(name, title, [_from_a_word(source) for source in sources])


def _from_a_word(source: str) -> str:
    """A pattern that begins with a letter begins where a word does ("hang" is not in "changed")."""
    plain = source[0].isalpha() and len(alternatives(source)) == 1
    return rf"(?<![^\W\d_]){source}" if plain else source


def _compiled(name: str, title: str, sources: Any) -> tuple[Wording, ...]:
    try:
        return tuple(Wording(re.compile(source, re.IGNORECASE)) for source in sources)
    except re.error as error:
        raise CatalogueError(f"{name}: {title}: {error.pattern!r}: {error}") from error


def _text(name: str, body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value.strip():
        raise CatalogueError(f"{name}: an entry without {key!r}: {body}")
    return value


def _known(name: str, body: dict[str, Any], keys: set[str]) -> None:
    unknown = sorted(set(body) - keys)
    if unknown:
        raise CatalogueError(f"{name}: unknown key {', '.join(unknown)} in {body.get('id', body)}")


def _unique(name: str, key: str, taken: Mapping[str, Any]) -> None:
    if key in taken:
        raise CatalogueError(f"{name}: {key!r} is there twice")


def _all_known(
    where: str, names: Any, table: Mapping[str, Any], also: set[str] | None = None
) -> None:
    for item in names:
        if item not in table and item not in (also or ()):
            raise CatalogueError(f"{where}: {item!r} is not known")


def _choice(name: str, title: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise CatalogueError(f"{name}: {title}: {value!r} is none of {', '.join(choices)}")
    return value
