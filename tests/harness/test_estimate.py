from __future__ import annotations

import pytest
from record_factory import memory_spec, record_of, training_spec

from vnbench.harness.estimate import Workload, remaining_s, rough_trial_s

WORKLOAD = Workload(mean_padded_pixels=2e6, worst_case_pixels=8_000_000)


def test_a_guess_grows_with_the_pixels_of_a_trial() -> None:
    one, two = (rough_trial_s(memory_spec(training_spec(batch_size=size)), WORKLOAD) for size in (1, 2))
    assert two - one == pytest.approx(8 * 0.75)
    few, many = (rough_trial_s(training_spec(subset_size=size), WORKLOAD) for size in (4, 8))
    assert many - few == pytest.approx(4 * 2 * 0.75)


def test_finished_trials_scale_what_is_left() -> None:
    spec = training_spec()
    guess = rough_trial_s(spec, WORKLOAD)
    slow = record_of(spec, elapsed_s=3 * guess)
    skipped = record_of(spec, status="skipped", elapsed_s=0.0)
    assert remaining_s([spec, spec], finished=[], workload=WORKLOAD) == pytest.approx(2 * guess)
    assert remaining_s([spec, spec], finished=[slow, skipped], workload=WORKLOAD) == pytest.approx(6 * guess)
    assert remaining_s([], finished=[slow], workload=WORKLOAD) == 0
