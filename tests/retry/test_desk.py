"""After out of memory: does a job go on under the next plan, and say what that changes?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.bus import Bus
from engine.messages import DeviceReading, JobRow, LogLine
from engine.params import Request
from engine.placement.alternatives import title
from engine.placement.nearest import nearest_plans
from engine.placement.place import place
from engine.placement.presets import Choice
from engine.preflight import Machine, Prepared, prepare
from engine.resources import sample_data
from engine.retry.desk import Desk
from engine.retry.fault import Fault
from engine.retry.replan import next_plan
from tests.bad_inputs import make_files
from tests.placement.questions import question

GIB = 1 << 30
OOM = Fault("rank 0 failed (oom)", kind="oom", rank=0)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_files(folder)
    return folder


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """Four GPUs with so many bytes free each, on a torch that could use them."""
    monkeypatch.setattr("engine.offers.torch_is_cpu_only", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(free: int = 4 * GIB) -> Machine:
        devices = tuple(
            DeviceReading(n, "H200", f"GPU-{n}", "nvml", memory_total=free, memory_used=0)
            for n in range(4)
        )
        able = {f"GPU-{n}": (9, 0) for n in range(4)}
        return Machine(devices, 64 * GIB, 48 * GIB, capabilities=able)

    return make


def _prepared(inputs: Path, machine: Machine, **changes: Any) -> Prepared:
    values = {
        "image": str(inputs / "good.png"),
        "audio": str(inputs / "good.wav"),
        "ckpt_dir": str(sample_data() / "ckpt"),
        "size": "128*128",
        "num_clip": 2,
        "mode": "single",
        **changes,
    }
    return prepare(Request.from_dict(values), machine)


def _row(prepared: Prepared, **fields: Any) -> JobRow:
    values = {"mode": "single", "size": "128*128", "clip": 0, "clips": 2, **fields}
    return JobRow(id=1, state="running", request=prepared.request.to_dict(), **values)


async def _decide(
    prepared: Prepared, machine: Machine, row: JobRow | None = None, fault: Fault = OOM
) -> tuple[Any, list[str]]:
    bus, lines = Bus(), list[str]()
    bus.subscribe(lambda e: lines.append(e.text) if isinstance(e, LogLine) else None)

    async def now() -> Machine:
        return machine

    again = await Desk(bus, now).decide(row or _row(prepared), prepared, fault)
    return again, lines


@pytest.fixture
def large(
    inputs: Path, gpus: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> tuple[Prepared, Machine]:
    """A job at the 14B's size on one of four GPUs, which has just run out of memory."""
    asked = question(4, 80)
    monkeypatch.setattr("engine.retry.replan.question_of", lambda prepared, machine: asked)
    machine = gpus()
    plan = place(asked, Choice("single", 1, "bf16", "bf16"))
    return dataclasses.replace(_prepared(inputs, machine), plan=plan), machine


async def test_the_next_plan_leaves_the_output_and_takes_less(
    large: tuple[Prepared, Machine],
) -> None:
    prepared, machine = large
    again, lines = await _decide(prepared, machine)
    assert again is not None
    assert again.changes["kv_home"] == "host"  # the same mode on the same device
    assert again.request.kv_home == "host"
    same = ("size", "sample_steps", "fp8", "dtype", "kv_dtype", "base_seed", "prompt")
    assert all(getattr(again.request, n) == getattr(prepared.request, n) for n in same)
    assert again.attempt == 2
    assert "the output stays as it is" in again.change
    assert lines == [f"attempt 2 of 3: out of memory. {again.change}"]


def test_each_plan_is_tried_once(large: tuple[Prepared, Machine]) -> None:
    prepared, machine = large
    titles = {title(prepared.plan)}
    while (found := next_plan(prepared, machine, tried=frozenset(titles))) is not None:
        assert found.title not in titles
        assert found.alters_output == ()
        titles.add(found.title)
    assert len(titles) > 2


async def test_the_output_changes_only_where_it_may_and_never_inside_a_video(
    large: tuple[Prepared, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, machine = large

    def only_smaller(question: Any, failed: Any, measured: Any) -> Any:
        (first, *_) = nearest_plans(question, failed, measured)
        return (dataclasses.replace(first, alters_output=("size",), size=(64, 64)),)

    monkeypatch.setattr("engine.retry.replan.nearest_plans", only_smaller)
    again, lines = await _decide(prepared, machine)
    assert again is None
    assert "--allow_degrade" in lines[-1]
    may = dataclasses.replace(prepared, request=prepared.request.replace(allow_degrade=True))
    again, _ = await _decide(may, machine)
    assert again is not None
    assert again.request.size == "64*64"
    assert "changes the output: size" in again.change
    inside = _row(may, clip=1, resumable="replay")
    again, lines = await _decide(may, machine, inside)
    assert again is None
    assert "1 clips are committed" in lines[-1]


async def test_what_cannot_pass_is_told_once_and_left(
    inputs: Path, gpus: Callable[..., Machine]
) -> None:
    machine = gpus()
    prepared = _prepared(inputs, machine)
    again, lines = await _decide(prepared, machine, fault=Fault("x", kind="bad_checkpoint"))
    assert again is None
    assert lines == ["not tried again: the checkpoint is damaged; another attempt changes nothing"]


async def test_communication_between_gpus_gets_its_variable_shown(
    inputs: Path, gpus: Callable[..., Machine]
) -> None:
    machine = gpus()
    prepared = _prepared(inputs, machine, mode="fsdp", num_gpus_dit=2)
    fault = Fault("x", kind="comm", rank=1)
    again, lines = await _decide(prepared, machine, fault=fault)
    assert again is not None
    assert again.environment == {"NCCL_P2P_DISABLE": "1"}
    assert "NCCL_P2P_DISABLE=1" in lines[-1]
    row = _row(prepared, attempt=2, environment=again.environment)
    assert (await _decide(prepared, machine, row, fault))[0] is None


async def test_tries_are_counted_until_the_job_has_ended_for_good(
    inputs: Path, gpus: Callable[..., Machine]
) -> None:
    machine = gpus()

    async def now() -> Machine:
        return machine

    prepared, desk = _prepared(inputs, machine, retries=1), Desk(Bus(), now)
    killed = Fault("x", signal=9, rank=0)
    resumed = _row(prepared, attempt=5)  # a person started it again and again
    assert await desk.decide(resumed, prepared, killed) is not None
    assert await desk.decide(resumed, prepared, killed) is None
    desk.forget(resumed.id)
    assert await desk.decide(resumed, prepared, killed) is not None
