"""Sentences that know their template and its figures, so that a console can say them anew.

``sentence("it holds {size} on {devices}", size=…, devices=…)`` is a ``str`` in English like any
other: in logs, in exports, for whoever compares it. Beside it in a message's JSON, under ``said``,
stand template and values; a console that has the template in its catalogue says it in its own
language, and names devices as it does everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

#: Field of a message's JSON: where a sentence stands → its template and values.
SAID: Final = "said"


class Sentence(str):
    """A sentence in English with what it was made of. Made by ``sentence``."""

    template: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return self  # so that str(error) is still the sentence that the error was raised with

    def __copy__(self) -> Sentence:
        return self

    def __deepcopy__(self, memo: object) -> Sentence:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.template, dict(self.values))


def sentence(template: str, /, **values: Any) -> Sentence:
    """``template`` with its ``{names}`` filled in.

    Args:
        values: numbers, texts, other sentences, or lists of these (told with commas between);
            of anything else its text. What is a device's uuid stays one here.
    """
    return _made(template, {name: _told(value) for name, value in values.items()})


def joined(parts: Iterable[str], by: str = "; ") -> str:
    """Sentences one after the other, each of which can still be said anew."""
    told = list(parts)
    if len(told) == 1:
        return told[0]
    names = [f"s{number}" for number in range(len(told))]
    return sentence(by.join(f"{{{name}}}" for name in names), **dict(zip(names, told, strict=True)))


def internal(error: BaseException) -> Sentence:
    """A fault of our own, told to whoever asked."""
    return sentence("internal error: {name}: {error}", name=type(error).__name__, error=error)


def _told(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _made(template: str, values: Mapping[str, Any]) -> Sentence:
    text = template.format(**{name: _plain(value) for name, value in values.items()})
    made = Sentence(text)
    made.template, made.values = template, values
    return made


def _plain(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def sentences_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Path → [template, values] of every sentence in a message's JSON object."""
    return {path: _packed(found) for path, found in _walk(body, "")}


def _walk(value: Any, path: str) -> Iterator[tuple[str, Sentence]]:
    if isinstance(value, Sentence):
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _walk(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for at, each in enumerate(value):
            yield from _walk(each, f"{path}.{at}")


def _packed(value: Any) -> Any:
    if isinstance(value, Sentence):
        return [value.template, {k: _packed_value(v) for k, v in value.values.items()}]
    return value


def _packed_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_packed_value(each) for each in value]
    return {SAID: _packed(value)} if isinstance(value, Sentence) else value


def with_sentences(body: Mapping[str, Any]) -> dict[str, Any]:
    """A message's JSON object, its texts that were sentences being such again.

    What does not fit (another version, a text that was changed on its way) stays a plain text.
    """
    said = body.get(SAID)
    out = {key: value for key, value in body.items() if key != SAID}
    if isinstance(said, Mapping):
        for path, packed in said.items():
            try:
                _put(out, str(path).split("."), _unpacked(packed))
            except (KeyError, IndexError, ValueError, TypeError, AttributeError):
                continue
    return out


def _put(body: dict[str, Any], path: list[str], made: Sentence) -> None:
    at: Any = body
    for step in path[:-1]:
        key: Any = int(step) if isinstance(at, list) else step
        copied = at[key]
        at[key] = list(copied) if isinstance(copied, list | tuple) else dict(copied)
        at = at[key]
    last: Any = int(path[-1]) if isinstance(at, list) else path[-1]
    if at[last] == made:
        at[last] = made


def _unpacked(packed: Any) -> Sentence:
    template, values = packed
    return _made(str(template), {str(k): _unpacked_value(v) for k, v in values.items()})


def _unpacked_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked_value(each) for each in value]
    if isinstance(value, Mapping) and set(value) == {SAID}:
        return _unpacked(value[SAID])
    return value
