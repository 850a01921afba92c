"""From verdicts to deeds: what would be ended, in which order, and what became of it.

Dry by default everywhere. Supervisors end before what they supervise; what our own orphans started
ends after them; what comes back is told with the name of who brought it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from engine.guard import kill, scan
from engine.guard.classify import (
    HEALTHY,
    NOBODY,
    POLICY,
    PROTECTED,
    YES,
    Verdict,
    classify_all,
)
from engine.guard.evidence import Evidence, Memory, Scene
from engine.guard.kill import (
    GONE,
    PLANNED,
    RESPAWNED,
    Allow,
    Audit,
    Outcome,
    ReadOnlyRefused,
    Target,
    Waits,
)
from engine.guard.scan import Row
from engine.sentence import sentence

_RESPAWN_POLL_SECONDS: Final = 0.1
END: Final = "end"
NONE: Final = "none"
#: Levels of consent, the weakest first: what each of them lets happen.
_ALLOWS: Final = {POLICY: {POLICY}, YES: {POLICY, YES}}


@dataclass(frozen=True)
class Step:
    """What is to be done about one candidate."""

    evidence: Evidence
    verdict: Verdict
    action: str  # END | NONE
    why: str = ""  # of an action that is not taken


@dataclass(frozen=True)
class Done:
    """One step and its outcome."""

    step: Step
    sent: tuple[str, ...]
    result: str
    detail: str = ""
    freed_bytes: int | None = None
    advice: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The object of ``avatop reap --json``; ``started`` in Unix seconds."""
        e, v, row = self.step.evidence, self.step.verdict, self.step.evidence.row
        action = ", ".join(self.sent) or self.step.action
        return {
            "pid": e.pid,
            "started": e.started,
            "class": v.kind,
            "action": action,
            "result": self.result,
            "freed_bytes": self.freed_bytes,
            "detail": self.detail or self.step.why,
            "next": self.advice or v.advice,
            "uid": None if row is None else row.uid,
            "command": None if row is None else " ".join(row.command) or row.comm,
            "memory": dict(e.memory),
            "children": list(e.children),
            "ports": list(e.ports),
            "age_seconds": e.age,
            "consent": v.consent,
            "evidence": list(v.evidence),
        }


def plan(
    scene: Scene,
    *,
    named: Collection[int] = (),
    consent: str = YES,
    verdicts: Sequence[Verdict] | None = None,
) -> tuple[Step, ...]:
    """What would be done, supervisors first.

    Args:
        named: PIDs that a person typed; if there are any, nothing else is ended.
        consent: ``POLICY`` (no person: our own leftovers) or ``YES`` (a person saw the plan).
    """
    verdicts = classify_all(scene) if verdicts is None else verdicts
    by_pid = {verdict.pid: verdict for verdict in verdicts}
    steps = []
    for evidence in scene.evidence:
        verdict = by_pid[evidence.pid]
        if named and evidence.pid not in named:
            continue
        if not named and verdict.kind in (HEALTHY, PROTECTED):
            continue
        steps.append(_step(evidence, verdict, evidence.pid in named, consent))
    depth = {e.pid: len(scan.ancestors(scene.rows, e.pid)) for e in scene.evidence}
    return tuple(sorted(steps, key=lambda s: (depth[s.evidence.pid], s.evidence.pid)))


def _step(evidence: Evidence, verdict: Verdict, named: bool, consent: str) -> Step:
    if verdict.consent == NOBODY or evidence.row is None:
        why = (
            verdict.evidence[0]
            if verdict.evidence
            else sentence("nothing can be done about it here")
        )
        return Step(evidence, verdict, NONE, why)
    if named or verdict.consent in _ALLOWS[consent]:
        return Step(evidence, verdict, END)
    why = sentence("needs its number: avatop reap --pid {pid} --yes", pid=evidence.pid)
    if consent == POLICY:
        why = sentence("never ended without a person")
    return Step(evidence, verdict, NONE, why)


def dry_run(steps: Sequence[Step]) -> list[Done]:
    """What ``run`` would do, without doing it."""
    return [
        Done(step, (), PLANNED, step.why) if step.action == END else _idle(step) for step in steps
    ]


def _idle(step: Step) -> Done:
    """A step without a deed. A number that nobody has, or lists, is gone already."""
    there = step.evidence.row is not None or step.evidence.listed
    return Done(step, (), NONE if there else GONE, step.why)


