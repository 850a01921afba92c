"""Are all themes whole, and is a broken one refused with a sentence?"""

from __future__ import annotations

from pathlib import Path

import pytest

from console import theme
from tests.console.conftest import Opener


@pytest.mark.parametrize("name", ["ansi16", "mono"])
async def test_few_colours_and_none_draw_dialogs_too(opened: Opener, name: str) -> None:
    """Pages are drawn in every theme in test_screens.py."""
    async with opened(theme=name, size=(100, 30)) as console:
        assert "● running" in console.text()
        for key in ("question_mark", "escape", "s", "escape", "c", "escape", "z", "escape"):
            await console.press(key)
        assert console.app.screen is console.app.overview


def test_a_missing_theme_names_the_others() -> None:
    with pytest.raises(theme.ThemeError, match="choose one of ansi16, colorblind, contrast,"):
        theme.load("neon")


@pytest.mark.parametrize("text", ["not toml [", "name = 'x'", "[style]\ntext = 'no such colour'"])
def test_a_broken_theme_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(theme.ThemeError, match=r"mine\.toml"):
        theme.load(str(path))


def test_a_wrong_colour_is_named(tmp_path: Path) -> None:
    text = (theme.folder() / "signature.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('"#62c7bb"', '"teel"'), encoding="utf-8")
    with pytest.raises(theme.ThemeError, match="teel"):
        theme.load(str(path))


@pytest.mark.parametrize(("asked", "environ", "name"), [
    ("light", {"AVATOP_THEME": "mono"}, "light"),
    (None, {"AVATOP_THEME": "mono"}, "mono"),
    (None, {"NO_COLOR": "1", "TERM": "xterm-256color"}, "mono"),
    (None, {"TERM": "linux"}, "ansi16"),
    (None, {"TERM": "vt220"}, "mono"),
    (None, {"TERM": "xterm-256color"}, "signature"),
    (None, {"TERM": "screen", "COLORTERM": "truecolor"}, "signature"),
])  # fmt: skip
def test_the_choice(asked: str | None, environ: dict[str, str], name: str) -> None:
    assert theme.choose(asked, environ) == name
