from __future__ import annotations

from dataclasses import replace

import pytest
from record_factory import compute_spec, loader_spec, memory_spec, record_of, some_pace, some_workload, training_spec

from vnbench.records.probe_reading import ProbeReading, ProbeStep
from vnbench.records.spec.words import Precision
from vnbench.sweep.estimate import LARGE_CANVAS_FACTOR, Pace, TrialTimes, trial_s

LARGE = LARGE_CANVAS_FACTOR["cpu"]


def step(pixels: int, seconds: float, *, precision: Precision = "fp32", is_first: bool = False) -> ProbeStep:
    return ProbeStep(precision=precision, padded_pixels=pixels, seconds=seconds, is_first=is_first)


def probe(*steps: ProbeStep) -> ProbeReading:
    return ProbeReading(convolution_s={"fp32": 1e-3, "bf16": 30e-3}, steps=steps)


def test_two_canvases_tell_what_a_pass_costs_from_what_its_pixels_do() -> None:
    pace = Pace.of(probe(step(100_000, 9.0, is_first=True), step(100_000, 0.3), step(1_100_000, 1.8)))
    assert pace.s_per_mpx["fp32"] == pytest.approx(1.5)
    assert pace.s_per_pass == pytest.approx(0.15)
    assert pace.check_s == pytest.approx(0.2 + 6 * 0.15)


def test_a_larger_canvas_that_took_no_longer_is_taken_for_all_there_is() -> None:
    pace = Pace.of(probe(step(100_000, 2.0), step(1_000_000, 1.5)))
    assert pace.s_per_mpx["fp32"] == pytest.approx(1.5)
    assert pace.s_per_pass == pytest.approx(1.85)


def test_a_precision_too_slow_for_a_step_is_known_by_its_convolution() -> None:
    pace = Pace.of(probe(step(100_000, 0.2), step(1_000_000, 1.1)))
    assert pace.s_per_mpx["bf16"] == pytest.approx(30 * pace.s_per_mpx["fp32"])


def test_a_precision_tried_on_the_smallest_canvas_alone_is_scaled_from_there() -> None:
    small = [step(100_000, 0.2), step(100_000, 4.0, precision="bf16")]
    pace = Pace.of(probe(*small[:1], step(1_000_000, 1.0), *small[1:]))
    assert pace.s_per_mpx["bf16"] == pytest.approx(20 * pace.s_per_mpx["fp32"])


def test_a_precision_with_a_first_step_alone_is_taken_as_it_was() -> None:
    pace = Pace.of(probe(step(100_000, 0.1), step(100_000, 5.0, precision="bf16", is_first=True)))
    assert pace.s_per_mpx["bf16"] == pytest.approx(50.0)


def test_an_estimate_grows_with_the_pixels_of_a_trial() -> None:
    workload, pace = some_workload(), some_pace()
    one, two = (trial_s(memory_spec(training_spec(batch_size=size)), workload, pace) for size in (1, 2))
    assert two - one == pytest.approx(1.4 * LARGE * 8.192)
    few, many = (trial_s(training_spec(subset_size=size), workload, pace) for size in (4, 8))
    # Four more images of 5.1 Mpx on average, and a warm-up step on a larger one.
    assert 4 * 5.12 * LARGE < many - few < 4 * 5.12 * LARGE + 1.4 * LARGE * 3
    once, twice = (trial_s(training_spec(max_epochs=count), workload, pace) for count in (1, 2))
    assert twice > once


def test_padding_counts_as_it_will_be_trained_on() -> None:
    workload, pace = some_workload(), some_pace()
    bucketed, random = (
        trial_s(training_spec(batch_size=2, sampler=name), workload, pace) for name in ("bucketed", "random")
    )
    assert random > 1.05 * bucketed


def test_levers_cost_what_they_are_known_to() -> None:
    workload, pace = some_workload(), some_pace(fp32=1.0, bf16=0.5)
    plain = trial_s(training_spec(), workload, pace)
    assert trial_s(training_spec(checkpointing="stages"), workload, pace) > 1.2 * plain
    assert trial_s(training_spec(precision="bf16"), workload, pace) < 0.6 * plain


def test_no_epoch_begins_when_the_measuring_time_is_up() -> None:
    workload, pace = some_workload(), some_pace()
    capped = trial_s(training_spec(max_epochs=100, max_measuring_s=1.0), workload, pace)
    assert capped == trial_s(training_spec(max_epochs=1), workload, pace)


def test_each_kind_has_an_estimate() -> None:
    for spec in (training_spec(), loader_spec(), compute_spec(), memory_spec(training_spec())):
        assert trial_s(spec, some_workload(), some_pace()) > 0


def test_a_guess_without_a_probe_is_known_for_what_it_is() -> None:
    assert not Pace.rough(training_spec()).is_probed
    own = replace(training_spec(), model="mine.py:build", model_id="0" * 8)
    assert Pace.rough(own).s_per_mpx["fp32"] > Pace.rough(training_spec()).s_per_mpx["fp32"]


def test_finished_trials_scale_what_is_left_of_their_kind() -> None:
    times = TrialTimes(workload=some_workload(), pace=some_pace())
    spec, memory = training_spec(), memory_spec(training_spec())
    guess, memory_guess = times.of(spec), times.of(memory)
    assert times.total([spec, spec]) == pytest.approx(2 * guess)
    times.learn(record_of(spec, status="skipped", elapsed_s=0.0))
    times.learn(record_of(training_spec(num_workers=2), elapsed_s=3 * guess))
    assert times.total([spec, spec]) == pytest.approx(6 * guess)
    assert times.of(memory) == pytest.approx(3 * memory_guess), "its own kind is unknown: as the others"
    times.learn(record_of(memory, elapsed_s=memory_guess))
    assert times.of(memory) == pytest.approx(memory_guess)
    assert times.total([]) == 0


def test_a_spec_that_ran_takes_as_long_again() -> None:
    times = TrialTimes(workload=some_workload(), pace=some_pace())
    slow, other = training_spec(checkpointing="stages"), training_spec()
    for seconds in (40.0, 60.0):
        times.learn(record_of(slow, elapsed_s=seconds))
    times.learn(record_of(other, elapsed_s=1.0))
    assert times.of(slow) == pytest.approx(50.0)
