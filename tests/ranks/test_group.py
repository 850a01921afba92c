"""Are ranks born, heard and ended as one, whatever happens to any of them?"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.guard.ports import reserve
from engine.ranks.group import RankGroup
from engine.ranks.protocol import Order
from engine.ranks.server import RankServer, RankServerError
from tests.pace import Pace
from tests.ranks.helpers import PRELOAD, all_ended, specs, start

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.xdist_group("ranks"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RankServer]:
    server = RankServer(preload=PRELOAD)
    server.prewarm()
    yield server
    await server.close()


async def finished(group: RankGroup, bound: float = 20.0):
    """How the group ended, within so many seconds in which cores were free."""
    pace = Pace()
    result = await asyncio.wait_for(asyncio.shield(group.ended), 60)
    assert pace.seconds < bound
    return result


async def test_a_job_that_returns_on_every_rank_is_a_good_end(server, tmp_path):
    group, heard = await start(server, "finish", 3, tmp_path, env={"AVATOP_X": "given"})
    result = await finished(group)
    assert result.ok
    assert result.reason == "done"
    assert result.root is None
    assert [(e.rank, e.code, e.signal) for e in sorted(heard.exits, key=lambda e: e.rank)] == [
        (0, 0, None),
        (1, 0, None),
        (2, 0, None),
    ]
    env = {r.rank: r.data["env"] for r in heard.kinds("result")}
    assert env[2] == {"RANK": "2", "WORLD_SIZE": "3", "AVATOP_X": "given"}
    hello = heard.kinds("hello")[0].data
    assert hello["device_name"]
    assert hello["torch"]
    assert hello["device_uuid"] is None


async def test_a_rank_that_takes_time_to_die_is_still_the_cause(server, tmp_path):
    group, _ = await start(server, "lose_a_slow_peer", 2, tmp_path)
    result = await finished(group)
    assert result.root == 1
    assert "SIGKILL" in result.reason


async def test_the_server_forks_single_threaded(server):
    assert (await server.ready())["threads"] == 1


async def test_a_killed_rank_takes_the_group_along_and_is_named(server, tmp_path):
    group, heard = await start(server, "idle", 3, tmp_path)
    await heard.until_running(3)
    pids = [p.pid for p in group.ranks]
    assert group.alive() == sorted(pids)
    os.kill(group.ranks[1].pid, signal.SIGKILL)
    result = await finished(group, 2.0)
    assert not result.ok
    assert result.root == 1
    assert "rank 1" in result.reason
    assert "SIGKILL" in result.reason
    assert result.leftover == ()
    assert group.alive() == []
    assert all_ended(pids, 0.0)
    exits = {e.rank: e for e in result.exits}
    assert exits[1].before_signal
    assert not exits[0].before_signal
    assert exits[0].signal == signal.SIGTERM


async def test_a_killed_rank_is_the_root_though_its_peers_fail_in_a_collective(server, tmp_path):
    with reserve() as port:
        group, heard = await start(server, "collective_forever", 3, tmp_path, port=port.number)
        await heard.until_running(3)
        os.kill(group.ranks[2].pid, signal.SIGKILL)
        result = await finished(group, 2.0)
    assert result.root == 2
    assert "SIGKILL" in result.reason
    assert group.alive() == []


async def test_ranks_meet_at_the_reserved_port(server, tmp_path):
    with reserve() as port:
        group, heard = await start(server, "all_reduce", 3, tmp_path, port=port.number)
        result = await finished(group)
    assert result.ok, result
    assert [r.data["total"] for r in heard.kinds("result")] == [6.0, 6.0, 6.0]
    assert {r.data["threads"] for r in heard.kinds("result")} == {1}


async def test_a_rank_that_ignores_sigterm_is_killed(server, tmp_path):
    group, heard = await start(server, "stubborn", 2, tmp_path)
    await heard.until_running(2)
    result = await asyncio.wait_for(group.stop("cancelled by a test", grace=0.05), 60)
    assert result.stopped
    assert result.reason == "cancelled by a test"
    assert result.root is None
    assert {e.signal for e in result.exits} == {signal.SIGKILL}
    assert group.alive() == []


async def test_children_of_a_rank_do_not_outlive_the_group(server, tmp_path):
    group, heard = await start(server, "with_children", 2, tmp_path)
    await heard.until_running(2)
    children = heard.kinds("log")[0].data["pids"] or heard.kinds("log")[1].data["pids"]
    assert len(children) == 2
    assert children[0] in group.alive()
    os.kill(group.ranks[0].pid, signal.SIGKILL)
    await finished(group, 3.0)
    assert all_ended(children, 0.0)


async def test_a_failed_report_ends_the_group_with_its_kind(server, tmp_path):
    group, _ = await start(server, "fail_input", 3, tmp_path)
    result = await finished(group, 5.0)
    assert result.root == 2
    assert result.failed is not None
    assert result.failed.data["kind"] == "bad_input"
    assert result.failed.data["message"] == "the portrait is empty"
    assert "fail_input" in result.failed.data["traceback"]
    assert "the portrait is empty" in result.reason
    assert {e.rank: e.code for e in result.exits}[2] == 1


async def test_memory_that_cannot_be_had_is_called_oom(server, tmp_path):
    group, _ = await start(server, "fail_memory", 2, tmp_path)
    result = await finished(group, 5.0)
    assert result.root == 0
    assert result.failed is not None
    assert result.failed.data["kind"] == "oom"


async def test_leaving_before_the_job_is_finished_is_a_failure_even_with_code_zero(
    server, tmp_path
):
    group, _ = await start(server, "quit_early", 2, tmp_path)
    result = await finished(group, 5.0)
    assert result.root == 1
    assert "before its job was finished" in result.reason


async def test_an_entry_that_does_not_exist_is_told_with_its_name(server, tmp_path):
    group, _ = await start(server, "no_such_job", 1, tmp_path)
    result = await finished(group, 5.0)
    assert result.failed is not None
    assert "no_such_job" in result.failed.data["message"]


async def test_everything_a_rank_prints_arrives_as_bounded_lines(server, tmp_path):
    group, heard = await start(server, "noisy", 1, tmp_path)
    result = await finished(group)
    assert result.ok, result
    out, err = heard.texts("stdout"), heard.texts("stderr")
    assert out[:3] == ["plain", "bar 1%", "bar 2%"]
    assert "from C" in out
    assert "from Python \N{SNOWMAN}" in out
    long = next(text for text in out if text.startswith("xxx"))
    assert len(long) < 20_000
    assert "10469376 more bytes" in long
    assert err == [r"bad \xff\xfe bytes", "no newline at the end"]
    assert all(log.rank == 0 and log.t > 0 for log in heard.logs)


async def test_orders_reach_the_job(server, tmp_path):
    group, heard = await start(server, "obey", 2, tmp_path)
    await heard.until_running(2)
    group.send(Order("nonsense"))
    group.send(Order("spike_threshold", {"bytes": 1234}))
    group.send(Order("stop_after_clip"), rank=1)
    group.send(Order("stop_after_clip"), rank=0)
    assert (await finished(group)).ok
    assert [r.data["threshold"] for r in heard.kinds("result")] == [1234, 1234]
    assert any("nonsense" in r.data["text"] for r in heard.kinds("log"))
    group.send(Order("stop_after_clip"))  # nobody is left; nothing happens


async def test_a_rank_whose_channel_ends_leaves(server, tmp_path):
    group, heard = await start(server, "idle", 2, tmp_path)
    await heard.until_running(2)
    transport = group.ranks[0].transport
    assert transport is not None
    transport.close()
    await finished(group, 5.0)
    assert group.alive() == []


async def test_heartbeats_tell_the_phase_and_silence_is_measured(server, tmp_path):
    group, heard = await start(server, "idle", 1, tmp_path)
    async with asyncio.timeout(10):
        while not any(r.data["phase"] == "running" for r in heard.kinds("heartbeat")):
            heard.changed.clear()
            await heard.changed.wait()
    assert group.ranks[0].phase == "running"
    assert 0 <= group.silence(0) < 10
    await group.stop("enough")


async def test_a_killed_server_takes_its_ranks_along_and_the_next_group_gets_a_new_one(tmp_path):
    server = RankServer(preload=PRELOAD)
    group, heard = await start(server, "idle", 2, tmp_path)
    await heard.until_running(2)
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    result = await finished(group, 3.0)
    assert not result.ok
    assert result.root is None
    assert "rank server" in result.reason
    assert all_ended([p.pid for p in group.ranks], 0.0)
    again, _ = await start(server, "finish", 1, tmp_path)
    assert (await finished(again)).ok
    assert server.pid != first
    await server.close()
    assert server.pid is None


async def test_a_server_that_cannot_load_says_why(tmp_path: Path):
    server = RankServer(preload=["torch", "tests.ranks.broken_on_import"])
    with pytest.raises(RankServerError, match="broken on purpose"):
        await RankGroup.start(
            server, specs(1, tmp_path), lambda _: None, lambda _: None, lambda _: None
        )
    await server.close()
