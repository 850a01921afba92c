"""What is found out before a device is touched?"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine import preflight as module
from engine.params import Request
from engine.preflight import Machine, PreflightError, prepare
from tests.bad_inputs import make_files
from tests.tiny import tiny_ckpt

MACHINE = Machine(host_total=16 << 30, host_available=12 << 30)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_files(folder)
    return folder


@pytest.fixture(scope="module")
def request_of(inputs: Path) -> Callable[..., Request]:
    def make(**changes: Any) -> Request:
        values = {
            "image": str(inputs / "good.png"),
            "audio": str(inputs / "good.wav"),
            "ckpt_dir": str(tiny_ckpt()),
            "size": "128*128",
            "num_clip": 5,
            "gpus": "cpu",
        }
        return Request.from_dict({**values, **changes})

    return make


def test_a_good_request_becomes_plan_forecast_and_remarks(
    request_of: Callable[..., Request],
) -> None:
    prepared = prepare(request_of(mode="fsdp", num_gpus_dit=4), MACHINE)
    assert prepared.plan.world_size == 4
    assert prepared.plan.fits
    assert (prepared.forecast.clips, prepared.forecast.frames) == (2, 93)
    assert prepared.blocks == 8
    assert prepared.leases == {"cpu"}
    assert any("audio ends first" in remark for remark in prepared.remarks)


def test_a_plan_that_does_not_fit_is_refused_with_its_arithmetic(
    request_of: Callable[..., Request],
) -> None:
    small = Machine(host_total=1 << 30, host_available=100 << 20)
    with pytest.raises(PreflightError, match=r"needs 0\.\d+ GiB, the host has 0\.10 GiB free") as e:
        prepare(request_of(), small)
    assert e.value.kind == "refused"


def test_a_full_disk_is_refused_before_any_work(
    request_of: Callable[..., Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(100, 99, 1 << 20))
    with pytest.raises(PreflightError, match="1 MiB are free") as e:
        prepare(request_of(), MACHINE, [tmp_path / "not" / "yet"])
    assert e.value.kind == "refused"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_has_become_a_file_is_refused_before_any_work(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(PreflightError, match="is no folder") as refused:
        prepare(request_of(), MACHINE, [tmp_path / "out" / "videos"])
    assert refused.value.kind == "refused"


def test_a_damaged_checkpoint_is_found_with_the_file(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    broken = tmp_path / "ckpt"
    shutil.copytree(tiny_ckpt(), broken)
    shard = sorted(broken.glob("*.safetensors"))[0]
    with shard.open("r+b") as stream:
        stream.truncate(shard.stat().st_size - 1000)
    with pytest.raises(PreflightError, match=shard.name) as e:
        prepare(request_of(ckpt_dir=str(broken)), MACHINE)
    assert e.value.kind == "bad_input"


def test_what_is_missing_is_named_with_its_remedy(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    without = tmp_path / "ckpt"
    shutil.copytree(tiny_ckpt(), without)
    (without / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(PreflightError, match=r"Wan2\.1_VAE\.pth.*--vae_path"):
        prepare(request_of(ckpt_dir=str(without)), MACHINE)
    vae = str(tiny_ckpt() / "Wan2.1_VAE.pth")
    assert prepare(request_of(ckpt_dir=str(without), vae_path=vae), MACHINE).plan.fits


def test_a_folder_s_own_lora_is_left_alone_unless_it_is_asked_for(
    request_of: Callable[..., Request],
) -> None:
    assert "lora" not in prepare(request_of(), MACHINE).layout.paths()
    lora = str(tiny_ckpt() / "liveavatar.safetensors")
    asked = prepare(request_of(load_lora=True, lora_path_dmd=lora), MACHINE)
    assert asked.layout.paths()["lora"] == lora


def test_a_device_that_is_not_there_is_bad_input(request_of: Callable[..., Request]) -> None:
    with pytest.raises(PreflightError, match="--gpus 3") as e:
        prepare(request_of(gpus="3"), MACHINE)
    assert e.value.kind == "bad_input"


def test_a_request_without_inputs_is_told(request_of: Callable[..., Request]) -> None:
    with pytest.raises(PreflightError, match="--audio"):
        prepare(dataclasses.replace(request_of(), audio=None), MACHINE)


def test_a_demonstration_model_says_what_it_is_and_what_it_was_made_for(
    request_of: Callable[..., Request], tmp_path: Path
) -> None:
    assert not any("sample model" in r for r in prepare(request_of(), MACHINE).remarks)
    told = Path(shutil.copytree(tiny_ckpt(), tmp_path / "ckpt"))
    config = json.loads((told / "config.json").read_text())
    config["avatop_demonstration"] = {"size": "128*128", "steps": 4}
    (told / "config.json").write_text(json.dumps(config))
    (one,) = [r for r in prepare(request_of(ckpt_dir=str(told)), MACHINE).remarks if "sample" in r]
    assert "demonstration" in one
    assert "Wan2.2-S2V-14B" in one
    other = request_of(ckpt_dir=str(told), size="192*192", sample_steps=3)
    said = " ".join(prepare(other, MACHINE).remarks)
    assert "at 192*192 its faces may smear" in said
    assert "for 4 steps, not 3" in said
