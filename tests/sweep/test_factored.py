from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from record_factory import (
    measured_compute_record,
    measured_loader_record,
    measured_training_record,
    record_of,
    training_spec,
)

from vnbench.analysis.trials.process import compute_figures
from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.batching.trial_epoch import plan_measured
from vnbench.output.tables.factored import error_line
from vnbench.records.readings import Block, ForecastReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.request.config import SweepConfig, complete
from vnbench.request.reading import read_request
from vnbench.sweep.cells import center_of, full_cells
from vnbench.sweep.confirming import (
    NUM_BEST,
    NUM_RANDOM,
    choose_confirmations,
    confirmations,
    confirming_trials,
    with_centers,
)
from vnbench.sweep.design import Design, compute_spec, make_design
from vnbench.sweep.factored import CellForecast, Parts
from vnbench.sweep.loop import due_trials
from vnbench.units import PixelRange

LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))
SIZES_N2 = draw_sizes(LOGS, 64, seed=0)
WORST_CASE = (640, 12_800)
CANVASES = ((640, 12_800), (608, 11_008), (640, 8992), (512, 8000), (640, 4992), (480, 3200))
CORPUS_ID = "0" * 12


def factored(**flags: str) -> SweepConfig:
    names = {name.replace("_", "-"): text for name, text in flags.items()}
    request = read_request({"widths": "3200:12800", "design": "factored", "subset": "16"} | names, config_path=None)
    return complete(request, environment={"device_type": "cpu", "num_cpus": 8})


def design(config: SweepConfig) -> Design:
    return make_design(
        config, corpus_id=CORPUS_ID, train_sizes_N2=SIZES_N2, worst_case=WORST_CASE, canvas_sizes=CANVASES
    )


def measure(config: SweepConfig, **changes: Any) -> list[TrialRecord]:
    """Return a record of every part; ``changes`` go to those of compute trials."""
    records = []
    for trial in design(config).trials:
        if trial.spec.kind == "compute":
            records.append(measured_compute_record(trial.spec, replicate=trial.replicate, **changes))
        elif trial.spec.kind == "loader":
            records.append(measured_loader_record(trial.spec, replicate=trial.replicate))
    return records


def parts(config: SweepConfig, records: Sequence[TrialRecord]) -> Parts:
    return Parts(config, records, corpus_id=CORPUS_ID, worst_case=WORST_CASE, sizes_N2=SIZES_N2)


def forecast(config: SweepConfig, records: Sequence[TrialRecord]) -> tuple[CellForecast, ...]:
    return parts(config, records).forecast_all(records)


AXES = {"batch_size": "1,2,4", "precision": "bf16,fp32", "num_workers": "0,2,4", "checkpointing": "none,stages"}


def test_trials_grow_with_the_sum_of_the_axes_and_forecasts_with_their_product() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed,random")
    specs = {trial.spec for trial in design(config).trials}
    assert {spec.kind for spec in specs} == {"memory", "compute", "loader"}
    compute = [spec for spec in specs if spec.kind == "compute"]
    assert len(compute) == 1 + 2 + 2 * (1 + 1), (
        "three batches; at the smallest and largest, one precision, checkpointing"
    )
    loader = [spec for spec in specs if spec.kind == "loader"]
    assert len(loader) == 1 + 2 + 2 + 1, "the centre, two more batches, two numbers of workers, one sampler"
    forecasts = forecast(config, measure(config))
    # 3 x 2 x 3 x 2 x 2 cells, of which random is bucketed where a pass holds one example only in what it costs.
    assert len(forecasts) == len(list(full_cells(config))) == 72
    assert [one.valid_px_per_s for one in forecasts] == sorted((one.valid_px_per_s for one in forecasts), reverse=True)


def test_a_further_value_on_an_axis_adds_the_same_trials_whatever_the_other_axes_hold() -> None:
    def num_trials(**flags: str) -> int:
        return len(design(factored(norm_precision="fp32", sampler="bucketed", reference_runs="1", **flags)).trials)

    few = {"batch_size": "1,2", "checkpointing": "none,stages", "num_workers": "0,2"}
    many = {"batch_size": "1,2", "checkpointing": "none,stages,selective", "num_workers": "0,2,4,8"}
    added = [num_trials(precision="bf16,fp32", **axes) - num_trials(precision="bf16", **axes) for axes in (few, many)]
    assert added[0] == added[1] > 0


