"""Does a configuration of one's own hold, and is what is wrong in it told and left out?"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from console import actions, config, i18n, watching
from console import theme as themes
from console.app import AvatopApp
from console.commands.config import config_command
from tests.console.conftest import COLOURS, Opener
from tests.console.fake_client import FakeClient, Stage


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file lies; it does not exist yet."""
    monkeypatch.setenv("AVATOP_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return tmp_path / "config.toml"


def test_without_a_file_the_defaults_hold(mine: Path) -> None:
    assert config.load(mine) == config.Config()
    result = CliRunner().invoke(config_command, ["path"])
    assert result.output.strip() == str(mine)


def test_what_is_shown_could_be_the_file(mine: Path) -> None:
    mine.write_text('theme = "light"\nlang = "zh"\nmouse = false\n[keys.app]\nmessages = ["M"]\n')
    shown = CliRunner().invoke(config_command, ["show", "--all-keys"]).output
    again = config.check(tomllib.loads(shown))
    assert again.problems == ()
    assert (again.theme, again.lang) == ("light", "zh")
    assert again.keys["app.messages"] == ("M",)
    assert not again.mouse
    told = json.loads(CliRunner().invoke(config_command, ["show", "--json"]).output)
    assert told["keys"] == {"app.messages": ["M"]}


@pytest.mark.parametrize(("text", "told"), [
    ("theme = 'neon'", "There is no theme 'neon'"),
    ("theme = 3", "theme: a text in quotes is needed"),
    ("mouse = 'no'", "mouse: true or false is needed"),
    ("lang = 'tlh'", "there is no language 'tlh'"),
    ("colour = 'x'", "'colour' is not known"),
    ("[keys.app]\nmesages = 'M'", "did you mean 'messages'?"),
    ("[keys.everywhere]\nhelp = 'h'", "keys.everywhere is not known"),
    ("[keys.app]\nhelp = 3", "keys.app.help: a key or a list of keys is needed"),
    ("[keys.app]\nmessages = 'f3'", "F3 is app.theme already"),
    ("[keys.jobs]\npause = 'q'", "keys.jobs.pause: q is app.quit, which works everywhere"),
    ("[keys.log]\nlevel = '^C'", "keys.log.level: ^C is app.quit, which works everywhere"),
    ("[thresholds]\nbottleneck = -1", "a number from 0 on is needed"),
    ("[thresholds]\nbotleneck = 1", "did you mean 'bottleneck'?"),
    ("not toml [", "cannot be read"),
])  # fmt: skip
def test_what_is_wrong_is_told_and_left_out(mine: Path, text: str, told: str) -> None:
    mine.write_text(f"{text}\n")
    found = config.load(mine)
    assert len(found.problems) == 1
    assert told in found.problems[0]
    assert config.Config(problems=found.problems) == found
    result = CliRunner().invoke(config_command, ["validate"])
    assert result.exit_code != 0


def test_a_right_file_is_said_to_be_right(mine: Path) -> None:
    mine.write_text(
        '[keys.app]\nhelp = "h"\nquit = "Q"\n[keys.jobs]\npause = "q"\n'
        '[keys.history]\nback = ["q"]\n[thresholds]\nbottleneck = 5\n'
    )
    assert CliRunner().invoke(config_command, ["validate"]).exit_code == 0
    assert config.load(mine).thresholds.bottleneck == 5


async def test_a_key_of_ones_own_works_and_is_shown(opened: Opener) -> None:
    own = config.Config(keys={"app.messages": ("M",), "overview.submit": ("n",)})
    async with opened(Stage(gpus=1), seconds=2, config=own) as console:
        assert "n submit" in console.lines()[-1]
        await console.press("f2")
        assert console.app.screen is console.app.overview
        await console.press("M")
        assert "what the console has said" in console.text()
        await console.press("escape", "n")
        assert "Submit a job" in console.text()


@pytest.fixture
def dawn(mine: Path) -> tuple[Path, str]:
    """A theme of one's own, chosen in the configuration: its file and its text."""
    folder = themes.own_folder()
    folder.mkdir(parents=True)
    text = (themes.folder() / "light.toml").read_text()
    (folder / "dawn.toml").write_text(text.replace('\ntitle = "', '\ntitle = "Dawn, ', 1))
    mine.write_text('theme = "dawn"\n')
    return folder / "dawn.toml", text


def written(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


async def test_a_theme_of_ones_own_is_worn_and_changes_with_its_file(
    mine: Path, dawn: tuple[Path, str], opened: Opener
) -> None:
    file, text = dawn
    own = config.load(mine)
    assert own.theme == "dawn"
    environ = {**COLOURS, "AVATOP_CONFIG": str(mine)}
    async with opened(Stage(gpus=1), seconds=2, theme="", config=own, environ=environ) as console:
        assert console.app.look.title.startswith("Dawn")
        before = console.app.look.base
        file.write_text(text.replace(before, "#fefefe"))
        while console.app.look.base != "#fefefe":  # the watcher sees it; bounded by the timeout
            await console.pilot.pause(0.05)
        file.write_text(text + "half a li")  # an editor at work: the look stays
        watching.read_again(console.app)
        assert console.app.look.base == "#fefefe"
        assert console.app.config.theme is None
        written(mine, 'theme = "contrast"\nsize = 3\n')
        while console.app.look.name != "contrast":
            await console.pilot.pause(0.05)
        current = console.app.notices.current
        assert current is not None
        assert "size" in current.text  # what is wrong is not hidden by the theme's name


async def test_a_configuration_that_is_made_later_is_worn_too(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(watching, "AGAIN_S", 0.05)
    later = tmp_path / "later" / "config.toml"
    environ = {**COLOURS, "AVATOP_CONFIG": str(later)}
    async with opened(Stage(gpus=1), seconds=2, theme="", environ=environ) as console:
        written(later, 'theme = "contrast"\n')
        while console.app.look.name != "contrast":
            await console.pilot.pause(0.05)


async def test_a_broken_file_does_not_keep_the_console_closed(tmp_path: Path) -> None:
    broken = config.load(tmp_path)  # a folder cannot be read
    app = AvatopApp(FakeClient(), environ=COLOURS, own_fds=False, config=broken)
    async with app.run_test(size=(100, 24)) as pilot:
        await pilot.pause()
        assert any("cannot be read" in notice.text for notice in app.notices.said)


@pytest.mark.parametrize(("asked", "environ", "configured", "language"), [
    (None, {"LANG": "zh_CN.UTF-8"}, None, "zh_CN"),
    (None, {"LANG": "de_DE.UTF-8"}, None, "en"),
    (None, {"LANG": "C.UTF-8"}, "zh", "zh_CN"),
    ("en", {"LANG": "zh_CN.UTF-8"}, None, "en"),
    (None, {"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, None, "en"),
    (None, {"AVATOP_LANG": "zh_CN"}, "en", "zh_CN"),
    (None, {"LANG": "zh_TW.UTF-8"}, None, "en"),
])  # fmt: skip
def test_the_language_is_chosen(
    asked: str | None, environ: dict[str, str], configured: str | None, language: str
) -> None:
    assert i18n.choose(asked, environ, configured) == language


def test_a_language_without_a_catalogue_is_refused() -> None:
    with pytest.raises(i18n.LanguageError, match="no language 'xx'"):
        i18n.choose("xx", {})


def test_keys_are_named_as_they_are_written() -> None:
    assert [actions.named(key) for key in ("?", "^L", "S", "F5", "/")] == [
        "question_mark", "ctrl+l", "S", "f5", "slash",
    ]  # fmt: skip
