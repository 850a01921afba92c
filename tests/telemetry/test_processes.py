"""Are ranks known by their title, and is only plain evidence called a fault?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

from engine.guard.identity import PidFd, read_stat
from engine.messages import DeviceReading
from engine.telemetry.processes import UNSEEN, ProcessTable, rank_of, survey


def holding(*pids: int) -> tuple[DeviceReading, ...]:
    """A GPU that these processes hold 5 bytes of."""
    table = ProcessTable()
    holders = tuple(replace(table.describe(pid), memory={"GPU-0": 5}) for pid in pids)
    return (DeviceReading(0, "H200", "GPU-0", "nvml", processes=holders),)


def judged(pid: int):
    return next(seen for seen in survey(holding(pid)) if seen.reading.pid == pid)


def test_a_rank_is_known_by_its_title():
    assert rank_of(["avatop-rank", "--job", "12", "--rank", "3", "--world", "4", ""]) == (12, 3)
    assert rank_of(["avatop-rank", "--job", "twelve"]) == (None, None)
    assert rank_of(["python", "--job", "12", "--rank", "3"]) == (None, None)
    assert rank_of([]) == (None, None)


def test_an_idle_process_is_no_fault():
    seen = judged(os.getpid())
    assert seen.kind is None
    assert seen.evidence == ()
    assert seen.reading.rss > 0
    assert seen.reading.user
    assert seen.reading.memory == {"GPU-0": 5}


def test_a_listed_pid_that_proc_does_not_know_is_marked():
    seen = judged(2**22 + 9)
    assert seen.reading.state == UNSEEN
    assert seen.kind in ("vanished", "foreign")  # by whether the tests run in a container
    assert seen.evidence


def test_a_stopped_process_and_a_defunct_child_are_told_by_their_state():
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    try:
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert judged(child.pid).kind == "stopped"
        with PidFd(child.pid) as handle:
            child.kill()
            assert handle.exited(10)  # ended, and not waited for
        assert read_stat(child.pid).state == "Z"
        assert judged(child.pid).kind == "defunct"
    finally:
        child.kill()
        child.wait(10)


def test_a_rank_without_its_server_is_an_orphan():
    # A shell under a rank's title: its parent is these tests, which are no rank server.
    title = ["avatop-rank", "-c", "echo; read line", "--job", "5", "--rank", "1"]
    child = subprocess.Popen(
        title, executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()  # it is loaded now, and no longer waits for a disk
        seen = judged(child.pid)
        assert (seen.reading.job, seen.reading.rank) == (5, 1)
        assert seen.kind == "orphan"
        assert "server is gone" in seen.evidence[0]
        assert child.pid in {s.reading.pid for s in survey(())}, "found without the driver's help"
    finally:
        child.kill()
        child.communicate(timeout=10)


def test_what_is_remembered_of_a_process_can_be_forgotten():
    table = ProcessTable()
    first = table.describe(os.getpid())
    assert table.describe(os.getpid()).command == first.command
    table.forget_others([])
    assert table.describe(os.getpid()).command == first.command


_TITLES = """
import sys
from engine.ranks.onrank.native import set_title
for line in sys.stdin:
    set_title("avatop-rank0", line.strip())
    print("done", flush=True)
"""


def test_a_rank_that_works_for_another_job_is_known_by_its_new_title():
    table = ProcessTable()
    padding = "x" * 80  # a title has the room of the command line
    child = subprocess.Popen(
        [sys.executable, "-c", _TITLES, padding], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, bufsize=1,
    )  # fmt: skip
    told = []
    try:
        for doing in ("--job 1", "--warm", "--job 2"):
            child.stdin.write(f"avatop-rank {doing} --rank 3\n")
            assert child.stdout.readline() == "done\n"
            reading = table.describe(child.pid)
            told.append((reading.job, reading.rank))
    finally:
        child.kill()
        child.communicate(timeout=10)
    assert told == [(1, 3), (None, 3), (2, 3)]
