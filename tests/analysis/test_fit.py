from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from record_factory import (
    compute_spec,
    compute_sweep,
    loader_spec,
    measured_compute_record,
    measured_loader_record,
    measured_memory_record,
    measured_training_record,
    record_of,
    training_spec,
)

from vnbench.analysis.models.composition import compose_measured, new_shapes
from vnbench.analysis.models.fit import NO_EXTRA, FamilyFit, fit_families
from vnbench.analysis.models.linearity import count_steps, linearity_of
from vnbench.analysis.statistics.process_spread import Spread
from vnbench.analysis.trials.loading import summarize_loading
from vnbench.analysis.trials.noise import Noise
from vnbench.analysis.trials.process import compute_figures
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec


def only(records: list[TrialRecord]) -> FamilyFit:
    (family,), left_out = fit_families(records)
    assert left_out == {}
    return family


def test_a_compute_trial_gives_the_model_that_made_it() -> None:
    # A step takes 20 ms and 6 ns per padded pixel, 1 % noise per step, 3 % between processes.
    family = only([measured_compute_record(compute_spec(device="cuda", model="veernet"))])
    assert family.source == "compute"
    assert family.fit.num_sizes == 9
    assert family.fit.model.form == "linear"
    assert family.fit.model.overhead_s == pytest.approx(0.02, rel=0.2)
    assert family.fit.model.s_per_pixel == pytest.approx(6e-9, rel=0.08)
    assert family.fit.loo_error_max is not None
    assert family.fit.loo_error_max < 0.02
    assert family.optimizer_s is not None
    assert family.memory is not None
    assert family.memory.bytes_per_pixel == pytest.approx(0.9 * 2400, rel=1e-3)
    assert family.first_seen_s == pytest.approx(0.3, rel=0.1)


def test_counting_steps_alone_is_far_off_where_sizes_differ() -> None:
    family = only([measured_compute_record(compute_spec(device="cpu"))])
    assert family.fit.loo_error_max is not None
    assert family.step_count.loo_error_max is not None
    assert family.step_count.loo_error_max > 10 * family.fit.loo_error_max
    assert family.step_count.model.s_per_pixel == 0


def test_repeats_give_the_spread_between_processes() -> None:
    families, _ = fit_families(compute_sweep(replicates=3))
    assert len(families) == 4
    assert {family.fit.num_processes for family in families} == {3}
    assert all(family.fit.is_between_measured for family in families)
    assert 0.01 < families[0].fit.between < 0.06
    single, _ = fit_families([measured_compute_record(compute_spec())])
    assert not single[0].fit.is_between_measured


def test_a_spread_that_noisy_steps_could_explain_still_widens_the_forecast() -> None:
    spread = Spread(relative=0.18, relative_within=0.2, degrees_of_freedom=5, num_specs=5, num_processes=10)
    noise = Noise(spreads={"training": spread}, drift=None, reference=None)
    (family,), _ = fit_families([measured_compute_record(compute_spec())], noise=noise)
    sizes = [point.padded_pixels for point in family.points]
    forecast = family.fit.forecast(sizes)
    assert forecast.relative_error == pytest.approx(0.18 * 2**0.5, rel=0.01), "of the new process and of the one behind"
    assert forecast.dof == pytest.approx(5, rel=0.1)


def test_training_trials_serve_where_nothing_else_was_measured_without_their_waiting() -> None:
    spec = training_spec(precision="fp32", num_workers=2)
    record = measured_training_record(spec)
    family = only([record])
    assert family.source == "training"
    assert family.fit.num_sizes >= 3
    assert record.steps is not None
    waits = record.steps["data_wait_s"]
    slower = dataclasses.replace(
        record,
        steps=dict(record.steps)
        | {
            "data_wait_s": tuple(wait + 5 for wait in waits),
            "step_time_s": tuple(seconds + 5 for seconds in record.steps["step_time_s"]),
        },
    )
    assert only([slower]).fit.model.time_s(4e6) == pytest.approx(family.fit.model.time_s(4e6))
    both, _ = fit_families([record, measured_compute_record(compute_spec(device="cpu", model="veernet-tiny"))])
    assert [family.source for family in both if family.spec.device == "cpu"] == ["compute"]


def test_memory_trials_give_the_law_where_compute_trials_saw_no_peak() -> None:
    specs = [training_spec(batch_size=size, precision="fp32") for size in (1, 2)]
    records = [record for spec in specs for record in (measured_training_record(spec), measured_memory_record(spec))]
    families, _ = fit_families(records)
    assert {round(family.memory.bytes_per_pixel) for family in families if family.memory} == {420}


