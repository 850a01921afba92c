"""Does one job go through every mode, from each to each other, and stay what it was?"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.kept import ENVIRONMENT
from engine.messages import Cancel, Pause, PlanChanged, Switch
from tests.bad_inputs import voice, write_wav
from tests.e2e.gone_on import changed, digests, made
from tests.e2e.harness import PATIENCE, Driven, engine_under, job_flags

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.xdist_group("e2e"),
    pytest.mark.timeout(600),  # thirty-one groups of ranks, one after another
]

#: Clips of one block: there is always a boundary soon. Few steps keep few blocks under way. Some
#: five blocks pass from one switch to the next, more on a busy machine; what is left is not made.
CLIPS, STEPS = 240, 2
MODES: dict[str, dict[str, Any]] = {
    "single": {"mode": "single"},
    "offload": {"mode": "offload"},
    "tpp": {"mode": "tpp", "num_gpus_dit": 2},
    "fsdp": {"mode": "fsdp", "num_gpus_dit": 2},
    "ring": {"mode": "tpp", "num_gpus_dit": 2, "variant": "ring"},
    "balanced": {"mode": "tpp", "num_gpus_dit": 3, "variant": "balanced"},
}


def test_switches_visit_every_ordered_pair_of_modes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = inputs / "pairs.wav"
    write_wav(audio, voice(CLIPS * 0.48 + 1, 16_000), 16_000)
    flags = job_flags(
        inputs, audio=audio, infer_frames=12, num_clip=CLIPS, sample_steps=STEPS, retries=0
    )
    tour = every_pair(list(MODES))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "mirrors"))
    with engine_under(tmp_path) as driven:
        job = driven.submit({**flags, **{k: str(v) for k, v in MODES[tour[0]].items()}})
        driven.wait(made(job, 0))
        moves = []
        for name in tour[1:]:
            reply = driven.ask(Switch(job=job, changes=MODES[name]))
            assert reply.ok, f"{name}: {reply.message}"
            moves.append(driven.wait(changed(job)))
        assert [m.mode for m in moves if isinstance(m, PlanChanged)] == [
            MODES[name]["mode"] for name in tour[1:]
        ]
        assert driven.ask(Pause(job=job)).ok
        clips, latents = paused(driven, job)
        # The same request, left alone until it has made as much: its voice is encoded already.
        alone = driven.submit(flags)
        driven.wait(made(alone, len(clips) - 1), 4 * PATIENCE)
        assert driven.ask(Pause(job=alone)).ok
        whole, blocks = paused(driven, alone)
        assert clips == whole[: len(clips)]
        assert latents == blocks[: len(latents)]


def paused(driven: Driven, job: int) -> tuple[list[str], bytes]:
    """The digests of a paused job's clips, and the latents of all its blocks; it ends."""
    row = driven.row(job, "paused", "failed", "interrupted", "done")
    assert row.state == "paused", row.error
    clips = digests(driven, job)
    latents = (driven.places.job(job).segments / "latents.bin").read_bytes()
    assert len(latents) == len(clips) * 16 * 3 * 8 * 8 * 4  # float32 [16, 3, 8, 8] each
    assert driven.ask(Cancel(job=job)).ok
    return clips, latents


def every_pair(names: list[str]) -> list[str]:
    """A closed walk that goes from each name to each other exactly once (Hierholzer)."""
    left = {name: [other for other in names if other != name] for name in names}
    stack, walk = [names[0]], list[str]()
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    pairs = set(itertools.pairwise(walk))
    assert len(pairs) == len(walk) - 1 == len(names) * (len(names) - 1)
    return walk[::-1]
