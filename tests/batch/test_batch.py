"""Does a night's batch make every video once, and tell exactly what it did not make, and why?"""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.batch import behind, drive, report
from engine.batch.lines import Line, Lines
from engine.batch.publish import WORK, sidecar_of
from engine.media.audio import audio_info
from engine.messages import Submit
from tests.bad_inputs import voice, write_wav
from tests.batch.bench import bench, make_pair

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB."
KILLED = "interrupted: rank 1 (process 4711) was killed by SIGKILL (an operator, or the kernel)"
FULL = "failed: clip 1 could not be committed: [Errno 28] No space left on device"


async def test_B1_pairs_are_made_in_order_and_published_whole(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        make_pair(tmp_path, name)
    async with bench(tmp_path) as b:
        row = await b.whole()
        assert row.state == "done", b.bus.lines
        assert list(b.double.submitted) == ["a", "b", "c"]
        assert b.double.side_by_side == 1  # the CPU is one line
        names = [f"{n}{e}" for n in "abc" for e in (".mp4", ".avatop.json")]
        names += [f"report-{row.id}{e}" for e in (".json", ".csv", ".md")]
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
        sent = [c for c in b.double.sent if isinstance(c, Submit)]
        assert {c.batch for c in sent} == {row.id}
        last = b.bus.events[-1]
        assert (last.state, last.counts, last.report) == ("done", {"done": 3}, row.report)
        assert {item.state for event in b.bus.events for item in event.items} >= {
            *("waiting", "preparing", "running", "verifying", "done")
        }


async def test_B1_the_job_hears_16_khz_mono_and_the_file_keeps_its_own_sound(
    tmp_path: Path,
) -> None:
    make_pair(tmp_path, "studio", rate=44_100)
    make_pair(tmp_path, "plain")
    heard: dict[str, Any] = {}
    async with bench(tmp_path) as b:
        submit = b.double._submit

        def look(command: Submit) -> Any:
            path = Path(command.request["audio"])
            heard[Path(command.request["image"]).stem] = (path, audio_info(path))
            return submit(command)

        b.double._submit = look  # type: ignore[method-assign]
        await b.whole()
    path, info = heard["studio"]
    assert (info.rate, info.channels, path.parent.parent.name) == (16_000, 1, WORK)
    assert heard["plain"][0] == tmp_path / "audio" / "plain.wav"  # it is that already


async def test_B1_equal_inputs_are_made_once_and_named_twice(tmp_path: Path) -> None:
    make_pair(tmp_path, "one")
    for folder, ending in (("audio", "wav"), ("image", "png")):
        twin = tmp_path / folder / f"two.{ending}"
        twin.write_bytes((tmp_path / folder / f"one.{ending}").read_bytes())
    async with bench(tmp_path) as b:
        row = await b.whole()
        items = b.items(row)
        assert (row.state, items["two"].state) == ("done", "alias")
        assert sum(b.double.submitted.values()) == 1
        one, two = (tmp_path / "out" / f"{n}.mp4" for n in ("one", "two"))
        assert one.samefile(two)
        assert json.loads(sidecar_of(two).read_text())["twin"] == "one"
        assert b.report(row)["totals"]["alias"] == 1


async def test_B1_the_same_again_adopts_what_is_there_and_overwrites_nothing(
    tmp_path: Path,
) -> None:
    for name in ("a", "b", "c"):
        make_pair(tmp_path, name)
    async with bench(tmp_path) as b:
        await b.whole()
        before = (tmp_path / "out" / "a.mp4").stat().st_ino
        (tmp_path / "out" / "b.mp4").write_bytes(b"somebody's own")
        sidecar_of(tmp_path / "out" / "b.mp4").unlink()
        make_pair(tmp_path, "c", seconds=2.6)  # another sound under an old name
        b.double.submitted.clear()
        row = await b.whole()
        items = b.items(row)
        assert (tmp_path / "out" / "a.mp4").stat().st_ino == before
        assert (tmp_path / "out" / "b.mp4").read_bytes() == b"somebody's own"
        assert not b.double.submitted
        assert [i.state for i in items.values()] == ["done", "failed", "failed"]
        assert {items["b"].cause, items["c"].cause} == {"name_taken"}


async def test_B1_an_input_that_changes_after_the_freeze_is_not_made(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    make_pair(tmp_path, "b")

    def reached(step: str, _name: str) -> None:
        if step == "frozen":
            make_pair(tmp_path, "b", seconds=2.6)

    async with bench(tmp_path, reached=reached) as b:
        row = await b.whole()
        items = b.items(row)
        assert (items["a"].state, items["b"].state) == ("done", "failed")
        assert items["b"].cause == "changed_input"


async def test_B1_preparing_and_verifying_go_on_beside_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        make_pair(tmp_path, f"item{n}")
    second = asyncio.Event()
    real = behind.make_output
    states: list[set[str]] = []

    def slow(*args: Any) -> Any:
        if args[0].name == "item0":  # verified only once the next is on the device
            asyncio.run_coroutine_threadsafe(second.wait(), loop).result(30)
        return real(*args)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(behind, "make_output", slow)

    def reached(step: str, name: str) -> None:
        if (step, name) == ("submitted", "item1"):
            states.append({i.state for i in b.items_now()})
            second.set()

    async with bench(tmp_path, reached=reached) as b:
        await b.whole()
    assert states == [{"verifying", "running", "preparing"}] or states == [
        {"verifying", "running", "preparing", "waiting"}
    ]


async def test_B1_independent_lines_work_side_by_side_each_on_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        make_pair(tmp_path, f"item{n}")
    monkeypatch.setattr(drive, "held_by_others", lambda devices: None)
    async with bench(tmp_path, together=3) as b:

        async def lay_out(*_: Any) -> Lines:
            lines = [Line(n, (f"GPU-{n}",), {"gpus": f"GPU-{n}"}) for n in range(3)]
            return Lines("independent", tuple(lines), "so the test says", {})

        monkeypatch.setattr(b.service, "_lay_out", lay_out)
        row = await b.whole()
        assert row.state == "done", b.bus.lines
        assert b.double.side_by_side == 3
        used = {c.request["gpus"] for c in b.double.sent if isinstance(c, Submit)}
        assert used == {"GPU-0", "GPU-1", "GPU-2"}
        assert b.bus.events[-1].lines == 3


async def test_B2_an_item_over_its_time_is_ended_and_tried_again(tmp_path: Path) -> None:
    make_pair(tmp_path, "slow")
    async with bench(tmp_path, lambda _n, before: "done" if before else "hang") as b:
        row = await b.whole(item_timeout=0.6)
        items = b.items(row)
        assert (items["slow"].state, items["slow"].attempts) == ("done", 2)
        (first, _) = b.report(row)["items"][0]["tries"]
        assert (first["cause"], first["origin"], first["outcome"]) == (
            *("timeout", "internal"), "retry",
        )  # fmt: skip


async def test_B2_a_device_that_another_engine_holds_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.guard.lease import Holder, LeaseHeld

    make_pair(tmp_path, "a")
    make_pair(tmp_path, "b")

    def held(devices: tuple[str, ...]) -> LeaseHeld | None:
        return LeaseHeld("GPU-0", Holder(pid=4711)) if "GPU-0" in devices else None

    monkeypatch.setattr(drive, "held_by_others", held)
    async with bench(tmp_path) as b:

        async def lay_out(*_: Any) -> Lines:
            lines = [Line(n, (f"GPU-{n}",), {"gpus": f"GPU-{n}"}) for n in range(2)]
            return Lines("independent", tuple(lines), "so the test says", {})

        monkeypatch.setattr(b.service, "_lay_out", lay_out)
        await b.whole()
        used = {c.request["gpus"] for c in b.double.sent if isinstance(c, Submit)}
        assert used == {"GPU-1"}
        assert sum("process 4711" in line for line in b.bus.lines) == 1


async def test_B5_fifty_pairs_with_planted_troubles_end_with_exactly_the_right_report(
    tmp_path: Path,
) -> None:
    for n in range(50):
        make_pair(tmp_path, f"p{n:02d}")
    audio, image = tmp_path / "audio", tmp_path / "image"
    (audio / "p03.wav").write_bytes(b"RIFF\x00\x00not a sound")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(image / "p07.png")
    write_wav(audio / "p08.wav", np.zeros((48_000, 1)), 16_000)
    (image / "p11.png").unlink()
    (audio / "p12.flac").write_bytes(b"")
    (audio / ".p13.wav.swp").write_bytes(b"")
    (audio / "readme.md").write_text("not a sound")
    script = {
        "p20": OOM,
        "p25": KILLED,
        "p30": FULL,
        "p35": "interrupted: rank 0 said nothing for 300 s",
    }

    def play(name: str, before: int) -> str:
        if name == "p40":
            return OOM
        if name == "p41":
            return "failed: the checkpoint's config.json names no network"
        return script.get(name, "done") if before == 0 else "done"

    async with bench(tmp_path, play) as b:
        row = await b.whole()
        body = b.report(row)
    assert row.state == "failed"
    assert {(r["kind"], r["name"]) for r in body["remarks"]} == {
        *(("missing", "p11"), ("doubled", "p12"), ("hidden", ".p13.wav.swp")),
        ("unsupported", "readme.md"),
    }
    items = {item["name"]: item for item in body["items"]}
    assert len(items) == 48
    bad = {name: item["cause"] for name, item in items.items() if item["state"] != "done"}
    assert bad == {
        "p03": "bad_input", "p07": "bad_input", "p08": "bad_input", "p40": "cuda_oom",
        "p41": "failed",
    }  # fmt: skip
    tries = {name: item["attempts"] for name, item in items.items() if item["attempts"] != 1}
    assert tries == {
        "p03": 0, "p07": 0, "p08": 0, "p20": 2, "p25": 2, "p30": 2, "p35": 2, "p40": 4,
    }  # fmt: skip
    again = {
        (item["name"], t["cause"], t["origin"])
        for item in body["items"]
        for t in item["tries"]
        if t["outcome"] == "retry"
    }
    assert again == {
        *(("p20", "cuda_oom", "internal"), ("p40", "cuda_oom", "internal")),
        ("p25", "terminated_by_signal", "external"),
        *(("p30", "disk_full", "external"), ("p35", "hang_no_progress", "internal")),
    }
    totals = body["totals"]
    assert (totals["items"], totals["done"], totals["failed"]) == (48, 43, 5)
    assert (totals["retries"], totals["retries_internal"], totals["retries_external"]) == (7, 5, 2)
    assert body["interventions"] == []
    written = report.read(Path(str(row.report)))
    assert written is not None
    assert written["items"] == body["items"]
    markdown = report.as_markdown(body)
    assert "48 items: 43 done, 5 failed" in markdown
    assert "p11 has a sound and no portrait" in markdown
    assert report.as_csv(body).count("\r\n") == 49


async def test_B5_too_many_failures_stop_it_and_retry_does_only_what_failed(
    tmp_path: Path,
) -> None:
    for n in range(9):
        make_pair(tmp_path, f"p{n}")
    broken = True

    def play(name: str, _before: int) -> str:
        return "failed: a kernel of ours is wrong" if broken and name != "p0" else "done"

    async with bench(tmp_path, play) as b:
        row = await b.whole(halt_least=3)
        assert row.state == "stopped"
        assert row.note.startswith("halted: 3 of ")
        broken = False
        b.double.submitted.clear()
        reply = await b.ask("retry", row.id)
        assert reply.ok, reply.message
        row = await b.end_of(row.id)
        assert row.state == "done"
        assert dict(b.double.submitted) == {f"p{n}": 1 for n in range(1, 9)}
        kinds = [entry["kind"] for entry in b.report(row)["interventions"]]
        assert kinds == ["halted", "retried", "resumed"]


async def test_B5_a_mended_file_is_made_by_retry(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_pair(tmp_path, name)
    torn = tmp_path / "audio" / "b.wav"
    whole = torn.read_bytes()
    torn.write_bytes(b"RIFF\x00\x00not a sound")
    (tmp_path / "image" / "c.png").write_bytes(b"not a picture")
    async with bench(tmp_path) as b:
        row = await b.whole()
        assert {i.name: i.state for i in b.items(row).values()} == {
            "a": "done", "b": "failed", "c": "failed"
        }  # fmt: skip
        torn.write_bytes(whole)
        reply = await b.ask("retry", row.id)
        assert reply.ok, reply.message
        row = await b.end_of(row.id)
        items = b.items(row)
        assert [(i.state, i.seq) for i in items.values()] == [
            *(("done", 0), ("done", 1), ("failed", 2)),
        ]
        assert dict(b.double.submitted) == {"a": 1, "b": 1}
        assert items["b"].audio_seconds == pytest.approx(2.2)


async def test_B5_pause_finishes_what_is_on_the_device_and_resume_goes_on(tmp_path: Path) -> None:
    for n in range(3):
        make_pair(tmp_path, f"p{n}")
    asked: list[asyncio.Task[Any]] = []

    def reached(step: str, name: str) -> None:
        if (step, name) == ("submitted", "p0"):
            asked.append(asyncio.create_task(b.ask("pause", b.bus.events[0].batch)))

    async with bench(tmp_path, together=99, reached=reached) as b:
        batch = await b.start()
        await b.bus.until(lambda e: e.state == "paused")
        assert (await asked[0]).ok
        b.double._enough.set()
        await b.bus.until(lambda e: e.state == "paused" and e.counts.get("done"))
        assert sum(b.double.submitted.values()) == 1
        assert (await b.ask("resume", batch)).ok
        row = await b.end_of(batch)
        assert (row.state, sum(b.double.submitted.values())) == ("done", 3)


async def test_B5_a_stop_takes_no_try_and_the_same_command_goes_on(tmp_path: Path) -> None:
    for n in range(3):
        make_pair(tmp_path, f"p{n}")
    async with bench(
        tmp_path, lambda n, before: "hang" if n == "p1" and not before else "done"
    ) as b:
        batch = await b.start()
        await b.bus.until(lambda e: any(i.name == "p1" and i.job for i in e.items))
        assert (await b.ask("stop", batch)).ok
        row = await b.end_of(batch)
        assert row.state == "stopped"
        assert [(i.state, i.attempts) for i in b.items(row).values()] == [
            *(("done", 1), ("waiting", 0), ("waiting", 0)),
        ]
        assert await b.start() == batch
        row = await b.end_of(batch)
        assert (row.state, b.double.submitted["p0"]) == ("done", 1)


async def test_B6_a_broken_video_is_made_again(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    torn = True
    async with bench(tmp_path) as b:
        end = b.double._end

        def tear(job: int, state: str, error: str | None) -> None:
            nonlocal torn
            path = Path(str(b.jobs.get(job).request["output"]))
            if torn and path.exists():
                path.write_bytes(path.read_bytes()[:5000])
                torn = False
            end(job, state, error)

        b.double._end = tear  # type: ignore[method-assign]
        row = await b.whole()
        (item,) = b.report(row)["items"]
        assert (item["state"], item["attempts"]) == ("done", 2)
        assert item["tries"][0]["cause"] == "bad_output"
        assert "cannot be played" in item["tries"][0]["error"]


async def test_B6_a_disk_that_is_full_at_publication_is_waited_for(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    full = True

    def reached(step: str, _name: str) -> None:
        nonlocal full
        if step == "noted" and full:
            full = False
            raise OSError(errno.ENOSPC, "No space left on device")

    async with bench(tmp_path, reached=reached) as b:
        row = await b.whole()
        (item,) = b.report(row)["items"]
        assert (item["state"], item["attempts"]) == ("done", 2)
        assert (item["tries"][0]["cause"], item["tries"][0]["origin"]) == ("disk_full", "external")
        assert not (tmp_path / "out" / WORK).exists()


async def test_B5_silence_is_told_beside_what_is_done(tmp_path: Path) -> None:
    make_pair(tmp_path, "late")
    sound = np.concatenate([np.zeros((16_000, 1)), voice(2.2, 16_000)])
    write_wav(tmp_path / "audio" / "late.wav", sound, 16_000)
    async with bench(tmp_path) as b:
        row = await b.whole()
        assert row.state == "done", b.bus.lines
        assert "late.wav begins with 1.00 s of silence" in report.as_markdown(b.report(row))


async def test_B7_a_post_command_gets_each_output_and_its_failure_harms_nothing(
    tmp_path: Path,
) -> None:
    for name in ("a", "it's; rm -rf ~ $HOME"):
        make_pair(tmp_path, name)
    script = 'printf "%s|%s\\n" "$1" "$AVATOP_POST_NAME" >> posted; test "$AVATOP_POST_NAME" = a'
    command = ["sh", "-c", script, "post", "{output}"]
    async with bench(tmp_path) as b:
        row = await b.whole(post_command=command)
        items = b.items(row)
        assert row.state == "done"
        assert [i.post for i in items.values()] == ["done", "failed"]
        assert "exited with code 1" in str(items["it's; rm -rf ~ $HOME"].post_error)
        lines = sorted((tmp_path / "out" / "posted").read_text().splitlines())
        assert lines == sorted(f"{i.output}|{i.name}" for i in items.values())
        row = await b.whole(post_command=["sleep", "60"], post_timeout=0.1, name="again")
        assert {i.post for i in b.items(row).values()} == {"failed"}
        reply = await b.ask("start", **{**row.spec, "post_command": ["echo", "{nonsense}"]})
        assert (reply.ok, reply.state) == (False, "bad_input")


async def test_B1_an_inbox_takes_pairs_once_they_are_whole(tmp_path: Path) -> None:
    make_pair(tmp_path, "early")
    make_pair(tmp_path / "aside", "late")
    whole = (tmp_path / "aside" / "image" / "late.png").read_bytes()
    async with bench(tmp_path) as b:
        batch = await b.start(watch=True, settle_seconds=0.2)
        await b.bus.until(lambda e: e.counts.get("done") == 1)
        (tmp_path / "audio" / "late.wav").write_bytes(
            (tmp_path / "aside" / "audio" / "late.wav").read_bytes()
        )
        (tmp_path / "image" / "late.png").write_bytes(whole[: len(whole) // 2])
        async with asyncio.timeout(30):
            while not any("late is not whole" in line for line in b.bus.lines):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert [i.name for i in b.service.store.items(batch)] == ["early"]
        (tmp_path / "image" / "late.png").write_bytes(whole)
        await b.bus.until(lambda e: e.counts.get("done") == 2)
        assert (await b.ask("stop", batch)).ok
        assert (await b.end_of(batch)).state == "done"
