"""What follows a withdrawal: running jobs, jobs to be done anew, configuration, what is left over.

Each step may be done twice without harm, so a kill in between is made good by doing it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from engine.client import EngineClient
from engine.jobs.store import JobStore, StoreError
from engine.messages import LIVE_STATES, Cancel, JobRow, Pause, Reply, Submit
from engine.release import snapshot
from engine.release.assign import LIVE, Assigned, Assigner
from engine.release.rows import Rollout
from engine.release.store import ReleaseStore
from engine.sentence import joined, sentence

_ANSWER_SECONDS: Final = 60.0
_SPOILT: Final = frozenset({"failed", "interrupted", "cancelled"})
_LEFT: Final = frozenset({"queued", "paused", "interrupted", "failed", *LIVE_STATES})


async def drain(
    client: EngineClient, store: ReleaseStore, assigner: Assigner, rollout: Rollout
) -> dict[str, Any]:
    """Do what the withdrawal promised; what was done, JSON-safe."""
    policy = str((rollout.follow or {}).get("running", "finish"))
    bad, good = store.get(rollout.candidate), store.get(rollout.stable)
    restored = await asyncio.to_thread(snapshot.restore, store.contents(good))
    paused, requeued, refused = [], {}, {}
    for one in assigner.of_release(bad.digest):
        if one.purpose != LIVE:
            continue
        row = _row(store.jobs, one.job)
        if row is None:
            continue
        if policy == "pause" and row.state in LIVE_STATES:
            reply = await _ask(client, Pause(job=row.id))
            if reply.ok:
                paused.append(row.id)
            else:
                refused[row.id] = reply.message
        elif one.requeue and one.replaced_by is None:
            reply = await _anew(client, store.jobs, one, row, bad.version)
            if reply.ok and reply.job is not None:
                assigner.replaced(row.id, reply.job)
                requeued[row.id] = reply.job
            else:
                refused[row.id] = reply.message
    return {
        "running": policy,
        "restored": list(restored),
        "paused": paused,
        "requeued": {str(old): new for old, new in requeued.items()},
        "refused": {str(job): why for job, why in refused.items()},
    }


async def _anew(
    client: EngineClient, jobs: JobStore, one: Assigned, row: JobRow, version: str
) -> Reply:
    """End a job of the withdrawn version and ask for the same once more, under stable."""
    if row.state in LIVE_STATES:
        reason = sentence(
            "version {version} was withdrawn; the job is done anew under stable", version=version
        )
        ended = await _ask(client, Cancel(job=row.id, reason=reason))
        now = _row(jobs, row.id)
        if not ended.ok and (now is None or now.state not in _SPOILT):
            return ended  # it is done, or its clips are being joined
    return await _ask(client, Submit(request=one.asked, batch=row.batch))


async def _ask(client: EngineClient, command: Pause | Cancel | Submit) -> Reply:
    return await asyncio.wait_for(asyncio.wrap_future(client.send(command)), _ANSWER_SECONDS)


def unfinished(store: ReleaseStore, assigner: Assigner, digest: str) -> list[dict[str, Any]]:
    """Work of a version that is not done, each with what an operator can do about it."""
    found = []
    for one in assigner.of_release(digest):
        row = _row(store.jobs, one.job)
        if one.purpose != LIVE or row is None or row.state not in _LEFT:
            continue
        found.append(
            {
                "job": row.id,
                "state": row.state,
                "clips": row.clip,
                "of": row.clips,
                "replaced_by": one.replaced_by,
                "what_to_do": _advice(row, one),
            }
        )
    return found


def _advice(row: JobRow, one: Assigned) -> str:
    if one.replaced_by is not None:
        return sentence(
            "nothing: job {replaced_by} does it anew under stable", replaced_by=one.replaced_by
        )
    if row.state in LIVE_STATES:
        return sentence(
            "it runs to its end; or: avatop cancel {id}, and submit it anew under stable", id=row.id
        )
    if row.state == "queued":
        return sentence("nothing: it runs under stable")
    if row.clip:
        return sentence(
            "its {clip} clips are never mixed with stable's: avatop finish {id} "
            "joins them; or submit it anew under stable",
            clip=row.clip,
            id=row.id,
        )
    return f"avatop resume {row.id}: no clip is committed, it runs under stable"


def _row(jobs: JobStore, job: int) -> JobRow | None:
    try:
        return jobs.get(job)
    except StoreError:
        return None


def told(detail: Mapping[str, Any]) -> str:
    """A drain in a sentence."""
    parts = [sentence("running jobs: {running}", running=detail["running"])]
    told_of = ("paused", "requeued", "restored")
    parts += [
        sentence("{count} {state}", count=len(detail[name]), state=name)
        for name in told_of
        if detail[name]
    ]
    if detail["refused"]:
        parts.append(
            sentence(
                "{count} could not be: {refused}",
                count=len(detail["refused"]),
                refused=str(detail["refused"]),
            )
        )
    return joined(parts, ", ")
