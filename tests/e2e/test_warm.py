"""Do ranks that stay loaded serve the next job as fresh ones would, and never stand in the way?"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.messages import Drain, LogLine, RankChanged, Reap
from tests.e2e.harness import Driven, engine_under, gone, job_flags, until

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("e2e")]


class Work:
    """Jobs of one engine, one after another, and what was heard of each."""

    def __init__(self, engine: Driven, inputs: Path) -> None:
        self.engine, self.inputs = engine, inputs

    def make(self, **changes: Any) -> dict[str, Any]:
        """A job to its end: digest, frames, ranks, and whether those were warm."""
        job = self.engine.submit(job_flags(self.inputs, num_clip=1, **changes))
        row = self.engine.row(job, "done", "failed", "interrupted")
        assert row.state == "done", row.error
        body = json.loads((self.engine.places.job(job).folder / "result.json").read_text())
        events = [e for e in self.engine.seen if getattr(e, "job", None) == job]
        told = [e.text for e in events if isinstance(e, LogLine)]
        ranks = [e for e in events if isinstance(e, RankChanged)]
        return {
            "sha": body["latents_sha256"],
            "frames": body["frames"],
            "pids": {e.pid for e in ranks if e.pid},
            "warm": any("ranks are warm" in text for text in told),
        }

    @property
    def waiting(self) -> list[psutil.Process]:
        """Processes of groups that wait."""
        pids = [p.pid for w in self.engine.services.warm._waiting for p in w.group.ranks]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


@pytest.fixture(scope="module")
def work(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    with engine_under(tmp_path_factory.mktemp("warm")) as driven:
        yield Work(driven, inputs)


def test_a_second_job_of_equal_plan_starts_without_loading(work: Work) -> None:
    cold = work.make()
    assert not cold["warm"]
    (rank,) = work.waiting
    assert " ".join(rank.cmdline()).startswith("avatop-rank --warm --after 1")
    warm = work.make()
    assert warm["warm"]
    assert warm["pids"] == cold["pids"]
    assert (warm["sha"], warm["frames"]) == (cold["sha"], cold["frames"])


def test_another_prompt_size_and_seed_come_to_the_bytes_of_a_fresh_start(work: Work) -> None:
    """And a signal -9 to ranks that wait harms nothing: the next job starts anew."""
    other = {"prompt": "An old man with a beard, snow", "size": "96*64", "base_seed": 3}
    warm = work.make(**other)
    assert warm["warm"]
    for rank in work.waiting:
        rank.send_signal(signal.SIGKILL)
    until(lambda: not work.waiting)
    cold = work.make(**other)
    assert not cold["warm"]
    assert cold["sha"] == warm["sha"]


def test_ranks_that_wait_are_no_zombies(work: Work) -> None:
    (rank,) = work.waiting
    refused = work.engine.ask(Reap(targets=((rank.pid, rank.create_time()),), confirmed=True))
    assert not refused.ok
    assert "protected" in refused.message
    assert rank.is_running()


def test_other_plans_stay_beside_where_memory_allows_and_end_them_where_not(work: Work) -> None:
    (single,) = work.waiting
    pair = {"mode": "tpp", "num_gpus_dit": 2}
    cold = work.make(**pair)
    assert single.is_running()
    assert len(work.waiting) == 3
    again = work.make(**pair)
    assert again["warm"]
    assert again["sha"] == cold["sha"]
    before = work.waiting
    # As much as this plan needs, and nothing beside it.
    small = work.make(sample_steps=2, host_memory="500MiB")
    assert not small["warm"]
    assert gone(before)


def test_a_drained_device_is_left_by_them(work: Work) -> None:
    (cpu,) = work.engine.client.snapshot().result(30).devices
    ranks = work.waiting
    assert ranks
    assert work.engine.ask(Drain(device=cpu.uuid)).ok
    assert gone(ranks)
    assert work.engine.ask(Drain(device=cpu.uuid, on=False)).ok


def test_they_end_with_the_engine(work: Work) -> None:
    assert not work.make()["warm"]
    ranks = work.waiting
    assert ranks
    work.engine.client.close()
    assert gone(ranks)
