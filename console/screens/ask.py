"""The questions the console asks before something is lost."""

from __future__ import annotations

from console import format as fmt
from console.i18n import n, t
from console.screens.dialog import Choice, Dialog
from console.state import Model
from console.widgets.paint import Paint
from engine.messages import END_STATES, LIVE_STATES, JobRow

ENDED = END_STATES


def _on_disk(job: JobRow) -> str:
    if job.clip == 0:
        return t("No clip of it is on disk yet.")
    return n(
        "{count} clip of it is on disk and stays there.",
        "{count} clips of it are on disk and stay there.",
        job.clip,
    )


def cancel(model: Model, paint: Paint, job: JobRow) -> Dialog:
    """Cancel one job? The result is ``keep`` or ``cancel``."""
    if job.state in LIVE_STATES:
        ranks = n(
            "The clip in progress is lost. Its rank ends within seconds.",
            "The clip in progress is lost. Its {count} ranks end within seconds.",
            job.ranks,
        )
        at = t(
            "Job {id} is {state}, {mode}, {size}, clip {clip} of {clips}.",
            id=job.id, state=fmt.word(job.state), mode=job.mode, size=job.size,
            clip=min(job.clip + 1, job.clips or job.clip + 1), clips=job.clips or "?",
        )  # fmt: skip
        text = [at, f"{_on_disk(job)} {ranks}"]
        return Dialog(
            model, paint, t("Cancel job {id}?", id=job.id), text,
            [Choice("keep", t("Keep it running")),
             Choice("cancel", t("Cancel job {id} and lose the clip in progress", id=job.id),
                    danger=True)],
        )  # fmt: skip
    waits = t(
        "Job {id} is {state}; {mode}, {size}.",
        id=job.id, state=fmt.word(job.state), mode=job.mode, size=job.size,
    )  # fmt: skip
    text = [f"{waits} {_on_disk(job)}"]
    return Dialog(
        model, paint, t("Cancel job {id}?", id=job.id), text,
        [Choice("keep", t("Keep it in the queue")),
         Choice("cancel", t("Take job {id} out of the queue", id=job.id), danger=True)],
    )  # fmt: skip


def leave(model: Model, paint: Paint) -> Dialog:
    """Quit with work in hand? ``detach``, ``after_clip``, ``stay`` (also Escape) or ``cancel``."""
    live, queued = model.live_jobs(), model.queued_jobs()
    parts = []
    if live:
        ids = ", ".join(str(job.id) for job in live)
        parts.append(n("Job {ids} is running.", "Jobs {ids} are running.", len(live), ids=ids))
    if queued:
        parts.append(n("{count} job waits.", "{count} jobs wait.", len(queued)))
    total = len(live) + len(queued)
    choices = [Choice("detach", t("Detach: the engine works on, avatop comes back to it"))]
    if live:
        choices.append(
            Choice(
                "after_clip",
                t("Quit once the clip in progress is on disk; the rest is interrupted"),
            )
        )
    ended = n("Cancel it and quit now", "Cancel all {count} jobs and quit now", total)
    choices += [
        Choice("stay", t("Stay here")),
        Choice("cancel", ended, danger=True),
    ]
    text = [
        " ".join([*parts, t("The engine does not need this console.")]),
        t("What is committed to disk stays in any case."),
    ]
    return Dialog(model, paint, t("Quit while there is work?"), text, choices, escape="stay")
