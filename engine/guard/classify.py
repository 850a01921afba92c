"""What is wrong with a candidate, and who has to say so before it is ended. Pure functions.

A verdict rests on facts that a process cannot choose: its state, its parent, its session, its
owner, what it holds. Low utilisation is none of them: an idle server looks just like that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.guard import known
from engine.guard.evidence import COMPUTE_DEVICE, Evidence, Scene
from engine.guard.lineage import Lineage, Tie
from engine.guard.scan import Row
from engine.sentence import joined, sentence

VANISHED: Final = "vanished"
FOREIGN: Final = "foreign"
DEFUNCT: Final = "defunct"
UNINTERRUPTIBLE: Final = "uninterruptible"
STOPPED: Final = "stopped"
ORPHAN: Final = "orphan"
STUCK: Final = "stuck"
STRAY: Final = "stray"
OTHER_USER: Final = "other-user"
PROTECTED: Final = "protected"
HEALTHY: Final = "healthy"
KINDS: Final = (
    *(VANISHED, FOREIGN, DEFUNCT, UNINTERRUPTIBLE, STOPPED, ORPHAN),
    *(STUCK, STRAY, OTHER_USER, PROTECTED, HEALTHY),
)

#: Who may have it ended: our own policy without a person; a person's ``--yes``; a person who
#: names the PID; nobody.
POLICY: Final = "policy"
YES: Final = "yes"
NAMED: Final = "named"
NOBODY: Final = "nobody"


@dataclass(frozen=True)
class Verdict:
    """A class with its evidence."""

    pid: int
    kind: str
    consent: str  # POLICY | YES | NAMED | NOBODY
    evidence: tuple[str, ...]
    #: What to do where avatop cannot, or must not, act.
    advice: str | None = None


def classify_all(scene: Scene) -> tuple[Verdict, ...]:
    """A verdict for every candidate, by PID."""
    lineage = Lineage(scene)
    return tuple(_judge(evidence, scene, lineage) for evidence in scene.evidence)


def classify(evidence: Evidence, scene: Scene) -> Verdict:
    """A verdict for one candidate."""
    return _judge(evidence, scene, Lineage(scene))


def _judge(e: Evidence, scene: Scene, lineage: Lineage) -> Verdict:
    row = e.row
    if row is None:
        return _unseen(e, scene)
    if e.listed and not _confirmed(e, scene, lineage):
        text = sentence(
            "the driver lists PID {pid} by the host's count; the process of that number in this "
            "PID namespace is shown to hold no device",
            pid=e.pid,
        )
        return Verdict(e.pid, FOREIGN, NOBODY, (text,), _FOREIGN_ADVICE)
    why = _protection(row, scene, lineage)
    if row.state in "ZX" and not e.threads:
        return _defunct(e, scene, lineage)
    tie = lineage.tie(row)
    if why is None and row.key in scene.stuck:
        told = _state(e)[1]
        owned = row.uid == scene.uid and tie is not None and tie.ours
        texts = (scene.stuck[row.key], *told, *_facts(e))
        return Verdict(e.pid, STUCK, POLICY if owned else NAMED, texts)
    why = why or lineage.managed(row)
    if why is not None:
        return Verdict(e.pid, PROTECTED, NOBODY, (why,))
    kind, consent, texts = _standing(e, scene, lineage, tie)
    state, told = _state(e)
    if kind == HEALTHY and not e.holds and state != DEFUNCT:
        state = None  # nothing that anybody waits for
    advice = None
    if kind == OTHER_USER:
        advice = sentence(
            "ask its user (uid {uid}), or: sudo avatop reap --pid {pid} --yes",
            uid=row.uid,
            pid=e.pid,
        )
    return Verdict(e.pid, state or kind, consent, (*told, *texts, *_facts(e)), advice)


_FOREIGN_ADVICE: Final = sentence(
    "look from the host, or start the container with --pid=host: nvidia-smi there names it"
)


def _unseen(e: Evidence, scene: Scene) -> Verdict:
    if not e.listed:
        return Verdict(e.pid, VANISHED, NOBODY, (sentence("there is no process {pid}", pid=e.pid),))
    if e.pid <= 0:
        text = sentence("the driver lists PID {pid}, which is none", pid=e.pid)
        return Verdict(e.pid, VANISHED, NOBODY, (text,))
    if scene.in_namespace:
        text = sentence(
            "PID {pid} is listed by the driver and not in /proc of this PID namespace", pid=e.pid
        )
        return Verdict(e.pid, FOREIGN, NOBODY, (text,), _FOREIGN_ADVICE)
    inside = [r for r in scene.rows.values() if len(r.nspid) > 1 and r.inner_pid == e.pid]
    listed = sentence("PID {pid} is listed by the driver and not in /proc", pid=e.pid)
    texts: tuple[str, ...] = (listed,)
    if inside:
        pids = [r.pid for r in inside[:5]]
        here = sentence("inside containers of this host that number is PID {pids} here", pids=pids)
        texts += (here,)
    advice = sentence(
        "the driver's entry lingers after an exit; if memory stays used: nvidia-smi -q -d PIDS"
    )
    return Verdict(e.pid, VANISHED, NOBODY, texts, advice)


def _confirmed(e: Evidence, scene: Scene, lineage: Lineage) -> bool:
    """In a PID namespace the driver's number may be another process's here: ask for proof."""
    if not scene.in_namespace:
        return True
    return bool(e.devices) or (e.row is not None and lineage.tie(e.row) is not None)


def _protection(row: Row, scene: Scene, lineage: Lineage) -> str | None:
    """Why nobody may have it ended, whatever it does."""
    if row.pid == scene.me:
        return sentence("this is avatop itself")
    if row.pid == 1:
        return sentence("PID 1: its end is the end of everything here")
    if row.pid in lineage.mine:
        return sentence("an ancestor of this avatop")
    if 2 in (row.pid, row.ppid) and not row.command and not row.exe:
        return sentence("a kernel thread")
    return known.spared(row.exe, row.comm, row.program)


def _defunct(e: Evidence, scene: Scene, lineage: Lineage) -> Verdict:
    row = e.row
    assert row is not None
    parent = scene.rows.get(row.ppid)
    if parent is not None and known.is_server(parent.command) and lineage.managed(parent):
        text = sentence(
            "ended; its rank server keeps it until its group is over, so its number stays its"
        )
        return Verdict(e.pid, HEALTHY, NOBODY, (text,))
    texts = [
        sentence("dead already (state Z): it holds a PID and no memory; no signal changes that")
    ]
    if parent is None:
        unseen = sentence("its parent is not visible here")
        return Verdict(e.pid, DEFUNCT, NOBODY, (*texts, unseen))
    name = _name(scene, row.ppid)
    texts.append(sentence("its parent {process} has not waited for it", process=name))
    advice: str = sentence("restart PID {ppid}, or let it wait: kill -CHLD {ppid}", ppid=row.ppid)
    if row.ppid == 1:
        advice = sentence(
            "PID 1 does not reap: start the container with an init (docker run --init)"
        )
    elif parent.ppid > 1:
        others = sentence("failing that, its parent {process}", process=_name(scene, parent.ppid))
        advice = joined((advice, others))
    return Verdict(e.pid, DEFUNCT, NOBODY, tuple(texts), advice)


def _standing(
    e: Evidence, scene: Scene, lineage: Lineage, tie: Tie | None
) -> tuple[str, str, tuple[str, ...]]:
    """(class, consent, evidence) of a living process that nothing protects."""
    row = e.row
    assert row is not None
    alone = lineage.orphaned(row)
    texts: tuple[str, ...] = () if tie is None else (tie.text,)
    if row.uid != scene.uid:
        texts += (sentence("it belongs to uid {uid}, not to you", uid=row.uid),)
        if alone:
            texts += alone
        marked = tie is not None or e.holds
        return (OTHER_USER, NAMED, texts) if marked else (HEALTHY, NOBODY, texts)
    if tie is not None and alone:
        return ORPHAN, POLICY if tie.ours else YES, (*texts, *alone)
    look = known.inference(row.command)
    if look is not None:
        texts += (sentence("it looks like {what}", what=look),)
    below = lineage.supervised(row)
    if not e.holds and below:
        names = [_name(scene, pid) for pid in below]
        told = sentence("it holds no device and supervises {processes}", processes=names)
        return HEALTHY, NAMED, (*texts, told)
    if not e.holds and look is None:
        return HEALTHY, NOBODY, (*texts, *_bystander(e))
    if alone:
        left = sentence("it may have been left running on purpose")
        return STRAY, NAMED, (*texts, *alone, left)
    lives = sentence("its parent {process} lives", process=_name(scene, row.ppid))
    return HEALTHY, NAMED, (*texts, lives)


def _bystander(e: Evidence) -> tuple[str, ...]:
    if e.devices and COMPUTE_DEVICE not in e.devices:
        return (sentence("it reads the driver and computes nothing"),)
    return (sentence("it is not known to hold a device"),)


def _state(e: Evidence) -> tuple[str | None, tuple[str, ...]]:
    row = e.row
    assert row is not None
    match row.state:
        case "D":
            told = sentence("state D: it waits inside the kernel")
            if e.wchan:
                told = sentence("state D: it waits inside the kernel in {where}", where=e.wchan)
            return UNINTERRUPTIBLE, (told,)
        case "T":
            told = sentence("state T: stopped by a signal, so SIGTERM alone stays pending")
            return STOPPED, (told,)
        case "t":
            return STOPPED, (sentence("state t: held by a debugger"),)
        case "Z":
            told = sentence(
                "state Z: its main thread has ended and {count} of its threads live on",
                count=e.threads,
            )
            return DEFUNCT, (told,)
    return None, ()


def _facts(e: Evidence) -> tuple[str, ...]:
    row = e.row
    assert row is not None
    texts: list[str] = []
    if e.memory and e.bytes is None:
        devices = sorted(e.memory)
        texts.append(sentence("it holds an unknown amount on {devices}", devices=devices))
    elif e.memory:
        size, devices = f"{(e.bytes or 0) / (1 << 30):.2f} GiB", sorted(e.memory)
        texts.append(sentence("it holds {size} on {devices}", size=size, devices=devices))
    elif COMPUTE_DEVICE in (e.devices or ()):
        texts.append(sentence("it has {files} open", files=list(e.devices or ())))
    if len(row.nspid) > 1:
        texts.append(sentence("it is PID {pid} inside its container", pid=row.inner_pid))
    if e.children:
        texts.append(sentence("its children: {pids}", pids=list(e.children)))
    if e.ports:
        texts.append(sentence("it listens on TCP port {ports}", ports=list(e.ports)))
    return tuple(texts)


def _name(scene: Scene, pid: int) -> str:
    row = scene.rows.get(pid)
    return f"{pid} ({row.comm})" if row is not None else str(pid)
