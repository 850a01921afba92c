"""What a person does with a dialog in between: ask, then send the command.

Imported on first use, because forms bring widgets that the first picture does not need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from console.leave import Leave
from console.screens import ask
from engine.messages import Cancel, SetSpikeThreshold, StopEngine, Submit

if TYPE_CHECKING:
    from console.app import AvatopApp


def submit(app: AvatopApp) -> None:
    """Fill in a job and queue it."""
    from console.screens.submit import SubmitForm

    def done(request: dict[str, Any] | None) -> None:
        if request is not None:
            app.overview.jobs.moved = False  # the cursor goes to what lives
            app.command(Submit(request=request), "The job is queued.")

    app.push_screen(SubmitForm(app.model, app.paint, app.environ), done)


def cancel(app: AvatopApp) -> None:
    """Cancel the job under the cursor, after asking."""
    job = app.overview.jobs.job
    if job is None:
        app.say("There is no job to cancel.", "soft")
        return
    if job.state in ask.ENDED:
        app.say(f"Job {job.id} has already ended: {job.state}.", "soft")
        return

    def done(choice: str | None) -> None:
        if choice == "cancel":
            app.command(Cancel(job=job.id), f"Job {job.id} is being cancelled.")

    app.push_screen(ask.cancel(app.model, app.paint, job), done)


def threshold(app: AvatopApp) -> None:
    """Set from how many bytes a rise counts as a spike."""
    from console.screens.threshold import ThresholdForm

    job = app.overview.jobs.job or app.model.current_job()
    if job is None:
        app.say("A spike threshold belongs to a job; there is none.", "soft")
        return

    def done(answer: tuple[int | None] | None) -> None:
        if answer is not None:
            said = "The plan's own threshold holds again." if answer[0] is None else "Set."
            app.command(SetSpikeThreshold(job=job.id, bytes=answer[0]), said)

    app.push_screen(ThresholdForm(app.model, app.paint, job), done)


def history(app: AvatopApp) -> None:
    """Zoom into the chosen device."""
    from console.screens.history import HistoryScreen

    panels = app.model.panels()
    if not panels:
        app.say("There is no device to look at yet.", "soft")
        return
    chosen = next((p for p in panels if p.key == app.overview.devices.selected), panels[0])
    app.push_screen(HistoryScreen(app.model, app.paint, chosen.key))


def leave(app: AvatopApp) -> None:
    """Quit; with work in hand, ask what becomes of it."""
    waiting = [*app.model.live_jobs(), *app.model.queued_jobs()]
    if not waiting or app.client is None or app.model.stopped is not None:
        app.exit(Leave("quit"))
        return
    if getattr(app.client, "read_only", False):
        app.exit(Leave("detached"))  # it may decide nothing
        return

    def done(choice: str | None) -> None:
        if choice == "detach":
            app.exit(Leave("detached"))
        elif choice == "after_clip":
            app.leaving = Leave("after_clip")
            app.command(StopEngine(after_clip=True), "Leaving once the clip is on disk.")
        elif choice == "cancel" and app.client is not None:
            for job in waiting:
                app.client.send(Cancel(job=job.id, reason="the operator quit"))
            app.leaving = Leave("cancelled")
            app.exit(app.leaving)

    app.push_screen(ask.leave(app.model, app.paint), done)
