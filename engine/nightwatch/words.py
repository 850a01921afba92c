"""Triage's findings and remedies in the words of messages."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from engine.media.findings import Finding as MediaFinding
from engine.messages import FindingRaised, JobRow, Remedy
from engine.sentence import sentence
from engine.triage.catalogue import Remedy as Known
from engine.triage.catalogue import catalogue
from engine.triage.findings import Finding
from engine.triage.quality import quality_findings

#: Triage's action → the word of a message's remedy.
_ACTIONS: Final = {
    "relaunch": "relaunch",
    "set_env": "env",
    "kill_holder": "reap",
    "other_port": "port",
    "verify_checkpoint": "verify",
    "free_disk": "free_disk",
    "drain": "drain",
    "edit_request": "edit",
    "show_log": "log",
}
#: Request fields whose change is seen in the video → what changes.
ALTERING: Final = {
    "size": "size",
    "fp8": "dtype",
    "dtype": "dtype",
    "kv_dtype": "KV precision",
    "load_lora": "LoRA",
    "lora_path_dmd": "LoRA",
    "sample_steps": "steps",
    "base_seed": "seed",
    "prompt": "prompt",
    "image": "image",
    "audio": "audio",
    "num_clip": "length",
    "infer_frames": "clip length",
    "sample_shift": "schedule",
    "sample_solver": "schedule",
    "sample_guide_scale": "guidance",
    "ckpt_dir": "checkpoint",
    "t5_path": "checkpoint",
    "vae_path": "checkpoint",
    "wav2vec_path": "checkpoint",
}


def altered(changes: Iterable[str]) -> tuple[str, ...]:
    """What of the output changes with these request fields."""
    return tuple(dict.fromkeys(ALTERING[name] for name in changes if name in ALTERING))


def remedy_of(known: Known) -> Remedy:
    """A remedy as it is shown; with an action it is a key's work.

    ``changes`` of ``relaunch`` are request fields; ``{"plan": "next_fitting"}`` and
    ``{"size": "lower"}`` are worked out by the planner when it is applied. Those of ``env`` are
    variables of the job's ranks.
    """
    told = known.action or {}
    kind = told.get("kind")
    changes: dict[str, Any] = {}
    if kind == "relaunch":
        changes = dict(told.get("change") or {})
    elif kind == "set_env":
        changes = {str(told["name"]): str(told["value"])}
    alters = altered(changes) if kind == "relaunch" else ()
    action = None if kind is None else _ACTIONS[kind]
    return Remedy(known.id, known.text, action, changes, alters)


def remedies_of(incident: str) -> tuple[Remedy, ...]:
    """The remedies of a class of incidents."""
    data = catalogue()
    return tuple(remedy_of(data.remedies[name]) for name in data.incidents[incident].remedies)


def hang_remedies(*, nccl: bool) -> tuple[Remedy, ...]:
    """What may be done about a job of ours that stood still; that its state is kept and that it
    goes on is said elsewhere.

    Args:
        nccl: its ranks talk by NCCL, so that the way they do may be at fault.
    """
    names = ["find_silent_rank", *(["p2p_disable"] if nccl else []), "longer_timeout"]
    data = catalogue()
    return tuple(remedy_of(data.remedies[name]) for name in names)


def fitting(known: Iterable[Known], row: JobRow | None) -> tuple[Known, ...]:
    """The remedies that a job can be helped by.

    A command's are all; for ranks of this engine those are left out that it does anyway, or whose
    change the job runs by already.
    """
    told = tuple(known)
    if row is None or row.kind != "engine":
        return told
    asked = row.request
    return tuple(
        remedy
        for remedy in told
        if not remedy.elsewhere and not _as_asked(remedy.action or {}, asked)
    )


def _as_asked(action: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    change = action.get("change") if action.get("kind") == "relaunch" else None
    return bool(change) and all(
        name in asked and (asked[name] or False) == (value or False)
        for name, value in dict(change or {}).items()
    )


def raised(
    finding: Finding,
    key: str,
    job: int | None,
    evidence: tuple[str, ...] = (),
    row: JobRow | None = None,
) -> FindingRaised:
    """A finding of triage as an event.

    Args:
        key: what makes its id stable: the same finding told again replaces the earlier.
        row: the job's, whose remedies are then those that fit it.
    """
    return FindingRaised(
        id=f"{key}-{finding.class_}",
        finding=finding.class_,
        severity=finding.severity,
        cause=finding.cause,
        role=finding.role,
        job=job,
        rank=finding.rank,
        confidence=round(finding.confidence, 2),
        evidence=evidence,
        remedies=tuple(remedy_of(remedy) for remedy in fitting(finding.remedies, row)),
    )


#: Lets an interrupted job go on, whatever interrupted it.
GO_ON: Final = Remedy(
    "go_on",
    sentence("Let the job go on where it stopped; committed clips stay as they are."),
    "relaunch",
)
_AGAIN: Final = Remedy(
    "go_on",
    sentence("Launch it again as it was, once what the reason names is mended."),
    "relaunch",
)


def stopped(row: JobRow) -> FindingRaised:
    """The finding of a job that was interrupted or failed and whose log explains nothing."""
    reason = (row.error or sentence("the job is {state}", state=row.state)).strip()
    return FindingRaised(
        id=f"job{row.id}-{row.state}",
        finding=row.state,
        severity="error",
        cause=f"{reason[:1].upper()}{reason[1:]}".rstrip(".") + ".",
        job=row.id,
        remedies=(GO_ON if row.state == "interrupted" else _AGAIN,),
    )


def over(finding: FindingRaised) -> FindingRaised:
    """The same, settled now."""
    since = finding.since or finding.t
    return dataclasses.replace(finding, t=time.time(), since=since, resolved=True)


def with_go_on(finding: FindingRaised) -> FindingRaised:
    """The same of a job that was interrupted: that it can go on is the first remedy."""
    others = tuple(remedy for remedy in finding.remedies if remedy.id != GO_ON.id)
    return dataclasses.replace(finding, remedies=(GO_ON, *others))


def quality_raised(
    job: int, subject: str, checked: Iterable[Mapping[str, Any]]
) -> list[FindingRaised]:
    """What the check of a clip (or of the video) found, as events.

    Args:
        checked: ``engine.media.findings.Finding`` as objects, which crossed from a rank.
    """
    events = []
    for data in checked:
        told = MediaFinding(
            level="error" if data.get("level") == "error" else "warning",
            kind=str(data.get("kind", "")),
            subject=subject,
            text=str(data.get("text", "")),
        )
        for finding in quality_findings([told]):
            event = raised(finding, f"job{job}-{subject.replace(' ', '')}-{told.kind}", job)
            events.append(event)
    return events
