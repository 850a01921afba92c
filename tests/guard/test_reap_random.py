"""Over 10,000 decisions: is no bystander signalled, and does every zombie end that can?

Two runs. The first decides and acts on made-up hosts (``tests/guard/worlds.py``): real code from
verdict to signal, a fake kernel beneath. The second ends some hundred real processes among as many
real bystanders.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import pytest

from engine.guard import kill, plan_reap, scan
from engine.guard.kill import Waits
from tests.guard.scenarios import (
    GENTLE,
    PATIENT,
    TORCHRUN,
    Card,
    Planted,
    read_until,
    reaper,
    state,
    until,
)
from tests.guard.worlds import BYSTANDER, STRAY, ZOMBIE, World

DECISIONS = 10_000
NO_WAITS = Waits(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_made_up_hosts(seed, monkeypatch):
    rng = random.Random(seed)
    decided, told = 0, Counter()
    while decided < DECISIONS // 4:
        world = World(rng)
        world.grow(rng.randint(10, 60))
        decided += len(world.procs)
        monkeypatch.setattr(kill, "PidFd", world.pidfd)
        monkeypatch.setattr(scan, "read_row", world.read_row)
        monkeypatch.setattr(scan, "rows", world.rows)
        monkeypatch.setattr(scan, "live_threads", lambda pid: 1)
        monkeypatch.setattr(scan, "wait_channel", lambda pid: None)
        scene = world.scene()
        typed = {p.row.pid for p in world.procs.values() if p.truth == STRAY}
        steps = [plan_reap.plan(scene)]
        if typed:
            steps.append(plan_reap.plan(scene, named=typed))
        world.turn()
        for plan in steps:
            plan_reap.run(scene, plan, waits=NO_WAITS, read_memory=dict)
        for proc in world.everybody:
            if proc.truth == BYSTANDER:
                assert proc.got == [], f"a bystander was signalled: {proc}"
            elif not proc.stone and (proc.got or proc.alive):
                told[f"{proc.truth} ended" if not proc.alive else f"{proc.truth} lives"] += 1
    assert told[f"{ZOMBIE} ended"] > DECISIONS // 40
    assert told[f"{STRAY} ended"] > DECISIONS // 200
    ended = told[f"{ZOMBIE} ended"] + told[f"{STRAY} ended"]
    assert ended / told.total() >= 0.99, told


def test_typed_numbers_end_nobody_that_is_protected(monkeypatch):
    """A person who types every number of a host still ends no service and no healthy rank."""
    world = World(random.Random(5))
    world.grow(400)
    scene = world.scene()
    services = {"nvidia-cuda-mps-server", "Xorg", "nv-hostengine", "nvidia-persistenced"}
    for step in plan_reap.plan(scene, named=set(world.procs)):
        row = step.evidence.row
        if step.action == plan_reap.END:
            assert row.exe not in services
            assert row.pid > 1001
            assert 1001 not in scan.ancestors(scene.rows, row.pid), "a rank of a living engine"


def test_without_a_person_only_our_own_leftovers_are_planned():
    world = World(random.Random(6))
    world.grow(400)
    scene = world.scene()
    steps = [s for s in plan_reap.plan(scene, consent="policy") if s.action == plan_reap.END]
    assert steps
    for step in steps:
        row = step.evidence.row
        assert world.procs[row.pid].truth == ZOMBIE
        assert "TORCHELASTIC_RUN_ID" not in row.env


def test_real_processes():
    rng = random.Random(7)
    planted = Planted()
    try:
        zombies: list[int] = []
        for _ in range(8):
            zombies += planted.orphans(rng.randint(8, 16))
        bystanders = [planted.popen(["sleep", "300"]).pid for _ in range(40)]
        # The same variables and the same command, under a launcher that lives.
        living = planted.shell(
            "i=0; while [ $i -lt 60 ]; do RANK=$i sleep 300 >/dev/null & echo $!; "
            "i=$((i+1)); done; echo end; read line",
            TORCHRUN,
        )
        bystanders += [planted.adopt(int(word)) for word in read_until(living, "end")]
        ready = lambda pid: scan.read_row(pid).comm == "sleep"  # noqa: E731
        until(lambda: all(ready(pid) for pid in [*zombies, *bystanders]), PATIENT)
        stopped = rng.sample(zombies, 10)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(state(pid) == "T" for pid in stopped))
        held = [*rng.sample(zombies, 30), *rng.sample(bystanders, 30)]
        report = reaper(planted, Card(held), waits=GENTLE).reap(yes=True)
        results = {d.step.evidence.pid: d for d in report.actions}
        assert {results[pid].result for pid in zombies} == {kill.ENDED}
        assert all(state(pid) == "S" for pid in bystanders)
        assert not any(results[pid].sent for pid in bystanders if pid in results)
    finally:
        planted.close()
