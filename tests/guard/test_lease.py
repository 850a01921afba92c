"""Can two engines ever use one device, or one port?"""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.guard.hostdir import LockDirError, lock_dir
from engine.guard.lease import LeaseHeld, take, take_all
from engine.guard.ports import reserve

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from engine.guard.lease import take
from engine.guard.ports import reserve
lease = take("GPU-1")
ports = [reserve() for _ in range(20)]
print(*(p.number for p in ports), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AVATOP_LEASE_DIR", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def other():
    """Another process with a lease on GPU-1 and twenty ports, which it has printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process, [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.wait(10)


def test_a_device_another_process_holds_is_refused_with_its_holder(other):
    process, _ = other
    with pytest.raises(LeaseHeld) as caught:
        take("GPU-1")
    assert caught.value.device == "GPU-1"
    assert caught.value.holder.pid == process.pid
    assert str(process.pid) in str(caught.value)
    assert "--gpus" in str(caught.value)


def test_a_killed_holder_holds_nothing(other):
    process, _ = other
    process.kill()
    process.wait(10)
    with take("GPU-1") as lease:
        assert lease.held


def test_several_devices_are_leased_together_or_not_at_all(other):
    with pytest.raises(LeaseHeld):
        take_all(["GPU-0", "GPU-1", "GPU-2"])
    leases = take_all(["GPU-2", "GPU-0"])
    assert [lease.device for lease in leases] == ["GPU-0", "GPU-2"]
    with pytest.raises(LeaseHeld):  # a second engine in this very process, too
        take("GPU-0")
    for lease in leases:
        lease.release()
        lease.release()
    take("GPU-0").release()


def test_a_device_s_name_cannot_leave_the_folder(folder):
    with take("../../etc/GPU"):
        assert [p.name for p in folder.iterdir()] == ["gpu-.._.._etc_GPU.lock"]


def test_a_holder_s_nonsense_is_unknown_and_not_believed(folder, other):
    (folder / "gpu-GPU-1.lock").write_text('{"pid": "rm -rf", "command": 7}')
    with pytest.raises(LeaseHeld) as caught:
        take("GPU-1")
    assert caught.value.holder.pid is None
    assert "another process" in str(caught.value)


def test_the_folder_is_for_all_users_and_sticky(folder):
    path = lock_dir()
    assert path == folder
    assert stat.S_IMODE(path.stat().st_mode) == 0o1777
    take("GPU-9").release()
    assert stat.S_IMODE((path / "gpu-GPU-9.lock").stat().st_mode) == 0o666


def test_a_folder_that_others_could_tamper_with_is_refused(folder, tmp_path):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(LockDirError, match="sticky"):
        take("GPU-0")
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(LockDirError, match="not a folder"):
        take("GPU-0")


def test_a_planted_link_is_not_followed(folder, tmp_path):
    lock_dir()
    target = tmp_path / "precious"
    target.write_text("keep")
    (folder / "gpu-GPU-0.lock").symlink_to(target)
    with pytest.raises(LockDirError, match="lock file"):
        take("GPU-0")
    assert target.read_text() == "keep"


def test_ports_are_unique_within_and_between_processes(other):
    _, theirs = other
    ours = [reserve() for _ in range(20)]
    numbers = [port.number for port in ours]
    assert len(theirs) == 20
    assert len(set(numbers) | set(theirs)) == 40
    for port in ours:
        port.release()
        port.release()


def test_a_reserved_port_can_be_listened_on_by_its_group_and_bound_by_nobody_else():
    with reserve() as port:
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port.number))
        with socket.socket() as store:
            store.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            store.bind(("127.0.0.1", port.number))
            store.listen()
            with socket.create_connection(("127.0.0.1", port.number), timeout=5):
                pass


def test_nothing_is_inherited_by_children():
    with take("GPU-0"), reserve():
        code = "import os; print(len(os.listdir('/proc/self/fd')))"
        out = subprocess.run(
            [sys.executable, "-S", "-c", code], capture_output=True, text=True, close_fds=False
        )
        with_locks = int(out.stdout)
    out = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, close_fds=False
    )
    assert int(out.stdout) == with_locks
