"""Does the page of processes say who holds what and why, and end only what one meant to end?"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from console.screens.dialog import Dialog
from console.screens.processes import ProcessesPage
from console.screens.typed import TypedConfirm
from engine.bus import Bus
from engine.jobs.store import JobStore
from engine.messages import (
    Command,
    DeviceReading,
    DevicesSampled,
    Event,
    ProcessClass,
    ProcessesSurveyed,
    ProcessReading,
    Reap,
    Reply,
)
from engine.nightwatch.survey import Survey
from tests.console.conftest import Console, Opener, looks_as_it_did
from tests.console.fake_client import GIB, T0, Stage
from tests.guard.scenarios import QUICK, Card, Planted, reaper, state


def process(pid: int, kind: str, consent: str, **changes: Any) -> ProcessClass:
    values: dict[str, Any] = {
        "pid": pid, "started": T0 - 900, "user": "ada", "state": "sleeping", "ppid": 1,
        "command": f"python serve.py --port {pid}", "rss": 3 * GIB,
        "memory": {"GPU-0003": 32 * GIB},
    }  # fmt: skip
    about = {
        name: changes.pop(name)
        for name in ("evidence", "children", "next_command", "container", "protected")
        if name in changes
    }
    about.setdefault("evidence", ("its parent 4000 is gone",))
    return ProcessClass(ProcessReading(**{**values, **changes}), kind, consent=consent, **about)


def survey() -> ProcessesSurveyed:
    return ProcessesSurveyed(
        t=T0 + 18,
        leaked=("nccl-8Zq1aB", "torch_5121_99"),
        processes=(
            process(4000, "protected", "nobody", command="avatop engine", memory={},
                    evidence=("this is avatop itself",), protected=True),
            process(4711, "protected", "nobody", ppid=4000, job=17, rank=0, protected=True,
                    command="avatop-rank job 17 rank 0", memory={"GPU-0000": 61 * GIB},
                    evidence=("a rank of a living engine",)),
            process(5121, "orphan", "policy", job=9, rank=2, command="avatop-rank job 9 rank 2",
                    evidence=("rank 2 of job 9 of an avatop engine that is gone",
                              "its parent 4998 was another process when it was first seen",
                              "it holds 32.00 GiB on GPU-0003"), children=(5130,)),
            process(5130, "healthy", "nobody", ppid=5121, memory={}, command="pt_data_worker"),
            process(6001, "stray", "named", container="/docker/3f9c", memory={"GPU-0001": None}),
            process(7001, "other-user", "named", user="bob",
                    next_command="sudo avatop reap --pid 7001 --yes",
                    evidence=("it belongs to uid 1002, not to you",)),
        ),
    )  # fmt: skip


async def at(console: Console, pid: int) -> ProcessesPage:
    """The page with the cursor on a process."""
    await console.play([survey()])
    await console.press("4")
    page = console.app.page
    assert isinstance(page, ProcessesPage)
    row = next(row for row in page.table.shown() if row.process.pid == pid)
    page.table.choose(row.key)
    await console.settle()
    return page


def answer(console: Console, pid: int, result: str, **more: Any) -> None:
    action = {"pid": pid, "action": "TERM", "result": result, "detail": "", "next": None,
              "freed_bytes": None, **more}  # fmt: skip
    console.client.reply = Reply(ok=result == "ended", message="x", data={"actions": [action]})


async def test_each_process_tells_class_memory_job_and_evidence(opened: Opener) -> None:
    async with opened(size=(120, 40)) as console:
        page = await at(console, 5121)
        text = console.text()
        assert "orphan" in text
        assert "32.0 GiB" in text
        assert "9 rank 2" in text
        assert "its parent 4998 was another process" in text
        assert "/dev/shm/nccl-8Zq1aB" in text
        assert "avatop reap --yes" in text
        depths = {row.process.pid: row.depth for row in page.table.shown()}
        assert depths == {4000: 0, 4711: 1, 5121: 0, 5130: 1, 6001: 0, 7001: 0}
        assert page.table.shown()[0].process.pid == 5121  # the worst first


async def test_the_page_looks_as_it_did(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        await at(console, 5121)
        await looks_as_it_did(console, "processes")


async def test_memory_is_what_the_devices_told_last_and_unknown_is_not_zero(
    opened: Opener,
) -> None:
    async with opened(size=(120, 40)) as console:
        page = await at(console, 6001)
        assert page.table.item is not None
        assert page.table.item.bytes is None
        held = ProcessReading(pid=6001, started=T0, memory={"GPU-0001": 7 * GIB})
        device = DeviceReading(index=1, name="NVIDIA H200", uuid="GPU-0001", source="nvml",
                               processes=(held,))  # fmt: skip
        await console.play([DevicesSampled(devices=(device,))])
        assert page.table.item.bytes == 7 * GIB


async def test_an_empty_page_says_why(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        await console.press("4")
        assert "The engine has not looked yet" in console.text()
        await console.play([ProcessesSurveyed(processes=())])
        assert "Nothing holds a device here." in console.text()


async def test_kill_asks_first_and_cancel_has_the_focus(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        page = await at(console, 5121)
        await console.press("K")
        text = console.text()
        assert isinstance(console.app.screen, Dialog)
        for fact in ("avatop-rank job 9 rank 2", "32.0 GiB on GPU 3", "ada", "5130",
                     "its parent 4998", "End PID 5121 (avatop-rank) with SIGTERM"):  # fmt: skip
            assert fact in " ".join(text.split()), fact
        assert page.table.held
        await console.press("enter")  # the choice that has the focus
        assert console.client.sent == []
        assert not page.table.held
        answer(console, 5121, "ended", freed_bytes=32 * GIB)
        await console.press("K", "down", "enter")
        await console.settle()
        sent = console.client.sent
        assert [type(one) for one in sent] == [Reap]
        assert isinstance(sent[0], Reap)
        assert sent[0].targets == ((5121, T0 - 900),)
        assert (sent[0].force, sent[0].confirmed) == (False, False)
        assert "PID 5121 has ended; 32.0 GiB are free again." in console.text()


async def test_k_kills_nowhere_else(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        await at(console, 5121)
        await console.press("1", "K", "down", "enter")
        assert console.client.sent == []


async def test_a_process_of_others_needs_its_number_typed(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        await at(console, 7001)
        answer(console, 7001, "no permission", detail="not permitted: it belongs to uid 1002",
               next="sudo avatop reap --pid 7001 --yes")  # fmt: skip
        await console.press("K", "down", "enter")
        assert isinstance(console.app.screen, TypedConfirm)
        await console.press("7", "enter")
        assert console.client.sent == []
        await console.press(*"001", "enter")
        await console.settle()
        sent = console.client.sent
        assert isinstance(sent[0], Reap)
        assert sent[0].confirmed
        assert "EPERM" in console.text()
        assert "sudo avatop reap --pid 7001 --yes" in " ".join(console.text().split())


async def test_who_outlives_term_is_offered_kill_once(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        await at(console, 5121)
        answer(console, 5121, "survived")
        await console.press("K", "down", "enter")
        await console.settle()
        assert "It still runs ten seconds after SIGTERM." in console.text()
        answer(console, 5121, "survived", action="TERM, KILL", next="reboot",
               detail="state D: SIGKILL waits until the kernel call ends (nv_wait)")  # fmt: skip
        await console.press("down", "enter")
        await console.settle()
        sent = console.client.sent
        assert [one.force for one in sent if isinstance(one, Reap)] == [False, True]
        text = " ".join(console.text().split())
        assert "state D: SIGKILL waits until the kernel call ends" in text
        assert "Next: reboot" in text


async def test_what_nobody_may_end_is_not_asked_for(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        await at(console, 4711)
        await console.press("K")
        assert "is not ended from here" in console.text()
        await console.press("enter")
        assert console.client.sent == []


async def test_several_are_asked_for_one_by_one(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        page = await at(console, 5121)
        page.table.marked = {row.key for row in page.table.shown()[:2]}
        answer(console, 5121, "ended")
        await console.press("K", "down", "enter")
        await console.settle()
        assert len(console.client.sent) == 1
        assert isinstance(console.app.screen, Dialog)  # the second asks for itself
        await console.press("escape")
        assert page.table.marked == set()


async def test_a_reused_number_is_told(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        await at(console, 5121)
        why = "its number belongs to another process now; nothing was sent"
        console.client.reply = Reply(False, "x", data={"actions": [], "refused": {"5121": why}})
        await console.press("K", "down", "enter")
        await console.settle()
        assert why in " ".join(console.text().split())


async def test_read_only_is_held_at_the_key_and_at_the_method(
    opened: Opener,
) -> None:
    async with opened(Stage(), size=(80, 24)) as console:
        page = await at(console, 5121)
        console.client.read_only = True  # type: ignore[attr-defined]
        await console.press("K")
        assert console.app.screen is page
        assert "Read-only" in console.text()
        assert console.client.sent == []


async def test_names_from_outside_obey_nothing(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        evil = process(
            5121, "stray", "named", command="\x1b[2J[bold]x[/bold] \x07", user="\x1b]0;a"
        )
        await console.play([ProcessesSurveyed(processes=(evil,))])
        await console.press("4", "K")
        assert "\x1b" not in console.text()
        assert "[bold]x[/bold]" in console.text()


async def test_a_real_process_that_ignores_term_is_found_asked_for_and_ended(
    opened: Opener, tmp_path: Path
) -> None:
    """The engine's own reaper behind the page: a stranger that holds a device, down to its end."""
    planted, bus = Planted(), Bus()
    told: list[Event] = []
    bus.subscribe(told.append)
    store = JobStore(tmp_path / "jobs.sqlite3")
    survey_ = Survey(bus, store, str(tmp_path))
    stubborn = planted.shell("trap '' TERM; echo up; while :; do sleep 1; done")
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == "up\n"
    survey_.reaper = reaper(planted, Card((stubborn.pid,)), audit=survey_.reaper.audit, waits=QUICK)

    def send(command: Command) -> Future[Reply]:
        future: Future[Reply] = Future()
        console.client.sent.append(command)
        assert isinstance(command, Reap)
        task = asyncio.get_running_loop().create_task(survey_.reap(command))
        task.add_done_callback(lambda done: future.set_result(done.result()))
        running.append(task)
        return future

    running: list[asyncio.Task[Reply]] = []
    try:
        async with opened(size=(100, 40)) as console:
            console.client.send = send  # type: ignore[method-assign]
            await survey_.look()
            await console.play(told)
            await console.press("4")
            page = console.app.page
            assert isinstance(page, ProcessesPage)
            row = next(r for r in page.table.shown() if r.process.pid == stubborn.pid)
            page.table.choose(row.key)
            assert row.bytes == 1 << 30
            await console.press("K", "down", "enter", *str(stubborn.pid), "enter")
            assert "ending" in console.text()
            await asyncio.wait(running, timeout=30)
            await console.settle()
            assert "It still runs" in console.text()
            assert state(stubborn.pid) not in (None, "Z")
            await console.press("down", "enter")
            await asyncio.wait(running, timeout=30)
            await console.settle()
            assert state(stubborn.pid) in (None, "Z")
            assert f"PID {stubborn.pid} has ended; 1.00 GiB are free again." in console.text()
    finally:
        planted.close()
        store.close()
