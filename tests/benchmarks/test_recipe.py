from __future__ import annotations

import pytest
from recipe import Choice, Cost, choice_of, leanest, take_levers_away
from record_factory import training_spec

GIB = 2**30
RECIPE: Choice = ("bf16", "input", "stages")


def cost(gib: float, step_time_s: float | None, *, largest: int = 1, half_width: float | None = 0.1) -> Cost:
    return Cost(
        bytes_per_example=gib * GIB,
        largest_micro_batch=largest,
        step_time_s=step_time_s,
        relative_half_width=half_width,
    )


COSTS = {
    RECIPE: cost(1, 3.0),
    ("bf16", "input", "none"): cost(3, 2.0),
    ("bf16", "fp32", "stages"): cost(2, 4.0),
    ("fp32", "fp32", "stages"): cost(2.5, 6.0),
    ("fp32", "fp32", "none"): cost(6, 5.0),
}


def test_each_lever_is_taken_away_alone_and_its_price_is_time_per_memory() -> None:
    levers = {one.lever: one for one in take_levers_away(RECIPE, COSTS)}
    assert set(levers) == {"checkpointing stages", "norm in input precision", "bf16"}
    # Recomputing costs 1 s and saves 2 GiB.
    assert levers["checkpointing stages"].price_s_per_gib == pytest.approx(0.5)
    assert levers["checkpointing stages"].saved_bytes == 2 * GIB
    # A tenth of 3 s and a tenth of 2 s.
    assert levers["checkpointing stages"].price_half_width_s_per_gib == pytest.approx((0.3**2 + 0.2**2) ** 0.5 / 2)
    # The narrow norm saves 1 s as well as 1 GiB.
    assert levers["norm in input precision"].price_s_per_gib == pytest.approx(-1.0)
    # Without bf16 the norm is in fp32 whatever was asked.
    assert levers["bf16"].choice == ("fp32", "fp32", "stages")
    assert levers["bf16"].price_s_per_gib == pytest.approx(-2.0)


def test_the_plain_configuration_has_no_lever_to_take_away() -> None:
    assert take_levers_away(("fp32", "fp32", "none"), COSTS) == ()


def test_what_was_not_measured_is_left_out_or_has_no_price() -> None:
    partial = {RECIPE: cost(1, None), ("bf16", "input", "none"): cost(3, 2.0)}
    (only,) = take_levers_away(RECIPE, partial)
    assert only.saved_bytes == 2 * GIB
    assert only.price_s_per_gib is None
    assert only.price_half_width_s_per_gib is None


def test_a_lever_that_saves_nothing_has_no_price() -> None:
    costs = COSTS | {("bf16", "fp32", "stages"): cost(0.9, 4.0)}
    levers = {one.lever: one for one in take_levers_away(RECIPE, costs)}
    assert levers["norm in input precision"].price_s_per_gib is None


def test_a_price_without_intervals_has_none() -> None:
    costs = COSTS | {RECIPE: cost(1, 3.0, half_width=None)}
    assert all(one.price_half_width_s_per_gib is None for one in take_levers_away(RECIPE, costs))


def test_the_leanest_configuration_is_the_recipe() -> None:
    assert leanest(COSTS) == RECIPE
    with pytest.raises(ValueError, match="no configuration"):
        leanest({})


def test_the_levers_of_a_spec() -> None:
    assert choice_of(training_spec(precision="bf16", norm_precision="input", checkpointing="stages")) == RECIPE
