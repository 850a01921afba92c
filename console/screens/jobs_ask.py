"""The questions of the jobs page: what will happen, in words, before it happens."""

from __future__ import annotations

from collections.abc import Sequence

from console import format as fmt
from console.i18n import n, t
from console.replanning import Way
from console.screens.dialog import Choice, Dialog
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint
from engine.messages import DeviceReading, JobRow


def ids_of(jobs: Sequence[JobRow]) -> str:
    return ", ".join(str(job.id) for job in jobs)


def cancel_several(model: Model, paint: Paint, jobs: Sequence[JobRow]) -> Dialog:
    """Cancel these? The result is ``keep`` or ``cancel``."""
    said = [t("Jobs {ids} end for good.", ids=ids_of(jobs)),
            t("Clips that are on disk stay there; clips in progress are lost.")]  # fmt: skip
    lose = n("Cancel {count} job", "Cancel {count} jobs", len(jobs))
    return Dialog(
        model, paint, n("Cancel {count} job?", "Cancel {count} jobs?", len(jobs)), said,
        [Choice("keep", t("Keep them")), Choice("cancel", lose, danger=True)],
    )  # fmt: skip


def finish(model: Model, paint: Paint, job: JobRow) -> Dialog:
    """End it with what it has? The result is ``keep`` or ``finish``."""
    have = n("{count} clip is committed.", "{count} clips are committed.", job.clip)
    lost = t("They are joined into a playable video; the clip in progress is lost, and the job "
             "cannot go on afterwards.")  # fmt: skip
    end = t("End job {id} and join its clips", id=job.id)
    return Dialog(
        model, paint, t("Finish job {id} now?", id=job.id), [have, lost],
        [Choice("keep", t("Let it be")), Choice("finish", end, danger=True)],
    )  # fmt: skip


def resume(model: Model, paint: Paint, jobs: Sequence[JobRow]) -> Dialog:
    """How should they go on? ``auto``, ``mirror``, ``replay``, ``seam``, or ``leave``."""
    kept = {job.resumable for job in jobs}
    said = (
        t("Its state is on disk: it goes on bit by bit where it stopped.")
        if kept == {"mirror"}
        else t("No state of it is on disk: it is computed again from the start, the same bits.")
        if "mirror" not in kept
        else t("Some have their state on disk, the others are computed again from the start.")
    )
    return Dialog(
        model, paint, t("Let job {ids} go on?", ids=ids_of(jobs)), [said],
        [
            Choice("auto", t("auto: from kept state where there is some, else replay")),
            Choice("mirror", t("mirror: from kept state, the same bits")),
            Choice("replay", t("replay: computed again; committed clips are not encoded again")),
            Choice("seam", t("seam: begun anew behind the last clip; the seam will show"),
                   danger=True),
            Choice("leave", t("Leave it as it is")),
        ],
        escape="leave",
    )  # fmt: skip


def way_words(way: Way) -> str:
    """A plan in a line: what, how full, what it does to the output."""
    fullest = way.fullest
    full = fmt.gib(fullest.predicted_bytes)
    if fullest.usable_bytes:
        full += f" / {fmt.gib(fullest.usable_bytes)}"
    changed = (
        t("alters {what}", what=", ".join(t(name) for name in way.alters_output))
        if way.alters_output
        else t("output unchanged")
    )
    return spoken(way.title) + t(": ") + f"{full} GiB · {changed}"


def relaunch(
    model: Model, paint: Paint, job: JobRow, ways: Sequence[Way], problem: str
) -> Dialog:  # fmt: skip
    """By which plan? The index of a way, ``same``, ``search`` (the engine looks), or ``leave``.

    Args:
        ways: nearest first, those that leave the output unchanged before the others.
        problem: why none could be looked for here; empty otherwise.
    """
    said = [t("It goes on as a new job, or as itself where it was interrupted.")]
    if problem:
        said.append(t("No plan could be looked for here: {why}", why=spoken(problem)))
    elif not ways:
        said.append(t("No other plan fits these devices."))
    choices = [
        Choice(str(at), way_words(way), danger=bool(way.alters_output))
        for at, way in enumerate(ways)
    ]
    if problem:
        choices.append(Choice("search", t("Let the engine find the next plan that fits")))
    choices.append(Choice("same", t("Exactly as it was")))
    choices.append(Choice("leave", t("Do nothing")))
    return Dialog(
        model, paint, t("Relaunch job {id} by which plan?", id=job.id), said, choices,
        escape="leave",
    )  # fmt: skip


def drain(model: Model, paint: Paint, devices: Sequence[DeviceReading], on: bool) -> Dialog:
    """Which device? Its uuid, or ``leave``."""
    title = t("Drain which device?") if on else t("Give work again to which device?")
    said = (
        t("It gets no new work until it is given back; what runs there goes on.")
        if on
        else t("Jobs that wait may use it at once.")
    )
    names = [
        (d.uuid, t("the CPU") if d.source == "host" else f"GPU {d.index}  {d.name}")
        for d in devices
    ]
    choices = [Choice("leave", t("Do nothing")), *(Choice(uuid, name) for uuid, name in names)]
    return Dialog(model, paint, title, [said], choices)


def again(model: Model, paint: Paint, job: JobRow) -> Dialog:
    """Start an ended job once more? ``same`` or ``leave``."""
    said = n("Job {id} is {state}: {count} clip of it is on disk.",
             "Job {id} is {state}: {count} clips of it are on disk.", job.clip,
             id=job.id, state=fmt.word(job.state))  # fmt: skip
    also = t("It goes on as a new job, or as itself where it was interrupted.")
    return Dialog(
        model, paint, t("Relaunch job {id}?", id=job.id), [said, also],
        [Choice("leave", t("Do nothing")), Choice("same", t("Exactly as it was"))],
    )  # fmt: skip
