"""What is tried again, with which change, and what never?"""

from __future__ import annotations

import pytest

from engine.ranks.outcome import GroupResult, RankExit
from engine.ranks.protocol import Report
from engine.report_events import Failure
from engine.retry.fault import Fault, fault_of
from engine.retry.policy import P2P, Decision, decide


def _decide(fault: Fault, **changed: object) -> Decision:
    known: dict[str, object] = {
        "attempt": 1,
        "retries": 2,
        "environment": {},
        "nccl": True,
        "resumable": True,
    }
    return decide(fault, **{**known, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "action", "word"),
    [
        (Fault("x", kind="oom"), "replan", "out of memory"),
        (Fault("x", kind="other", classes=("cuda_oom",)), "replan", "out of memory"),
        (Fault("x", kind="bad_input"), "none", "changes nothing"),
        (Fault("x", kind="bad_checkpoint"), "none", "damaged"),
        (Fault("x", kind="other", classes=("checkpoint_corrupt",)), "none", "damaged"),
        (Fault("x", kind="other", classes=("disk_full",)), "none", "disk"),
        (Fault("x", kind="comm", classes=("port_in_use",)), "again", "another one"),
        (Fault("x", kind="comm"), "again", f"{P2P}=1"),
        (Fault("x", kind="other", classes=("nccl_p2p_or_shm",)), "again", f"{P2P}=1"),
        (Fault("x", signal=9, rank=1), "again", "SIGKILL"),
        (Fault("x", signal=9, rank=1, classes=("cuda_oom",)), "replan", "out of memory"),
        (Fault("x", limit="block"), "again", "stood still"),
        (Fault("x", limit="silence"), "again", "stood still"),
        (Fault("x", limit="wall"), "none", "longer"),
        (Fault("x"), "again", "rank server"),
        (Fault("x", kind="other", rank=0), "none", "passes"),
        (Fault("x", kind="other", rank=0, classes=("xid_or_fallen_off_bus",)), "none", "device"),
    ],
)
def test_each_fault_has_its_answer(fault: Fault, action: str, word: str) -> None:
    found = _decide(fault)
    assert found.action == action
    assert word in found.why


def test_communication_gets_its_variable_once_and_only_where_it_means_something() -> None:
    fault = Fault("x", kind="comm", rank=0)
    assert _decide(fault).environment == {P2P: "1"}
    again = _decide(fault, environment={P2P: "1"}, attempt=2)
    assert (again.action, "as well" in again.why) == ("none", True)
    assert _decide(fault, nccl=False) == Decision(
        "again", "communication failed; its ranks are started afresh"
    )


def test_attempts_are_bounded_and_can_be_switched_off() -> None:
    killed = Fault("x", signal=9, rank=1)
    assert _decide(killed, attempt=2).action == "again"
    used = _decide(killed, attempt=3)
    assert (used.action, used.why) == (
        "none",
        "it was tried again 2 times already (--retries 2)",
    )
    assert "off" in _decide(killed, retries=0).why
    # Its committed clips must not be made again, nor be lost.
    assert "committed" in _decide(killed, resumable=False).why


def test_a_fault_is_read_from_how_the_group_ended_and_what_its_root_said() -> None:
    exits = (
        RankExit(0, 10, None, 15, 2.0, False, False),
        RankExit(1, 11, 1, None, 1.0, False, True),
    )
    report = Report("failed", 1, 1.0, {"kind": "other", "message": "RuntimeError: no"})
    group = GroupResult("rank 1 failed", False, False, 1, report, exits, ())
    words = ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB"]
    fault = fault_of(group, None, [Failure(1, "other", "RuntimeError: no", "")], words)
    assert (fault.kind, fault.signal, fault.rank) == ("other", None, 1)
    assert fault.classes[0] == "cuda_oom"
    # What other ranks say of it is an echo, and not read.
    echo = [Failure(0, "comm", "DistNetworkError: EADDRINUSE", "")]
    assert fault_of(group, None, echo, []).classes == ()
