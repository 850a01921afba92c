"""What does the reaper say of real ranks, while their engine lives and after it was killed?"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from engine.guard import classify as c
from engine.guard.identity import PidFd
from engine.guard.kill import ENDED
from engine.guard.plan_reap import plan
from tests.guard.scenarios import PATIENT, Planted, reaper, state, until, verdict

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]


def test_a_living_engine_s_tree_is_protected_and_a_dead_one_s_frozen_server_is_ended(tmp_path):
    planted = Planted()
    try:
        host = planted.popen(
            [sys.executable, "-m", "tests.ranks.host", str(tmp_path)], cwd=ROOT, stdin=None
        )
        pids = [planted.adopt(pid) for pid in json.loads(host.stdout.readline())]
        server, *ranks = pids[:3]
        look = reaper(planted)
        scene = look.look(also=[host.pid])
        tree = [host.pid, server, *ranks]
        assert {verdict(look, scene, pid).kind for pid in tree} == {c.PROTECTED}
        assert not any(step.action == "end" for step in plan(scene, named=tree))
        # What the engine itself calls stuck is no longer protected by its tree, and nothing else.
        key = scene.rows[ranks[0]].key
        stuck = look.look(stuck={key: "rank 0 has not been heard of for 70 s"})
        assert verdict(look, stuck, ranks[0]).kind == c.STUCK
        assert verdict(look, stuck, ranks[1]).kind == c.PROTECTED

        with PidFd(server) as handle:  # frozen, it cannot end its ranks when its engine dies
            handle.send(signal.SIGSTOP)
        until(lambda: state(server) == "T")
        host.kill()
        host.wait(PATIENT)
        until(lambda: all(state(pid) in ("Z", None) for pid in ranks))
        scene = look.look()
        found = verdict(look, scene, server)
        assert (found.kind, found.consent) == (c.STOPPED, c.POLICY)
        assert {verdict(look, scene, pid).kind for pid in ranks} == {c.DEFUNCT}
        done = {d.step.evidence.pid: d for d in look.reap_own().actions}
        assert (done[server].sent, done[server].result) == (("CONT", "TERM"), ENDED)
        until(lambda: all(state(pid) in ("Z", None) for pid in pids))
    finally:
        planted.close()
