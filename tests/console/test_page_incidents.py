"""What is wrong, why, when, what may be done: and does a key do exactly what it said?"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.screens.dialog import Dialog
from console.screens.incidents import IncidentsPage
from console.screens.submit import SubmitForm
from engine.messages import (
    Acknowledge,
    AlertChanged,
    Audited,
    Event,
    FindingRaised,
    JobChanged,
    LogLine,
    Relaunch,
    Remedy,
    Reply,
    Silence,
)
from tests.console.conftest import COLOURS, Console, Opener
from tests.console.fake_client import T0, Stage, job
from tests.e2e.harness import until
from tests.telemetry.recordings import record

OOM = FindingRaised(
    id="job17-cuda_oom", finding="cuda_oom", severity="error", job=17, rank=2, t=T0 + 15,
    cause="The device has no memory left for what was asked of it.", confidence=0.97,
    evidence=("[rank2]: torch.OutOfMemoryError: CUDA out of memory.\x1b[31m",),
    remedies=(
        Remedy("next", "Relaunch with the next plan that fits.", "relaunch",
               {"plan": "next_fitting"}),
        Remedy("size", "Relaunch at a lower size.", "relaunch", {"size": "lower"}, ("size",)),
        Remedy("env", "Use expandable segments.", "env", {"PYTORCH_CUDA_ALLOC_CONF": "x:True"}),
        Remedy("person", "Ask for a larger device."),
    ),
)  # fmt: skip
VICTIM = FindingRaised(
    id="job17-peer", finding="peer_rank_died", severity="warning", role="victim", job=17, rank=0,
    cause="Another process of the group went away.", t=T0 + 16,
)  # fmt: skip


def alert(name: str, state: str = "firing", **changes: Any) -> AlertChanged:
    values: dict[str, Any] = {
        "id": f"{name}-1", "rule": name, "severity": "warning", "state": state, "t": T0 + 12,
        "since": T0 + 10, "message": f"{name} is told", "value": 91.0, "threshold": 90.0,
    }  # fmt: skip
    return AlertChanged(**{**values, **changes})


TROUBLE: list[Event] = [
    LogLine(level="ERROR", source="rank", rank=2, job=17, text="CUDA out of memory", t=T0 + 14),
    JobChanged(job=job(17, "failed", request={"size": "704*384", "mode": "tpp"}), t=T0 + 15),
    alert("memory-high", device="GPU-0002"),
    alert("temperature-high", "silenced", device="GPU-0001", until=T0 + 3600, by="anna"),
    alert("queue-old", "pending", severity="info", job=18),
    alert("out-of-memory", severity="critical", job=17),
    OOM,
    VICTIM,
]


async def on_page(console: Console, events: list[Event] | None = None) -> IncidentsPage:
    await console.play(TROUBLE if events is None else events)
    await console.press("7")
    page = console.app.page
    assert isinstance(page, IncidentsPage)
    return page


def shown(page: IncidentsPage) -> list[str]:
    return [item.what.id for item in page.table.shown()]


async def test_causes_come_first_and_what_is_seen_to_last(opened: Opener) -> None:
    async with opened() as console:
        page = await on_page(console)
        assert shown(page) == [
            "job17-cuda_oom", "out-of-memory-1", "memory-high-1", "job17-peer",
            "temperature-high-1", "queue-old-1",
        ]  # fmt: skip
        await console.play([alert("memory-high", "resolved", previous="firing")])
        assert "memory-high-1" not in shown(page)
        await console.press("p")
        assert shown(page)[-1] == "memory-high-1"


async def test_an_alert_is_explained_by_the_cause_of_its_job(opened: Opener) -> None:
    async with opened(size=(200, 50)) as console:
        page = await on_page(console)
        page.table.choose(("alert", "out-of-memory-1"))
        await console.settle()
        text = console.text()
        assert "Because: The device has no memory left" in text
        assert "␛[31m" in text  # evidence is inert
        assert "Relaunch at a lower size." in text
        assert "alters the output: size" in text


async def test_nothing_wrong_says_so_and_what_to_press(opened: Opener) -> None:
    async with opened() as console:
        await on_page(console, [])
        assert "All is well: no alert, no finding.  p shows what is over." in console.text()


async def test_a_remedy_shows_what_the_planner_made_of_it_and_sends_just_that(
    opened: Opener,
) -> None:
    async with opened() as console:
        await on_page(console)
        worked_out = {"mode": "offload", "num_gpus_dit": None}
        console.client.reply = Reply(True, state="failed", data={"changes": worked_out})
        await console.press("r")
        asked = console.client.sent[-1]
        assert isinstance(asked, Relaunch)
        assert (asked.job, asked.changes, asked.dry) == (17, {"plan": "next_fitting"}, True)
        assert isinstance(console.app.screen, Dialog)
        text = " ".join(console.text().split())
        assert "mode: tpp becomes offload." in text
        assert "The output stays as it is." in text
        await console.press("enter")  # the safe choice has the focus
        assert len(console.client.sent) == 1
        await console.press("r", "down", "enter")
        done = console.client.sent[-1]
        assert isinstance(done, Relaunch)
        assert (done.changes, done.dry) == (worked_out, False)


async def test_other_remedies_and_refusals_say_what_they_are(opened: Opener) -> None:
    async with opened() as console:
        page = await on_page(console)
        console.client.reply = Reply(True, state="failed", data={"changes": {"size": "640*320"}})
        await console.press("t")
        text = " ".join(console.text().split())
        assert "size: 704*384 becomes 640*320." in text
        assert "This alters the output: size." in text
        await console.press("escape")
        console.client.reply = Reply(True, state="failed", data={"changes": {}})
        await console.press("y", "down", "enter")
        sent = console.client.sent[-1]
        assert isinstance(sent, Relaunch)
        assert sent.environment == {"PYTORCH_CUDA_ALLOC_CONF": "x:True"}
        assert not sent.dry
        await console.press("u")
        assert "a person's work" in console.text()
        await console.press("enter")
        console.client.reply = Reply(False, "job 17 is running: it has not ended")
        await console.press("r")
        assert console.app.screen is page
        assert "it has not ended" in console.text()


async def test_an_alert_without_a_log_line_has_its_rule_s_remedies(opened: Opener) -> None:
    todo = (
        Remedy("kill_holder", "End the process that holds the memory.", "reap"),
        Remedy("cooling", "Move work to a cooler device.", "drain"),
        Remedy("find_silent_rank", "Find the rank that did not enter.", "log"),
        Remedy("fix_request", "Correct the request.", "edit"),
    )
    stray = alert("zombies", job=17, remedies=todo)
    async with opened() as console:
        page = await on_page(console, [TROUBLE[1], stray])
        assert "End the process that holds the memory." in console.text()
        await console.press("r")
        assert console.app.page.NAME == "processes"
        assert "K shows what it is and asks" in console.text()
        await console.press("7", "y")
        assert console.app.page.NAME == "logs"
        assert "&level>=warning job=17" in console.text()
        await console.press("7", "t")
        assert isinstance(console.app.screen, Dialog)  # which device
        await console.press("escape", "u")
        assert isinstance(console.app.screen, SubmitForm)
        await console.press("escape")
        assert console.app.screen is page
        assert not [c for c in console.client.sent if isinstance(c, Relaunch)]


async def test_alerts_are_acknowledged_and_silenced_for_a_time(opened: Opener) -> None:
    async with opened() as console:
        page = await on_page(console)
        await console.press("s")
        assert "Only alerts are silenced." in console.text()
        page.table.choose(("alert", "out-of-memory-1"))
        await console.press("space", "space", "a")
        acknowledged = [c.alert for c in console.client.sent if isinstance(c, Acknowledge)]
        assert acknowledged == ["out-of-memory-1", "memory-high-1"]
        page.table.choose(("alert", "memory-high-1"))
        await console.press("s", "right", "tab", "right", "enter")
        silence = console.client.sent[-1]
        assert isinstance(silence, Silence)
        assert (silence.alert, silence.seconds) == ("memory-high", 4 * 3600.0)


async def test_what_was_done_already_stands_with_the_incident(opened: Opener) -> None:
    async with opened(size=(200, 50)) as console:
        await on_page(console)
        told = Audited(action="relaunch", by="anna", target="job 17", result="mode becomes offload")
        await console.play([told])
        assert "relaunch (anna): mode becomes offload" in console.text()


async def test_plots_and_log_stand_under_one_cursor(opened: Opener) -> None:
    async with opened(size=(120, 50)) as console:
        page = await on_page(console)
        line = page.timeline
        assert line.moment == OOM.t
        assert line.panel is not None
        assert line.panel.key == "GPU-0002"  # where rank 2 runs
        await console.press("enter", *["left"] * 6)
        assert page.focused is line
        assert line.moment < OOM.t
        rows = console.lines()
        cut = next(n for n, row in enumerate(rows) if "┄┄┄" in row)
        assert any("CUDA out of memory" in row for row in rows[cut + 1 :])
        await console.press("d")
        assert line.panel.key == "GPU-0003"
        await console.press("home")
        assert line.moment == OOM.t


async def test_a_small_terminal_shows_details_or_the_timeline(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        page = await on_page(console)
        assert "What to do" in console.text()
        assert "Timeline" not in console.text()
        await console.press("enter")
        assert page.timeline.display
        assert not page.details.display
        assert "Timeline" in console.text()
        await console.press("w")
        assert page.details.display


async def test_a_bundle_is_written_off_the_screens_thread(opened: Opener, tmp_path: Path) -> None:
    record(tmp_path / "recordings", Stage(gpus=2), 20, until, segment_seconds=60.0)
    environ = {**COLOURS, "AVATOP_STATE_DIR": str(tmp_path)}
    async with opened(environ=environ) as console:
        page = await on_page(console)
        await console.press("x")
        dialog = console.app.screen
        assert isinstance(dialog, Dialog)
        assert any("secrets, prompts and frames" in told for told in dialog.body.sentences)
        await console.press("enter")
        await waited(console, lambda: console.app.screen is page)
        assert "Written" in console.app.notices.said[-1].text
    made = zipfile.ZipFile(next(iter(sorted((tmp_path / "bundles").iterdir()))))
    manifest = json.loads(made.read("manifest.json"))
    assert manifest["events"] > 0
    assert 17 in manifest["jobs"]


async def waited(console: Console, ready: Callable[[], bool]) -> None:
    """Until a thread's answer has arrived."""
    for _ in range(1000):
        await console.pilot.pause(0.01)
        if ready():
            break
    assert ready()
    await console.pilot.pause()
