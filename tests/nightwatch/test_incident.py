"""Is what a stuck group knows kept, and nothing left where there was nothing to keep?"""

from __future__ import annotations

import json
import os
from pathlib import Path

from engine.guard.stacks import Asked
from engine.nightwatch.incident import IncidentFolder


def test_stacks_and_recorders_are_kept_with_the_reason(tmp_path: Path) -> None:
    folder = IncidentFolder(tmp_path, 17, 2)
    env = folder.environment()
    assert env["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
    # Older and newer names of the recorder's size; without it nothing is recorded.
    assert env["TORCH_FR_BUFFER_SIZE"] == "2000"
    assert env["TORCH_NCCL_DEBUG_INFO_TEMP_FILE"] == env["TORCH_FR_DUMP_TEMP_FILE"]
    # As torch makes them: a pipe per rank that is asked for a dump, a file per rank as answer.
    pipes = []
    for rank in (0, 1):
        path = f"{env['TORCH_NCCL_DEBUG_INFO_PIPE_FILE']}{rank}.pipe"
        os.mkfifo(path)
        pipes.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    assert folder.ask_for_dumps([0, 1, 2]) == [0, 1]  # rank 2 has no recorder
    assert [os.read(pipe, 16) for pipe in pipes] == [b"1\n"] * 2
    for pipe in pipes:
        os.close(pipe)
    assert folder.ask_for_dumps([0, 1]) == []  # nobody listens: no rank is waited for
    Path(f"{env['TORCH_FR_DUMP_TEMP_FILE']}0").write_bytes(b"entries")
    asked = {0: Asked(10, "asked"), 1: Asked(11, "stopped", "do_signal_stop")}
    kept = folder.keep("no block", {0: ["Current thread", "  File x"], 1: []}, asked, {"job": 17})
    assert (kept.folder, kept.stacks) == (tmp_path / "job-000017-2", (0,))
    assert kept.dumps == ("nccl_trace_rank_0",)
    assert "1 dumps of NCCL's flight recorder" in kept.sentence
    told = json.loads((kept.folder / "incident.json").read_text())
    assert told["ranks"]["1"] == {"pid": 11, "result": "stopped", "wchan": "do_signal_stop"}
    assert folder.tidy() == ("nccl_trace_rank_0",)
    names = sorted(path.name for path in kept.folder.iterdir())
    assert names == ["incident.json", "nccl_trace_rank_0", "stacks-rank0.txt"]


def test_a_job_without_an_incident_leaves_no_folder(tmp_path: Path) -> None:
    folder = IncidentFolder(tmp_path, 1, 1)
    assert folder.tidy() == ()
    env = folder.environment()
    os.mkfifo(f"{env['TORCH_NCCL_DEBUG_INFO_PIPE_FILE']}0.pipe")
    assert folder.tidy() == ()
    assert list(tmp_path.iterdir()) == []
