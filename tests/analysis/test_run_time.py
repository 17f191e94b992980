from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import record_factory as factory

from vnbench.analysis.models.fit import FamilyFit, fit_families
from vnbench.analysis.models.run_time import EpochPasses, RunTime, compose_run, measured_start_up_s
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BatchPlan, PlanConfig

SIZES_N2 = np.array([[480, 3200 + 320 * i] for i in range(24)], dtype=np.int64)


@pytest.fixture(name="family")
def _family() -> FamilyFit:
    spec = factory.compute_spec(micro_batch_size=2)
    families, _ = fit_families([factory.measured_compute_record(spec, replicate=n) for n in range(3)])
    return families[0]


def plan_of(*, batch_size: int, micro_batch_size: int = 2) -> BatchPlan:
    config = PlanConfig(sampler="bucketed", batch_size=batch_size, micro_batch_size=micro_batch_size)
    return plan_epoch(SIZES_N2, config, epoch=1)


def composed(family: FamilyFit, plan: BatchPlan, **changes: Any) -> RunTime:
    values: dict[str, Any] = {
        "training": EpochPasses.of(plan),
        "validation": None,
        "num_epochs": 3,
        "loading_per_example": None,
        "num_workers": 2,
        "start_up_s": 7.0,
    }
    return compose_run(family, **(values | changes))


def test_an_epoch_is_the_sum_of_its_passes(family: FamilyFit) -> None:
    plan = plan_of(batch_size=2)
    run = composed(family, plan)
    assert run.epoch.total_s == pytest.approx(sum(map(family.fit.model.time_s, plan.padded_pixels_M.tolist())))
    assert run.num_steps == 12
    assert run.step_s == pytest.approx(run.epoch.total_s / 12)
    assert run.total_s == pytest.approx(7.0 + run.new_shapes_s + 3 * run.epoch.total_s)


def test_passes_that_share_an_update_save_the_others(family: FamilyFit) -> None:
    assert family.optimizer_s is not None
    run = composed(family, plan_of(batch_size=6))
    assert run.num_steps == 4
    assert run.saved_s == pytest.approx(8 * family.optimizer_s)


def test_validation_takes_the_forward_share_of_its_passes(family: FamilyFit) -> None:
    assert family.forward_ratio == pytest.approx(0.3, rel=0.01)
    validation = plan_of(batch_size=2)
    run = composed(family, plan_of(batch_size=2), validation=EpochPasses.of(validation))
    whole_s = sum(map(family.fit.model.time_s, validation.padded_pixels_M.tolist()))
    assert run.validation_s == pytest.approx(family.forward_ratio * whole_s)
    assert run.epoch.total_s == pytest.approx(run.epoch.computing_s + run.validation_s)


def test_loading_hides_behind_computing_with_workers_alone(family: FamilyFit) -> None:
    plan = plan_of(batch_size=2)
    quick = composed(family, plan, loading_per_example=Estimate(value=1e-6))
    slow = composed(family, plan, loading_per_example=Estimate(value=100.0))
    inside = composed(family, plan, loading_per_example=Estimate(value=1.0), num_workers=0)
    assert quick.epoch.total_s == pytest.approx(quick.epoch.computing_s)
    assert slow.epoch.total_s == pytest.approx(2400.0)
    assert inside.epoch.total_s == pytest.approx(inside.epoch.computing_s + 24.0)


def test_start_up_is_what_training_trials_take_beside_their_steps() -> None:
    steps = factory.steps_of([1.0, 2.0, 3.0], num_warm_up=1)
    trials = [
        factory.record_of(factory.training_spec(), steps=steps, elapsed_s=elapsed) for elapsed in (8.0, 10.0, 30.0)
    ]
    assert measured_start_up_s(trials) == pytest.approx(4.0)
    assert measured_start_up_s([factory.record_of(factory.training_spec(), status="oom")]) is None
