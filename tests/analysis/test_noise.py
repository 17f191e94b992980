from dataclasses import replace

import pytest
import record_factory as factory

from vnbench.analysis.trials.noise import measure_noise, process_figure
from vnbench.analysis.trials.process import measured_at_s, started_s
from vnbench.analysis.trials.summary import summarize


def test_each_kind_of_trial_has_its_own_spread() -> None:
    training = factory.cuda_sweep()
    compute = factory.compute_sweep(replicates=3)
    noise = measure_noise([*training, *compute])
    assert (noise.spreads["training"].num_specs, noise.spreads["training"].num_processes) == (1, 3)
    assert (noise.spreads["compute"].num_specs, noise.spreads["compute"].num_processes) == (4, 12)
    assert noise.spreads["compute"].degrees_of_freedom == 8
    assert noise.spread_for("compute") is noise.spreads["compute"]


def test_a_kind_without_a_repeated_spec_takes_the_spread_of_the_other() -> None:
    noise = measure_noise([*factory.cuda_sweep(), *factory.compute_sweep()[:2]])
    assert noise.spread_kind("compute") == "training"
    assert noise.spread_for("compute") is noise.spreads["training"]


def test_a_sweep_of_single_processes_has_neither_spread_nor_drift() -> None:
    noise = measure_noise(factory.cpu_sweep())
    assert noise.spread_for("training") is None
    assert (noise.drift, noise.reference) == (None, None)


def test_memory_trials_and_failed_ones_are_no_repetitions() -> None:
    spec = factory.training_spec()
    records = [
        factory.measured_memory_record(spec),
        factory.measured_memory_record(spec, replicate=1),
        factory.measured_training_record(spec),
        factory.measured_training_record(spec, replicate=1, status="timeout"),
    ]
    assert measure_noise(records).spreads == {}


def test_the_reference_is_the_spec_that_ran_most_often_against_the_sweeps_start() -> None:
    records = factory.cuda_sweep()
    noise = measure_noise(records)
    assert noise.reference == factory.training_spec(
        device="cuda", model="veernet", num_workers=4, subset_size=256, batch_size=4
    )
    assert noise.drift is not None
    begin_s = min(map(started_s, records))
    reference = [record for record in records if record.spec == noise.reference]
    assert [point.time_s for point in noise.drift.reference] == [
        measured_at_s(record) - begin_s for record in reference
    ]
    assert noise.drift.length_s == max(measured_at_s(record) - begin_s for record in records)


def test_a_machine_that_gets_slower_by_the_hour_shows_it() -> None:
    spec = factory.training_spec()
    records = []
    for n in range(6):
        steps = factory.steps_of([10.0 * (1 + 0.02 * n)] * 4)
        records.append(
            factory.record_of(
                spec, replicate=n, steps=steps, block=factory.block_of(steps), started_at=factory.started_at(60 * n)
            )
        )
    drift = measure_noise(records).drift
    assert drift is not None
    assert drift.per_hour.value == pytest.approx(0.02 / 1.05)
    assert drift.is_told_apart


def test_a_process_is_placed_at_the_middle_of_its_measured_span() -> None:
    record = factory.record_of(factory.training_spec(), started_at="2026-01-05T10:00:00+00:00", elapsed_s=30.0)
    assert measured_at_s(record) - started_s(record) == 15
    assert measured_at_s(replace(record, measured_span_s=(10.0, 28.0))) - started_s(record) == 19
    assert started_s(replace(record, started_at="2026-01-05T10:00:00")) == started_s(record)


def test_the_figure_of_a_compute_trial_does_not_depend_on_how_many_steps_each_canvas_got() -> None:
    spec = factory.compute_spec(canvas_sizes=((32, 64), (32, 32)))

    def record(num_large: int):
        large = factory.steps_of([4.0, 4.2] * num_large, padded_pixels=[2048] * 2 * num_large)
        small = factory.steps_of([2.0, 2.2], padded_pixels=[1024] * 2)
        large |= {"canvas_height": (32,) * 2 * num_large, "canvas_width": (64,) * 2 * num_large}
        small |= {"canvas_height": (32,) * 2, "canvas_width": (32,) * 2}
        return factory.record_of(spec, steps={name: (*large[name], *small[name]) for name in large})

    few, many = process_figure(record(1)), process_figure(record(8))
    assert few is not None
    assert many is not None
    assert few.value == pytest.approx(6.2 / 3072)
    assert many.value == pytest.approx(6.2 / 3072)
    assert few.relative_error is not None
    # Of each pair the standard error is 0.1, so of the sum 0.1 x sqrt(2).
    assert few.relative_error == pytest.approx(0.1 * 2**0.5 / 6.2)


def test_repeated_trials_of_the_factory_show_the_spread_they_were_made_with() -> None:
    records = [factory.measured_training_record(factory.training_spec(), replicate=n) for n in range(60)]
    spread = measure_noise(records).spreads["training"]
    assert spread.relative_between == pytest.approx(factory.BETWEEN_PROCESSES, rel=0.3)
    (row,) = summarize(records)
    assert row.num_processes == 60
