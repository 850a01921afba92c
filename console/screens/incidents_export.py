"""An incident bundle from the console: what goes in, then the work with its progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from console import bundles
from console import format as fmt
from console.i18n import t
from console.incidents import Incident
from console.screens.dialog import Choice, Dialog
from console.screens.working import Outcome, Report, Working
from console.spoken import spoken
from engine.jobs.paths import Places
from engine.telemetry.recording import Recording, RecordingError, open_recording

if TYPE_CHECKING:
    from console.app import AvatopApp

#: Seconds before an incident, and after it, that go into its bundle.
BEFORE: Final = 600.0
AFTER: Final = 300.0
HOUR: Final = 3600.0


class Cancelled(Exception):  # noqa: N818 - says what happened
    """The person cancelled."""


def folder(app: AvatopApp) -> Path:
    """Where the console writes bundles, and looks for them."""
    return Places.of(app.environ).state / "bundles"


def begin(app: AvatopApp, item: Incident | None) -> None:
    """Ask, then write; without an incident the last hour."""
    now = app.model.now
    first = now - HOUR if item is None else item.began - BEFORE
    last = now if item is None else min(item.what.t + AFTER, now)
    path = folder(app) / bundles.name(now)
    sentences = [
        t("From {start} to {end}: the recording, log lines, memory as CSV, plans, jobs, reports of "
          "their checkpoints, facts about this system.",
          start=fmt.clock(first), end=fmt.clock(last)),
        t("Home folders, user names, secrets, prompts and frames are taken out."),
        t("File: {path}", path=path),
    ]  # fmt: skip
    choices = [Choice("write", t("Write the bundle")), Choice("leave", t("Leave it"))]

    def done(choice: str | None) -> None:
        if choice == "write":
            _write(app, path, first, last)

    title = t("Export an incident bundle?")
    app.push_screen(Dialog(app.model, app.paint, title, sentences, choices, "leave"), done)


def _write(app: AvatopApp, path: Path, first: float, last: float) -> None:
    shown = None if app.replay is None else app.replay.recording

    def work(report: Report) -> dict[str, Any]:
        def told(part: float, what: str) -> None:
            if report.cancelled:
                raise Cancelled
            report.tell(part, what)

        source = shown or _own(app)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        start = max(first, source.start)
        return bundles.make(source, start, max(last, start), path, told=told)

    def done(outcome: Outcome | None) -> None:
        if outcome is None or isinstance(outcome.error, Cancelled):
            app.say(t("Cancelled; no bundle was written."), "soft")
        elif outcome.error is not None:
            app.say(t("No bundle was written: {why}", why=spoken(outcome.error)), "state.act")
        else:
            size = " ".join(fmt.size(outcome.value["bytes"])).rstrip()
            said = t("Written: {path} ({size}).", path=path, size=size)
            app.say(said, "state.good")

    app.push_screen(Working(app.model, app.paint, t("Incident bundle"), work), done)


def _own(app: AvatopApp) -> Recording:
    """This host's own recording.

    Raises:
        RecordingError: nothing has been recorded yet.
    """
    place = Places.of(app.environ).recordings
    if not place.is_dir():
        raise RecordingError(t("nothing has been recorded on this host yet"))
    return open_recording(place)
