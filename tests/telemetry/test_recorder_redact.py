"""Does a bundle keep to itself who and what must not leave, and leave the rest readable?"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from console.cli import avatop
from console.commands.export import moment_option
from console.exits import BadInput
from engine.messages import (
    DeviceReading,
    DevicesSampled,
    JobChanged,
    LogLine,
    ProcessReading,
)
from engine.telemetry.recording import open_recording
from engine.telemetry.recording_bundle import cut
from engine.telemetry.recording_redact import Redactor
from tests.console.fake_client import T0, Stage, frame, job
from tests.e2e.harness import until
from tests.telemetry.recordings import Taped, record

PROMPT = "A woman in a blue suit"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("HF_TOKEN=hf_abcdefghijklmnopqrst", "hf_abcdefghijklmnopqrst"),
        ("export AWS_SECRET_ACCESS_KEY='abc def'", "abc def"),
        ('{"api_key": "k-123", "x": 1}', "k-123"),
        ("wandb login --api-key 0123456789abcdef", "0123456789abcdef"),
        ("password: hunter2", "hunter2"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("https://user:pa55@proxy.local:3128/", "pa55"),
        ("https://qyapi.example.com/send?key=693a91f6-7xxx", "693a91f6"),
        ("AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.abc-def", "eyJzdWIiOiIx"),
        ("git clone https://ghp_abcdefghijklmnopqrstuvwx@host/x", "ghp_abcdefgh"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ],
)
def test_secrets_are_taken_out(text: str, secret: str) -> None:
    redactor = Redactor()
    assert secret not in redactor.text(text)
    assert redactor.report()["secret"] >= 1


@pytest.mark.parametrize(
    "text",
    [
        "1056 tokens per latent frame, max_tokens=512",
        "loading tokenizer: google/umt5-xxl",
        "[ERROR] 2025-12-25 10:30:22 rank.py:145 - CUDA out of memory. Tried to allocate 4.17 GiB",
        "NCCL WARN Cuda failure 2 'out of memory'",
        "torch.distributed.all_gather_into_tensor at key=layer.7",
    ],
)
def test_evidence_stays_as_it_is(text: str) -> None:
    redactor = Redactor(["alice"])
    assert redactor.text(text) == text
    assert redactor.report() == {}


def test_people_are_nobody_but_always_the_same_nobody() -> None:
    redactor = Redactor(["alice"], ["/data/people/alice"])
    assert (
        redactor.text("/home/bob/ckpt and /data/people/alice/x by bob") == "~/ckpt and ~/x by user2"
    )
    assert redactor.text("alice: bob") == "user1: user2"
    assert redactor.text("malice bobbin root") == "malice bobbin root"
    assert redactor.text("mail carol@example.com") == "mail <mail>"
    assert redactor.report() == {"home folder": 2, "mail address": 1, "user name": 3}


def bundle_of(tmp_path: Path, *flags: str) -> tuple[dict[str, object], str, Path]:
    taped = Taped(tmp_path / "rec", T0)
    row = job(request={"prompt": PROMPT, "image": "/home/dora/face.png"})
    holder = ProcessReading(pid=7, started=T0, user="erik", command="python /home/erik/x.py")
    device = DeviceReading(index=0, name="H200", uuid="GPU-1", source="nvml",
                           memory_used=1 << 30, processes=(holder,))  # fmt: skip
    taped.tell([JobChanged(job=row, t=T0), DevicesSampled(devices=(device,), t=T0)])
    taped.written(until)
    taped.t += 10
    taped.tell([LogLine(level="INFO", source="rank", text=f"prompt {PROMPT!r} of dora", t=T0 + 10),
                frame(17, 0, 0, T0 + 10)])  # fmt: skip
    taped.close()
    path = tmp_path / "x.zip"
    made = CliRunner().invoke(
        avatop,
        ["export", "--recording", str(tmp_path / "rec"), "-o", str(path), "--json", *flags],
        env={"AVATOP_STATE_DIR": str(tmp_path / "state")},
    )
    assert made.exit_code == 0, made.output
    with zipfile.ZipFile(path) as bundle:
        text = "".join(bundle.read(n).decode() for n in bundle.namelist() if n[-2:] != "gz")
    events = "".join(s.event.to_json() for s in open_recording(path).ground())
    return json.loads(made.stdout), text + events, path


def test_prompts_frames_and_names_are_out_unless_asked_for(tmp_path: Path) -> None:
    body, text, path = bundle_of(tmp_path)
    for secret in (PROMPT, "dora", "erik", "/home/"):
        assert secret not in text
    assert '"preview_rgb":""' in text
    assert "<prompt of 22 characters>" in text
    assert body["redacted"]["frame"] == 1  # type: ignore[index]
    assert path.stat().st_mode & 0o077 == 0
    assert any("engine.log" in note for note in body["left_out"])  # type: ignore[union-attr]


def test_prompts_and_frames_stay_when_asked_for(tmp_path: Path) -> None:
    _, text, _ = bundle_of(tmp_path, "--with-prompts", "--with-frames")
    assert PROMPT in text
    assert '"preview_rgb":""' not in text


def test_a_slice_begins_with_the_state_and_holds_its_time_only(tmp_path: Path) -> None:
    record(tmp_path, Stage(gpus=2), 60, until, segment_seconds=20.0)
    recording = open_recording(tmp_path)
    piece = cut(recording, T0 + 25, T0 + 35)
    assert {type(e).__name__ for e in piece.state} >= {"EngineStarted", "JobChanged", "PlanMade"}
    assert min(at for at, _ in piece.events) >= T0 + 25
    assert max(at for at, _ in piece.events) <= T0 + 35
    out = tmp_path / "out.zip"
    made = CliRunner().invoke(avatop, ["export", "--recording", str(tmp_path), "--from", "-35s",
                                       "--to", "-25s", "-o", str(out)])  # fmt: skip
    assert made.exit_code == 0, made.output
    assert open_recording(out).count == len(piece.events)
    assert CliRunner().invoke(avatop, ["export", "--recording", str(tmp_path), "-o", str(out)]
                              ).exit_code == 2  # fmt: skip  # nothing is overwritten


def test_csv_of_a_slice_is_read_back_by_spikes(tmp_path: Path) -> None:
    record(tmp_path / "rec", Stage(gpus=2), 60, until)
    path = tmp_path / "gpu.csv"
    args = ["export", "--csv", "--recording", str(tmp_path / "rec"), "-o", str(path)]
    made = CliRunner().invoke(avatop, [*args, "--query", "timestamp,index,memory.peak,memory.used"])
    assert made.exit_code == 0, made.output
    heading = path.read_text().splitlines()[0]
    assert heading == "timestamp, index, memory.peak [MiB], memory.used [MiB]"
    body = json.loads(CliRunner().invoke(avatop, ["spikes", str(path), "--json"]).stdout)
    assert [d["samples"] for d in body["devices"]] == [60, 60]
    bad = CliRunner().invoke(avatop, [*args[:-1], str(tmp_path / "y.csv"), "--query", "nonsense"])
    assert bad.exit_code == 2
    assert not (tmp_path / "y.csv").exists()


def test_moments_are_read() -> None:
    assert moment_option("--to", "-10m", T0) == T0 - 600
    assert moment_option("--to", "1700000001.5", T0) == 1700000001.5
    assert moment_option("--to", "2023-11-14T22:13:20+00:00", T0) == T0
    assert T0 - 86_400 < moment_option("--to", "10:30", T0) <= T0
    with pytest.raises(BadInput):
        moment_option("--to", "soon", T0)
