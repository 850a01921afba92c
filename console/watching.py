"""Watches a person's own folder, so that themes and configuration are worn as they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from console import config, theme

if TYPE_CHECKING:
    from console.app import AvatopApp

STEP_MS: Final = 500  # how often is looked, and for how long changes are gathered


def watched(app: AvatopApp) -> list[Path]:
    """The folders that exist: of the configuration, and of one's own themes."""
    folders = (config.place(app.environ).parent, theme.own_folder())
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def watch(app: AvatopApp) -> None:
    """Runs on a thread until the console closes; nothing is created where there is nothing."""
    folders = watched(app)
    if not folders:
        return
    from watchfiles import watch as changes

    seen = changes(
        *folders, step=STEP_MS, debounce=STEP_MS, rust_timeout=STEP_MS * 4, recursive=False,
        stop_event=app.closing, raise_interrupt=False,
        watch_filter=lambda _change, path: path.endswith(".toml"),
    )  # fmt: skip
    for _change in seen:
        app.call_from_thread(app.own_files_changed)
