"""Does ``avatop doctor`` find what is wrong with a host, and say what to do?"""

from __future__ import annotations

import json
import resource
import socket
import zipfile
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from console import cli
from engine.doctor import gpu, host, install, session, terminal
from engine.doctor.check import FAIL, NA, OK, WARN, Check, healthy

GIB = 1 << 30
Usage = namedtuple("Usage", "total used free")
NVIDIA: dict[str, Any] = {
    "driver": "570.86", "cuda": 12080,
    "gpus": [{"index": n, "name": "NVIDIA H200", "uuid": f"GPU-{n}"} for n in range(2)],
}  # fmt: skip
TORCH = {"version": "2.11.0+cu128", "cuda": "12.8", "nccl": [2, 27, 3], "archs": ["sm_80", "sm_90"]}
ABLE = {"GPU-0": (9, 0), "GPU-1": (9, 0)}


def of(checks: Any) -> dict[str, Check]:
    return {check.name: check for check in checks}


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(list(args))
    return int(end.value.code or 0)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AVATOP_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("AVATOP_CKPT_DIR", "MODEL_CKPT_DIR", "CKPT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch is not asked: that takes seconds, and has a test of its own."""
    monkeypatch.setattr(gpu, "torch_build", lambda: {**TORCH, "cuda": None, "nccl": None})


def test_json_is_one_object_and_nothing_else(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("doctor", "--json")
    body = json.loads(capsys.readouterr().out)
    assert code == (0 if body["ok"] else 1)
    names = {(one["area"], one["name"]) for one in body["checks"]}
    for wanted in (("gpu", "driver"), ("gpu", "nccl"), ("limits", "open files"),
                   ("limits", "shared memory"), ("limits", "rendezvous port"),
                   ("session", "logout"), ("session", "clock"), ("files", "state folder"),
                   ("files", "checkpoint"), ("extras", "web")):  # fmt: skip
        assert wanted in names
    assert {one["state"] for one in body["checks"]} <= {OK, WARN, FAIL, NA}
    assert all(one["todo"] for one in body["checks"] if one["state"] in (WARN, FAIL))


def test_people_get_a_list_and_what_to_do(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    run("doctor")
    out, err = capsys.readouterr()
    assert "hf download Quark-Vision/Live-Avatar" in out
    assert "checks:" in err


def test_the_bundle_is_redacted_and_never_overwrites(
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz")
    monkeypatch.setenv("LOGNAME", "grace")
    monkeypatch.setenv("HOME", "/home/grace")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "engine.log").write_text("opened /home/grace/x with api_key=sesame\n")
    path = tmp_path / "doctor.zip"
    run("doctor", "--json", "--bundle", str(path))
    body = json.loads(capsys.readouterr().out)
    assert body["bundle"]["redacted"]["secret"] >= 2
    with zipfile.ZipFile(path) as bundle:
        assert {"doctor.json", "system.json", "logs/engine.log", "manifest.json"} == set(
            bundle.namelist()
        )
        text = "".join(bundle.read(name).decode() for name in bundle.namelist())
    for secret in ("grace", "sesame", "hf_abcdefgh"):
        assert secret not in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("doctor", "--bundle", str(path)) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_installed_torch_tells_its_build() -> None:
    told = gpu.torch_build()
    assert told["version"].split(".")[0].isdigit()
    assert "cuda" in told


@pytest.mark.parametrize(
    ("changes", "name", "state", "said"),
    [
        ({}, "cuda", OK, "12.8"),
        ({"torch": {**TORCH, "cuda": "13.0"}}, "cuda", FAIL, "the driver knows 12.8"),
        ({"torch": {**TORCH, "cuda": None}}, "torch", FAIL, "for the CPU alone"),
        ({"torch": {"error": "No module named torch"}}, "torch", FAIL, "No module named torch"),
        ({"torch": {**TORCH, "nccl": None}}, "nccl", FAIL, "no NCCL"),
        ({"nvidia": None, "module": True}, "driver", FAIL, "NVML does not answer"),
        ({"nvidia": None, "module": False}, "driver", NA, "on the CPU"),
        ({"nvidia": {"error": "Driver/library version mismatch"}}, "driver", FAIL, "mismatch"),
        ({"nvidia": {**NVIDIA, "gpus": [{"index": 1, "error": "GPU is lost"}]}}, "nvml", FAIL,
         "GPU 1: GPU is lost"),
        ({"able": {"GPU-0": (10, 0)}}, "architectures", FAIL, "(10.0)"),
        ({"able": {"GPU-0": (8, 9)}}, "architectures", OK, "every GPU"),
        ({"in_namespace": True}, "processes", WARN, "the host's"),
    ],
)  # fmt: skip
def test_gpu(changes: dict[str, Any], name: str, state: str, said: str) -> None:
    asked: dict[str, Any] = {
        "nvidia": NVIDIA, "torch": TORCH, "able": ABLE, "module": True, "in_namespace": False,
        **changes,
    }  # fmt: skip
    check = of(gpu.checks(asked.pop("nvidia"), asked.pop("torch"), asked.pop("able"), **asked))[
        name
    ]
    assert check.state == state
    assert said in check.said


@pytest.mark.parametrize(
    ("environ", "unicode", "name", "state"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, True, "colours", OK),
        ({"TERM": "xterm"}, True, "colours", WARN),
        ({"TERM": "dumb"}, False, "TERM", WARN),
        ({"TERM": "linux"}, False, "characters", WARN),
        ({"TERM": "xterm", "AVATOP_ASCII": "1"}, False, "characters", OK),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/t"}, True, "connection", WARN),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/t"}, True, "connection", OK),
    ],
)
def test_terminal(environ: dict[str, str], unicode: bool, name: str, state: str) -> None:
    check = of(terminal.checks(terminal.Terminal(environ, unicode, (120, 40))))[name]
    assert check.state == state


