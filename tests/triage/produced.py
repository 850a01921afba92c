"""Faults made on purpose, so that tests read what the programs really print.

Run as a script it prints, for each fault, a marker line and the traceback. Torch and the gloo
peers live in this child; the tests' own process imports neither.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARKER = "=== fault: "


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_oom(torch: Any) -> None:
    torch.empty(1 << 58, dtype=torch.uint8)


def absurd_numpy(_: Any) -> None:
    import numpy

    numpy.zeros((1 << 20, 1 << 30))


def shape(torch: Any) -> None:
    torch.nn.Linear(8, 4)(torch.zeros(2, 6))


def broadcast(torch: Any) -> None:
    torch.zeros(4, 3) + torch.zeros(4, 5)


def dtype(torch: Any) -> None:
    torch.nn.Linear(8, 4)(torch.zeros(2, 8, dtype=torch.bfloat16))


def meta(torch: Any) -> None:
    torch.nn.Linear(2, 2, device="meta").to("cpu")


def multinomial(torch: Any) -> None:
    torch.multinomial(torch.tensor([float("nan"), 1.0]), 1)


def state_dict(torch: Any) -> None:
    torch.nn.Linear(2, 2).load_state_dict({"weight": torch.zeros(3, 2)})


def cut_archive(torch: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"w": torch.zeros(4096)}, path)
        path.write_bytes(path.read_bytes()[:3000])
        torch.load(path)


def not_a_checkpoint(torch: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        path.write_text("version https://example.org/pointer/v1\noid sha256:00\nsize 4\n")
        torch.load(path)


def missing_checkpoint(torch: Any) -> None:
    torch.load("/nowhere/ckpt/model-00001-of-00002.pth")


def save_to_full(torch: Any) -> None:
    torch.save({"w": torch.zeros(1 << 20)}, "/dev/full")


def port_taken(torch: Any) -> None:
    port = _port()
    first = torch.distributed.TCPStore("127.0.0.1", port, 1, True, wait_for_workers=False)
    try:
        torch.distributed.TCPStore("127.0.0.1", port, 1, True, wait_for_workers=False)
    finally:
        del first


def peer_died(_: Any) -> None:
    """Two gloo peers; one leaves without a word in the middle of a collective."""
    code = (
        "import os, sys, torch, torch.distributed as d, datetime\n"
        "rank = int(sys.argv[1])\n"
        "d.init_process_group('gloo', init_method=sys.argv[2], rank=rank, world_size=2,"
        " timeout=datetime.timedelta(seconds=20))\n"
        "t = torch.zeros(4); d.all_reduce(t)\n"
        "if rank: os._exit(9)\n"
        "d.all_reduce(t); d.all_reduce(t)\n"
    )
    place = f"tcp://127.0.0.1:{_port()}"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), place], stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    told = [rank.communicate(timeout=60)[1] for rank in ranks]
    print(told[0])


def full_disk(_: Any) -> None:
    with Path("/dev/full").open("wb", buffering=0) as stream:
        stream.write(b"x")


def full_quota(_: Any) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/outputs/clip.mp4")


def denied(_: Any) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/outputs/clip.mp4")


def taken_socket(_: Any) -> None:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        one.listen()
        other.bind(one.getsockname())


def no_module(_: Any) -> None:
    import flash_attn_that_is_not_here  # noqa: F401


def no_library(_: Any) -> None:
    import ctypes

    try:
        ctypes.CDLL("libnothere.so.7")
    except OSError as error:
        raise ImportError(str(error)) from error


def bad_header(_: Any) -> None:
    from safetensors import safe_open

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(b"\xff" * 64)
        safe_open(path, "np")


def cut_safetensors(_: Any) -> None:
    import numpy
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({"w": numpy.zeros(1024, numpy.float32)}, path)
        path.write_bytes(path.read_bytes()[:-100])
        safe_open(path, "np")


def bad_image(_: Any) -> None:
    import io

    from PIL import Image

    Image.open(io.BytesIO(b"<html>not found</html>"))


def bad_video(_: Any) -> None:
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        path.write_bytes(b"nothing to see" * 100)
        av.open(str(path))


def bad_argument(_: Any) -> None:
    argparse.ArgumentParser("infer.py").parse_args(["--no_such_flag"])


def killed_child(_: Any) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code], check=True)


def killed_shell(_: Any) -> None:
    done = subprocess.run(
        ["bash", "-c", "sh -c 'kill -KILL $$'; true"], capture_output=True, text=True, check=False
    )
    print(done.stderr)


def interrupted(_: Any) -> None:
    raise KeyboardInterrupt


def defunct(_: Any) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    state = next(
        line
        for line in Path(f"/proc/{child}/status").read_text().splitlines()
        if line.startswith("State:")
    )
    print(state)
    os.waitpid(child, 0)


#: Fault → the class triage must name first.
EXPECTED: dict[str, str] = {
    "cpu_oom": "host_oom_killed",
    "absurd_numpy": "host_oom_killed",
    "shape": "dtype_or_shape_error",
    "broadcast": "dtype_or_shape_error",
    "dtype": "dtype_or_shape_error",
    "meta": "dtype_or_shape_error",
    "multinomial": "device_side_assert",
    "state_dict": "checkpoint_corrupt",
    "cut_archive": "checkpoint_corrupt",
    "not_a_checkpoint": "checkpoint_corrupt",
    "missing_checkpoint": "checkpoint_missing_file",
    "save_to_full": "disk_full",
    "port_taken": "port_in_use",
    "peer_died": "peer_rank_died",
    "full_disk": "disk_full",
    "full_quota": "disk_full",
    "denied": "permission_denied",
    "taken_socket": "port_in_use",
    "no_module": "import_or_dependency",
    "no_library": "import_or_dependency",
    "bad_header": "checkpoint_corrupt",
    "cut_safetensors": "checkpoint_corrupt",
    "bad_image": "ffmpeg_or_decode_failure",
    "bad_video": "ffmpeg_or_decode_failure",
    "bad_argument": "bad_input",
    "killed_child": "host_oom_killed",
    "killed_shell": "host_oom_killed",
    "interrupted": "terminated_by_signal",
    "defunct": "zombie_process",
}


def main() -> None:
    """Make every fault and print what it says."""
    import torch

    torch.set_num_threads(1)
    sys.stderr = sys.stdout
    faults: dict[str, Callable[[Any], None]] = {name: globals()[name] for name in EXPECTED}
    for name, fault in faults.items():
        print(f"{MARKER}{name}", flush=True)
        try:
            fault(torch)
        except (Exception, KeyboardInterrupt, SystemExit):  # noqa: BLE001 - printed, not swallowed
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