Extra = Callable[[TrialRecord], float]


def with_first_steps(records: Sequence[TrialRecord], extra_s: Extra) -> list[TrialRecord]:
    """Return records whose first step on a canvas takes so many seconds more per Mpx of it than those that follow."""
    changed = []
    for record in records:
        figures = compute_figures(record)
        canvases = tuple(
            replace(
                one,
                first_seen_s=figures[one.height, one.width].step_time.value  # type: ignore[union-attr]  # it was timed
                + extra_s(record) * one.height * one.width / 1e6,
            )
            for one in record.canvases
        )
        changed.append(replace(record, canvases=canvases))
    return changed


def seen(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return records whose first step on a canvas takes as long as those that follow."""
    return with_first_steps(records, lambda record: 0.0)


def by_levers(config: SweepConfig, records: Sequence[TrialRecord]) -> dict[tuple[int, str, str], CellForecast]:
    return {
        (one.cell.batch_size, one.cell.precision, one.cell.checkpointing): one
        for one in forecast(config, records)
        if one.cell.num_workers == 0
    }


def test_what_a_new_shape_takes_is_added_to_the_steps_and_not_scaled_with_them() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    records = measure(config)
    none = by_levers(config, seen(records))
    some = by_levers(config, with_first_steps(records, lambda record: 2.0 if record.spec.precision == "bf16" else 0.5))
    for levers, one in none.items():
        plan = plan_measured(one.spec, SIZES_N2)
        shapes = set(zip(plan.lengths_M.tolist(), map(tuple, plan.canvases_M2.tolist()), strict=True))
        mpx = sum(height * width for _, (height, width) in shapes) / 1e6
        extra_s = some[levers].time.computing_s - one.time.computing_s
        assert extra_s == pytest.approx(mpx * (2.0 if levers[1] == "bf16" else 0.5), rel=0.01), levers


def test_a_forecast_is_the_centre_times_a_ratio_per_lever() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    found = by_levers(config, seen(measure(config)))
    center, other = found[1, "bf16", "none"], found[2, "fp32", "stages"]
    one_by_one = [found[2, "bf16", "none"], found[1, "fp32", "none"], found[1, "bf16", "stages"]]
    expected = center.time.computing_s
    for part in one_by_one:
        expected *= part.time.computing_s / center.time.computing_s
    assert other.time.computing_s == pytest.approx(expected, rel=0.02)
    # The truth behind these records: 0.1 s a step and 0.9 s per Mpx in fp32, a third more with checkpointing.
    assert found[1, "fp32", "stages"].time.computing_s == pytest.approx(
        16 * 0.1 + sum(h * w for h, w in SIZES_N2[:0]) + found[1, "fp32", "none"].time.computing_s / 0.75, rel=0.15
    )


def test_workers_hide_the_shorter_part_and_without_them_both_add_up() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    for one in forecast(config, measure(config)):
        both = (one.time.computing_s, one.time.loading_s)
        assert one.epoch.value_s == pytest.approx(max(both) if one.cell.num_workers else sum(both))
        assert one.epoch.num_examples == 16
        assert one.epoch.low_s is not None
        assert one.epoch.high_s is not None
        assert one.epoch.low_s < one.epoch.value_s < one.epoch.high_s
    # 60 ms an example without workers, half of it with two.
    loading = {one.cell.num_workers: one.time.loading_s for one in forecast(config, measure(config))}
    assert loading[2] == pytest.approx(loading[0] / 2)


def test_a_cell_with_a_missing_part_has_no_forecast() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    records = [record for record in measure(config) if record.spec.precision != "fp32" or record.kind == "loader"]
    forecasts = forecast(config, records)
    assert {one.cell.precision for one in forecasts} == {"bf16"}
    assert forecast(config, []) == ()


def test_the_best_and_some_others_are_confirmed_and_none_that_ran_out_of_memory() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    forecasts = forecast(config, measure(config))
    center = parts(config, measure(config)).center
    chosen = choose_confirmations(forecasts, [], center=center, seed=0)
    assert chosen[:NUM_BEST] == forecasts[:NUM_BEST]
    assert len({one.spec for one in chosen}) == NUM_BEST + NUM_RANDOM
    assert choose_confirmations(forecasts, [], center=center, seed=0) == chosen
    assert choose_confirmations(forecasts, [], center=center, seed=1) != chosen
    assert choose_confirmations(forecasts, [], center=forecasts[1].spec, seed=0)[:2] == (forecasts[0], forecasts[2])
    best = forecasts[0].spec
    failed = record_of(
        next(trial.spec for trial in confirming_trials(chosen[:1], config, worst_case=WORST_CASE)), status="oom"
    )
    others = choose_confirmations(forecasts, [failed], center=center, seed=0)
    assert all(
        one.spec.lever_key != best.lever_key or one.spec.micro_batch_size < best.micro_batch_size for one in others
    )


def test_the_worst_case_of_a_family_goes_before_its_training() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    chosen = chosen_of(config)
    specs = [trial.spec for trial in confirming_trials(chosen, config, worst_case=WORST_CASE)]
    kinds = [spec.kind for spec in specs]
    assert kinds == sorted(kinds)
    assert {spec.family for spec in specs if spec.kind == "memory"} == {one.spec.family for one in chosen}


def chosen_of(config: SweepConfig) -> tuple[CellForecast, ...]:
    measured = parts(config, measure(config))
    return choose_confirmations(measured.forecast_all(), [], center=measured.center, seed=0)


def test_rounds_of_confirmations_train_every_cell_once_each() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed", replicates="3")
    chosen = chosen_of(config)
    trained = [one for one in confirming_trials(chosen, config, worst_case=WORST_CASE) if one.spec.kind == "training"]
    rounds = [trained[first : first + len(chosen)] for first in range(0, len(trained), len(chosen))]
    assert len(rounds) == 3
    for replicate, trials in enumerate(rounds):
        assert {trial.spec for trial in trials} == {one.spec for one in chosen}
        assert {trial.replicate for trial in trials} == {replicate}
    assert len({tuple(trial.spec for trial in trials) for trials in rounds}) > 1, "in another order"


def test_each_confirmation_follows_a_new_process_of_the_centre() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    center = parts(config, measure(config)).center
    planned = confirming_trials(chosen_of(config), config, worst_case=WORST_CASE)
    old = [measured_training_record(center, replicate=replicate) for replicate in range(2)]
    due = tuple(with_centers(due_trials(planned, records=[], retry=()), center=center, records=old))
    assert [one.planned for one in due if one.planned.spec != center] == list(planned)
    trained = [one.planned for one in due if one.planned.spec.kind == "training"]
    assert all(one.spec == center for one in trained[::2])
    assert [one.replicate for one in trained[::2]] == list(range(2, 2 + len(trained) // 2))
    assert tuple(with_centers((), center=center, records=old)) == ()


def slowed(record: TrialRecord, factor: float) -> TrialRecord:
    """Return a compute or training record as a machine that takes ``factor`` times as long would measure it."""
    assert record.steps is not None
    assert record.block is not None
    steps = {
        name: tuple(value if value is None else factor * value for value in column) if name.endswith("_s") else column
        for name, column in record.steps.items()
    }
    block = replace(record.block, wall_time_s=factor * record.block.wall_time_s)
    canvases = tuple(replace(one, first_seen_s=factor * one.first_seen_s) for one in record.canvases)
    return replace(record, steps=steps, block=block, canvases=canvases)


def test_drift_between_parts_and_confirmations_cancels() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    measured = parts(config, measure(config))
    center = measured_training_record(measured.center)
    (cell,) = {one.cell for one in measured.forecast_all() if one.spec == measured.center}
    for factor in (1.0, 1.3):
        anchor = slowed(center, factor)
        found = measured.forecast(cell, anchors=[anchor])
        assert found is not None
        assert anchor.block is not None
        epoch_s = anchor.block.wall_time_s * found.epoch.num_examples / anchor.block.num_examples
        assert found.epoch.value_s == pytest.approx(epoch_s), "the centre's own forecast is its measured epoch"
    others = [one.cell for one in measured.forecast_all() if one.spec != measured.center]
    for other in others:
        before, after = (measured.forecast(other, anchors=[slowed(center, factor)]) for factor in (1.0, 1.3))
        assert before is not None
        assert after is not None
        assert after.epoch.value_s == pytest.approx(1.3 * before.epoch.value_s)


def test_how_much_trainings_differ_follows_from_those_of_the_centre() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    measured = parts(config, measure(config))
    cell = measured.forecast_all()[0].cell

    def width(*epochs_s: float) -> float:
        centers = [trained(measured.center, epoch_s) for epoch_s in epochs_s]
        found = measured.forecast(cell, anchors=centers[-1:], trained=centers)
        assert found is not None
        assert found.epoch.low_s is not None
        assert found.epoch.high_s is not None
        return math.log(found.epoch.high_s / found.epoch.low_s)

    unknown = width(10, 13, 10)
    assert width(10) == unknown, "too few to tell"
    assert width(10, 10.1, 10, 10.1, 10) < unknown < width(10, 13, 10, 13, 10)
    assert width(10, 11, 12.1, 13.3, 14.6) < width(10, 14.6, 11, 13.3, 12.1), "a drift is none between neighbours"


def noisy_forecasts(seed: int, *, process: float, drift: float, single: float) -> list[tuple[float, bool, float]]:
    """Return for each confirmation of a made-up sweep its error, whether it lies inside, and the parts' own error.

    Processes differ by ``process``, the machine's speed walks by ``drift`` from one trial to the next, and a
    configuration differs from the product of its levers by ``single``, as relative standard deviations.
    """
    draw = random.Random(seed)
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed", replicates="2")
    exact = parts(config, measure(config))
    epochs_s = {one.spec: one.epoch.value_s for one in exact.forecast_all()}
    for spec in epochs_s.keys() - {exact.center}:
        epochs_s[spec] *= math.exp(draw.gauss(0, single))
    level, records = 0.0, []
    for record in timed(measure(config)):
        level += draw.gauss(0, drift)
        is_computing = record.kind == "compute"
        records.append(slowed(record, math.exp(level + draw.gauss(0, process))) if is_computing else record)
    noisy = parts(config, records)
    chosen = choose_confirmations(noisy.forecast_all(), [], center=noisy.center, seed=seed)
    cells = {one.spec: one for one in chosen}
    planned = confirming_trials(chosen, config, worst_case=WORST_CASE)
    found, centers = [], list[TrialRecord]()
    for trial in with_centers(due_trials(planned, records=[], retry=()), center=noisy.center, records=[]):
        spec = trial.planned.spec
        if not isinstance(spec, TrainingSpec):
            continue
        level += draw.gauss(0, drift)
        measured_s = epochs_s[spec] * math.exp(level + draw.gauss(0, process))
        if spec == noisy.center:
            centers.append(trained(spec, measured_s))
            continue
        beside = noisy.forecast(cells[spec].cell, anchors=centers[-1:], trained=centers)
        assert beside is not None
        (one,) = confirmations([replace(trained(spec, measured_s), forecast=beside.epoch)])
        assert one.is_inside is not None
        found.append((one.error, one.is_inside, cells[spec].epoch.value_s / measured_s - 1))
    return found


def trained(spec: TrainingSpec, epoch_s: float) -> TrialRecord:
    block = Block(wall_time_s=epoch_s, num_steps=16, num_examples=16, valid_pixels=1000, padded_pixels=1000)
    return replace(measured_training_record(spec), block=block)


def test_on_a_drifting_machine_forecasts_beside_the_centre_are_within_five_percent_and_their_brackets_hold() -> None:
    found = [one for seed in range(6) for one in noisy_forecasts(seed, process=0.02, drift=0.02, single=0.03)]
    assert len(found) == 60
    errors, inside, alone = zip(*found, strict=True)
    assert statistics.median(map(abs, errors)) <= 0.05
    assert statistics.fmean(inside) >= 0.85
    assert statistics.median(map(abs, errors)) < 0.7 * statistics.median(map(abs, alone))


def test_what_changes_while_a_sweep_is_interrupted_cancels() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed", replicates="3")
    records = measure(config)
    whole = {one.spec: one.time.computing_s for one in forecast(config, timed(records))}
    # From the middle on, everything takes half as long again, a day later.
    half = len(records) // 2
    later = [slowed(one, 1.5) if one.kind == "compute" else one for one in records[half:]]
    resumed = [*timed(records[:half]), *timed(later, day=2)]
    ratios = [one.time.computing_s / whole[one.spec] for one in forecast(config, resumed)]
    assert min(ratios) > 1
    assert max(ratios) / min(ratios) < 1.02


def timed(records: Sequence[TrialRecord], *, day: int = 1) -> list[TrialRecord]:
    """Return the records of trials that started one minute after the other."""
    return [
        replace(record, started_at=f"2026-01-{day:02d}T{minute // 60:02d}:{minute % 60:02d}:00+00:00")
        for minute, record in enumerate(records)
    ]


def test_the_centre_stands_beside_every_compute_trial_of_each_round() -> None:
    for flags in ({}, {"time_budget": "1h"}):
        config = factored(**AXES, norm_precision="fp32", sampler="bucketed", replicates="2", **flags)
        planned = [trial for trial in design(config).trials if trial.spec.kind == "compute"]
        center = compute_spec(center_of(config), config, CANVASES)
        is_center = [trial.spec == center for trial in planned]
        assert all(any(is_center[max(0, place - 1) : place + 2]) for place in range(len(planned)))
        runs = [trial.replicate for trial in planned if trial.spec == center]
        assert runs == list(range(len(runs)))
        others = [(trial.spec, trial.replicate) for trial in planned if trial.spec != center]
        assert len(set(others)) == len(others) == 2 * len({spec for spec, _ in others})


def test_a_lever_that_gains_more_in_large_passes_is_forecast_between_the_batches() -> None:
    config = factored(**AXES, norm_precision="fp32", sampler="bucketed")
    # fp32 takes a fifth more at batch 2 and twice a fifth more at batch 4 than it would in proportion.
    gains = {1: 1.0, 2: 1.2, 4: 1.44}
    records = [
        slowed(record, gains[record.spec.micro_batch_size])
        if record.kind == "compute" and record.spec.precision == "fp32"
        else record
        for record in measure(config)
    ]
    plain = {one.cell: one for one in forecast(config, seen(measure(config)))}
    for one in forecast(config, seen(records)):
        gain = gains[one.cell.batch_size] if one.cell.precision == "fp32" else 1.0
        assert one.time.computing_s == pytest.approx(gain * plain[one.cell].time.computing_s)


def confirmed(value_s: float, measured_s: float, *, num_epochs: int = 2) -> TrialRecord:
    block = Block(
        wall_time_s=num_epochs * measured_s,
        num_steps=16 * num_epochs,
        num_examples=16 * num_epochs,
        valid_pixels=1000,
        padded_pixels=1000,
    )
    record = measured_training_record(training_spec())
    reading = ForecastReading(value_s=value_s, low_s=0.9 * value_s, high_s=1.1 * value_s, num_examples=16)
    return replace(record, forecast=reading, block=block)


def test_the_error_of_a_forecast_is_that_of_an_epoch() -> None:
    found = confirmations([confirmed(11.0, 10.0), confirmed(8.0, 10.0), record_of(confirmed(1, 1).spec)])
    assert [one.measured_s for one in found] == [10.0, 10.0]
    assert [one.error for one in found] == pytest.approx([0.1, -0.2])
    line = error_line(found)
    assert line is not None
    assert "1 confirmed configuration in 2 processes off by 15.0 % (median), at most 20.0 %; 1 of 2 inside" in line
    assert error_line([]) is None


def test_a_record_keeps_its_forecast() -> None:
    record = confirmed(11.0, 10.0)
    assert TrialRecord.from_json(record.to_json()) == record
