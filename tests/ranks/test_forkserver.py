"""What does the fork server load, and when?"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

from engine.ranks.server import MODULE
from tests.e2e.harness import ROOT


def test_what_few_need_is_loaded_in_a_quiet_moment_and_takes_no_server_down() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", MODULE, "--control", str(theirs.fileno())]
    command += ["--parent", str(os.getpid()), "--preload", "engine.ranks.protocol"]
    command += ["--later", "tests.ranks.broken_on_import"]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT) as process:
        theirs.close()
        ours.settimeout(60)
        told = [json.loads(ours.recv(1 << 16)) for _ in range(2)]
        ours.close()
        assert process.wait(20) == 0
    assert [message["say"] for message in told] == ["ready", "log"]
    assert "not preloaded: tests.ranks.broken_on_import" in told[1]["text"]
