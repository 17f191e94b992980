from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import record_factory as factory

from vnbench.analysis.comparison.best import confidence, may_be_fastest
from vnbench.analysis.comparison.lever_differences import centre_among, differing_levers, varied_from
from vnbench.analysis.comparison.side_by_side import SideBySide, side_by_side
from vnbench.analysis.comparison.sweep_answer import SweepAnswer, answer_of
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.summary import summarize
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec

CENTRE = factory.training_spec(precision="bf16", norm_precision="input", sampler="bucketed")
SHAPES = [1000, 3000, 2000, 4000, 2500, 3500]


def run(spec: TrialSpec, times_s: Sequence[float], *, replicate: int = 0) -> TrialRecord:
    steps = factory.steps_of(times_s, valid_pixels=SHAPES[: len(times_s)], padded_pixels=SHAPES[: len(times_s)])
    return factory.record_of(spec, replicate=replicate, steps=steps, block=factory.block_of(steps))


def varied(**changes: Any) -> TrialSpec:
    return replace(CENTRE, **changes)


def sides_of(records: Sequence[TrialRecord], *, centre: TrialSpec | None = None) -> SideBySide:
    return side_by_side(records, noise=measure_noise(records), centre=centre)


def answered(records: Sequence[TrialRecord]) -> SweepAnswer:
    answer = answer_of(summarize(records), sides_of(records))
    assert answer is not None
    return answer


TIMES = [1.0, 3.6, 2.2, 5.2, 2.8, 4.3]
REPEATED = [run(CENTRE, [factor * t for t in TIMES], replicate=n) for n, factor in enumerate((1.0, 1.005, 0.995))]
SWEEP = [
    *REPEATED,
    run(varied(checkpointing="stages"), [1.27 * t for t in TIMES]),
    run(varied(num_workers=2), [1.001 * t for t in TIMES]),
    run(varied(precision="fp32", norm_precision="fp32"), [1.5 * t for t in TIMES]),
]


def test_a_micro_batch_that_follows_its_batch_is_no_lever_of_its_own() -> None:
    assert differing_levers(CENTRE, varied(batch_size=2, micro_batch_size=2)) == ("batch_size",)
    four = varied(batch_size=4, micro_batch_size=4)
    assert differing_levers(four, replace(four, micro_batch_size=2)) == ("micro_batch_size",)


def test_a_norm_that_has_no_choice_is_no_lever_of_its_own() -> None:
    assert differing_levers(CENTRE, varied(precision="fp32", norm_precision="fp32")) == ("precision",)
    assert differing_levers(CENTRE, varied(norm_precision="fp32")) == ("norm_precision",)
    assert differing_levers(CENTRE, varied(precision="fp16", norm_precision="fp32")) == ("precision", "norm_precision")


def test_samplers_at_batch_2_are_compared_at_batch_2() -> None:
    two = varied(batch_size=2, micro_batch_size=2)
    random = replace(two, sampler="random")
    specs = [CENTRE, two, random, varied(num_workers=2)]
    assert varied_from(random, specs, centre=CENTRE) == two
    assert varied_from(two, specs, centre=CENTRE) == CENTRE
    assert varied_from(CENTRE, specs, centre=CENTRE) is None
    assert varied_from(random, [CENTRE, random], centre=CENTRE) is None


def test_the_centre_is_the_repeated_configuration_or_the_one_nearest_to_the_others() -> None:
    specs = [varied(num_workers=2), CENTRE, varied(checkpointing="stages")]
    assert centre_among(specs, num_processes=[1, 1, 1]) == CENTRE
    assert centre_among(specs, num_processes=[1, 1, 3]) == specs[2]
    assert centre_among([], num_processes=[]) is None


def test_a_centre_that_is_known_is_taken_unless_it_has_no_figure() -> None:
    assert sides_of(SWEEP, centre=varied(num_workers=2)).centre == varied(num_workers=2)
    assert sides_of(SWEEP, centre=varied(num_workers=8)).centre == CENTRE


def test_trials_on_other_examples_are_not_compared() -> None:
    other = replace(varied(num_workers=2), corpus_id="ba9876543210")
    sides = sides_of([*REPEATED, run(other, TIMES)])
    assert sides.to_centre(other) is None
    assert answer_of(summarize([*REPEATED, run(other, TIMES)]), sides) is None


def test_the_answer_names_the_fastest_and_what_may_be_as_fast() -> None:
    answer = answered(SWEEP)
    assert answer.fastest.spec == CENTRE
    assert answer.over_centre is None
    assert [row.spec for row in answer.contenders] == [varied(num_workers=2)]
    assert answer.num_others == 3
    assert answer.has_processes


def test_each_lever_has_one_effect_with_time_and_memory() -> None:
    spec = varied(checkpointing="stages")
    memory = [
        factory.record_of(worst, memory=factory.reading_of(worst, peak_bytes=peak))
        for one, peak in ((CENTRE, 2000), (spec, 980))
        for worst in [factory.memory_spec(one)]
    ]
    effects = {effect.lever: effect for effect in answered([*memory, *SWEEP]).effects}
    assert set(effects) == {"checkpointing", "num_workers", "precision"}
    assert effects["checkpointing"].time.value == pytest.approx(1.27)
    assert effects["checkpointing"].memory == pytest.approx(0.49)
    assert effects["precision"].memory is None
    assert not effects["num_workers"].time.is_told_apart


@pytest.mark.parametrize(
    ("num_others", "freedom", "factor"),
    [(1, 5, 2.02), (2, 5, 2.44), (3, 5, 2.68), (1, 10, 1.81), (4, 10, 2.47), (6, 10, 2.64), (1, math.inf, 1.645)],
)
def test_the_factor_of_the_best_is_dunnett_s(num_others: int, freedom: float, factor: float) -> None:
    # Dunnett (1955), table 1a: one-sided, 95 % for all comparisons together.
    below, above = (
        confidence(one, num_others=num_others, degrees_of_freedom=freedom) for one in (factor - 0.006, factor + 0.006)
    )
    assert below < 0.95 < above


def test_a_configuration_of_which_nothing_is_known_may_be_the_fastest() -> None:
    def ratio(value: float, se: float | None) -> Ratio:
        return Ratio(log=Estimate(value=math.log(value), se=se))

    assert may_be_fastest(ratio(0.5, None), num_others=1)
    assert not may_be_fastest(ratio(0.5, 0.01), num_others=1)
    assert not may_be_fastest(ratio(0.5, 0.0), num_others=1)
    assert may_be_fastest(ratio(1.0, 0.0), num_others=1)
    assert may_be_fastest(ratio(0.98, 0.01), num_others=3)


@pytest.mark.parametrize("freedom", [2.0, 5.5, 30.0, math.inf])
@pytest.mark.parametrize("num_others", [1, 2, 5, 180])
def test_what_may_be_fastest_is_told_by_the_chance_of_all_comparisons(num_others: int, freedom: float) -> None:
    for distance in (0.0, 0.5, 1.5, 1.8, 2.2, 2.6, 3.0, 3.5, 5.0, 12.0, 40.0):
        ratio = Ratio(log=Estimate(value=-0.01 * distance, se=0.01, dof=freedom))
        chance = confidence(distance, num_others=num_others, degrees_of_freedom=freedom)
        assert may_be_fastest(ratio, num_others=num_others) == (chance <= 0.95)
