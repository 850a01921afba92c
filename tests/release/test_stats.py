"""Are the verdicts right as often as they claim, on synthetic measurements?"""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest

from engine.media.findings import MediaError
from engine.release.gates import Sample, live, paired
from engine.release.quality import compare, ssim
from engine.release.rollout import stage_over, takes_candidate
from engine.release.settings import Stage
from engine.release.stats import (
    Observation,
    false_fail_rate,
    mean_interval,
    rate_interval,
    stratified_interval,
    verdict,
)
from tests.release.world import settings

SETTINGS = settings()
ARMED = dict.fromkeys(("time_per_clip", "peak_memory", "psnr", "ssim", "error_rate"), True)


def _pairs(random: np.random.Generator, slower: float, noise: float = 0.03) -> list[Sample]:
    samples = []
    for number in range(8):
        level = random.uniform(0.5, 2.0)
        for role in ("stable", "candidate", "candidate", "stable"):
            factor = (1 + slower) if role == "candidate" else 1.0
            pace = level * factor * math.exp(random.normal(0, noise))
            samples.append(Sample(number + 1, role, True, f"input {number}", pace, 1 << 30))
    return samples


@pytest.mark.parametrize(
    ("slower", "wanted", "share"), [(0.0, "PASS", 0.99), (0.05, "PASS", 0.9), (0.2, "FAIL", 0.9)]
)
def test_R4_paired_verdicts_hold_over_many_draws(slower: float, wanted: str, share: float) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    said = [
        paired(_pairs(random, slower), SETTINGS, ARMED, same_numerics=True)[0].verdict
        for _ in range(150)
    ]
    assert said.count(wanted) / len(said) >= share


def test_R4_exactly_at_the_limit_few_pass_and_few_fail() -> None:
    random = np.random.Generator(np.random.PCG64(2))
    said = [
        paired(_pairs(random, 0.10), SETTINGS, ARMED, same_numerics=True)[0].verdict
        for _ in range(300)
    ]
    assert said.count("PASS") / 300 <= 0.1
    assert said.count("FAIL") / 300 <= 0.1


def test_R4_unarmed_gates_and_missing_data_never_pass() -> None:
    random = np.random.Generator(np.random.PCG64(3))
    rows = paired(_pairs(random, 0.0), SETTINGS, {}, same_numerics=True)
    assert not [row for row in rows if row.verdict == "PASS"]
    rows = paired([], SETTINGS, ARMED, same_numerics=True)
    assert not [row for row in rows if row.verdict == "PASS"]
    assert not [row for row in live([], SETTINGS, ARMED) if row.verdict == "PASS"]
    short = [s for s in _pairs(random, 0.0) if s.stratum < "input 5"]
    row = paired(short, SETTINGS, ARMED, same_numerics=True)[0]
    assert (row.verdict, row.n) == ("INCONCLUSIVE", 5)
    unfit = [
        Sample(n, role, False, f"input {n}", error="does not fit")
        for n in range(8)
        for role in ("stable", "candidate")
    ]
    assert paired(unfit, SETTINGS, ARMED, same_numerics=True)[-1].verdict == "ERROR"
    same = [Sample(n, role, True, f"input {n}", 1.0, 1 << 30)
            for n in range(8) for role in ("stable", "candidate")]  # fmt: skip
    assert paired(same, SETTINGS, ARMED, same_numerics=True)[0].verdict == "INCONCLUSIVE"


def test_R4_live_jobs_are_compared_within_their_stratum_only() -> None:
    """The candidate's jobs are longer ones, which take thrice the time: no slower for that."""
    random = np.random.Generator(np.random.PCG64(4))
    samples = []
    for number in range(60):
        long = number % 3 == 0
        role = "candidate" if (long and number % 2) or number % 10 == 1 else "stable"
        pace = (3.0 if long else 1.0) * math.exp(random.normal(0, 0.02))
        samples.append(Sample(number + 1, role, True, "long" if long else "short", pace))
    row = live(samples, SETTINGS, ARMED)[0]
    assert row.verdict == "PASS"
    assert abs(row.deviation or 1.0) < 0.03
    alone = [Sample(n, s.role, True, s.role, s.seconds) for n, s in enumerate(samples, 1)]
    assert live(alone, SETTINGS, ARMED)[0].verdict == "INCONCLUSIVE"


def test_R4_failure_rates_say_what_few_jobs_allow() -> None:
    highs = [rate_interval(0, n) for n in (5, 10, 20, 60)]
    assert [round(i.high, 2) for i in highs if i] == [0.45, 0.26, 0.14, 0.05]
    assert rate_interval(0, 0) is None
    worst = rate_interval(5, 5)
    assert worst is not None
    assert (worst.high, round(worst.low, 2)) == (1.0, 0.55)


def test_R4_intervals_and_arming() -> None:
    known = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert known is not None
    assert known.high - known.estimate == pytest.approx(2.35336 * math.sqrt(5 / 3) / 2, rel=1e-4)
    assert mean_interval([1.0]) is None
    assert verdict(None, 0.1) == "INCONCLUSIVE"
    assert verdict(mean_interval([math.inf, 1.0]), 0.1) == "INCONCLUSIVE"
    calm, wild = [0.01, -0.01, 0.02, -0.02] * 2, [0.4, 0.41, 0.39, 0.4]
    assert (false_fail_rate(calm, 0.1) or 0) <= 0.05
    assert (false_fail_rate(wild, 0.1) or 0) > 0.05
    assert false_fail_rate([0.1], 0.1) is None
    one = [Observation(1.0, False, "a"), Observation(1.2, True, "a")]
    assert stratified_interval(one) is None  # no spread is left over


def test_R1_shares_are_quotas_not_luck() -> None:
    for share, jobs, wanted in ((0.05, 20, 1), (0.05, 400, 20), (0.25, 80, 20), (0.5, 40, 20)):
        taken = 0
        for number in range(jobs):
            taken += takes_candidate(share, (number, taken), (number, taken))
        assert taken == wanted, share
    # Rare kinds of jobs, each in a stratum of its own, still give the candidate its share.
    total = 0
    for number in range(100):
        total += takes_candidate(0.05, (0, 0), (number, total))
    assert total == 5


def test_R1_a_stage_ends_by_jobs_or_by_time() -> None:
    stage = Stage("x", share=0.5, jobs=10, minutes=60, extend=1)
    assert not stage_over(stage, 9, 3599, 0)
    assert stage_over(stage, 10, 0, 0)
    assert stage_over(stage, 0, 3600, 0)
    assert not stage_over(stage, 10, 3600, 1)


def _video(path: Path, shade: int, frames: int = 4) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for number in range(frames):
            picture = np.full((64, 64, 3), shade, dtype=np.uint8)
            picture[:, number * 8 : number * 8 + 8] = 255 - shade
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_R4_psnr_and_ssim_of_equal_and_of_other_pictures(tmp_path: Path) -> None:
    one = _video(tmp_path / "a.mp4", 100)
    same = compare(one, one)
    assert (same.frames, same.psnr, same.ssim) == (4, math.inf, pytest.approx(1.0))
    other = compare(one, _video(tmp_path / "b.mp4", 60))
    assert other.psnr < 20
    assert other.ssim < 0.95
    with pytest.raises(MediaError):
        compare(one, _video(tmp_path / "c.mp4", 100, frames=3))
    random = np.random.Generator(np.random.PCG64(5))
    noise = random.uniform(0, 255, (32, 32))
    assert ssim(noise, noise) == pytest.approx(1.0)
    assert ssim(noise, 255 - noise) < 0