def test_what_cannot_be_fitted_is_named_with_its_reason() -> None:
    few = compute_spec(canvas_sizes=((640, 6400), (480, 3200)))
    failed = compute_spec(precision="fp32", micro_batch_size=4)
    accumulated = training_spec(batch_size=4, micro_batch_size=2)
    families, left_out = fit_families(
        [measured_compute_record(few), record_of(failed, status="oom"), measured_training_record(accumulated)]
    )
    assert families == ()
    assert left_out[few.family] == "2 sizes timed, 3 are needed; measure with --kind compute"
    assert "made to end oom" in left_out[failed.family]
    assert "several passes" in left_out[accumulated.family]


def test_a_fixed_cost_is_named_as_the_cause_of_a_bend() -> None:
    family = only([measured_compute_record(compute_spec(device="cuda", model="veernet"))])
    linearity = linearity_of(family)
    # 20 ms of 20 + 9.2 on 1.54 Mpx, of 20 + 49 on 8.19.
    assert linearity.cause == "overhead"
    assert linearity.overhead_ratio_smallest == pytest.approx(0.68, abs=0.08)
    assert linearity.overhead_ratio_largest == pytest.approx(0.29, abs=0.05)
    assert linearity.rate_ratio == pytest.approx(0.68 / 0.29, rel=0.15)


def test_one_cost_per_step_for_all_batches_is_set_against_what_was_measured() -> None:
    records = [measured_compute_record(compute_spec(device="cpu", micro_batch_size=size)) for size in (1, 2, 4)]
    families, _ = fit_families(records)
    (one,) = count_steps(families)
    assert [family.spec.micro_batch_size for family in one.families] == [1, 2, 4]
    # Time goes with pixels here, so an example costs about the same in every batch, and counting steps halves it.
    assert max(one.times_per_example_s) / min(one.times_per_example_s) < 1.3
    assert one.counted_s[0] > 1.5 * one.times_per_example_s[0]
    assert one.counted_s[2] < 0.6 * one.times_per_example_s[2]
    assert statistics.median(map(abs, one.errors)) > 0.2
    assert count_steps(families[:1]) == ()


def trained(spec: TrialSpec) -> list[TrialRecord]:
    compute = compute_spec(device="cpu", micro_batch_size=spec.micro_batch_size, precision=spec.precision)
    loader = loader_spec(
        batch_size=spec.batch_size, micro_batch_size=spec.micro_batch_size, num_workers=spec.num_workers
    )
    return [measured_training_record(spec), measured_compute_record(compute), measured_loader_record(loader)]


def test_an_epoch_is_composed_of_computing_and_loading_and_set_beside_the_measured_one() -> None:
    beside, alone = training_spec(precision="fp32", num_workers=2), training_spec(precision="fp32", num_workers=0)
    for spec in (beside, alone):
        records = trained(spec)
        families, _ = fit_families(records)
        (one,) = compose_measured(records, families=families, loading=summarize_loading(records))
        block = records[0].block
        assert block is not None
        assert one.measured_s == block.wall_time_s
        assert one.loading_s == pytest.approx(block.num_examples * 0.06 / max(1, spec.num_workers or 0))
        low, high = one.expected.bracket_s
        assert high == one.computing.value + one.loading_s
        assert one.expected.total_s == (low if spec.num_workers else high)
        assert abs(one.error) < 0.3
        assert one.computing.half_width is not None


def on_new_shapes(record: TrialRecord) -> TrialRecord:
    """Return a training record whose warm-up had a shape of its own."""
    assert record.steps is not None
    heights = tuple(32 if is_warm_up else 640 for is_warm_up in record.steps["is_warm_up"])
    return dataclasses.replace(record, steps={**record.steps, "canvas_height": heights})


def test_shapes_met_for_the_first_time_cost_extra_where_they_are_not_visited_before() -> None:
    spec = training_spec(precision="fp32", num_workers=0)
    records = trained(spec)
    families, _ = fit_families(records)
    trained_on_new = on_new_shapes(records[0])
    (one,) = compose_measured([trained_on_new], families=families, loading=summarize_loading(records))
    # A first step takes 0.6 s more in these records.
    assert len(new_shapes(trained_on_new)) == 1
    assert one.new_shapes_s == pytest.approx(0.6, rel=0.15)
    assert one.new_shapes_s < one.computing.value
    on_a_gpu, _ = fit_families([measured_compute_record(compute_spec(device="cuda", model="veernet"))])
    assert on_a_gpu[0].first_seen_s is not None
    assert on_a_gpu[0].new_shape_of_training == NO_EXTRA