def run(
    scene: Scene,
    steps: Sequence[Step],
    *,
    waits: Waits | None = None,
    read_memory: Callable[[], Memory] | None = None,
    allow: Allow | None = None,
    confirm_kill: Callable[[Target], bool] | None = None,
    audit: Audit | None = None,
    read_only: bool = False,
) -> list[Done]:
    """Do it. Blocks for at most three rounds of ``waits``.

    Raises:
        engine.guard.kill.ReadOnlyRefused: ``read_only`` is set.
    """
    if read_only:
        raise ReadOnlyRefused("reaping")

    def end(targets: Sequence[Target]) -> list[Outcome]:
        return kill.end_all(
            targets,
            waits=waits,
            read_memory=read_memory,
            allow=allow,
            confirm_kill=confirm_kill,
            audit=audit,
            read_only=read_only,
        )

    chosen = [step for step in steps if step.action == END]
    tree = scan.children(scene.rows)
    below = _below(scene, chosen, tree)
    watched = {step.evidence.pid for step in chosen} | below.keys()
    done: dict[int, Done] = {}
    # Two rounds: whoever supervises another target, then the rest. A whole rank group has no
    # supervisor among its targets, so it goes in one round.
    for supervisors in (True, False):
        batch = [
            step
            for step in chosen
            if supervisors is not watched.isdisjoint(scan.descendants(tree, step.evidence.pid))
        ]
        outcomes = end([Target.of(s.evidence) for s in batch])
        for step, outcome in zip(batch, outcomes, strict=True):
            done[step.evidence.pid] = Done(
                step,
                outcome.sent,
                outcome.result,
                outcome.detail,
                outcome.freed_bytes,
                outcome.advice,
            )
    extra = _survivors(scene, below)
    outcomes = end([Target.of_row(row) for row, _ in extra])
    for (row, step), outcome in zip(extra, outcomes, strict=True):
        child = scene.of(row.pid) or Evidence(row.pid, row)
        verdict = replace(step.verdict, pid=row.pid, evidence=(_started_by(step),), advice=None)
        extra_step = Step(child, verdict, END)
        done[row.pid] = Done(
            extra_step, outcome.sent, outcome.result, outcome.detail, outcome.freed_bytes
        )
    respawn = (waits or Waits()).respawn
    done |= _respawned(scene, [d for d in done.values() if d.sent], respawn)
    idle = [_idle(step) for step in steps if step.action != END]
    return [*done.values(), *idle]


def _started_by(step: Step) -> str:
    return sentence("started by PID {pid}, which was ended", pid=step.evidence.pid)


def _below(
    scene: Scene, chosen: Sequence[Step], tree: Mapping[int, Sequence[int]]
) -> dict[int, Step]:
    """Descendants of our own leftovers that are not targets themselves, by PID.

    Only of our own: what a stranger's process leaves behind is told, and needs its own word.
    """
    found: dict[int, Step] = {}
    targets = {step.evidence.pid for step in chosen}
    for step in chosen:
        if step.verdict.consent != POLICY:
            continue
        for pid in scan.descendants(tree, step.evidence.pid):
            row = scene.rows[pid]
            if pid not in targets and row.uid == scene.uid and row.alive:
                found[pid] = step
    return found


def _survivors(scene: Scene, below: Mapping[int, Step]) -> list[tuple[Row, Step]]:
    """Those of ``below`` that outlived their parent. DataLoader workers mostly leave with it."""
    spared = {1, scene.me, *scan.ancestors(scene.rows, scene.me)}
    if below:
        spared |= {v.pid for v in classify_all(scene) if v.kind == PROTECTED}
    found = []
    for pid, step in below.items():
        before, now = scene.rows[pid], scan.read_row(pid)
        if pid not in spared and now is not None and now.key == before.key and now.alive:
            found.append((before, step))
    return found


def _respawned(scene: Scene, ended: Sequence[Done], seconds: float) -> dict[int, Done]:
    """Those whose like came back: the same parent runs the same command anew."""
    old = {row.key for row in scene.rows.values()}
    watched = {
        done.step.evidence.row.key: (done.step.evidence.row, done)
        for done in ended
        if done.step.evidence.row is not None and done.step.evidence.row.ppid > 1
    }
    found: dict[int, Done] = {}
    deadline = time.monotonic() + seconds
    while True:
        rows = scan.rows() if watched else {}
        for key, (before, done) in list(watched.items()):
            parent = rows.get(before.ppid)
            if parent is None or not parent.alive:
                del watched[key]
                continue
            again = next((r for r in rows.values() if r.key not in old and _like(r, before)), None)
            if again is not None:
                del watched[key]
                found[before.pid] = _came_back(done, parent, again)
        if not watched or time.monotonic() >= deadline:
            return found
        time.sleep(_RESPAWN_POLL_SECONDS)


def _like(row: Row, before: Row) -> bool:
    return row.alive and row.ppid == before.ppid and row.command == before.command


def _came_back(done: Done, parent: Row, again: Row) -> Done:
    text = sentence(
        "PID {pid} ({comm}) started {pid2} in its place",
        pid=parent.pid,
        comm=parent.comm,
        pid2=again.pid,
    )
    advice = sentence(
        "avatop reap --pid {pid} --pid {pid2} --yes ends the supervisor first",
        pid=parent.pid,
        pid2=again.pid,
    )
    return replace(done, result=RESPAWNED, detail=text, advice=advice)


def exit_ok(done: Sequence[Done]) -> bool:
    """Whether everything that was to be ended has ended."""
    good = (kill.ENDED, GONE, PLANNED, NONE)
    return all(item.result in good for item in done)