def test_small_absent_and_distant_terminals() -> None:
    assert of(terminal.checks(terminal.Terminal({}, True, (70, 20))))["size"].state == WARN
    assert of(terminal.checks(terminal.Terminal({}, True, None)))["terminal"].state == NA
    mosh = terminal.Terminal({"TERM": "xterm"}, True, (80, 24), ("bash", "mosh-server"))
    assert "mosh" in of(terminal.checks(mosh))["connection"].said


def test_limits_and_shared_memory(tmp_path: Path) -> None:
    def low(_what: int) -> tuple[int, int]:
        return (1024, 1024)

    found = of(host.limits(2, low))
    assert found["open files"].state == WARN
    assert "ulimit -n" in found["open files"].todo
    assert found["locked memory"].state == WARN
    free = of(host.limits(2, lambda _what: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
    assert {check.state for check in free.values()} == {OK}
    docker = Usage(64 << 20, 0, 64 << 20)
    assert host.shared_memory(4, tmp_path, lambda _p: docker).state == FAIL
    assert host.shared_memory(1, tmp_path, lambda _p: docker).state == WARN
    assert host.shared_memory(4, tmp_path, lambda _p: Usage(64 * GIB, 0, 60 * GIB)).state == OK
    assert host.signals().state == OK


def test_disks_and_ports(tmp_path: Path) -> None:
    full = Usage(GIB, GIB, 1 << 20)
    assert host.disk("state folder", tmp_path / "new", lambda _p: full).state == FAIL
    assert host.disk("state folder", tmp_path, lambda _p: Usage(9, 0, 2 * GIB)).state == WARN
    assert host.disk("state folder", tmp_path, lambda _p: Usage(9, 0, 99 * GIB)).state == OK
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        found = of(host.ports({"avatop web": held.getsockname()[1]}))
    assert found["rendezvous port"].state == OK
    assert found["avatop web"].state == WARN


def systemd(root: Path, cgroup: str = "0::/user.slice/session-3.scope") -> Path:
    (root / "run/systemd/system").mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    return root


def test_a_logout_that_would_kill_is_told(tmp_path: Path) -> None:
    def silent(_command: Sequence[str]) -> str | None:
        return None

    assert session.logout("ada", silent, tmp_path).state == NA  # no systemd at all
    root = systemd(tmp_path)
    assert session.logout("ada", silent, root).state == NA
    assert session.logout("ada", lambda _c: "b false", root).state == OK
    kills = session.logout("ada", lambda _c: "b true", root)
    assert kills.state == WARN
    assert "loginctl enable-linger ada" in kills.todo
    (root / "etc/systemd/logind.conf.d").mkdir(parents=True)
    (root / "etc/systemd/logind.conf").write_text("[Login]\n#KillUserProcesses=no\n")
    (root / "etc/systemd/logind.conf.d/10.conf").write_text("[Login]\nKillUserProcesses = yes\n")
    assert session.logout("ada", silent, root).state == WARN
    (root / "var/lib/systemd/linger").mkdir(parents=True)
    (root / "var/lib/systemd/linger/ada").touch()
    assert session.logout("ada", silent, root).state == WARN  # still inside the session's scope
    (root / "proc/self/cgroup").write_text("0::/user.slice/user@1000.service/app.slice/run-1.scope")
    assert session.logout("ada", silent, root).state == OK


def test_clocks(tmp_path: Path) -> None:
    assert session.clock(lambda _c: "yes", tmp_path).state == NA
    root = systemd(tmp_path)
    assert session.clock(lambda _c: "yes", root).state == OK
    assert session.clock(lambda _c: "no", root).state == WARN
    assert session.clock(lambda _c: "yes", root, now=lambda: 1e9).state == WARN


def test_a_checkpoint_that_is_named_must_be_there(tmp_path: Path) -> None:
    env = {"HF_HOME": str(tmp_path)}
    assert install.checkpoint(env).state == NA
    assert install.checkpoint({**env, "CKPT_DIR": str(tmp_path / "none")}).state == FAIL
    (tmp_path / "ckpt").mkdir()
    assert install.checkpoint({**env, "CKPT_DIR": str(tmp_path / "ckpt")}).state == WARN
    (tmp_path / "ckpt" / "config.json").touch()
    assert install.checkpoint({**env, "CKPT_DIR": str(tmp_path / "ckpt")}).state == OK


def test_only_what_is_needed_makes_it_fail() -> None:
    assert healthy([Check("a", "b", WARN, ""), Check("a", "c", NA, "")])
    assert not healthy([Check("a", "b", FAIL, "")])
