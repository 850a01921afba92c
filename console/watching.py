"""Watches a person's own folder, so that themes and configuration are worn as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from console import actions, config, theme
from console.i18n import t
from console.spoken import spoken

if TYPE_CHECKING:
    from console.app import AvatopApp

STEP_MS: Final = 500  # how often is looked, and for how long changes are gathered
AGAIN_S: Final = 3.0  # how often is looked for a folder that is made later


def watched(app: AvatopApp) -> list[Path]:
    """The folders that exist: of the configuration, and of one's own themes."""
    return [folder for folder in _folders(app) if folder.is_dir()]


def _folders(app: AvatopApp) -> list[Path]:
    return list(dict.fromkeys((config.place(app.environ).parent, theme.own_folder())))


def read_again(app: AvatopApp) -> None:
    """Read theme and configuration again; what cannot be read is said, last, and not worn."""
    before, app.config = app.config, config.load(config.place(app.environ))
    app.keymap = actions.Keymap(app.config.keys)
    app.set_keymap(app.keymap.textual())
    name = app.look_name
    half = app.config.theme is None and app.config.problems  # maybe half written: the look stays
    if app.config.theme != before.theme and not half:
        name = theme.choose(app.asked_theme, app.environ, app.config.theme)
    try:
        if name == app.look_name:
            app.wear(name)
        else:
            app.set_look(name)
    except theme.ThemeError as error:
        app.say(spoken(error), "state.watch")
    for problem in app.config.problems:
        app.say(t("Configuration: {problem}", problem=problem), "state.watch")


def watch(app: AvatopApp) -> None:
    """Runs on a thread until the console closes; nothing is created where there is nothing."""
    read = _stamp(app)
    while not app.closing.is_set():
        folders = watched(app)
        if folders:
            read = _watch(app, folders, read)
        else:
            app.closing.wait(AGAIN_S)


def _watch(app: AvatopApp, folders: list[Path], read: int | None) -> int | None:
    """Until the console closes, or until there is another folder to watch.

    ``read`` tells the configuration that was read last; the same comes back.
    """
    from watchfiles import watch as changes

    seen = changes(
        *folders, step=STEP_MS, debounce=STEP_MS, rust_timeout=int(AGAIN_S * 1000), recursive=False,
        stop_event=app.closing, raise_interrupt=False, yield_on_timeout=True,
        watch_filter=lambda _change, path: path.endswith(".toml"),
    )  # fmt: skip
    for found in seen:
        now = _stamp(app)
        if found or now != read:  # it may have been written before its folder was watched
            read = now
            app.call_from_thread(read_again, app)
        if watched(app) != folders:
            break
    return read


def _stamp(app: AvatopApp) -> int | None:
    """When the configuration was written last; None where there is none."""
    try:
        return config.place(app.environ).stat().st_mtime_ns
    except OSError:
        return None
