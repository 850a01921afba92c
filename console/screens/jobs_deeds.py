"""What a person does to jobs: ask first where something is lost, then send the command."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from console import deeds
from console import format as fmt
from console.i18n import n, t
from console.screens import ask, jobs_ask
from console.screens.working import Outcome, Report, Working
from console.widgets.jobdetails import ran_out_of_memory
from console.widgets.jobfigures import peaks_of
from engine.messages import (
    END_STATES,
    LIVE_STATES,
    Cancel,
    Drain,
    Finish,
    JobRow,
    Pause,
    Relaunch,
    Reorder,
    Resume,
    Submit,
)

if TYPE_CHECKING:
    from console.app import AvatopApp

RESTING = frozenset({"paused", "interrupted"})
#: What a copy of a request must not take along: it would write over the first one's files.
OWN_FILES = ("output", "dump_latents")


def none_of(app: AvatopApp, sentence: str) -> None:
    app.say(sentence, "soft")


def submit(app: AvatopApp, start: dict[str, Any] | None = None, title: str = "") -> None:
    """The form; with ``start`` it is filled with those values, and has another title."""
    if app.refuses():
        return
    from console.screens.submit import SubmitForm

    def done(request: dict[str, Any] | None) -> None:
        if request is not None:
            app.command(Submit(request=request), t("The job is queued."))

    app.push_screen(SubmitForm(app.model, app.paint, app.environ, start, title), done)


def copied(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request for another job: without what would write over the first one's files."""
    return {name: value for name, value in request.items() if name not in OWN_FILES}


def clone(app: AvatopApp, job: JobRow | None) -> None:
    """The form with a job's values."""
    if job is None:
        none_of(app, t("There is no job to clone."))
        return
    submit(app, copied(job.request), t("Clone job {id}", id=job.id))


def pause(app: AvatopApp, jobs: Sequence[JobRow], after: Callable[[], None]) -> None:
    """At the next clip boundary, state on disk; a waiting job leaves the queue.

    Here and below: ``after`` is called once the commands are sent.
    """
    able = [job for job in jobs if job.state in LIVE_STATES | {"queued"}]
    if not able:
        none_of(app, t("Only running and waiting jobs can be paused."))
        return
    for job in able:
        app.command(Pause(job=job.id), t("Job {id} pauses after its clip.", id=job.id))
    after()


def resume(app: AvatopApp, jobs: Sequence[JobRow], after: Callable[[], None]) -> None:
    """Ask how, then let them go on."""
    able = [job for job in jobs if job.state in RESTING]
    if not able:
        none_of(app, t("Only paused and interrupted jobs can be resumed."))
        return
    if app.refuses():
        return

    def done(how: str | None) -> None:
        if how in (None, "leave"):
            return
        for job in able:
            app.command(Resume(job=job.id, how=str(how)), t("Job {id} goes on.", id=job.id))
        after()

    app.push_screen(jobs_ask.resume(app.model, app.paint, able), done)


def finish(app: AvatopApp, job: JobRow | None) -> None:
    """Join what is committed and end the job, after asking."""
    if job is None or job.state not in LIVE_STATES | RESTING:
        none_of(app, t("Only running, paused and interrupted jobs can be finished."))
        return
    if not job.clip:
        none_of(app, t("Job {id} has no committed clip yet: cancel it, or wait.", id=job.id))
        return
    if app.refuses():
        return

    def done(choice: str | None) -> None:
        if choice == "finish":
            app.command(Finish(job=job.id), t("Job {id} is being finished.", id=job.id))

    app.push_screen(jobs_ask.finish(app.model, app.paint, job), done)


def cancel(app: AvatopApp, jobs: Sequence[JobRow], after: Callable[[], None]) -> None:
    """After asking; one question for all that are marked."""
    able = [job for job in jobs if job.state not in END_STATES or job.state == "interrupted"]
    if not able:
        ended = jobs[0] if jobs else None
        none_of(
            app,
            t("There is no job to cancel.")
            if ended is None
            else t(
                "Job {id} has already ended: {state}.", id=ended.id, state=fmt.word(ended.state)
            ),
        )
        return
    if app.refuses():
        return

    def done(choice: str | None) -> None:
        if choice == "cancel":
            for job in able:
                app.command(Cancel(job=job.id), t("Job {id} is being cancelled.", id=job.id))
            after()

    if len(able) == 1:
        app.push_screen(ask.cancel(app.model, app.paint, able[0]), done)
    else:
        app.push_screen(jobs_ask.cancel_several(app.model, app.paint, able), done)


def run_next(app: AvatopApp, jobs: Sequence[JobRow], after: Callable[[], None]) -> None:
    """To the head of the queue, in the order of the table."""
    waiting = [job for job in jobs if job.state == "queued"]
    if not waiting:
        none_of(app, t("Only waiting jobs have a place in the queue."))
        return
    for job in reversed(waiting):
        app.command(Reorder(job=job.id, position=0), t("Job {id} runs next.", id=job.id))
    after()


