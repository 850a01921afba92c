"""Which faults may pass, and what has to change before the next attempt. Pure.

A retry never hides a cause: each is told with what it changes, and the number of attempts is
bounded by the request. Input and checkpoints do not get better by themselves.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from engine.retry.fault import Fault

Action = Literal["again", "replan", "none"]

P2P: Final = "NCCL_P2P_DISABLE"

_MEMORY: Final = frozenset({"cuda_oom", "fsdp_memory_growth"})
_COMMUNICATION: Final = frozenset({"nccl_init_failure", "nccl_p2p_or_shm", "nccl_timeout_watchdog"})
#: Another attempt would read the same bytes, or run into the same wall.
_LASTING: Final[dict[str, str]] = {
    "checkpoint_missing_file": "a file of the checkpoint is missing",
    "checkpoint_corrupt": "the checkpoint is damaged",
    "lora_mismatch": "the LoRA does not fit the model",
    "bad_input": "the request or its files are at fault",
    "ffmpeg_or_decode_failure": "an input cannot be decoded",
    "disk_full": "the disk is full",
    "permission_denied": "a file may not be read or written",
    "import_or_dependency": "a library is missing or does not fit",
    "driver_mismatch": "the driver does not fit",
    "dtype_or_shape_error": "tensors do not fit together",
    "device_side_assert": "a kernel's assertion failed",
    "fp8_unsupported": "the device cannot compute in fp8",
    "compile_failure": "a kernel could not be compiled",
    "xid_or_fallen_off_bus": "the device itself is at fault and wants a look",
}
_LASTING_KINDS: Final = {
    "bad_input": _LASTING["bad_input"],
    "bad_checkpoint": _LASTING["checkpoint_corrupt"],
    "disk": _LASTING["disk_full"],
}


@dataclass(frozen=True)
class Decision:
    """What to do after a fault. ``why`` is a clause for the log, without its full stop."""

    action: Action
    why: str
    environment: Mapping[str, str] = field(default_factory=dict)


def decide(
    fault: Fault,
    *,
    attempt: int,
    retries: int,
    environment: Mapping[str, str],
    nccl: bool,
    resumable: bool,
) -> Decision:
    """What follows from a fault.

    Args:
        attempt: the number of the attempt that failed, from 1.
        retries: how often a job may be started again.
        environment: what its ranks were given besides the engine's own.
        nccl: ranks talked by NCCL.
        resumable: nothing is committed yet, or the job can go on behind what is.
    """
    found = _cause(fault, environment, nccl)
    if found.action == "none":
        return found
    if retries == 0:
        return Decision("none", "retries are off (--retries 0)")
    if attempt > retries:
        times = "once" if retries == 1 else f"{retries} times"
        return Decision("none", f"it was tried again {times} already (--retries {retries})")
    if not resumable:
        return Decision("none", "its committed clips cannot be gone on from by itself")
    return found


def _cause(fault: Fault, environment: Mapping[str, str], nccl: bool) -> Decision:
    if fault.limit == "wall":
        return Decision("none", "it took longer than it may in all")
    if fault.limit is not None:
        return Decision("again", "it stood still; its ranks are started afresh")
    if fault.kind in _LASTING_KINDS:
        return Decision("none", f"{_LASTING_KINDS[fault.kind]}; another attempt changes nothing")
    if fault.kind == "oom" or _first(fault, _MEMORY):
        return Decision("replan", "out of memory")
    lasting = next((c for c in fault.classes if c in _LASTING), None)
    if lasting is not None:
        return Decision("none", f"{_LASTING[lasting]}; another attempt changes nothing")
    if "port_in_use" in fault.classes:
        return Decision("again", "its port was taken; it gets another one")
    if fault.kind == "comm" or _first(fault, _COMMUNICATION):
        return _communication(environment, nccl)
    if "illegal_memory_access" in fault.classes:
        return Decision("again", "its CUDA context is lost; its ranks are started afresh")
    if fault.signal is not None:
        name = _signal_name(fault.signal)
        return Decision("again", f"a rank was ended by {name}; the others are well")
    if fault.kind is None and fault.rank is None:
        return Decision("again", "its rank server ended; another one is started")
    return Decision("none", "the fault is not one that passes by itself")


def _communication(environment: Mapping[str, str], nccl: bool) -> Decision:
    if not nccl:
        return Decision("again", "communication failed; its ranks are started afresh")
    if environment.get(P2P) == "1":
        return Decision("none", f"communication failed with {P2P}=1 as well")
    why = f"communication failed; once more with {P2P}=1 (no direct access between devices)"
    return Decision("again", why, {P2P: "1"})


def _first(fault: Fault, classes: frozenset[str]) -> bool:
    return bool(fault.classes) and fault.classes[0] in classes


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
