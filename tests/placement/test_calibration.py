"""Does the planner remember what it said, and learn from what was measured?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.expected import DiTShape
from engine.checkpoint.shapes import DIT_TINY
from engine.parameters.request import Request
from engine.placement.calibration import Corrections
from engine.placement.hardware import DeviceOffer
from engine.placement.history import History
from engine.placement.place import ask, place
from engine.placement.plan import Plan
from engine.placement.presets import Choice

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks/results/plan-cpu.json"
MIB = 1 << 20


def plan_of(
    choice: Choice,
    size: tuple[int, int] = (256, 256),
    *,
    history: Corrections | None = None,
    clips: int = 2,
    config: Mapping[str, Any] = DIT_TINY,
    vae_file_bytes: int = 1_040_699,
    **request: int,
) -> Plan:
    asked = ask(
        Request(**request),
        DiTShape.from_config(config),
        [DeviceOffer("cpu")],
        size=size,
        clips=clips,
        vae_file_bytes=vae_file_bytes,
        history=history,
    )
    return place(asked, choice)


SINGLE = Choice("single", 1, "fp32", "fp32")


def measure(
    history: History,
    job: int,
    peak: float,
    size: tuple[int, int] = (256, 256),
    context: int = 300 * MIB,
    choice: Choice = SINGLE,
    clips: int = 2,
    seconds: float = 0.5,
) -> Plan:
    """A run whose every rank peaked at ``peak`` times what the model says."""
    plan = plan_of(choice, size)
    history.predicted(job, plan, size=size, clips=clips)
    ranks = [
        {
            "rank": d.rank,
            "peak_bytes": int(peak * d.predicted_bytes),
            "by_owner": {"context": context},
        }
        for d in plan.devices
    ]
    history.measured(job, ranks, seconds_per_block=seconds)
    return plan


def test_is_a_prediction_kept_before_its_measurement(tmp_path: Path) -> None:
    history = History(tmp_path / "state" / "history.jsonl")
    plan = plan_of(SINGLE)
    history.predicted(7, plan, size=(256, 256), clips=2)
    (run,) = history.runs()
    assert run.ranks[0].predicted == plan.devices[0].predicted_bytes
    assert run.ranks[0].peak is run.ranks[0].error is None
    assert not history.corrections().runs
    history.measured(7, [{"rank": 0, "peak_bytes": 800 * MIB, "by_owner": {}}])
    (run,) = history.runs()
    assert run.ranks[0].peak == 800 * MIB
    assert run.ranks[0].error == pytest.approx(run.ranks[0].predicted / (800 * MIB) - 1)


def test_does_a_plan_move_to_what_was_measured(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for job, side in enumerate((128, 192, 320)):
        measure(history, job, 1.2, (side, side))
    plan = plan_of(SINGLE)
    learnt = plan_of(SINGLE, history=history.corrections())
    assert learnt.devices[0].margin_bytes == plan.devices[0].margin_bytes  # three say too little
    measure(history, 4, 1.2, (384, 384))
    again = plan_of(SINGLE, history=history.corrections())
    device = again.devices[0]
    assert device.predicted_bytes == pytest.approx(1.2 * plan.devices[0].predicted_bytes, rel=0.03)
    assert device.by_owner["context"] == 300 * MIB
    assert device.by_owner["kv"] == plan.devices[0].by_owner["kv"]  # what is counted stays
    assert device.modelled == plan.devices[0].by_owner
    assert device.margin_bytes < plan.devices[0].margin_bytes


def test_does_a_rank_that_was_forked_early_teach_no_later_one_to_hold_less(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    plan = plan_of(SINGLE)
    held = plan.devices[0].by_owner["context"]
    measure(history, 1, 0.8, context=held - 126 * MIB)  # the encoders' libraries were not loaded
    learnt = plan_of(SINGLE, history=history.corrections())
    assert learnt.devices[0].by_owner["context"] == held


def test_is_other_hardware_or_another_type_left_alone(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for job in range(5):
        measure(history, job, 1.3)
    halved = Choice("single", 1, "bf16", "bf16")
    assert plan_of(halved, history=history.corrections()) == plan_of(halved)


def test_is_a_time_told_only_for_the_very_same_work(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    measure(history, 1, 1.0)
    learnt = history.corrections()
    assert plan_of(SINGLE, history=learnt).seconds_per_block == 0.5
    assert plan_of(SINGLE, (320, 320), history=learnt).seconds_per_block is None
    assert plan_of(SINGLE, history=learnt, sample_steps=3).seconds_per_block is None
    two = Choice("fsdp", 2, "fp32", "fp32")
    assert plan_of(two, history=learnt).seconds_per_block is None
    measure(history, 2, 1.0, clips=4, seconds=0.4)  # it got beyond the first two clips
    measure(history, 3, 1.0)
    assert plan_of(SINGLE, history=history.corrections()).seconds_per_block == 0.4


def test_does_a_damaged_file_lose_only_its_damaged_lines(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    measure(history, 1, 1.0)
    with history.path.open("a") as file:
        file.write('[1]\n{"kind":"measured","job":1}\nnonsense\n{"kind":"predicted","job":"x"')
    measure(history, 2, 1.0)
    assert [run.job for run in history.runs()] == [1, 2]


def test_does_the_file_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.placement.history.KEPT", 5)
    history = History(tmp_path / "history.jsonl")
    for job in range(30):
        measure(history, job, 1.0)
    assert len(history.path.read_bytes().splitlines()) <= 20
    assert history.runs()[-1].job == 29


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A run of the sweep: what it was, and what its ranks came to."""

    choice: Choice
    size: tuple[int, int]
    clips: int
    steps: int
    ranks: list[dict[str, int]]  # peak, context
    model: dict[str, Any]  # config.json, and bytes of the VAE's file

    def plan(self, history: Corrections | None = None) -> Plan:
        """As the planner of today has it."""
        return plan_of(
            self.choice,
            self.size,
            history=history,
            clips=self.clips,
            sample_steps=self.steps,
            **self.model,
        )