def reorder(app: AvatopApp, job: JobRow | None, by: int) -> None:
    """One place earlier or later."""
    if job is None or job.state != "queued":
        none_of(app, t("Only waiting jobs have a place in the queue."))
        return
    queue = [one for one in app.model.queued_jobs() if one.state == "queued"]
    queue.sort(key=lambda one: (one.position is None, one.position or 0, one.id))
    place = next(at for at, one in enumerate(queue) if one.id == job.id) + by
    if not 0 <= place < len(queue):
        none_of(
            app,
            t("Job {id} is the first of the queue.", id=job.id)
            if by < 0
            else t("Job {id} is the last of the queue.", id=job.id),
        )
        return
    said = t("Job {id} is number {place} of the queue.", id=job.id, place=place + 1)
    app.command(Reorder(job=job.id, position=place), said)


def relaunch(app: AvatopApp, job: JobRow | None) -> None:
    """Ask by which plan; after out of memory the nearest that fit are offered."""
    if job is None or job.state not in END_STATES:
        none_of(app, t("Only ended jobs can be relaunched."))
        return
    if app.refuses():
        return
    if job.kind == "command" or not ran_out_of_memory(app.model, job):
        _relaunch_by(app, job, Outcome([]), searched=False)
        return
    request, plan = dict(job.request), app.model.plans.get(job.id)
    measured = peaks_of(app.model, job.id)

    def look(report: Report) -> Any:
        from console.replanning import relaunches_of

        report.tell(None)
        return relaunches_of(request, plan, measured)

    def found(outcome: Outcome | None) -> None:
        if outcome is not None and not outcome.cancelled:
            _relaunch_by(app, job, outcome, searched=True)

    title = t("Looking for plans that fit")
    app.push_screen(Working(app.model, app.paint, title, look), found)


def _relaunch_by(app: AvatopApp, job: JobRow, outcome: Outcome, *, searched: bool) -> None:
    ways = list(outcome.value or [])
    problem = "" if outcome.error is None else str(outcome.error)

    def done(choice: str | None) -> None:
        if choice in (None, "leave"):
            return
        changes: dict[str, Any] = {}
        if choice == "search":
            changes = {"plan": "next_fitting"}
        elif choice != "same":
            changes = ways[int(str(choice))].changes
        command = Relaunch(job=job.id, changes=changes, by=deeds.user())
        app.command(command, t("Job {id} is relaunched.", id=job.id))

    if searched:
        app.push_screen(jobs_ask.relaunch(app.model, app.paint, job, ways, problem), done)
    else:
        app.push_screen(jobs_ask.again(app.model, app.paint, job), done)


def copy_path(app: AvatopApp, jobs: Sequence[JobRow]) -> None:
    """The videos' paths, one a line, by OSC 52."""
    paths = [job.output for job in jobs if job.output]
    if not paths:
        none_of(app, t("It has no video yet."))
        return
    said = deeds.to_clipboard(app, "\n".join(paths))
    what = paths[0] if len(paths) == 1 else n("{count} path", "{count} paths", len(paths))
    _copied(app, jobs, f"{said} {what}")


def _copied(app: AvatopApp, jobs: Sequence[JobRow], said: str) -> None:
    """Say so; a video that is not there yet is said as well."""
    early = next((job for job in jobs if job.output and job.state != "done"), None)
    if early is None:
        app.say(said, "state.good")
        return
    warning = t("Job {id} is not done: its video is not there yet.", id=early.id)
    app.say(f"{warning} {said}", "state.watch")


def scp_line(host: str, user: str, paths: Sequence[str]) -> str:
    """One line for a shell elsewhere; remote paths quoted for both shells."""
    remote = [shlex.quote(f"{user}@{host}:{shlex.quote(path)}") for path in paths]
    return f"scp {' '.join(remote)} ."


def copy_scp(app: AvatopApp, jobs: Sequence[JobRow]) -> None:
    """A line that fetches the videos."""
    paths = [job.output for job in jobs if job.output]
    if not paths:
        none_of(app, t("It has no video yet."))
        return
    line = scp_line(app.model.host or "localhost", deeds.user(), paths)
    _copied(app, jobs, f"{deeds.to_clipboard(app, line)} {line}")


def drain(app: AvatopApp, on: bool) -> None:
    """Ask which device, then take it out of or back into use."""
    if app.refuses():
        return
    tracks = app.model.gpus() or [d for d in [app.model.host_track()] if d is not None]
    devices = sorted((track.reading for track in tracks), key=lambda reading: reading.index)
    if not devices:
        none_of(app, t("There is no device to drain yet."))
        return

    def done(uuid: str | None) -> None:
        if uuid not in (None, "leave"):
            said = t("The device is drained.") if on else t("The device is in use again.")
            app.command(Drain(device=str(uuid), on=on), said)

    app.push_screen(jobs_ask.drain(app.model, app.paint, devices, on), done)
