"""What a person does with a dialog in between: ask, then send the command.

Imported on first use, because forms bring widgets that the first picture does not need.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Any

from console import format as fmt
from console.i18n import t
from console.leave import Leave
from console.screens import ask
from engine.messages import Acknowledge, Cancel, SetSpikeThreshold, StopEngine, Submit
from engine.sentence import sentence

if TYPE_CHECKING:
    from console.app import AvatopApp


def user() -> str:
    """The account that acts, for the audit."""
    try:
        return os.environ.get("USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's number without a name
        return str(os.getuid())


def to_clipboard(app: AvatopApp, text: str) -> str:
    """Ask the person's terminal to copy, by OSC 52; what can be said of it.

    Whether it does is never answered. tmux keeps it to itself unless it is told otherwise.
    """
    app.copy_to_clipboard(text)
    if app.environ.get("TMUX"):
        return t("Sent to your terminal; tmux passes it on with: set -g set-clipboard on.")
    return t("Sent to your terminal.")


def submit(app: AvatopApp) -> None:
    """Fill in a job and queue it."""
    if app.refuses():
        return
    from console.screens.submit import SubmitForm

    def done(request: dict[str, Any] | None) -> None:
        if request is not None:
            app.overview.jobs.moved = False  # the cursor goes to what lives
            app.command(Submit(request=request), t("The job is queued."))

    app.push_screen(SubmitForm(app.model, app.paint, app.environ), done)


def cancel(app: AvatopApp) -> None:
    """Cancel the job under the cursor, after asking."""
    if app.refuses():
        return
    job = app.overview.jobs.job
    if job is None:
        app.say(t("There is no job to cancel."), "soft")
        return
    if job.state in ask.ENDED:
        app.say(
            t("Job {id} has already ended: {state}.", id=job.id, state=fmt.word(job.state)), "soft"
        )
        return

    def done(choice: str | None) -> None:
        if choice == "cancel":
            app.command(Cancel(job=job.id), t("Job {id} is being cancelled.", id=job.id))

    app.push_screen(ask.cancel(app.model, app.paint, job), done)


def acknowledge(app: AvatopApp) -> None:
    """Say that the gravest alert is seen; with none, the newest cause."""
    if app.refuses():
        return
    trouble = app.model.trouble
    causes = [found for found in trouble.open_findings() if found.role == "root"]
    wrong = [alert.id for alert in trouble.firing()] + [found.id for found in causes]
    if not wrong:
        app.say(t("There is nothing to acknowledge."), "soft")
        return
    app.command(Acknowledge(alert=wrong[0], by=user()), t("Acknowledged."))


def threshold(app: AvatopApp) -> None:
    """Set from how many bytes a rise counts as a spike."""
    if app.refuses():
        return
    from console.screens.threshold import ThresholdForm

    job = app.overview.jobs.job or app.model.current_job()
    if job is None:
        app.say(t("A spike threshold belongs to a job; there is none."), "soft")
        return

    def done(answer: tuple[int | None] | None) -> None:
        if answer is not None:
            own = answer[0] is None
            said = t("The plan's own threshold holds again.") if own else t("Set.")
            app.command(SetSpikeThreshold(job=job.id, bytes=answer[0]), said)

    app.push_screen(ThresholdForm(app.model, app.paint, job), done)


def history(app: AvatopApp) -> None:
    """Zoom into the chosen device."""
    from console.screens.history import HistoryScreen

    panels = app.model.panels()
    if not panels:
        app.say(t("There is no device to look at yet."), "soft")
        return
    chosen = next((p for p in panels if p.key == app.overview.devices.selected), panels[0])
    app.push_screen(HistoryScreen(app.model, app.paint, chosen.key))


def leave(app: AvatopApp) -> None:
    """Quit; with work in hand, ask what becomes of it."""
    waiting = [*app.model.live_jobs(), *app.model.queued_jobs()]
    if not waiting or app.client is None or app.model.stopped is not None:
        app.exit(Leave("quit"))
        return
    if app.read_only:
        app.exit(Leave("detached"))  # it may decide nothing
        return

    def done(choice: str | None) -> None:
        if choice == "detach":
            app.exit(Leave("detached"))
        elif choice == "after_clip":
            app.leaving = Leave("after_clip")
            app.command(StopEngine(after_clip=True), t("Leaving once the clip is on disk."))
        elif choice == "cancel" and app.client is not None:
            for job in waiting:
                app.client.send(Cancel(job=job.id, reason=sentence("the operator quit")))
            app.leaving = Leave("cancelled")
            app.exit(app.leaving)

    app.push_screen(ask.leave(app.model, app.paint), done)