def recorded() -> list[Recorded]:
    found = []
    body = json.loads(MEASURED.read_text())
    model = {name: body[name] for name in ("config", "vae_file_bytes")}
    for row in body["runs"].values():
        told, measured = row["history"]
        setting, own = told["setting"], "--enable_vae_parallel" in row["flags"]
        kv, kv_dtype = setting["kv"].split()
        choice = Choice(
            mode=setting["mode"],
            variant=setting["variant"],
            dit_ranks=setting["world"] - own,
            own_vae=own,
            dtype=setting["dtype"],
            kv_dtype=kv_dtype,
            kv=kv,
            wrap="reference" if "reference" in row["flags"] else "block",
        )
        width, height = told["size"]
        size, ranks = (width, height), measured["ranks"]
        found.append(Recorded(choice, size, told["clips"], told["steps"], ranks, model))
    return found


def test_were_real_runs_predicted_within_a_tenth_without_any_history() -> None:
    for run in recorded():
        for device, rank in zip(run.plan().devices, run.ranks, strict=True):
            assert device.predicted_bytes == pytest.approx(rank["peak"], rel=0.1), run
            assert rank["peak"] <= device.predicted_bytes + device.margin_bytes, run


def test_are_they_within_a_twentieth_with_that_configuration_left_out(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    runs = recorded()
    for job, run in enumerate(runs):
        history.predicted(job, run.plan(), size=run.size, clips=run.clips)
        ranks = [
            {"rank": n, "peak_bytes": r["peak"], "by_owner": {"context": r["context"]}}
            for n, r in enumerate(run.ranks)
        ]
        history.measured(job, ranks)
    learnt = history.corrections()
    for known, run in zip(learnt.runs, runs, strict=True):
        left_out = learnt.without(known.configuration)
        assert len(left_out.runs) < len(runs)
        for device, rank in zip(run.plan(left_out).devices, run.ranks, strict=True):
            assert device.predicted_bytes == pytest.approx(rank["peak"], rel=0.05), run
            assert rank["peak"] <= device.predicted_bytes + device.margin_bytes, run
