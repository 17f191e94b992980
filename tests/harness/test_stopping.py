from __future__ import annotations

import pytest

from vnbench.harness.stopping import Stopping

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
