"""Themes: TOML files that give every colour role of the console its style.

A role is a name such as ``state.good`` or ``owner.kv``; drawing code knows roles only. The files
lie in ``themes/``; a path to a file of one's own works as well as a name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.color import Color
from rich.errors import StyleSyntaxError
from rich.style import Style

import themes
from engine.messages import OWNERS
from engine.plain import Plain, late_dataclass

DEFAULT: Final = "signature"

#: Every role a theme must define.
ROLES: Final = (
    "text", "soft", "faint", "rule", "title", "title.focus", "accent", "key", "unit", "na",
    "state.good", "state.watch", "state.act", "state.idle", "state.busy",
    "spike", "plan", "over", "capacity", "axis", "temperature",
    "log.debug", "log.info", "log.warning", "log.error", "match", "match.current",
)  # fmt: skip


class ThemeError(ValueError):
    """A theme that does not exist or cannot be used; the text says why and what to do."""


@late_dataclass(frozen=True)
class Theme(Plain):
    """One loaded theme. ``styles`` has every role and ``owner.NAME``, each with its ground."""

    name: str
    title: str
    dark: bool
    colors: str  # "truecolor" | "16" | "none"
    base: str  # ground colour, or "default" for the terminal's own
    raised: str
    styles: Mapping[str, Style]
    cursor: Style  # laid over the row under the cursor

    @property
    def patterned(self) -> bool:
        """Owners are told apart by fill pattern because colour cannot do it."""
        return self.colors == "none"

    def style(self, role: str) -> Style:
        return self.styles[role]

    def hex(self, role: str, default: str) -> str:
        """A role's foreground as a colour Textual's CSS accepts."""
        color = self.styles[role].color
        if color is None or color.is_default:
            return default
        return color.get_truecolor().hex if self.colors == "truecolor" else f"ansi_{color.name}"


def folder() -> Path:
    """Where the shipped themes lie."""
    return Path(themes.__path__[0])


def own_folder() -> Path:
    """Where a person's own themes lie; they come before shipped ones of the same name."""
    from console.config import folder as configuration

    return configuration() / "themes"


def names() -> list[str]:
    """Names of the shipped themes and of one's own, sorted."""
    found = (path.stem for place in (folder(), own_folder()) for path in place.glob("*.toml"))
    return sorted(set(found))


def file_of(name: str) -> Path:
    """The file of a theme: a path if the name has a slash or ends in ``.toml``."""
    if "/" in name or name.endswith(".toml"):
        return Path(name)
    if name == DEFAULT:  # no folder is looked for before the first picture
        return folder() / f"{name}.toml"
    own = own_folder() / f"{name}.toml"
    return own if own.exists() else folder() / f"{name}.toml"


def choose(asked: str | None, environ: Mapping[str, str], configured: str | None = None) -> str:
    """The theme to load: asked for, else what the terminal can show.

    Order: ``--theme``, ``AVATOP_THEME``, ``NO_COLOR`` (mono), the configuration's, no colours
    (mono) or few (ansi16), signature.
    """
    name = asked or environ.get("AVATOP_THEME")
    if name:
        return name
    if environ.get("NO_COLOR"):
        return "mono"
    if configured:
        return configured
    term = environ.get("TERM", "")
    if term == "dumb" or term.startswith(("vt1", "vt2")) or term.endswith(("-m", "-mono")):
        return "mono"
    rich = environ.get("COLORTERM", "") in ("truecolor", "24bit") or "256" in term
    return DEFAULT if rich or term in ("xterm-kitty", "alacritty", "foot") else "ansi16"


def load(name: str = DEFAULT) -> Theme:
    """Read a theme by name, or by path if the name has a slash or ends in ``.toml``.

    Raises:
        ThemeError: no such theme, not TOML, or a role missing or malformed.
    """
    path = file_of(name)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ThemeError(
            f"There is no theme {name!r}; choose one of {', '.join(names())}."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ThemeError(f"The theme file {path} cannot be read: {error}.") from error
    return _build(data, path)


def _build(data: dict[str, Any], path: Path) -> Theme:
    ground, style, owners = (data.get(part) or {} for part in ("ground", "style", "owners"))
    missing = [role for role in ROLES if role not in style]
    missing += [f"owners.{owner}" for owner in OWNERS if owner not in owners]
    missing += [f"ground.{key}" for key in ("base", "raised", "cursor") if key not in ground]
    if missing:
        raise ThemeError(f"The theme file {path} lacks {', '.join(missing)}.")
    specs = {role: style[role] for role in ROLES} | {f"owner.{o}": owners[o] for o in OWNERS}
    try:
        base = ground["base"]
        under = Style(bgcolor=None if base == "default" else Color.parse(base))
        styles = {role: under + _parse(spec) for role, spec in specs.items()}
        cursor = ground["cursor"]
        over = _parse("reverse" if cursor == "reverse" else f"on {cursor}")
    except (StyleSyntaxError, ValueError) as error:
        raise ThemeError(
            f"The theme file {path} has a style that cannot be read: {error}."
        ) from error
    return Theme(
        name=str(data.get("name", path.stem)),
        title=str(data.get("title", path.stem)),
        dark=bool(data.get("dark", True)),
        colors=str(data.get("colors", "truecolor")),
        base=base,
        raised=ground["raised"],
        styles=styles,
        cursor=over,
    )


def _parse(spec: str) -> Style:
    return Style.parse(spec) if spec else Style.null()