def with_first_steps(record: TrialRecord, extra_s: Sequence[float]) -> TrialRecord:
    """Return a record whose first steps on its canvases take so many seconds more than those that follow."""
    figures = compute_figures(record)
    return dataclasses.replace(
        record,
        canvases=tuple(
            dataclasses.replace(one, first_seen_s=figures[one.height, one.width].step_time.value + extra)  # type: ignore[union-attr]
            for one, extra in zip(record.canvases, extra_s, strict=True)
        ),
    )


@pytest.mark.parametrize(
    ("extra_of", "constant_s", "s_per_mpx"),
    [
        (lambda mpx: 0.1 + 0.5 * mpx, 0.1, 0.5),
        (lambda mpx: 0.5 * mpx, 0.0, 0.5),
        (lambda mpx: 2.0, 2.0, 0.0),
    ],
)
def test_what_a_new_shape_takes_grows_with_its_canvas(
    extra_of: Callable[[float], float], constant_s: float, s_per_mpx: float
) -> None:
    record = measured_compute_record(compute_spec(device="cpu"))
    extra_s = [extra_of(one.height * one.width / 1e6) for one in record.canvases]
    extra_s[0] = 30.0  # the first canvas of a process also starts it
    family = only([with_first_steps(record, extra_s)])
    assert family.new_shape.constant_s == pytest.approx(constant_s, abs=1e-9)
    assert family.new_shape.s_per_pixel * 1e6 == pytest.approx(s_per_mpx, abs=1e-9)
    assert family.new_shape.total_s(np.array([1e6, 2e6])) == pytest.approx(2 * constant_s + 3 * s_per_mpx)
    assert family.first_seen_s == pytest.approx(statistics.fmean(extra_s))


@pytest.mark.parametrize(("slope", "constant_s", "s_per_mpx"), [(-0.1, 0.5, 0.0), (1.0, 0.0, None)])
def test_neither_coefficient_of_a_new_shape_is_negative(
    slope: float, constant_s: float, s_per_mpx: float | None
) -> None:
    record = measured_compute_record(compute_spec(device="cpu"))
    mpx_K = np.array([one.height * one.width / 1e6 for one in record.canvases])
    offset = 0.5 - slope * mpx_K[1:].mean() if slope < 0 else -0.5 * slope * mpx_K.min()
    extra_K = slope * mpx_K + offset
    assert (extra_K[1:] > 0).all()
    family = only([with_first_steps(record, extra_K.tolist())])
    assert family.new_shape.constant_s == pytest.approx(constant_s)
    expected = (mpx_K[1:] @ extra_K[1:]) / (mpx_K[1:] @ mpx_K[1:]) if s_per_mpx is None else s_per_mpx
    assert family.new_shape.s_per_pixel * 1e6 == pytest.approx(expected)


def test_steps_on_shapes_seen_otherwise_than_usual_are_in_no_fit_and_are_expected_as_they_were_seen() -> None:
    spec = training_spec(precision="fp32", num_workers=0)
    records = trained(spec)
    warm, cold = (dataclasses.replace(spec, shape_visits=visits) for visits in ("warm", "cold"))
    others = [measured_training_record(one) for one in (warm, cold)]
    families, _ = fit_families([*records, *others])
    assert families == fit_families(records)[0]
    assert fit_families(others) == ((), {})
    told = [on_new_shapes(record) for record in (records[0], *others)]
    expected = compose_measured(told, families=families, loading=())
    costs = {one.spec.shape_visits: one.new_shapes_s > 0 for one in expected}
    assert costs == {"auto": True, "warm": False, "cold": True}


def test_a_training_trial_is_never_held_against_a_fit_to_itself() -> None:
    records = [measured_training_record(training_spec(precision="fp32"))]
    families, _ = fit_families(records)
    assert families[0].source == "training"
    assert compose_measured(records, families=families, loading=()) == ()


def test_each_family_of_a_thousand_records_is_fitted() -> None:
    specs = [
        compute_spec(micro_batch_size=size, precision=precision)
        for size in range(1, 26)
        for precision in ("fp32", "bf16")
    ]
    records = [measured_compute_record(spec, replicate=n) for spec in specs for n in range(20)]
    assert len(records) == 1000
    families, _ = fit_families(records)
    assert len(families) == 50
