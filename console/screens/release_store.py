"""What the events do not tell of releases, read from the store: history, stages, work left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.release.rows import LogEntry, Rollout


@dataclass(frozen=True)
class Kept:
    """The store's side of the page. Empty where no avatop has run yet.

    Args:
        stages: names, in their order. back_to: version that a rollback makes live.
        validations: digest → passed | failed | inconclusive | running.
        unfinished: work of a withdrawn version, as ``avatop release status`` has it.
        history: the newest first. problem: why nothing could be read.
    """

    stages: tuple[str, ...] = ()
    rollout: Rollout | None = None
    back_to: str | None = None
    validations: Mapping[str, str] = field(default_factory=dict)
    unfinished: tuple[dict[str, Any], ...] = ()
    withdrawn: str | None = None
    history: tuple[LogEntry, ...] = ()
    problem: str = ""
    known: bool = False  # there is a store, and it was read


def read() -> Kept:
    """The store as it is now; a fault becomes ``problem``."""
    import click

    from console.commands.release_show import stored_releases
    from engine.release.assign import Assigner
    from engine.release.drain import unfinished
    from engine.release.evidence import Evidence
    from engine.release.model import ReleaseError
    from engine.release.settings import load

    try:
        settings = load()
        with stored_releases() as store:
            stages = tuple(stage.name for stage in settings.stages)
            if store is None:
                return Kept(stages)
            now = store.rollout()
            back = None if now is None else store.find(now.stable)
            evidence = Evidence(store.jobs)
            known = {r.digest: evidence.validation(r.digest) for r in store.list()}
            left: list[dict[str, Any]] = []
            gone = None
            if now is not None and now.state == "rolled_back":
                left = unfinished(store, Assigner(store, settings), now.candidate)
                gone = store.get(now.candidate).version
            return Kept(
                stages=stages,
                rollout=now,
                back_to=None if back is None else back.version,
                validations={d: v.state for d, v in known.items() if v is not None},
                unfinished=tuple(left),
                withdrawn=gone,
                history=store.history(),
                known=True,
            )
    except (click.ClickException, ReleaseError) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        return Kept(problem=text)
