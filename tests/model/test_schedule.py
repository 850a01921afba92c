"""Are noise levels right for any number of steps, and is a step exact?"""

from __future__ import annotations

import pytest
import torch

from engine.model.schedule import Schedule


def test_four_steps_are_the_documented_ones() -> None:
    s = Schedule.flow_match(4, 3.0)
    assert s.timesteps == pytest.approx([1000, 857.692, 602.151, 8.9286], rel=1e-5)
    assert s.sigmas == pytest.approx([1, 0.857692, 0.602151, 0.0089286, 0], rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
def test_levels_fall_from_noise_to_clean(steps: int, shift: float) -> None:
    s = Schedule.flow_match(steps, shift)
    assert s.steps == steps
    assert s.sigmas[0] == 1
    assert s.sigmas[-1] == 0
    assert list(s.sigmas) == sorted(set(s.sigmas), reverse=True)


def test_one_step_removes_a_straight_flow_whole() -> None:
    clean, noise = torch.randn(4, generator=torch.manual_seed(0)), torch.ones(4)
    s = Schedule.flow_match(1)
    torch.testing.assert_close(s.euler(noise, noise - clean, 0), clean)


def test_a_step_is_computed_in_float32_and_rounded_once() -> None:
    s = Schedule.flow_match(4)
    x, v = torch.full((3,), 1.5, dtype=torch.bfloat16), torch.full((3,), 0.3).bfloat16()
    delta = torch.tensor(s.sigmas[2]) - torch.tensor(s.sigmas[1])
    assert torch.equal(s.euler(x, v, 1), (x.float() + delta * v.float()).bfloat16())


@pytest.mark.parametrize(("steps", "shift"), [(0, 3.0), (-1, 3.0), (4, 0.0), (4, float("nan"))])
def test_nonsense_is_refused(steps: int, shift: float) -> None:
    with pytest.raises(ValueError, match=r"steps|shift"):
        Schedule.flow_match(steps, shift)
