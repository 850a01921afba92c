"""Is anything left when the process that hosts the engine is killed?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks.helpers import all_ended

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_two_seconds_after_the_host_is_killed(tmp_path, signum):
    host = subprocess.Popen(
        [sys.executable, "-m", "tests.ranks.host", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    pids = json.loads(host.stdout.readline())
    assert len(pids) == 5  # server, two ranks, two children of ranks
    os.kill(host.pid, signum)
    host.wait(10)
    assert all_ended(pids, 2.0)


def test_a_frozen_server_does_not_keep_the_ranks(tmp_path):
    host = subprocess.Popen(
        [sys.executable, "-m", "tests.ranks.host", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    server, *ranks = json.loads(host.stdout.readline())
    os.kill(server, signal.SIGSTOP)
    host.kill()
    host.wait(10)
    try:
        # The child that left its group for a session of its own (the last) waits for the server.
        assert all_ended(ranks[:-1], 2.0)
    finally:
        os.kill(server, signal.SIGCONT)
    assert all_ended([server, ranks[-1]], 4.0)
