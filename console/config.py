"""The console's configuration: one TOML file of a person's own, all of it optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Config:
    """What the file says, checked.

    Args:
        theme: name or path. lang: language. keys: action id → Textual key names.
    """

    theme: str | None = None
    lang: str | None = None
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
