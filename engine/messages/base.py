"""The base of every message: JSON and back, and the words of states, levels and owners."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import time
import types
import typing
from collections.abc import Hashable
from dataclasses import field
from typing import Any, ClassVar, Final

from engine.plain import Plain, late_dataclass
from engine.sentence import SAID, sentences_of, with_sentences

VERSION: Final = 1

#: Owners of device memory in the order they are stacked and printed (docs/architecture.md).
OWNERS: Final = (
    "weights",
    "gathered",
    "streamed",
    "kv",
    "conditioning",
    "activations",
    "vae",
    "context",
    "slack",
    "other",
    "foreign",
)

#: Job states. queued → preflight → loading → running → decoding → done, or one of the ends.
JOB_STATES: Final = (
    "queued",
    "preflight",
    "loading",
    "running",
    "decoding",
    "paused",
    "done",
    "cancelled",
    "interrupted",
    "failed",
)
LIVE_STATES: Final = frozenset({"preflight", "loading", "running", "decoding"})
END_STATES: Final = frozenset({"done", "cancelled", "interrupted", "failed"})

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class MessageError(ValueError):
    """A line that is not a message of this vocabulary."""


@late_dataclass(frozen=True, kw_only=True, init=False)
class Message(Plain):
    """Base of everything that crosses; subclasses register themselves by name."""

    kinds: ClassVar[dict[str, type[Message]]] = {}
    #: Whether texts of it may be sentences (engine/sentence.py).
    SAYS: ClassVar[bool] = False
    t: float = field(default_factory=time.time)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Message.kinds[cls.__name__] = cls

    def to_dict(self) -> dict[str, Any]:
        body = {"type": type(self).__name__, "v": VERSION, **dataclasses.asdict(self)}
        said = sentences_of(body) if self.SAYS else None
        return {**body, SAID: said} if said else body

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))


def from_dict(data: dict[str, Any]) -> Message:
    """Rebuild a message. Unknown fields are ignored (a newer writer), missing ones raise.

    Raises:
        MessageError: unknown type, or fields that do not fit.
    """
    name = str(data.get("type"))
    if name not in Message.kinds:
        importlib.import_module("engine.messages.commands")  # made when the first one is read
    kind = Message.kinds.get(name)
    if kind is None:
        raise MessageError(f"unknown message type {data.get('type')!r}")
    try:
        return typing.cast(Message, _build(kind, with_sentences(data) if kind.SAYS else data))
    except (TypeError, ValueError, AttributeError) as error:
        raise MessageError(f"malformed {kind.__name__}: {error}") from error


def from_json(line: str | bytes) -> Message:
    """Rebuild a message from one line of newline-delimited JSON."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise MessageError(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise MessageError("not a JSON object")
    return from_dict(data)


def _build(cls: type[Any], data: dict[str, Any]) -> Any:
    hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
    return cls(**{k: _convert(hints[k], v) for k, v in data.items() if k in hints})


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    """Types of a class's fields; asked once, because a replay rebuilds thousands of events."""
    kind = typing.cast(type[Any], cls)
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _convert(hint: Any, value: Any) -> Any:
    """Give JSON's lists and objects back their dataclass and tuple types."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(a for a in typing.get_args(hint) if a is not type(None)), value)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(type[Any], hint), value)
    if origin is tuple and isinstance(value, list | tuple):
        args = typing.get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], item) for item in value)
        return tuple(_convert(a, item) for a, item in zip(args, value, strict=True))
    return value
