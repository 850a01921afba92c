"""Does a benchmark that is ended leave anything at work?"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from engine.guard.identity import identify, is_running

#: A benchmark with a program in a session of its own, whose own child is in yet another one.
STARTED = """
import subprocess, sys, tempfile, time
from benchmarks.ending import leaving_nothing

INNER = "import subprocess, sys, time; " \\
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']," \\
    " start_new_session=True); print(p.pid, flush=True); time.sleep(600)"

def main():
    try:
        with tempfile.TemporaryDirectory() as folder:
            outer = subprocess.Popen([sys.executable, "-c", INNER], start_new_session=True,
                                     stdout=subprocess.PIPE, text=True)
            print(outer.pid, outer.stdout.readline().strip(), flush=True)
            if sys.argv[1] == "wait":
                subprocess.run(["sleep", "600"])
    finally:
        print("unwound", flush=True)

raise SystemExit(leaving_nothing(main))
"""


@pytest.mark.parametrize(("how", "code"), [("wait", 128 + signal.SIGTERM), ("leave", 0)])
def test_what_a_benchmark_started_ends_with_it(how: str, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTED, how],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    ) as benchmark:  # fmt: skip
        assert benchmark.stdout is not None
        assert select.select([benchmark.stdout], [], [], 60)[0]
        first, second = map(int, benchmark.stdout.readline().split())
        if how == "wait":
            benchmark.terminate()
        out, said = benchmark.communicate(timeout=60)
    assert (benchmark.returncode, out.strip()) == (code, "unwound")
    assert ("ended what was left" in said) == (how == "leave")
    for pid in (first, second):
        seen = identify(pid)  # its parent may still have to take note of the end
        assert seen is None or not is_running(seen)
