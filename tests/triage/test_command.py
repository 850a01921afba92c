"""``avatop triage``: its JSON, its words, its exit codes; and no torch in its process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from console.commands.triage import triage

LOG = """\
quiet
[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
[rank0]: recvValue failed on SocketImpl(fd=3): failed to recv, got 0 bytes
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "rank.log"
    path.write_text(LOG)
    return path


def test_json_has_the_contract_s_fields(log: Path) -> None:
    result = CliRunner().invoke(triage, [str(log), "--json"])
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    assert body["lines"] == 3
    root, victim = body["findings"]
    assert {"class", "severity", "lines", "confidence", "role", "cause", "remedies"} <= set(root)
    assert (root["class"], root["role"], root["lines"], root["rank"]) == (
        "cuda_oom",
        "root",
        [2, 2],
        1,
    )
    assert {"id", "text", "action"} == set(root["remedies"][0])
    assert (victim["role"], victim["explained_by"]) == ("victim", "cuda_oom")


def test_words_name_lines_rank_cause_and_remedies(log: Path) -> None:
    result = CliRunner().invoke(triage, [str(log)])
    assert "root   cuda_oom  line 2, rank 1" in result.stdout
    assert "tried to allocate 2.00 GiB" in result.stdout
    assert "- Relaunch with the next plan that fits" in result.stdout


def test_a_healthy_log_is_told_on_stderr_alone(log: Path) -> None:
    log.write_text("all is well\n" * 3)
    result = CliRunner().invoke(triage, [str(log)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing known in 3 lines" in result.stderr
    assert json.loads(CliRunner().invoke(triage, [str(log), "--json"]).stdout) == {
        "lines": 3,
        "findings": [],
    }


@pytest.mark.parametrize("name", ["missing.log", "."])
def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(triage, [str(tmp_path / name)])
    assert result.exit_code == 2
    assert "Give a readable log file" in result.output


def test_a_stream_on_standard_input_tells_findings_as_they_come_and_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from console.commands.triage import triage\n"
        "triage(['-', '--follow', '--json'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(LOG.splitlines(keepends=True)[1])
        child.stdin.flush()
        first = json.loads(child.stdout.readline())
        assert (first["class"], first["lines"]) == ("cuda_oom", [1, 1])
        child.stdin.write(LOG.splitlines(keepends=True)[2])
        child.stdin.close()
        second = json.loads(child.stdout.readline())
        assert (second["class"], second["role"]) == ("peer_rank_died", "victim")
        assert child.wait(timeout=30) == 0
