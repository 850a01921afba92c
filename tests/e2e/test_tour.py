"""Can a person do what docs/tour.md says, with its keys, in a real terminal?

One console on one engine, as on the tour: the tasks follow each other, and each looks at the screen
and at what is true outside of it.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.jobs.paths import Places
from engine.messages import StopEngine
from engine.remote.client import attach
from engine.telemetry.recording import open_recording
from tests.bad_inputs import voice, write_wav
from tests.e2e.harness import PATIENCE, argv, gone, job_flags, ranks_of, start_cli, until
from tests.e2e.person import Person, at_the_console
from tests.guard.scenarios import Planted, read_until

pytestmark = [pytest.mark.pty, pytest.mark.ranks]

#: Seconds of sound: more clips of one block than anybody waits for.
SOUND = 120.0
#: Clips after the rank's death that are looked at.
BEYOND = 8


@dataclass
class Tour:
    """The person, and what is asked behind their back."""

    folder: Path
    stray: int  # a process that nobody started any more
    again: int = 0  # clips of the first job that a second one makes anew, undisturbed
    stack: ExitStack = field(default_factory=ExitStack)
    person: Person = field(init=False)

    def sit_down(self, *args: str) -> None:
        """Another console, after the one before was left."""
        self.stack.close()
        self.person = self.stack.enter_context(at_the_console(self.folder, *args))

    @property
    def places(self) -> Places:
        return Places(self.folder / "state", self.folder / "cache")

    def stored(self, job: int, what: str) -> Any:
        """A column of a job's row, as another process sees it."""
        with closing(sqlite3.connect(self.places.database, timeout=5)) as store:
            found = store.execute(f"SELECT {what} FROM jobs WHERE id = ?", (job,)).fetchone()
        return None if found is None else found[0]

    def clips(self, job: int) -> list[str]:
        """The hashes of a job's committed clips."""
        text = (self.places.job(job).segments / "manifest.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        return [line["sha256"] for line in lines if line["event"] == "clip"]

    def engine(self) -> psutil.Process:
        with closing(_attached(self.places)) as client:
            return psutil.Process(client.engine_pid)


def _attached(places: Places) -> Any:
    return until(lambda: attach(places))


def _stray(planted: Planted) -> int:
    """Another program's inference whose launcher was killed, as such things are left behind."""
    body = f'exec {sys.executable} -S -c "import time; time.sleep(600)" s2v_streaming_interact.py'
    launcher = planted.shell(
        f"sh -c '{body}' >/dev/null </dev/null 2>&1 & echo $!; echo end; read line"
    )
    (line,) = read_until(launcher, "end")
    pid = planted.adopt(int(line))
    until(lambda: "time.sleep" in Path(f"/proc/{pid}/cmdline").read_text())
    launcher.kill()
    launcher.wait()
    return pid


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Iterator[Tour]:
    """``make demo``'s console, with a job of the test's size."""
    folder = tmp_path_factory.mktemp("tour")
    write_wav(folder / "voice.wav", voice(SOUND, 16_000), 16_000)
    flags = job_flags(
        inputs, audio=folder / "voice.wav", mode="tpp", num_gpus_dit=2, infer_frames=12,
        num_clip=int(SOUND * 25 / 12),
    )  # fmt: skip
    planted = Planted()
    tour = Tour(folder, _stray(planted))
    try:
        tour.sit_down("demo", *argv(flags))
        yield tour
    finally:
        tour.stack.close()
        client = attach(tour.places)
        if client is not None:
            with closing(client):
                host = psutil.Process(client.engine_pid)
                client.send(StopEngine()).result(PATIENCE)
            until(lambda: gone([host]))
        planted.close()


def test_start_and_read_what_each_device_does(tour: Tour) -> None:
    person = tour.person
    screen = person.sees(r"rank 0 ● step 1-2 of 4", r"rank 1 ● step 3-4 of 4, VAE")
    assert "tpp×2" in screen
    strip = r"pipeline +rank 0 .*→ (rank )?1 .* fps"
    screen = person.sees(strip, r"● running +tpp×2 +64×64 +[1-9]\d*/\d+")
    assert re.search(r"█ (weights|context|slack|kv) 0\.\d+", screen)  # who holds the memory
    assert "0 alert" not in screen
    assert len(ranks_of(person.child.pid)) == 2
    assert tour.stored(1, "state") == "running"


def test_switch_a_running_job_from_tpp_to_offload(tour: Tour) -> None:
    person = tour.person
    person.press("2", "m")
    screen = person.sees("Modes for job 1", r"▌ tpp on 2 devices +.*✓ fits +now")
    assert "↵ switches job 1 at its next clip" in screen
    person.press("Up")
    person.sees(r"▌ offload", "The output stays as it is, bit by bit")
    person.press("Enter")
    person.sees(r"● running +offload", r"switch +offload \(\d", but="Modes for job")
    assert tour.stored(1, "mode") == "offload"
    assert person.waits_for(lambda: len(ranks_of(person.child.pid)) == 1)


def test_kill_a_rank_see_the_alert_and_apply_the_remedy(tour: Tour) -> None:
    person = tour.person
    person.press("1")
    person.sees(r"rank 0 ● step")
    (rank,) = ranks_of(person.child.pid)
    rank.kill()
    person.sees(r"↻ 1 interrupted", r"✗ .*job 1: .*(SIGKILL|by a signal)", r"⚠\d")
    assert tour.stored(1, "state") == "interrupted"
    tour.again = len(tour.clips(1)) + BEYOND

    person.press("7")
    person.sees("✗ cause ", "firing +warning .* job 1 was interrupted; it can go on",
                "r  Let the job go on where it stopped")  # fmt: skip
    person.press("x")
    person.sees("Export an incident bundle", "▌ Write the bundle")
    person.press("Enter")
    person.sees("Written: /")  # the path takes what room there is
    (bundle,) = tour.folder.rglob("*.zip")
    assert open_recording(bundle).jobs == [1]

    person.press("r")
    person.sees(
        "Relaunch job 1", "The job goes on behind its committed clips", "▌ Leave everything"
    )
    person.press("Down", "Enter")
    person.sees(r"● \d running", "All is well: no alert, no finding", but="Relaunch job 1")
    person.waits_for(lambda: tour.stored(1, "state") == "running")
    person.waits_for(lambda: len(tour.clips(1)) > tour.again - BEYOND)
    assert gone([rank])


def test_leave_and_come_back(tour: Tour) -> None:
    engine = tour.engine()
    tour.person.press("q")
    tour.person.sees(
        "Quit while there is work", "Job 1 is running", "▌ Detach: the engine works on"
    )
    tour.person.press("Enter")
    assert tour.person.leaves() == 0
    ranks = ranks_of(engine.pid)
    assert len(ranks) == 1
    committed = len(tour.clips(1))

    tour.sit_down()
    person = tour.person
    person.sees(r"● running +offload", r"rank 0 ● step", "clip 1 committed|is attached")
    assert tour.engine() == engine
    assert not gone(ranks)
    person.waits_for(lambda: len(tour.clips(1)) > max(committed, tour.again))
    person.press("2", "f")
    person.sees("Finish job 1 now", "▌ Let it be")
    person.press("Down", "Enter")
    person.sees(r"1 ✓ done")
    assert Path(tour.stored(1, "output")).exists()


def test_submit_it_once_more_with_other_values(tour: Tour) -> None:
    person = tour.person
    person.press("e")
    person.sees("Clone job 1", r"mode +offload")
    # From the portrait five fields down are the clips, two more the mode.
    person.press(*["Down"] * 5, *["Backspace"] * 4, str(tour.again), "Down", "Down", "Left")
    person.sees(rf"clips +{tour.again}\b", "mode +◂ single ▸")
    person.press("Enter")
    person.sees(r"2 . (queued|loading|running)", but="Clone job 1")
    assert tour.stored(2, "mode") == "single"


def test_find_why_the_shipped_recording_failed_and_what_would_fix_it(tour: Tour) -> None:
    person = tour.person
    person.press("8")
    person.sees("shipped .*unshard-oom.zip")
    person.press("/", "oom", "Enter")
    person.sees("▌shipped .*unshard-oom.zip", "Marks.*\n.*\n.*memory ran out", but="rank-killed")
    person.press("Enter")
    person.sees("RECORDING", "Every page shows this recording")
    person.press("7")
    person.sees("Nothing is wrong yet at this moment")
    person.press("]")
    person.sees(
        r"✗ cause +error +\S+ +job 1 rank 3 +Memory ran out while sharded weights were gathered",
        r"\(21\.74 of 24\.00 GiB", "r  Wrap each transformer block as its own",
        "fsdp_wrap = block", "t  Relaunch with the next plan that fits", "plan 32.6",
    )  # fmt: skip
    person.press("L")
    person.sees("Back to the present", but="RECORDING")


def test_tune_a_job_until_it_fits_24_gb(tour: Tour) -> None:
    person = tour.person
    person.press("3")
    person.sees("▌planned for plan_devices", "Plan ─")
    person.press("Enter", "4", "Enter", "Down", "Enter", "22.15GiB", "Enter", "Down", "Right")
    person.sees("plan_devices +4", "plan_memory +22.1 GiB|plan_memory +22.2 GiB", "plan_shape +14b")
    person.press("p")
    person.sees("Start from which preset", "▌ Keep the values", "high +704")
    person.press("Up", "Enter")
    person.sees(r"size +704×384", but="Start from which preset")
    person.press("m")
    person.sees("Modes for these values", r"tpp on 4 devices", "tpp ring on 4 devices")
    person.press("Esc")
    person.sees("Plan ─", but="Modes for these values")
    person.press("/", "mode", "Enter", "Right", "Right")
    person.sees(r"▌placement +mode +tpp", "✗ does not fit", "f .*output unchanged")
    person.press("f")
    screen = person.sees("✓ fits", "Taken: .*output unchanged")
    assert re.search(r"\d\d\.\d / 22\.[12]", screen)
    person.press("w")
    person.sees("Save as a preset")
    person.press("night24", "Enter")
    person.sees("Preset night24 is saved")
    plan = start_cli(["plan", "--preset", "night24", "--shape", "14b", "--devices", "4",
                      "--gpu-memory", "22.15GiB", "--json"], tour.folder)  # fmt: skip
    out, err = plan.communicate(timeout=PATIENCE)
    assert plan.returncode == 0, err
    planned = json.loads(out)
    assert (planned["fits"], planned["mode"], len(planned["devices"])) == (True, "tpp", 4)


def test_end_a_stray_process(tour: Tour) -> None:
    person, pid = tour.person, tour.stray
    process = psutil.Process(pid)
    person.press("4")
    person.sees(rf"{pid} . stray")
    person.press("/", str(pid), "Enter")
    person.sees(rf"▌ +{pid} . stray", "Live Avatar's streaming inference", "Evidence")
    person.press("K")
    person.sees(f"End PID {pid}", "▌ Leave it running", "Classified stray")
    person.press("Down", "Enter")
    person.sees("which is not avatop's own", f"type {pid} to confirm")
    person.press(str(pid), "Enter")
    person.sees(f"PID {pid} has ended")
    assert gone([process])


def test_what_was_switched_killed_and_resumed_is_what_it_would_have_been(tour: Tour) -> None:
    person = tour.person
    person.press("2")
    person.sees(r"2 ✓ done")
    undisturbed, first = tour.clips(2), tour.clips(1)
    assert len(undisturbed) == tour.again
    assert undisturbed[:-1] == first[: tour.again - 1]  # the last one ends a video
    engine = tour.engine()
    person.press("q")
    assert person.leaves() == 0
    until(lambda: gone([engine]))  # nobody is there, nothing waits
