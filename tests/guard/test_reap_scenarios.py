"""Does the reaper tell fifteen kinds of zombie apart, end what can be ended, and only that?

Real processes, a fake driver. The numbers are those of docs/zombies.md.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.guard import classify as c
from engine.guard import kill, scan
from engine.guard.identity import PidFd, read_stat
from engine.guard.kill import Target, end_all
from engine.guard.plan_reap import plan
from tests.guard.scenarios import (
    GENTLE,
    GIB,
    PATIENT,
    QUICK,
    RANK,
    TORCHRUN,
    Card,
    Planted,
    may_unshare,
    read_until,
    reaper,
    state,
    until,
    verdict,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def planted():
    planted = Planted()
    yield planted
    planted.close()


def only(report, pid):
    return next(done for done in report.actions if done.step.evidence.pid == pid)


def make_defunct(child, parent):
    """The parent was a shell, which waits; it has become something that does not."""
    until(lambda: scan.read_row(parent).comm == "sleep")
    with PidFd(child) as handle:
        handle.send(signal.SIGKILL)
        assert handle.exited(PATIENT)
    assert state(child) == "Z"


# 1
def test_a_defunct_child_is_not_killed_and_its_parent_is_named(planted):
    parent = planted.shell("sleep 300 & echo $!; echo end; exec sleep 300")
    (child,) = (planted.adopt(int(word)) for word in read_until(parent, "end"))
    make_defunct(child, parent.pid)
    report = reaper(planted).reap(yes=True, named=[child])
    done = only(report, child)
    assert (done.step.verdict.kind, done.sent, done.result) == (c.DEFUNCT, (), "none")
    text = " ".join(done.step.verdict.evidence)
    assert f"its parent {parent.pid}" in text
    assert str(parent.pid) in done.step.verdict.advice
    assert parent.poll() is None


# 2
def test_a_defunct_child_vanishes_with_its_parent(planted):
    keeper = planted.keeper()
    reader, writer = os.pipe()
    words = "sleep 300 & echo $! $$ > {}; exec sleep 300"
    keeper.start(words.format(f"/proc/{os.getpid()}/fd/{writer}"))
    child, parent = (planted.adopt(int(word)) for word in os.read(reader, 100).split())
    make_defunct(child, parent)
    scene = (look := reaper(planted)).look()
    assert verdict(look, scene, child).kind == c.DEFUNCT
    (outcome,) = end_all([Target.of_row(scan.read_row(parent))], waits=GENTLE, allow=planted.allow)
    assert outcome.result == kill.ENDED
    keeper.until_reaped(child)
    assert child not in {e.pid for e in look.look().evidence}
    os.close(reader)
    os.close(writer)


# 3
def test_an_orphan_under_the_first_process_is_found_and_ended(planted):
    (pid,) = planted.orphans()
    look = reaper(planted, Card([pid]))
    scene = look.look()
    found = verdict(look, scene, pid)
    assert (found.kind, found.consent) == (c.ORPHAN, c.YES)
    assert any("its parent is now" in text for text in found.evidence)
    assert not look.reap(consent=c.POLICY).actions or state(pid) == "S"
    done = only(look.reap(yes=True), pid)
    assert (done.sent, done.result, done.freed_bytes) == (("TERM",), kill.ENDED, GIB)


# 4
def test_an_orphan_under_a_subreaper_is_found_though_its_parent_is_not_1(planted):
    keeper = planted.keeper()
    reader, writer = os.pipe()
    look = reaper(planted)
    words = "TORCHELASTIC_RUN_ID=a RANK=0 sleep 300 & echo $! $$ > {}; wait"
    keeper.start(words.format(f"/proc/{os.getpid()}/fd/{writer}"))
    rank, launcher = (planted.adopt(int(word)) for word in os.read(reader, 100).split())
    until(lambda: scan.read_row(rank).comm == "sleep")  # until then it is the shell's fork
    # Seen with its launcher first: nothing else could tell, in one session under one Python.
    assert verdict(look, look.look(), rank).kind == c.HEALTHY
    with PidFd(launcher) as handle:
        handle.send(signal.SIGKILL)
        assert handle.exited(PATIENT)
    keeper.until_reaped(launcher)
    assert read_stat(rank).ppid == keeper.pid
    found = verdict(look, look.look(), rank)
    assert found.kind == c.ORPHAN
    assert any(f"its parent {launcher} has ended" in text for text in found.evidence)
    assert only(look.reap(yes=True), rank).result == kill.ENDED
    os.close(reader)
    os.close(writer)


# 5
def test_one_that_ignores_sigterm_gets_sigkill(planted):
    (pid,) = planted.orphans(body='trap "" TERM; while :; do sleep 300; done')
    until(lambda: scan.children(scan.rows()).get(pid))
    planted.adopt(scan.children(scan.rows())[pid][0])
    done = only(reaper(planted, Card([pid]), waits=QUICK).reap(yes=True), pid)
    assert (done.sent, done.result) == (("TERM", "KILL"), kill.ENDED)


def test_sigkill_is_asked_for_again(planted):
    (pid,) = planted.orphans(body='trap "" TERM; while :; do sleep 300; done')
    until(lambda: scan.children(scan.rows()).get(pid))
    planted.adopt(scan.children(scan.rows())[pid][0])
    (outcome,) = end_all(
        [Target.of_row(scan.read_row(pid))],
        waits=QUICK,
        allow=planted.allow,
        confirm_kill=lambda target: False,
    )
    assert (outcome.sent, outcome.result) == (("TERM",), kill.SURVIVED)
    assert "not confirmed" in outcome.detail
    assert state(pid) == "S"


# 6
def test_a_stopped_one_is_woken_to_hear_sigterm(planted):
    (pid,) = planted.orphans()
    with PidFd(pid) as handle:
        handle.send(signal.SIGSTOP)
    until(lambda: state(pid) == "T")
    look = reaper(planted, Card([pid]))
    assert verdict(look, look.look(), pid).kind == c.STOPPED
    done = only(look.reap(yes=True), pid)
    assert (done.sent, done.result) == (("CONT", "TERM"), kill.ENDED)


# 7
def test_shared_memory_of_a_grandchild_in_another_session_is_kept_while_it_lives(planted, tmp_path):
    code = (
        "import mmap, os, sys\n"
        "f = open(sys.argv[1], 'w+b'); f.truncate(8192)\n"
        "m = mmap.mmap(f.fileno(), 8192); f.close()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    path, dead = tmp_path / "nccl-AbCdEf", tmp_path / "nccl-gone"
    dead.write_bytes(b"x" * 4096)
    holder = planted.python(code, str(path), start_new_session=True)
    assert read_until(holder, "up") == []
    card = Card([holder.pid])
    look = reaper(planted, card, shm_folder=tmp_path, shm_min_age=0.0)
    assert look.look().of(holder.pid).row.sid == holder.pid
    report = look.reap(yes=True)
    assert [item.leak.name for item in report.leaks] == ["nccl-gone"]
    assert path.exists()
    assert not dead.exists()
    assert only(look.reap(yes=True, named=[holder.pid]), holder.pid).result == kill.ENDED
    assert [item.result for item in look.reap(yes=True).leaks] == ["removed"]
    assert not path.exists()


# 8
def test_what_a_supervisor_starts_again_is_told_with_the_supervisor(planted):
    script = "trap 'exit 0' TERM; while :; do sleep 300 & echo $!; wait $!; done"
    supervisor = planted.shell(script)
    first = planted.adopt(int(supervisor.stdout.readline()))
    until(lambda: scan.read_row(first).command == ("sleep", "300"))  # forked, and executed
    fresh: list[int] = []

    class Watching(Card):
        """The driver's list is read after the kill: the new one has been started by then."""

        def __call__(self):
            if state(first) in (None, "Z") and not fresh:
                fresh.append(planted.adopt(int(supervisor.stdout.readline())))
                until(lambda: scan.read_row(fresh[0]).command == ("sleep", "300"))
            return super().__call__()

    look = reaper(planted, Watching([first]))
    done = only(look.reap(yes=True, named=[first]), first)
    assert done.result == kill.RESPAWNED
    assert f"--pid {supervisor.pid}" in done.advice
    assert state(fresh[0]) == "S"
    look.read_memory = Card(fresh)
    report = look.reap(yes=True, named=[supervisor.pid, *fresh])
    assert report.ok
    assert report.actions[0].step.evidence.pid == supervisor.pid  # the supervisor first
    assert supervisor.wait(PATIENT) == 0


