from __future__ import annotations

import pytest

from vnbench.trial.measuring.stopping import Stopping

QUIET = [1.0, 1.01, 0.99, 1.0]
PIXELS = [1000] * 4


def test_a_quiet_block_reaches_the_target() -> None:
    stopping = Stopping(noise_target=0.02, max_measuring_s=None, max_steps=4)
    stopping.add_block(QUIET, PIXELS, wall_time_s=4.0)
    stop = stopping.decide()
    assert stop is not None
    assert stop.rule == "noise-target", "the target goes before the caps"
    # s = sqrt(0.0002 / 3) = 0.00816, half-width = 3.182 s / 2 = 0.0130
    assert stop.relative_half_width == pytest.approx(0.0130, abs=1e-4)
    assert (stop.num_steps, stop.num_observations, stop.measuring_s) == (4, 4, 4.0)


def test_a_noisy_one_goes_on_until_a_cap() -> None:
    stopping = Stopping(noise_target=0.005, max_measuring_s=None, max_steps=8)
    stopping.add_block(QUIET, PIXELS, wall_time_s=4.0)
    assert stopping.decide() is None
    stopping.add_block(QUIET, PIXELS, wall_time_s=4.0)
    stop = stopping.decide()
    assert stop is not None
    assert (stop.rule, stop.num_steps) == ("max-steps", 8)


@pytest.mark.parametrize(
    ("caps", "rule"),
    [({"max_epochs": 1}, "max-epochs"), ({"max_steps": 4}, "max-steps"), ({}, "max-measuring-time")],
)
def test_the_rule_that_fired_is_named(caps: dict[str, int], rule: str) -> None:
    stopping = Stopping(noise_target=1e-6, max_measuring_s=3.0, **caps)
    stopping.add_block(QUIET, PIXELS, wall_time_s=4.0)
    stop = stopping.decide()
    assert stop is not None
    assert stop.rule == rule


def test_different_canvases_are_no_noise() -> None:
    stopping = Stopping(noise_target=0.001, max_measuring_s=None, max_epochs=1)
    stopping.add_block([1.0, 2.0, 3.0, 4.0], [1000, 2000, 3000, 4000], wall_time_s=10.0)
    stop = stopping.decide()
    assert stop is not None
    assert stop.rule == "noise-target"
    assert stop.relative_half_width == pytest.approx(0.0, abs=1e-12)


def test_a_single_step_never_reaches_a_target() -> None:
    stopping = Stopping(noise_target=0.99, max_measuring_s=None, max_steps=2)
    stopping.add_block([1.0], [1000], wall_time_s=1.0)
    assert stopping.decide() is None


def test_steps_without_a_valid_time_count_and_say_nothing() -> None:
    stopping = Stopping(noise_target=0.5, max_measuring_s=None, max_steps=2)
    stopping.add_block([-1.0, -2.0], [1000, 1000], wall_time_s=-3.0)
    stop = stopping.decide()
    assert stop is not None
    assert (stop.rule, stop.relative_half_width, stop.num_observations) == ("max-steps", None, None)


def test_neighbours_that_are_alike_count_as_groups() -> None:
    slow_then_fast = [1.1] * 32 + [0.9] * 32
    stopping = Stopping(noise_target=None, max_measuring_s=None, max_steps=64)
    stopping.add_block(slow_then_fast, [1000] * 64, wall_time_s=64.0)
    stop = stopping.decide()
    assert stop is not None
    assert stop.num_observations is not None
    assert stop.num_observations <= 8
    assert stop.relative_half_width is not None
    assert stop.relative_half_width > 0.08


def by_canvas() -> Stopping:
    return Stopping(noise_target=0.05, max_measuring_s=None, max_epochs=3, is_by_canvas=True)


def test_canvases_that_cost_different_times_per_pixel_are_no_noise_where_they_are_repeated() -> None:
    stopping = by_canvas()
    stopping.add_block([1.0, 3.0], [1000, 2000], wall_time_s=4.0)
    assert stopping.decide() is None, "steps on different canvases are no repetition"
    stopping.add_block([1.0, 3.0], [1000, 2000], wall_time_s=4.0)
    stop = stopping.decide()
    assert stop is not None
    assert stop.rule == "noise-target"
    assert stop.relative_half_width == pytest.approx(0.0, abs=1e-12)


def test_the_noise_of_a_training_trial_is_what_epochs_differ_by() -> None:
    stopping = by_canvas()
    stopping.add_block([1.1, 2.9], [1000, 2000], wall_time_s=4.0)
    stopping.add_block([0.9, 3.1], [1000, 2000], wall_time_s=4.0)
    stopping.max_epochs = 2
    stop = stopping.decide()
    assert stop is not None
    # Four residuals of 0.1 s, two degrees of freedom: a step has 0.02 s^2, the sum of four 0.08 s^2, of 8 s in all;
    # half-width 4.303 * 0.2828 / 8.
    assert stop.relative_half_width == pytest.approx(4.303 * 0.2828 / 8, rel=1e-3)
    assert stop.num_observations == 3
    assert stop.rule == "max-epochs"


def test_one_epoch_of_different_canvases_tells_no_noise() -> None:
    stopping = by_canvas()
    stopping.max_epochs = 1
    stopping.add_block([1.0, 3.0, 9.0], [1000, 2000, 3000], wall_time_s=13.0)
    stop = stopping.decide()
    assert stop is not None
    assert (stop.rule, stop.relative_half_width) == ("max-epochs", None)
