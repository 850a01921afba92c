"""The questions the console asks before something is lost."""

from __future__ import annotations

from console import format as fmt
from console.screens.dialog import Choice, Dialog
from console.state import Model
from console.widgets.paint import Paint
from engine.messages import END_STATES, LIVE_STATES, JobRow

ENDED = END_STATES


def _on_disk(job: JobRow) -> str:
    if job.clip == 0:
        return "No clip of it is on disk yet."
    if job.clip == 1:
        return "1 clip of it is on disk and stays there."
    return f"{job.clip:,} clips of it are on disk and stay there."


def cancel(model: Model, paint: Paint, job: JobRow) -> Dialog:
    """Cancel one job? The result is ``keep`` or ``cancel``."""
    if job.state in LIVE_STATES:
        ranks = "Its rank ends" if job.ranks == 1 else f"Its {job.ranks} ranks end"
        text = [
            f"Job {job.id} is {job.state}, {job.mode}, {job.size}, clip "
            f"{min(job.clip + 1, job.clips or job.clip + 1)} of {job.clips or '?'}.",
            f"{_on_disk(job)} The clip in progress is lost. {ranks} within seconds.",
        ]
        return Dialog(
            model, paint, f"Cancel job {job.id}?", text,
            [Choice("keep", "Keep it running"),
             Choice("cancel", f"Cancel job {job.id} and lose the clip in progress", danger=True)],
        )  # fmt: skip
    text = [f"Job {job.id} is {job.state}; {job.mode}, {job.size}. {_on_disk(job)}"]
    return Dialog(
        model, paint, f"Cancel job {job.id}?", text,
        [Choice("keep", "Keep it in the queue"),
         Choice("cancel", f"Take job {job.id} out of the queue", danger=True)],
    )  # fmt: skip


def leave(model: Model, paint: Paint) -> Dialog:
    """Quit with work in hand? ``detach``, ``after_clip``, ``stay`` (also Escape) or ``cancel``."""
    live, queued = model.live_jobs(), model.queued_jobs()
    parts = []
    if live:
        ids = ", ".join(str(job.id) for job in live)
        parts.append(f"job {ids} is running" if len(live) == 1 else f"jobs {ids} are running")
    if queued:
        parts.append(f"{fmt.plural(len(queued), 'job')} {'waits' if len(queued) == 1 else 'wait'}")
    sentence = " and ".join(parts)
    total = len(live) + len(queued)
    choices = [Choice("detach", "Detach: the engine works on, avatop comes back to it")]
    if live:
        choices.append(
            Choice(
                "after_clip", "Quit once the clip in progress is on disk; the rest is interrupted"
            )
        )
    what = "it" if total == 1 else f"all {total} jobs"
    choices += [
        Choice("stay", "Stay here"),
        Choice("cancel", f"Cancel {what} and quit now", danger=True),
    ]
    text = [
        f"{sentence[0].upper()}{sentence[1:]}. The engine does not need this console.",
        "What is committed to disk stays in any case.",
    ]
    return Dialog(model, paint, "Quit while there is work?", text, choices, escape="stay")
