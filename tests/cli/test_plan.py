"""Can an operator who has read nothing learn from ``avatop plan`` what to do?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from console import cli

FOUR_CARDS = ("--shape", "14b", "--devices", "4", "--gpu-memory", "22.15GiB")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AVATOP_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("MODEL_CKPT_DIR", "CKPT_DIR", "IMAGE_PATH", "AUDIO_PATH", "PROMPT"):
        monkeypatch.delenv(name, raising=False)


def plan(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["plan", *args])
    return int(end.value.code or 0)


def plan_json(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    code = plan(*args, "--json")
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, body


def test_is_the_object_what_the_contract_says(capsys: pytest.CaptureFixture[str]) -> None:
    code, body = plan_json(capsys, *FOUR_CARDS, "--mode", "fsdp")
    assert code == 3
    assert body["mode"] == "fsdp"
    assert body["fits"] is False
    assert body["reasons"]
    assert len(body["devices"]) == 4
    for device in body["devices"]:
        assert device["usable_bytes"] == pytest.approx(22.15 * 2**30, abs=1)
        assert device["predicted_bytes"] == sum(device["by_owner"].values())
        assert {"device", "capacity_bytes"} <= set(device)
    assert {"root_unit_bytes", "max_unit_bytes", "transient_bytes"} <= set(body["unshard"])
    assert body["unshard"]["max_unit_bytes"] <= 0.66 * 2**30
    assert body["seconds_per_block"] is None
    wanted = {"pinned_bytes", "snapshot_bytes", "disk_bytes", "available_bytes"}
    assert wanted <= set(body["host"])
    for one in body["alternatives"]:
        assert one["fits"]
        assert isinstance(one["alters_output"], list)
        assert {"mode", "devices", "host", "unshard", "flags"} <= set(one)
    assert body["alternatives"][0]["alters_output"] == []


def test_does_what_fits_exit_0_without_alternatives(capsys: pytest.CaptureFixture[str]) -> None:
    code, body = plan_json(
        capsys, "--shape", "14b", "--devices", "1", "--gpu-memory", "139GiB", "--mode", "single"
    )
    assert (code, body["fits"], body["alternatives"]) == (0, True, [])
    assert body["unshard"] == {"root_unit_bytes": 0, "max_unit_bytes": 0, "transient_bytes": 0}


def test_is_the_sum_of_the_articles_shown_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--fsdp-wrap", "reference", "--measured-steady", "21.48GiB")
    code, body = plan_json(capsys, *FOUR_CARDS, *asked)
    assert code == 3
    assert body["mode"] == "fsdp"
    assert body["unshard"]["root_unit_bytes"] == 2 * 2_239_983_449
    assert round(body["unshard"]["root_unit_bytes"] / 2**30, 4) == 4.1723
    assert "21.48 + 4.17 = 25.65 > 22.15" in body["reasons"][0]
    assert plan(*FOUR_CARDS, *asked) == 3
    assert "21.48 + 4.17 = 25.65" in " ".join(capsys.readouterr().out.split())


def test_does_it_plan_by_itself_where_nothing_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    code, body = plan_json(capsys, "--shape", "14b", "--devices", "2", "--gpu-memory", "139GiB")
    assert code == 0
    assert body["remarks"][0].startswith("Mode auto picked ")
    assert {"single", "offload", "tpp", "fsdp"} == {line["mode"] for line in body["modes"]}


def test_can_the_mode_of_tomorrow_be_planned_today(capsys: pytest.CaptureFixture[str]) -> None:
    code, body = plan_json(
        capsys, *FOUR_CARDS, "--mode", "tpp", "--variant", "ring", "--fp8", "--kv_dtype", "fp8"
    )
    assert code == 0
    assert body["dtype"] == body["kv_dtype"] == "fp8"
    assert body["launchable"] == (not body["unbuilt"])


def test_is_fp8_refused_on_cards_that_lack_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, body = plan_json(
        capsys, *FOUR_CARDS, "--mode", "tpp", "--fp8", "--compute-capability", "8.6"
    )
    assert code == 3
    assert "fp8 needs 8.9" in body["reasons"][0]


def test_are_modes_told_fastest_first_and_words_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _code, body = plan_json(capsys, *FOUR_CARDS)
    order = {line["title"]: line["speed_order"] for line in body["modes"]}
    assert sorted(order.values()) == list(range(1, 8))
    assert order[body["modes"][0]["title"]] > order["tpp ring on 4 devices"]  # single is slower
    assert plan(*FOUR_CARDS, "--mode", "fsdp", "--fp8", "--compute-capability", "8.0") == 3
    page = capsys.readouterr().out
    assert page.startswith("It cannot run here: fsdp on 4 devices, fp8")
    assert "does not fit" not in page.split("words\n")[0]
    assert page.index("> fsdp on 4") < page.index("  single, fp8")
    words = page.split("words\n")[1]
    assert all(f"  {word} " in words for word in ("kv", "context", "margin", "transient", "mirror"))
    assert "streamed" not in words  # nothing is


def test_what_is_asked_beyond_the_model_is_not_told_as_if_it_held(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("--mode", "offload", "--resident_layers", "50")
    _code, body = plan_json(capsys, *FOUR_CARDS, *asked)
    assert any("40 of 40 layers stay" in remark for remark in body["remarks"])
    _code, body = plan_json(capsys, *FOUR_CARDS, "--mode", "tpp", "--measured-steady", "21.48GiB")
    assert body["measured"]["root_unit_bytes"] == 0
    assert body["measured"]["total_bytes"] == body["measured"]["steady_bytes"]


def test_is_a_ring_of_devices_that_are_not_there_a_misfit_with_neighbours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, body = plan_json(
        capsys, *FOUR_CARDS, "--num_gpus_dit", "4", "--enable_vae_parallel", "--kv_home", "host"
    )
    assert code == 3
    assert "the plan needs 5 GPUs, 4 can be used" in body["reasons"]
    assert body["alternatives"]


@pytest.mark.parametrize(
    ("args", "said", "neighbour"),
    [
        (("--mode", "tpp", "--num_gpus_dit", "9"), "needs 9 GPUs", "--num_gpus_dit 4"),
        (
            ("--mode", "offload", "--resident_layers", "41"),
            "use --resident_layers 40 or fewer",
            "--mode offload --kv_home host",
        ),
        (("--mode", "fsdp"), "; ranks 1, 2 the same", "--variant ring"),
    ],
)
def test_does_what_cannot_be_name_what_can(
    args: tuple[str, ...], said: str, neighbour: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = plan_json(capsys, *FOUR_CARDS, *args)
    assert code == 3
    assert said in " ".join(body["reasons"])
    assert any(neighbour in one["flags"] for one in body["alternatives"])


def test_is_the_host_judged_too(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--mode", "offload", "--kv_home", "host", "--host-memory")
    assert plan_json(capsys, *FOUR_CARDS, *asked, "128GiB")[0] == 0
    code, body = plan_json(capsys, *FOUR_CARDS, *asked, "32GiB")
    assert code == 3
    assert "the host would need" in body["reasons"][0]


@pytest.mark.parametrize("mode", ["auto", "single", "offload", "tpp", "fsdp"])
def test_does_the_page_keep_to_80_columns_and_say_the_verdict(
    mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(*FOUR_CARDS, "--mode", mode)
    page = capsys.readouterr().out
    assert max(len(line) for line in page.splitlines()) <= 80
    assert page.startswith(("It fits: ", "It does not fit: "))
    assert "every mode on these devices" in page
    if "It does not fit" in page:
        assert "what would fit, nearest first" in page
        assert "output unchanged" in page


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "--shape 14b"),
        (("--shape", "14b", "--devices", "2", "--gpus", "0"), "--devices and --gpus"),
        ((*FOUR_CARDS, "--compute-capability", "ada"), "compute capability"),
        ((*FOUR_CARDS, "--mode", "tpp", "--offload_model", "True"), "contradict"),
        ((*FOUR_CARDS, "--mode", "fsdp", "--variant", "ring"), "--mode tpp --variant ring"),
        (("--shape", "14b", "--devices", "2", "--gpu-memory", "lots"), "20GiB"),
        (("--ckpt_dir", "/nowhere/at/all"), "does not exist"),
        (("--shape", "14b", "--devices", "1", "--mode", "fsdp"), "2 or more GPUs"),
        (("--shape", "14b", "--gpu-memory", "20GiB", "--gpus", "0"), "--gpu-memory and --gpus"),
        ((*FOUR_CARDS, "--fp8", "True", "--dtype", "fp32"), "--fp8 True and --dtype fp32"),
        ((*FOUR_CARDS, "--gpu_memory_cap", "0"), "at least 1 MiB"),
        (("--shape", "14b", "--gpu-memory", "24"), "24 bytes"),
        ((*FOUR_CARDS, "--measured-steady", "0GiB"), "0 bytes"),
        ((*FOUR_CARDS, "--fp8", "banana"), "not a truth value"),
        ((*FOUR_CARDS, "--link-bandwidth", "nan"), "no figure"),
    ],
)
def test_is_nonsense_refused_with_what_to_write(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(*args) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


def test_is_this_host_planned_for_with_the_sample_model(
    sample_ckpt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = plan_json(
        capsys, "--ckpt_dir", str(sample_ckpt), "--gpus", "cpu", "--size", "256*256"
    )
    assert code == 0
    assert body["devices"][0]["device"] == "cpu"
    assert body["host"]["available_bytes"] > 0


@pytest.fixture
def sample_ckpt() -> Path:
    from engine.resources import sample_data

    return sample_data() / "ckpt"


def test_is_no_verdict_given_on_memory_that_nobody_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert plan("--shape", "14b", "--devices", "4") == 0
    page = capsys.readouterr().out
    assert page.startswith("It may fit")
    assert "--gpu-memory says how much" in page
