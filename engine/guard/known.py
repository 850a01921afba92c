"""Names the reaper knows, as data: whom to spare, who launches, who adopts, what inference is.

A name alone never condemns a process. Names protect, and they serve as evidence next to facts
that cannot be chosen by a process: its parent, its session, what it holds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Final

from engine.sentence import sentence

#: Never ended by avatop, by the name of the executable or of the main thread.
SPARED: Final[tuple[tuple[str, str], ...]] = (
    ("nvidia-cuda-mps-server", sentence("the MPS server, shared by every client of the GPU")),
    ("nvidia-cuda-mps", sentence("the MPS control daemon")),  # also its name cut to 15 bytes
    ("nvidia-persiste", sentence("NVIDIA's persistence daemon")),
    ("nv-fabricmanage", sentence("NVIDIA's fabric manager")),
    ("nvidia-fabricma", sentence("NVIDIA's fabric manager")),
    ("nv-hostengine", sentence("DCGM's host engine")),
    ("dcgm-exporter", sentence("DCGM's exporter")),
    ("nvidia-imex", sentence("NVIDIA's IMEX daemon")),
    ("nvidia-device-p", sentence("the Kubernetes device plugin")),
    ("xorg", sentence("the X server")),
    ("xwayland", sentence("the X server under Wayland")),
    ("gnome-shell", "a compositor"),
    ("kwin_wayland", "a compositor"),
    ("kwin_x11", "a compositor"),
    ("mutter", "a compositor"),
    ("weston", "a compositor"),
    ("sway", "a compositor"),
    ("hyprland", "a compositor"),
    ("gdm-x-session", sentence("the login screen")),
    ("sddm", sentence("the login screen")),
)

#: What starts ranks. Used only to find that a launcher still lives.
_LAUNCHERS: Final = re.compile(
    r"(^|[/\s.])(torchrun|torch\.distributed\.(run|launch)|accelerate|deepspeed|mpirun|mpiexec"
    r"|orterun|prterun|srun|slurmstepd|horovodrun|raylet|avatop)([\s.]|$)"
)

#: Inference of the reference and its kin. Shown as evidence, never a reason.
_INFERENCE: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"s2v_streaming_interact"), sentence("Live Avatar's streaming inference")),
    (re.compile(r"minimal_inference[/.]"), sentence("Live Avatar's inference scripts")),
    (re.compile(r"infinite_inference\w*\.sh"), sentence("Live Avatar's launch scripts")),
    (re.compile(r"(^|/)generate\.py\b.*\bs2v-"), sentence("Wan's speech-to-video inference")),
)

#: Inits and other processes that adopt orphans; they start no rank themselves.
_REAPERS: Final = frozenset(
    {
        "systemd",
        "init",
        "tini",
        "tini-static",
        "dumb-init",
        "docker-init",
        "catatonit",
        "s6-svscan",
        "runit",
        "containerd-shim",
        "containerd-shim-runc-v2",
        "conmon",
        "pause",
    }
)

#: A job's state in shared memory: kept while the job lives or can go on.
STATE_PREFIX: Final = "avatop-mirror-"
OWN_PREFIX: Final = "avatop-"

#: Shared memory that GPU programs leave behind when they are killed, by the start of the name.
SHM_PREFIXES: Final[tuple[tuple[str, str], ...]] = (
    ("nccl-", sentence("NCCL's shared memory")),
    ("torch_", sentence("a torch tensor in shared memory")),
    ("psm_", sentence("Python's shared memory")),
    (OWN_PREFIX, sentence("avatop's own")),
    ("sem.mp-", sentence("a semaphore of Python's multiprocessing")),
    ("sem.loky-", sentence("a semaphore of loky")),
)

SERVER_MODULE: Final = "engine.ranks.onrank.forkserver"
RANK_TITLE: Final = "avatop-rank"


def spared(*names: str) -> str | None:
    """Why a process of one of these names is left alone; None if it is not."""
    for name in filter(None, map(str.lower, names)):
        for prefix, why in SPARED:
            # Names of threads are cut to 15 bytes; longer entries match by their first 15 too.
            if name == prefix or (len(prefix) >= 13 and name.startswith(prefix[:15])):
                return why
    return None


def is_launcher(command: Sequence[str]) -> bool:
    """Whether a command line looks like what starts ranks (its program or module only)."""
    return bool(_LAUNCHERS.search(" ".join(command[:4])))


def inference(command: Sequence[str]) -> str | None:
    """What inference a command line looks like, None if none that is known."""
    text = " ".join(command)
    return next((what for pattern, what in _INFERENCE if pattern.search(text)), None)


def adopts(*names: str) -> bool:
    """Whether a name is an init's or another adopter's."""
    return any(name in _REAPERS for name in names)


def is_python(*names: str) -> bool:
    """Whether an executable or argv[0] is a Python interpreter."""
    return any(re.match(r"(python|pypy)[\d.]*[a-z]?$", name) for name in names)


def is_server(command: Sequence[str]) -> bool:
    """Whether a command line is a fork server's (or that of a rank too young to have a title)."""
    return any(a == "-m" and b == SERVER_MODULE for a, b in itertools.pairwise(command))


def server_parent(command: Sequence[str]) -> int | None:
    """The engine's PID that a fork server was started with, as its own namespace counts."""
    for flag, value in itertools.pairwise(command):
        if flag == "--parent" and value.isdecimal():
            return int(value)
    return None
