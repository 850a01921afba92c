"""The questions before versions change places: what happens to work that runs and that waits."""

from __future__ import annotations

from console import format as fmt
from console.i18n import n, t
from console.screens.dialog import Choice, Dialog
from console.state import Model
from console.widgets.paint import Paint


def _name(version: str) -> str:
    return fmt.short(fmt.inert(version), 32)


def start(model: Model, paint: Paint, version: str, stages: tuple[str, ...]) -> Dialog:
    """Start a rollout? ``keep``, ``by_itself`` or ``by_hand``."""
    name = _name(version)
    way = " → ".join(stages) if stages else "?"
    return Dialog(
        model, paint, t("Start the rollout of {version}?", version=name),
        [t("Its stages: {stages}.", stages=way),
         t("New jobs get it by the stage's share. Jobs that run keep the version they have.")],
        [Choice("keep", t("Leave all as it is")),
         Choice("by_itself", t("Start; it goes on by itself while every gate holds")),
         Choice("by_hand", t("Start; a person ends every stage"))],
    )  # fmt: skip


def promote(model: Model, paint: Paint, version: str, before: str | None) -> Dialog:
    """Make a version stable? ``keep`` or ``promote``."""
    name = _name(version)
    if before is None:
        text = t("No version is stable yet. From now on, jobs that ask for its model run by it.")
    else:
        text = t(
            "All new jobs get {version}. {before} stays ready to go back to; its jobs go on.",
            version=name, before=_name(before),
        )  # fmt: skip
    return Dialog(
        model, paint, t("Make {version} stable?", version=name), [text],
        [Choice("keep", t("Leave all as it is")),
         Choice("promote", t("Make {version} stable", version=name))],
    )  # fmt: skip


def rollback(model: Model, paint: Paint, version: str, back_to: str | None) -> Dialog:
    """Take a version back? ``keep``, or what becomes of its running jobs: ``finish``, ``pause``,
    ``requeue``."""
    name = _name(version)
    stable = _name(back_to) if back_to else t("the version before")
    live = [job for job in model.live_jobs() if job.version == version]
    waiting = [job for job in model.queued_jobs() if job.version == version]
    text = [
        t("New jobs go to {stable} at once. {version} is withdrawn: no new job gets it.",
          stable=stable, version=name),
    ]  # fmt: skip
    if live:
        ids = ", ".join(str(job.id) for job in live[:12]) + (" …" if len(live) > 12 else "")
        text.append(
            n("Job {ids} runs by it; choose what becomes of it.",
              "Jobs {ids} run by it; choose what becomes of them.", len(live), ids=ids)
        )  # fmt: skip
    else:
        text.append(t("No job runs by it at the moment."))
    if waiting:
        text.append(
            n("{count} job of it waits and runs by {stable} instead.",
              "{count} jobs of it wait and run by {stable} instead.", len(waiting), stable=stable)
        )  # fmt: skip
    text.append(t("What failed under it in this rollout is submitted anew under {stable}.",
                  stable=stable))  # fmt: skip
    if any(job.batch for job in live):
        text.append(t("Items of batches always finish, and are tried again where they fail."))
    return Dialog(
        model, paint, t("Roll {version} back?", version=name), text,
        [Choice("keep", t("Leave all as it is")),
         Choice("finish", t("Roll back; its running jobs finish")),
         Choice("pause", t("Roll back; its running jobs pause at their next clip")),
         Choice("requeue", t("Roll back; its running jobs are cancelled and done anew"),
                danger=True)],
    )  # fmt: skip


def force(model: Model, paint: Paint, refusal: str) -> Dialog:
    """The engine refused; all the same? ``keep`` or ``force``."""
    return Dialog(
        model, paint, t("The engine refuses"), [refusal],
        [Choice("keep", t("Leave all as it is")),
         Choice("force", t("Do it all the same; this is audited"), danger=True)],
    )  # fmt: skip
