"""What torch, safetensors, the kernel and Python print when things break here and now."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.triage import classify
from tests.triage.produced import EXPECTED, MARKER


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    """The text of each fault, made once in a child process."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.triage.produced"],
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    sections = run.stdout.split(MARKER)[1:]
    return {name: rest.split("\n") for name, _, rest in (s.partition("\n") for s in sections)}


@pytest.mark.parametrize(("fault", "name"), EXPECTED.items(), ids=str)
def test_a_fault_made_on_purpose_is_told_for_what_it_is(
    told: dict[str, list[str]], fault: str, name: str
) -> None:
    found = classify(told[fault])
    assert found, told[fault]
    assert found[0].class_ == name
    assert [f.class_ for f in found if f.role == "root"] in ([name], [])