# 9
REUSE = """
import os, subprocess, sys
from engine.guard import scan
from engine.guard.kill import Target, end_all, Waits
a = subprocess.Popen(["sleep", "300"])
target = Target.of_row(scan.read_row(a.pid))
a.kill(); a.wait()
for _ in range(500):
    open("/proc/sys/kernel/ns_last_pid", "w").write(str(a.pid - 1))
    b = subprocess.Popen(["sleep", "300"])
    row = scan.read_row(b.pid)
    if b.pid == a.pid and row.start_ticks != target.start_ticks:
        break
    b.kill(); b.wait()
(outcome,) = end_all([target], waits=Waits(1, 1, 1))
print(b.pid == a.pid, outcome.result, list(outcome.sent), b.poll(), outcome.detail, sep="|")
b.kill(); b.wait()
"""


def test_a_number_that_was_used_again_is_not_signalled(planted):
    bystander = planted.sleep()
    row = scan.read_row(bystander.pid)
    earlier = Target(row.pid, row.start_ticks - 7, row.uid, row.command, row.state)
    (outcome,) = end_all([earlier], waits=QUICK, allow=lambda *_: True)
    assert (outcome.result, outcome.sent) == (kill.CHANGED, ())
    assert "another process" in outcome.detail
    assert bystander.poll() is None
    if may_unshare():  # the same for real: one PID, two processes
        done = subprocess.run(
            ["unshare", "-p", "-f", "--mount-proc", sys.executable, "-c", REUSE],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        same, result, sent, status, detail = done.stdout.strip().split("|")
        assert (same, result, sent, status) == ("True", kill.CHANGED, "[]", "None")
        assert "another process" in detail


def test_one_that_became_another_program_is_not_signalled(planted):
    process = planted.shell("echo end; read line; exec sleep 300")
    read_until(process, "end")
    target = Target.of_row(scan.read_row(process.pid))
    process.stdin.write("go\n")
    process.stdin.flush()
    until(lambda: scan.read_row(process.pid).comm == "sleep")
    (outcome,) = end_all([target], waits=QUICK, allow=planted.allow)
    assert (outcome.result, outcome.sent) == (kill.CHANGED, ())
    assert process.poll() is None


# 10
def test_one_that_ends_between_list_and_kill_is_no_error(planted):
    process = planted.sleep()
    target = Target.of_row(scan.read_row(process.pid))
    process.kill()
    process.wait(PATIENT)
    (outcome,) = end_all([target], waits=QUICK, allow=planted.allow)
    assert (outcome.result, outcome.sent, outcome.ok) == (kill.GONE, (), True)


# 11
def test_another_user_s_process_is_told_not_crashed_on(planted, monkeypatch):
    process = planted.sleep()
    target = Target.of_row(scan.read_row(process.pid))

    def denied(handle, signum):
        raise PermissionError

    monkeypatch.setattr(PidFd, "send", denied)
    (outcome,) = end_all([target], waits=QUICK, allow=planted.allow)
    monkeypatch.undo()
    assert (outcome.result, outcome.sent) == (kill.NO_PERMISSION, ())
    assert outcome.advice == f"sudo avatop reap --pid {process.pid} --yes"
    assert process.poll() is None
    if os.getuid() == 0:  # for real: a process of nobody's is not ours to end without its number
        other = planted.popen(["sleep", "300"], user=65534, group=65534)
        until(lambda: scan.read_row(other.pid).uid == 65534)
        look = reaper(planted, Card([other.pid]))
        found = verdict(look, look.look(), other.pid)
        assert (found.kind, found.consent) == (c.OTHER_USER, c.NAMED)
        assert only(look.reap(yes=True), other.pid).result == "none"
        assert other.poll() is None
        assert only(look.reap(yes=True, named=[other.pid]), other.pid).result == kill.ENDED


def test_without_the_right_to_signal_the_kernel_s_refusal_is_told(planted):
    if os.getuid() != 0:
        return  # nobody to become; the test above has the refusal injected
    victim = planted.sleep()
    row = scan.read_row(victim.pid)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # an unprivileged avatop: same code, no right
        os.setgid(65534)
        os.setuid(65534)
        (outcome,) = end_all([Target.of_row(row)], waits=QUICK)
        os.write(writer, json.dumps([outcome.result, outcome.sent, outcome.advice]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    result, sent, advice = json.loads(os.read(reader, 1000))
    os.close(reader)
    os.close(writer)
    assert (result, sent) == (kill.NO_PERMISSION, [])
    assert "sudo" in advice
    assert victim.poll() is None


# 12
def test_a_process_in_a_container_is_shown_with_both_its_numbers(planted):
    if may_unshare():
        outer = planted.popen(["unshare", "-p", "-f", "--kill-child", "sleep", "300"])
        until(lambda: scan.children(scan.rows()).get(outer.pid))
        inner = planted.adopt(scan.children(scan.rows())[outer.pid][0])
        until(lambda: scan.read_row(inner).comm == "sleep")
        row = scan.read_row(inner)
        assert row.nspid == (inner, 1)
        look = reaper(planted, Card([inner]))
        found = verdict(look, look.look(), inner)
        assert "it is PID 1 inside its container" in found.evidence
        assert found.consent == c.NAMED
    # Inside a container the driver's number may be a bystander's here.
    bystander = planted.sleep()
    look = reaper(planted, Card([bystander.pid]), in_namespace=True)
    found = verdict(look, look.look(), bystander.pid)
    assert (found.kind, found.consent) == (c.FOREIGN, c.NOBODY)
    assert only(look.reap(yes=True, named=[bystander.pid]), bystander.pid).sent == ()
    assert bystander.poll() is None


# 13
VFORK = """
import os, sys
os.posix_spawn("/bin/true", ["true"], {},
               file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""


def test_one_inside_a_kernel_call_is_tried_once_and_told(planted, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent = planted.python(VFORK, str(fifo), start_new_session=True)
    until(lambda: state(parent.pid) == "D")  # until its child, which waits for a writer, execs
    until(lambda: scan.children(scan.rows()).get(parent.pid))
    planted.adopt(scan.children(scan.rows())[parent.pid][0])
    look = reaper(planted, Card([parent.pid]), waits=QUICK)
    found = verdict(look, look.look(), parent.pid)
    assert found.kind == c.UNINTERRUPTIBLE
    assert found.consent == c.NAMED, "a moment inside the kernel is no fault by itself"
    done = only(look.reap(yes=True, named=[parent.pid]), parent.pid)
    assert (done.sent, done.result) == (("TERM", "KILL"), kill.ENDED)


def test_one_that_sigkill_cannot_reach_yet_gets_the_next_command(planted, monkeypatch):
    process = planted.sleep()
    target = Target.of_row(scan.read_row(process.pid))
    real = scan.read_row
    monkeypatch.setattr(PidFd, "send", lambda handle, signum: True)  # pends, as in state D

    def in_the_kernel(pid):
        from dataclasses import replace

        row = real(pid)
        return replace(row, state="D") if pid == process.pid else row

    monkeypatch.setattr(scan, "read_row", in_the_kernel)
    waits = kill.Waits(0.05, 0.05, 0.05)
    (outcome,) = end_all([target], waits=waits, allow=planted.allow)
    assert (outcome.sent, outcome.result) == (("TERM", "KILL"), kill.SURVIVED)
    assert outcome.detail.startswith("state D")
    assert "gpu-reset" in outcome.advice


# 14
HEADLESS = """
import ctypes, os, platform, sys, threading, time
threading.Thread(target=time.sleep, args=(300,)).start()
number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
print("up", flush=True)
ctypes.CDLL(None).syscall(number, 0)
"""


def test_threads_that_outlive_their_leader_are_found_and_ended(planted):
    process = planted.python(HEADLESS)
    read_until(process, "up")
    until(lambda: state(process.pid) == "Z")

    class Held(Card):
        def __call__(self):
            alive = scan.live_threads(process.pid)
            return {process.pid: {"GPU-0": GIB}} if alive else {}

    look = reaper(planted, Held([]))
    scene = look.look()
    assert scene.of(process.pid).threads == 1
    found = verdict(look, scene, process.pid)
    assert (found.kind, found.consent) == (c.DEFUNCT, c.NAMED)
    assert any("threads live on" in text for text in found.evidence)
    done = only(look.reap(yes=True, named=[process.pid]), process.pid)
    assert (done.result, done.freed_bytes) == (kill.ENDED, GIB)


# 15
RANKS = """
import os, subprocess, sys
code = "import sys; open('/proc/self/comm','w').write(sys.argv[1])"
code += "; print('up', flush=True); sys.stdin.read()"
ranks = []
for rank, comm in enumerate(["pt_main_thread", ") R 1 (", "torchrun", "rank three"]):
    env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    p = subprocess.Popen([sys.executable, "-S", "-c", code, comm], env=env, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    p.stdout.readline()
    ranks.append(p)
    print(p.pid, flush=True)
print("end", flush=True)
sys.stdin.read()
"""


def test_four_ranks_whose_torchrun_was_killed(planted, tmp_path):
    reader, writer = os.pipe()  # keeps the ranks' stdin: they end by signals alone
    code = RANKS.replace("stdin=subprocess.PIPE", "stdin=int(sys.argv[1])")
    launcher = planted.python(
        code,
        str(reader),
        env={**os.environ, **TORCHRUN},
        pass_fds=(reader,),
        start_new_session=True,
    )
    ranks = [planted.adopt(int(word)) for word in read_until(launcher, "end")]
    mapped, unmapped = tmp_path / "psm_1", tmp_path / "psm_2"
    for path in (mapped, unmapped):
        path.write_bytes(b"\0" * 4096)
    with mapped.open("r+b") as file:
        kept = mmap.mmap(file.fileno(), 4096)
    held = {ranks[0]: None, ranks[1]: GIB, ranks[2]: GIB, ranks[3]: GIB, os.getpid(): GIB}
    look = reaper(planted, Card(held), shm_folder=tmp_path, shm_min_age=0.0)
    before = look.look()
    assert {verdict(look, before, pid).kind for pid in ranks} == {c.HEALTHY}
    assert verdict(look, before, os.getpid()).kind == c.PROTECTED
    launcher.kill()
    launcher.wait(PATIENT)
    until(lambda: all(read_stat(pid).ppid != launcher.pid for pid in ranks))
    scene = look.look()
    assert [verdict(look, scene, pid).kind for pid in ranks] == [c.ORPHAN] * 4
    assert scene.rows[ranks[1]].comm == ") R 1 ("
    report = look.reap(yes=True)
    freed = [only(report, pid).freed_bytes for pid in ranks]
    assert freed == [None, GIB, GIB, GIB], "memory that the driver hides is unknown, not 0"
    assert {only(report, pid).result for pid in ranks} == {kill.ENDED}
    assert [item.leak.name for item in report.leaks] == ["psm_2"]
    assert mapped.exists()
    kept.close()
    os.close(reader)
    os.close(writer)


# Ours


def rank(planted, *, mark=None, title="avatop-rank", env=None):
    """A rank that real engines made: title, thread's name and, if given, the mark."""
    args = [title, "-S", "-c", RANK]
    environment = {**os.environ, **(env or {}), **({"AVATOP_ENGINE": mark} if mark else {})}
    process = planted.popen(args, executable=sys.executable, env=environment)
    read_until(process, "up")
    return process


def test_our_own_orphan_is_ended_at_start_without_a_person_and_recorded(planted):
    gone = rank(planted)
    scene = (look := reaper(planted, Card([gone.pid]))).look()
    found = verdict(look, scene, gone.pid)
    assert (found.kind, found.consent) == (c.ORPHAN, c.POLICY)
    said = []
    look.audit = lambda action, detail: said.append((action, detail["pid"], detail.get("result")))
    report = look.reap_own()
    assert only(report, gone.pid).result == kill.ENDED
    assert ("reap.begin", gone.pid, None) in said
    assert ("reap", gone.pid, kill.ENDED) in said


def test_a_look_alike_of_a_rank_is_left_alone(planted):
    fakes = [
        planted.popen(["avatop-rank", "-c", "read line"], executable="/bin/sh"),
        planted.popen(["avatop-rank", "300"], executable="/bin/sleep"),
        planted.popen([sys.executable, "-S", "-c", "input()", "avatop-rank", "torchrun"]),
    ]
    report = reaper(planted).reap(yes=True)
    ended = {done.step.evidence.pid for done in report.actions if done.sent}
    assert ended.isdisjoint(fake.pid for fake in fakes)
    assert all(fake.poll() is None for fake in fakes)


def test_a_process_left_running_on_purpose_needs_its_number(planted):
    """nohup and a closed terminal look like an orphan; only a person knows."""
    shell = planted.shell("nohup sleep 300 >/dev/null 2>&1 & echo $!; echo end")
    (pid,) = (planted.adopt(int(word)) for word in read_until(shell, "end"))
    shell.wait(PATIENT)
    look = reaper(planted, Card([pid]))
    found = verdict(look, look.look(), pid)
    assert (found.kind, found.consent) == (c.STRAY, c.NAMED)
    assert only(look.reap(yes=True), pid).result == "none"
    assert state(pid) == "S"
    assert only(look.reap(yes=True, named=[pid]), pid).result == kill.ENDED


def test_nothing_is_done_without_a_word_and_nothing_at_all_when_read_only(planted, tmp_path):
    (pid,) = planted.orphans()
    (tmp_path / "torch_1_2_3").write_bytes(b"x")
    look = reaper(planted, Card([pid]), shm_folder=tmp_path, shm_min_age=0.0)
    assert only(look.reap(), pid).result == kill.PLANNED
    locked = reaper(planted, Card([pid]), read_only=True)
    with pytest.raises(kill.ReadOnlyRefused):
        locked.reap(yes=True)
    scene = look.look()
    with pytest.raises(kill.ReadOnlyRefused):
        locked.run(scene, plan(scene))
    with pytest.raises(kill.ReadOnlyRefused):
        end_all([Target.of_row(scan.read_row(pid))], read_only=True)
    assert state(pid) == "S"
    assert (tmp_path / "torch_1_2_3").exists()


def test_this_process_its_ancestors_and_the_first_process_are_never_ended(planted):
    row = scan.read_row(os.getpid())
    chain = [os.getpid(), *scan.ancestors(scan.rows(), row.pid)]
    look = reaper(planted, Card(chain), allow=lambda *_: False)
    scene = look.look(also=chain)
    assert {verdict(look, scene, pid).kind for pid in chain} == {c.PROTECTED}
    assert not any(step.action == "end" for step in plan(scene, named=chain))
    first = scan.read_row(1)
    (outcome,) = end_all([Target.of_row(first)])
    assert (outcome.result, outcome.sent) == (kill.REFUSED, ())


def test_what_was_not_planted_is_refused_by_the_second_belt(planted):
    process = planted.sleep()
    (outcome,) = end_all([Target.of_row(scan.read_row(process.pid))], allow=lambda *_: False)
    assert (outcome.result, outcome.sent) == (kill.REFUSED, ())
    assert process.poll() is None


def test_memory_that_the_driver_goes_on_listing_is_no_success(planted):
    (pid,) = planted.orphans()
    look = reaper(planted, Card([pid], leaks=True), waits=kill.Waits(PATIENT, PATIENT, 0.0))
    report = look.reap(yes=True)
    done = only(report, pid)
    assert (done.result, done.freed_bytes, report.ok) == (kill.MEMORY_HELD, None, False)
    assert "nvidia-smi" in done.advice


def test_children_of_our_orphan_end_after_it(planted):
    code = RANK.replace("import sys\n", CHILD)
    parent = planted.popen(
        ["avatop-rank", "-S", "-c", code],
        executable=sys.executable,
    )
    (child,) = (planted.adopt(int(word)) for word in read_until(parent, "up"))
    report = reaper(planted).reap(yes=True)
    done = only(report, child)
    assert done.result == kill.ENDED
    assert any(f"PID {parent.pid}" in text for text in done.step.verdict.evidence)


# The child tells its number itself: what it is does not change after that.
CHILD = """
import subprocess, sys
code = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
child = subprocess.Popen(["/proc/self/exe", "-S", "-c", code], env={}, text=True,
                         stdout=subprocess.PIPE, start_new_session=True)
print(child.stdout.readline(), end="", flush=True)
"""


def test_a_stuck_rank_is_asked_for_its_stacks_before_it_is_ended(planted):
    from engine.guard.identity import identify
    from engine.guard.stacks import ASKED, GONE, NO_HANDLER, dump_stacks

    code = (
        "import faulthandler, signal, sys, threading\n"
        "faulthandler.register(signal.SIGUSR1, file=sys.stdout, all_threads=True)\n"
        "def waits_for_a_peer(): print('up', flush=True); threading.Event().wait(300)\n"
        "waits_for_a_peer()"
    )
    stuck = planted.python(code)
    read_until(stuck, "up")
    deaf = planted.sleep()
    identities = [identify(stuck.pid), identify(deaf.pid)]
    asked = dump_stacks(identities, allow=planted.allow)
    assert [item.result for item in asked] == [ASKED, NO_HANDLER]
    lines = threading.Timer(PATIENT, stuck.kill)  # bounds the read below
    lines.start()
    text = ""
    while "<module>" not in text:
        line = stuck.stdout.readline()
        assert line, "no stack came"
        text += line
    lines.cancel()
    assert "waits_for_a_peer" in text
    assert stuck.poll() is None
    assert deaf.poll() is None, "a process without a handler would die of the signal"
    deaf.kill()
    deaf.wait(PATIENT)
    assert dump_stacks(identities[1:], allow=planted.allow)[0].result == GONE
    key = (stuck.pid, identities[0].start_ticks)
    look = reaper(planted, Card([stuck.pid]))
    found = verdict(look, look.look(stuck={key: "no block for 130 s"}), stuck.pid)
    assert (found.kind, found.consent) == (c.STUCK, c.NAMED)
    assert found.evidence[0] == "no block for 130 s"
