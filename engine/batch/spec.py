"""What somebody asks of a batch: folders, common parameters, limits; as data that crosses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from engine.batch.sizes import SizeTableError, parse_sizes
from engine.sentence import sentence

#: Request fields that a batch fills in itself.
OWN_FIELDS: Final = ("image", "audio", "output", "dump_latents")


class SpecError(ValueError):
    """A description of a batch that is refused; says why."""


@dataclass(frozen=True)
class BatchSpec:
    """Everything that was asked. Paths are absolute, seconds and shares are numbers.

    ``request`` are fields of ``engine.params.Request`` for all items. ``sizes`` is a resolution
    table, or "" where the request's own size holds. ``retries`` are tries after the first.
    """

    audio_dir: str
    image_dir: str
    out_dir: str
    request: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    manifest: str | None = None
    watch: bool = False
    settle_seconds: float = 2.0  # a file of the inbox that long unchanged may be whole
    sizes: str = ""
    whole_audio: bool = True  # as many clips as the sound has
    item_timeout: float | None = None  # of one try's work on devices; None: the engine's limits
    retries: int = 3
    retry_seconds: float = 20.0  # before the first retry; doubled before each further one
    halt_share: float = 0.5  # of ended items; above it the batch stops for a person
    halt_least: int = 5  # failures before the share says anything
    lines: str = "auto"  # auto | pipeline | a number
    post_command: tuple[str, ...] = ()
    post_timeout: float = 600.0
    version: str | None = None  # the release that every item runs by

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; ``spec_from_dict`` gives an equal one back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """The same wish, the same digest."""
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def spec_from_dict(data: Mapping[str, Any]) -> BatchSpec:
    """Check and rebuild a description.

    Raises:
        SpecError: with the field and the reason.
    """
    names = {f.name for f in dataclasses.fields(BatchSpec)}
    unknown = sorted(set(data) - names)
    if unknown:
        raise SpecError(sentence("a batch has no {unknown}", unknown=", ".join(unknown)))
    missing = [n for n in ("audio_dir", "image_dir", "out_dir") if not data.get(n)]
    if missing:
        raise SpecError(sentence("{missing} is missing", missing=missing[0]))
    try:
        spec = BatchSpec(**{**data, "post_command": tuple(data.get("post_command") or ())})
        if spec.sizes:
            spec = dataclasses.replace(spec, sizes=parse_sizes(spec.sizes).text)
    except (SizeTableError, TypeError) as error:
        raise SpecError(str(error)) from error
    given = [name for name in OWN_FIELDS if spec.request.get(name) is not None]
    if given:
        raise SpecError(
            sentence("--{given} is a batch's own: each item has another", given=given[0])
        )
    if not spec.request.get("ckpt_dir"):
        raise SpecError(sentence("--ckpt_dir is missing"))
    if spec.lines not in ("auto", "pipeline") and not (
        spec.lines.isdecimal() and 1 <= int(spec.lines) <= 64
    ):
        raise SpecError(
            sentence(
                "--lines {lines}: it is auto, pipeline, or a number of lines", lines=spec.lines
            )
        )
    for name, least in (("retries", 0), ("halt_least", 1)):
        value = getattr(spec, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 1000:
            raise SpecError(
                sentence(
                    "{name} {value!r} is not a number from {least} to 1000",
                    name=name,
                    value=value,
                    least=least,
                )
            )
    for name in ("settle_seconds", "retry_seconds", "post_timeout", "item_timeout"):
        value = getattr(spec, name)
        if value is None and name == "item_timeout":
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e7:
            raise SpecError(
                sentence("{name} {value!r} is no number of seconds", name=name, value=value)
            )
    if not isinstance(spec.halt_share, int | float) or not 0 < spec.halt_share <= 1:
        raise SpecError(
            sentence(
                "halt_share {halt_share!r} is no share above 0 and up to 1",
                halt_share=spec.halt_share,
            )
        )
    return spec
