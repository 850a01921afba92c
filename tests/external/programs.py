"""Small programs that behave as the reference's scripts do: bars, ranks, faults, hangs, orphans.

Run as ``python programs.py WHAT``; parameters come by environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def good() -> None:
    """Loads, shows a bar that rewrites itself, writes a video."""
    print("loading the pipeline")
    print("model loaded", file=sys.stderr)
    for done in range(1, 5):
        print(f"\r {done * 25}%|##| {done}/4 [00:0{done}<00:00]", end="", file=sys.stderr)
    print(file=sys.stderr)
    Path(os.environ["AVATOP_OUTPUT"]).write_bytes(Path(os.environ["GOOD_VIDEO"]).read_bytes())


def environment() -> None:
    """Tells what it was given, then is good."""
    for name in ("PROMPT", "IMAGE_PATH", "RESOLUTION", "CLIP_COUNT", "SAMPLE_STEPS", "MASTER_PORT"):
        print(f"{name}=<{os.environ.get(name)}>")
    print(f"ARGS={sys.argv[2:]}")
    good()


def oom() -> None:
    print("rank 0: denoising block 3", file=sys.stderr)
    print(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB. GPU 0 has a total "
        "capacity of 22.15 GiB of which 610.00 MiB is free.",
        file=sys.stderr,
    )
    sys.exit(1)


def taken_port() -> None:
    """Fails while its port is the first one it was ever given, then is good."""
    seen = Path(os.environ["OUTPUT_DIR"]) / "first-port"
    if not seen.exists():
        seen.write_text(os.environ["MASTER_PORT"])
        print(
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any "
            f"local network address. port: {os.environ['MASTER_PORT']}, useIpv6: false, code: -98, "
            "name: EADDRINUSE, message: address already in use",
            file=sys.stderr,
        )
        sys.exit(1)
    print(f"first {seen.read_text()}, now {os.environ['MASTER_PORT']}")
    good()


def hang() -> None:
    """Two ranks that ignore SIGTERM, one of them in a session of its own, and no end."""
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
    code += "; time.sleep(600)"
    for apart in (False, True):
        rank = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=apart
        )
        assert rank.stdout is not None
        rank.stdout.readline()
        print(f"rank {rank.pid} is up", flush=True)
    print("all ranks are up", flush=True)
    time.sleep(600)


def orphan() -> None:
    """Ends well and leaves a double-forked process behind."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(os.environ["OUTPUT_DIR"], "orphan").write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    os.wait()
    while not Path(os.environ["OUTPUT_DIR"], "orphan").exists():
        time.sleep(0.01)
    good()


def noisy() -> None:
    """Escape codes, bytes that are no text, a line of ten million characters."""
    sys.stdout.buffer.write(b"\x1b[31mred\x1b[0m \xff\xfe [bold]markup[/bold]\n")
    sys.stdout.buffer.write(b"x" * 10_000_000 + b"\n")
    sys.stdout.flush()
    good()


def no_video() -> None:
    print("all is well, and nothing was made")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
