from __future__ import annotations

import pytest
import torch

from vnbench.trial.instruments.timing import PHASES, CudaTimer, WallTimer


class FakeClock:
    """Returns the seconds that the test has let pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_step_lasts_until_the_next_one_starts_and_phases_add_up_inside_it() -> None:
    clock = FakeClock()
    timer = WallTimer(clock=clock)
    timer.begin_block()
    clock.now += 0.25
    for forward_s in (1.0, 3.0):
        timer.begin_step()
        for _ in range(2):
            with timer.phase("forward"):
                clock.now += forward_s
        with timer.phase("backward"):
            clock.now += 4.0
        clock.now += 0.5
    times, wall_time_s = timer.end_block()
    assert times["step_time_s"] == [6.5, 10.5]
    assert times["forward_s"] == [2.0, 6.0]
    assert times["backward_s"] == [4.0, 4.0]
    assert times["data_wait_s"] == [0.0, 0.0]
    assert wall_time_s == 17.25
    assert set(times) == {"step_time_s", *(f"{phase}_s" for phase in PHASES)}


def test_a_block_without_steps_has_no_times() -> None:
    timer = WallTimer()
    timer.begin_block()
    times, _ = timer.end_block()
    assert all(column == [] for column in times.values())


@pytest.mark.gpu
def test_cuda_phases_fill_the_step_and_match_the_wall_clock() -> None:
    timer = CudaTimer()
    matrix = torch.randn(4096, 4096, device="cuda")
    timer.begin_block()
    for _ in range(5):
        timer.begin_step()
        with timer.phase("forward"):
            for _ in range(20):
                matrix @ matrix
    times, wall_time_s = timer.end_block()
    assert sum(times["step_time_s"]) == pytest.approx(wall_time_s, rel=0.2)
    for forward_s, step_time_s in zip(times["forward_s"], times["step_time_s"], strict=True):
        assert 0.8 * step_time_s <= forward_s <= step_time_s * 1.01
