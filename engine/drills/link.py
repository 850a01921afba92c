"""A slow link between ranks: the loopback of a network namespace, under ``tc``."""

from __future__ import annotations

import subprocess
import time
from typing import Final

from engine.drills.compare import judge
from engine.drills.namespace import enter_network
from engine.drills.report import DrillReport, NotPermittedError
from engine.drills.stage import Stage
from engine.messages import ClipCommitted, Event, Relaunch
from engine.sentence import sentence

#: Queueing disciplines of the kernel, the best first: a delay with losses, or a narrow pipe.
_SLOW: Final[dict[str, tuple[str, ...]]] = {
    "netem, 5 ms later and 0.1 % of packets lost": ("netem", "delay", "5ms", "loss", "0.1%"),
    "tbf, 200 Mbit/s (the kernel has no netem)": (
        *("tbf", "rate", "200mbit", "burst", "256k", "latency", "100ms"),
    ),
}
_SECONDS: Final = 10.0
#: Ranks on GPUs talk past the loopback unless they are told not to.
_BY_SOCKETS: Final = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1", "NCCL_NVLS_ENABLE": "0"}


def enter() -> None:
    """A network of this process's own whose loopback can be slowed down.

    Raises:
        NotPermittedError: namespaces, ``tc`` or its disciplines are not to be had here.
    """
    enter_network()
    _run("ip", "link", "set", "lo", "up")
    _slow_down()
    _run("tc", "qdisc", "del", "dev", "lo", "root")


def slow_link(stage: Stage, report: DrillReport) -> None:
    """The group's network becomes slow once the first clip is committed, and stays so."""
    before = stage.undisturbed()
    struck: list[float] = []

    def first_clip(event: Event) -> bool:
        return isinstance(event, ClipCommitted) and event.job != before.row.id and event.clip == 0

    def slow(event: Event) -> None:  # noqa: ARG001 - a deed hears what it was done for
        report.notes.append(
            sentence(
                "loopback of the group's own network namespace: {slow_down}", slow_down=_slow_down()
            )
        )
        struck.append(time.monotonic())

    stage.when(first_clip, slow)
    cuda = str(before.result["plan"]["devices"][0]["device"]).startswith("cuda")
    environment = _BY_SOCKETS if cuda else {}
    order = Relaunch(job=before.row.id, environment=environment, by="drill")
    after = stage.end(stage.taken(stage.ask(order)))
    judge(report, before, after)
    if not struck:
        report.recovered = False
        report.notes.append(
            sentence("the job was over before the link became slow: give it more clips")
        )
        return
    report.recovery_seconds = stage.next_block(after.row.id, struck[0], attempt=False)
    paces = [made.result["clips"][-1]["fps"] for made in (before, after) if made.result["clips"]]
    if len(paces) == 2:
        report.notes.append(
            sentence(
                "last clip at {slow:.3g} fps, {usual:.3g} fps undisturbed",
                slow=paces[1],
                usual=paces[0],
            )
        )
        if paces[1] >= paces[0]:
            report.notes.append(
                sentence("the link was not felt: it carries little, or the host was busier before")
            )
    if after.row.attempt > before.row.attempt + 1:
        report.notes.append(
            sentence("attempt {attempt} ended well", attempt=after.row.attempt - before.row.attempt)
        )


def _slow_down() -> str:
    """Slow the loopback down; the sentence that says how."""
    problems = []
    for told, discipline in _SLOW.items():
        try:
            _run("tc", "qdisc", "add", "dev", "lo", "root", *discipline)
        except NotPermittedError as error:
            problems.append(str(error))
        else:
            return told
    raise NotPermittedError(problems[0])


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise NotPermittedError(
            sentence("{command} is not installed (package iproute2)", command=command[0])
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotPermittedError(
            sentence("{command} cannot be run: {error}", command=command[0], error=error)
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NotPermittedError(f"{' '.join(command[:6])}: {said[-1] if said else 'refused'}")
