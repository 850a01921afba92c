"""Do messages behave as the plain data that they are: compared, hashed, printed, sent and read?"""

from __future__ import annotations

import dataclasses
from dataclasses import make_dataclass, replace

import pytest

from engine.messages import (
    DeviceReading,
    DevicesSampled,
    JobRow,
    Message,
    Spike,
    StepDone,
    from_json,
)

STEP = StepDone(job=3, rank=1, step=2, block=7, seconds=0.25, t=100.0)
READING = DeviceReading(0, "H200", "GPU-0", "nvml", memory_used=5)


def test_equal_by_type_and_fields_alone() -> None:
    assert replace(STEP) == STEP
    assert replace(STEP, block=8) != STEP
    assert replace(READING, memory_used=6) != READING
    assert {STEP, replace(STEP), replace(STEP, t=101.0)} == {STEP, replace(STEP, t=101.0)}
    same = make_dataclass("Other", [f.name for f in dataclasses.fields(STEP)])
    assert same(**dataclasses.asdict(STEP)) != STEP
    assert DevicesSampled(devices=(READING,), t=1.0) == DevicesSampled(
        devices=(replace(READING),), t=1.0
    )


def test_what_holds_a_mapping_has_no_hash_as_with_any_dataclass() -> None:
    assert hash(READING) == hash(replace(READING))
    with pytest.raises(TypeError):
        hash(JobRow(1, "running", "tpp", "384*256", 0, 4, request={"mode": "tpp"}))


def test_printed_so_that_python_reads_it() -> None:
    assert repr(STEP).startswith("StepDone(t=100.0, job=3, ")
    assert eval(repr(STEP), {"StepDone": StepDone}) == STEP


def test_all_of_them_are_frozen() -> None:
    for kind in Message.kinds.values():
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        STEP.block = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    "message",
    [
        STEP,
        DevicesSampled(devices=(READING,), t=1.0),
        Spike(job=1, rank=0, device="GPU 0", owner="gathered", bytes=1, level=2, peak=3,
              threshold=2, seconds=0.1),
    ],
)  # fmt: skip
def test_the_line_read_is_the_message_sent(message: Message) -> None:
    assert from_json(message.to_json()) == message
