"""A remedy as a key: first exactly what will change, then, with a yes, the change."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from console import deeds
from console import format as fmt
from console.i18n import t
from console.incidents import Incident, remedies
from console.screens.dialog import Choice, Dialog
from console.spoken import spoken
from engine.messages import AlertChanged, FindingRaised, Relaunch, Remedy, Reply

if TYPE_CHECKING:
    from console.app import AvatopApp


def begin(app: AvatopApp, item: Incident, at: int) -> None:
    """Show what the incident's remedy number ``at`` (from 0) would change."""
    if app.refuses():
        return
    found, known = remedies(app.model, item)
    about = found or item.what
    if at >= len(known):
        app.say(t("There is no such remedy for this incident."), "soft")
        return
    remedy = known[at]
    if remedy.action in ("relaunch", "env", "port"):
        _relaunch(app, about, remedy)
    elif remedy.action == "reap":
        key = app.keymap.key_of("processes.kill")
        said = t("Look at each first: {key} shows what it is and asks before it ends it.", key=key)
        _page(app, "processes", said)
    elif remedy.action == "verify":
        _verify(app, about)
    elif remedy.action == "log":
        _log(app, about)
    elif remedy.action == "edit":
        _edit(app, about)
    elif remedy.action == "drain":
        from console.screens import jobs_deeds

        jobs_deeds.drain(app, on=True)
    elif remedy.action == "free_disk":
        _tell(app, remedy, disk_facts(app))
    else:
        _tell(app, remedy, [t("No key can do this; it is a person's work.")])


def _page(app: AvatopApp, name: str, sentence: str) -> bool:
    """Go to another page; False where this console has none such."""
    if name not in {page.name for page in app.pages}:
        app.say(t("This console has no such page."), "state.watch")
        return False
    app.action_go(name)
    app.say(sentence, "accent")
    return True


def _log(app: AvatopApp, about: AlertChanged | FindingRaised) -> None:
    """To the log page: what was said loudly of its job, or of all."""
    if not _page(app, "logs", t("Warnings and errors; Escape shows all lines.")):
        return
    from console.screens.logs import LogsPage

    page = app.page
    if isinstance(page, LogsPage):
        page.open_path("")
        page.lines.apply("level>=warning" + ("" if about.job is None else f" job={about.job}"))


def _edit(app: AvatopApp, about: AlertChanged | FindingRaised) -> None:
    """The job's request in the form, to be mended and sent as a new job."""
    from console.screens import jobs_deeds

    job = app.model.jobs.get(about.job) if about.job is not None else None
    if job is None:
        app.say(t("It belongs to no job: nothing can be mended here."), "state.watch")
        return
    jobs_deeds.clone(app, job)


def _verify(app: AvatopApp, found: AlertChanged | FindingRaised) -> None:
    """To the checkpoint page, on the job's checkpoint."""
    if not _page(app, "checkpoint", t("The checkpoint of this job.")):
        return
    from console.screens.checkpoint import CheckpointPage

    job = app.model.jobs.get(found.job) if found.job is not None else None
    folder = "" if job is None else str(job.request.get("ckpt_dir") or "")
    page = app.page
    if isinstance(page, CheckpointPage):
        if folder:
            page.choose(folder)
        page.call_after_refresh(page.action_verify, False)


def _relaunch(app: AvatopApp, found: AlertChanged | FindingRaised, remedy: Remedy) -> None:
    job = found.job
    if job is None:
        app.say(t("It belongs to no job: nothing can be relaunched."), "state.watch")
        return
    changes = dict(remedy.changes) if remedy.action == "relaunch" else {}
    environment = {k: str(v) for k, v in remedy.changes.items()} if remedy.action == "env" else {}
    app.say(t("Working out what would change …"), "soft")

    def worked_out(reply: Reply) -> None:
        app.hush()
        if not reply.ok:
            app.said(reply)
            return
        wanted = reply.data.get("changes", changes)
        command = Relaunch(job=job, changes=wanted, environment=environment, by=deeds.user())
        _confirm(
            app,
            t("Relaunch job {id}?", id=job),
            [
                spoken(remedy.text, app.model),
                *_changed(app, job, command, remedy, state=reply.state),
            ],
            t("Relaunch job {id} with this", id=job),
            lambda: app.command(command, t("Job {id} is relaunched.", id=job)),
        )

    app.ask(
        Relaunch(job=job, changes=changes, environment=environment, by=deeds.user(), dry=True),
        worked_out,
    )


def _changed(
    app: AvatopApp, job: int, command: Relaunch, remedy: Remedy, *, state: str | None
) -> list[str]:
    """Every change as a sentence: what it was, what it becomes."""
    row = app.model.jobs.get(job)
    request = {} if row is None else row.request
    told = [
        t("{name}: {before} becomes {after}.", name=name, before=_value(request.get(name)),
          after=_value(value))
        for name, value in command.changes.items()
        if value != request.get(name)
    ]  # fmt: skip
    for name, value in command.environment.items():
        told.append(t("Its ranks get {name}={value}.", name=name, value=value))
    if not told:
        told.append(t("Nothing else changes; each launch has another rendezvous port."))
    if remedy.alters_output:
        what = ", ".join(remedy.alters_output)
        told.append(t("This alters the output: {what}.", what=what))
    else:
        told.append(t("The output stays as it is."))
    if state == "interrupted" and not remedy.alters_output:
        told.append(t("The job goes on behind its committed clips, under its own number."))
    else:
        told.append(t("A new job begins; this one and its clips stay as they are."))
    return told


def _value(value: object) -> str:
    return t("unset") if value is None else str(value)


def _confirm(
    app: AvatopApp, title: str, sentences: Sequence[str], act: str, do: Callable[[], None]
) -> None:
    choices = [Choice("keep", t("Leave everything as it is")), Choice("do", act, danger=True)]

    def done(choice: str | None) -> None:
        if choice == "do":
            do()

    app.push_screen(Dialog(app.model, app.paint, title, sentences, choices), done)


def _tell(app: AvatopApp, remedy: Remedy, sentences: Sequence[str]) -> None:
    text = [spoken(remedy.text, app.model), *sentences]
    close = [Choice("close", t("Close"))]
    app.push_screen(Dialog(app.model, app.paint, t("What to do"), text, close))


def disk_facts(app: AvatopApp) -> list[str]:
    """Where room can be made, in sentences: outputs, segments of jobs, recordings."""
    from engine.jobs.paths import Places

    places = Places.of(app.environ)
    folders = [places.outputs, places.state / "jobs", places.recordings, places.embeddings]
    told = []
    for folder in [place for place in folders if place.is_dir()]:
        size = fmt.gib(_size(folder))
        told.append(t("{folder} holds {size} GiB.", folder=folder, size=size))
    try:
        free = shutil.disk_usage(places.state if places.state.is_dir() else Path("/")).free
    except OSError:
        return told
    return [*told, t("{size} GiB of this disk are free.", size=fmt.gib(free))]


def _size(folder: Path) -> int:
    total = 0
    for at, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                total += (Path(at) / name).lstat().st_size
    return total
