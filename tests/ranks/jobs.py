"""What test ranks do instead of a real job; named to the fork server as ``module:function``."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from engine.ranks.onrank.report import Control, Reporter
from engine.ranks.protocol import RankSpec


def wait_forever() -> None:
    threading.Event().wait()


def idle(spec: RankSpec, report: Reporter, control: Control) -> None:
    report.phase("running")
    wait_forever()


def finish(spec: RankSpec, report: Reporter, control: Control) -> None:
    report.phase("running", role=f"rank {spec.rank}")
    report.send("result", env={k: os.environ.get(k) for k in ("RANK", "WORLD_SIZE", "AVATOP_X")})


def obey(spec: RankSpec, report: Reporter, control: Control) -> None:
    report.phase("running")
    control.stop_after_clip.wait()
    report.send("result", threshold=control.spike_threshold)


def stubborn(spec: RankSpec, report: Reporter, control: Control) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report.phase("running")
    while True:
        time.sleep(60)


def with_children(spec: RankSpec, report: Reporter, control: Control) -> None:
    """Rank 0 has one child in the group and one that left it for a session of its own."""
    pids = []
    if spec.rank == 0:
        command = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
        pids.append(subprocess.Popen(command).pid)
        pids.append(subprocess.Popen(command, start_new_session=True).pid)
    report.send("log", level="INFO", text="children", where=None, pids=pids)
    report.phase("running")
    wait_forever()


def noisy(spec: RankSpec, report: Reporter, control: Control) -> None:
    """Everything that a C library might do to descriptors 1 and 2."""
    os.write(1, b"plain\nbar 1%\rbar 2%\r\n")
    os.write(2, b"bad \xff\xfe bytes\n")
    ctypes.CDLL(None).printf(b"from C\n")
    print("from Python \N{SNOWMAN}")
    piece = b"x" * (1 << 16)
    for _ in range(160):
        os.write(1, piece)
    os.write(1, b"\n")
    os.write(2, b"no newline at the end")


def fail_input(spec: RankSpec, report: Reporter, control: Control) -> None:
    class BadPortrait(ValueError):
        kind = "bad_input"

    report.phase("running")
    if spec.rank == spec.world_size - 1:
        raise BadPortrait("the portrait is empty")
    wait_forever()


def fail_memory(spec: RankSpec, report: Reporter, control: Control) -> None:
    import torch

    if spec.rank == 0:
        torch.empty(1 << 60, dtype=torch.uint8)
    wait_forever()


def lose_a_slow_peer(spec: RankSpec, report: Reporter, control: Control) -> None:
    """As on GPUs: a killed rank's sockets close at once, it is gone when its memory is."""

    class Lost(ConnectionError):
        kind = "comm"

    report.phase("running")
    if spec.rank == 0:
        raise Lost("connection closed by peer")
    time.sleep(0.6)
    os.kill(os.getpid(), signal.SIGKILL)


def quit_early(spec: RankSpec, report: Reporter, control: Control) -> None:
    if spec.rank == 1:
        os._exit(0)
    wait_forever()


def all_reduce(spec: RankSpec, report: Reporter, control: Control) -> None:
    import torch
    import torch.distributed as dist

    from engine.ranks.onrank.rendezvous import init_group, leave_group

    init_group(spec, timeout=30)
    value = torch.tensor([float(spec.rank + 1)])
    dist.all_reduce(value)
    report.send("result", total=value.item(), threads=torch.get_num_threads())
    leave_group()


def collective_forever(spec: RankSpec, report: Reporter, control: Control) -> None:
    """Ranks that would hang, or fail with an echo, when one of them dies."""
    import torch
    import torch.distributed as dist

    from engine.ranks.onrank.rendezvous import init_group

    init_group(spec, timeout=60)
    report.phase("running")
    value = torch.ones(4)
    while True:
        dist.all_reduce(value)
        value.fill_(1.0)
