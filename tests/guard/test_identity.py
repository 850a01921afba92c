"""Is a process told apart from another that got its number?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from engine.guard.identity import (
    Identity,
    PidFd,
    ProcessGone,
    boot_id,
    group_members,
    identify,
    is_running,
    parse_stat,
    read_stat,
)


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait(10)


def test_a_name_full_of_brackets_does_not_shift_the_fields():
    fields = b" ".join(str(n).encode() for n in range(4, 53))
    stat = parse_stat(b"123 (a) R 1 (b)) S " + fields)
    assert stat.comm == "a) R 1 (b)"
    assert (stat.pid, stat.state, stat.ppid, stat.pgrp, stat.session) == (123, "S", 4, 5, 6)
    assert stat.start_ticks == 22  # the field's own number
    with pytest.raises(ValueError, match="stat line"):
        parse_stat(b"123 (a) S 1 2")


def test_this_process_is_itself_and_started_in_the_past():
    me = identify(os.getpid())
    assert me is not None
    assert is_running(me)
    assert me.boot == boot_id()
    assert 0 < me.started <= time.time()


def test_the_same_number_with_another_start_is_another_process():
    me = identify(os.getpid())
    assert not is_running(Identity(me.pid, me.start_ticks + 1, me.boot))
    assert not is_running(Identity(me.pid, me.start_ticks, "another boot"))
    with pytest.raises(ProcessGone, match="again"):
        PidFd(me.pid, me.start_ticks + 1)


def test_a_process_that_has_ended_is_noticed_before_it_is_reaped(child):
    identity = identify(child.pid)
    with PidFd(child.pid, identity.start_ticks) as handle:
        assert not handle.exited()
        assert handle.send(signal.SIGKILL)
        assert handle.exited(10)
        assert read_stat(child.pid).state == "Z"
        assert not is_running(identity)
        child.wait(10)
        assert not handle.send(signal.SIGTERM)
    assert identify(child.pid) is None
    with pytest.raises(ProcessGone):
        PidFd(child.pid)


def test_members_of_a_process_group_are_found():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'input()'])"
    leader = subprocess.Popen(
        [sys.executable, "-S", "-c", "print(flush=True); " + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    )
    try:
        leader.stdout.readline()
        assert leader.pid in group_members(leader.pid)
        assert os.getpid() not in group_members(leader.pid)
    finally:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait(10)
