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
from engine.sentence import sentence

Action = Literal["again", "replan", "none"]

P2P: Final = "NCCL_P2P_DISABLE"

_MEMORY: Final = frozenset({"cuda_oom", "fsdp_memory_growth"})
_COMMUNICATION: Final = frozenset({"nccl_init_failure", "nccl_p2p_or_shm", "nccl_timeout_watchdog"})
#: Another attempt would read the same bytes, or run into the same wall.
_LASTING: Final[dict[str, str]] = {
    "checkpoint_missing_file": sentence("a file of the checkpoint is missing"),
    "checkpoint_corrupt": sentence("the checkpoint is damaged"),
    "lora_mismatch": sentence("the LoRA does not fit the model"),
    "bad_input": sentence("the request or its files are at fault"),
    "ffmpeg_or_decode_failure": sentence("an input cannot be decoded"),
    "disk_full": sentence("the disk is full"),
    "permission_denied": sentence("a file may not be read or written"),
    "import_or_dependency": sentence("a library is missing or does not fit"),
    "driver_mismatch": sentence("the driver does not fit"),
    "dtype_or_shape_error": sentence("tensors do not fit together"),
    "device_side_assert": sentence("a kernel's assertion failed"),
    "fp8_unsupported": sentence("the device cannot compute in fp8"),
    "compile_failure": sentence("a kernel could not be compiled"),
    "xid_or_fallen_off_bus": sentence("the device itself is at fault and wants a look"),
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
        return Decision("none", sentence("retries are off (--retries 0)"))
    if attempt > retries:
        if retries == 1:
            told = sentence("it was tried again once already (--retries 1)")
        else:
            told = sentence(
                "it was tried again {retries} times already (--retries {retries})", retries=retries
            )
        return Decision("none", told)
    if not resumable:
        return Decision("none", sentence("its committed clips cannot be gone on from by itself"))
    return found


def _cause(fault: Fault, environment: Mapping[str, str], nccl: bool) -> Decision:
    if fault.limit == "wall":
        return Decision("none", sentence("it took longer than it may in all"))
    if fault.limit is not None:
        return Decision("again", sentence("it stood still; its ranks are started afresh"))
    if fault.kind in _LASTING_KINDS:
        return Decision(
            "none",
            sentence("{fault}; another attempt changes nothing", fault=_LASTING_KINDS[fault.kind]),
        )
    if fault.kind == "oom" or _first(fault, _MEMORY):
        return Decision("replan", sentence("out of memory"))
    lasting = next((c for c in fault.classes if c in _LASTING), None)
    if lasting is not None:
        return Decision(
            "none", sentence("{fault}; another attempt changes nothing", fault=_LASTING[lasting])
        )
    if "port_in_use" in fault.classes:
        return Decision("again", sentence("its port was taken; it gets another one"))
    if fault.kind == "comm" or _first(fault, _COMMUNICATION):
        return _communication(environment, nccl)
    if "illegal_memory_access" in fault.classes:
        return Decision("again", sentence("its CUDA context is lost; its ranks are started afresh"))
    if fault.signal is not None:
        name = _signal_name(fault.signal)
        return Decision(
            "again", sentence("a rank was ended by {name}; the others are well", name=name)
        )
    if fault.kind is None and fault.rank is None:
        return Decision("again", sentence("its rank server ended; another one is started"))
    return Decision("none", sentence("the fault is not one that passes by itself"))


def _communication(environment: Mapping[str, str], nccl: bool) -> Decision:
    if not nccl:
        return Decision("again", sentence("communication failed; its ranks are started afresh"))
    if environment.get(P2P) == "1":
        return Decision("none", sentence("communication failed with {p2p}=1 as well", p2p=P2P))
    why = sentence(
        "communication failed; once more with {p2p}=1 (no direct access between devices)", p2p=P2P
    )
    return Decision("again", why, {P2P: "1"})


def _first(fault: Fault, classes: frozenset[str]) -> bool:
    return bool(fault.classes) and fault.classes[0] in classes


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
