from __future__ import annotations

import math

import pytest
import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.records.record import TrialRecord


def trials(*, count: int = 3, **levers: str | int) -> list[TrialRecord]:
    return [factory.measured_compute_record(factory.compute_spec(**levers), replicate=n) for n in range(count)]


def test_an_effect_is_the_ratio_of_mean_logarithms_with_the_spread_of_both_sides() -> None:
    found = Findings([*trials(count=4), *trials(count=2, checkpointing="stages")])
    (effect,) = found.computing_effects
    spread = found.noise.spread_for("compute")
    assert spread is not None
    assert (effect.lever, effect.spec.checkpointing, effect.base.checkpointing) == ("checkpointing", "stages", "none")
    assert effect.time.value > 1, "recomputing costs time"
    assert effect.time.log.se == pytest.approx(spread.relative * math.sqrt(1 / 4 + 1 / 2))
    assert effect.time.log.dof == spread.degrees_of_freedom


def test_without_repeats_there_is_no_interval() -> None:
    (effect,) = Findings([*trials(count=1), *trials(count=1, checkpointing="stages")]).computing_effects
    assert effect.time.interval is None


def test_trials_on_other_canvases_or_of_other_batches_are_not_compared() -> None:
    larger = trials(micro_batch_size=4, batch_size=4)
    elsewhere = trials(checkpointing="stages", canvas_sizes=((480, 3200),))
    assert Findings([*trials(), *larger]).computing_effects == ()
    assert Findings([*trials(), *elsewhere]).computing_effects == ()


def test_memory_is_that_of_worst_case_trials_of_both_sides() -> None:
    peaks = [factory.measured_memory_record(factory.training_spec(checkpointing=value)) for value in ("none", "stages")]
    (effect,) = Findings([*trials(), *trials(checkpointing="stages"), *peaks]).computing_effects
    assert effect.memory is not None
    assert effect.memory < 1
