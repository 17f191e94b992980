from __future__ import annotations

import pytest
import record_factory as factory

from vnbench.analysis.trials.noisy import StoppedFigure, capped_stop, noise_warning, settled_warnings
from vnbench.records.readings import Stop, StopRule
from vnbench.records.record import TrialWarning
from vnbench.records.spec.trial_spec import TrialSpec

SPEC = factory.compute_spec(max_steps=20, max_measuring_s=2.5)
SLOW = TrialWarning(code="data-wait", message="it waits")
RECORDED = TrialWarning(code="noisy", message="\N{PLUS-MINUS SIGN} 67 %", figures={"relative_half_width": 0.67})


def stop(rule: StopRule, half_width: float | None = 0.67) -> Stop:
    return Stop(
        rule=rule,
        noise_target=0.01,
        relative_half_width=half_width,
        num_steps=2,
        num_observations=2,
        measuring_s=1.0,
    )


def figure(half_width: float | None, rule: StopRule = "max-steps") -> StoppedFigure:
    return StoppedFigure(stop=stop(rule), relative_half_width=half_width)


def test_a_figure_and_its_warning_tell_the_same_interval() -> None:
    figures = [figure(0.07), figure(0.03), figure(0.5, rule="noise-target")]
    other, noisy = settled_warnings(SPEC, [RECORDED, SLOW, RECORDED], figures, part="canvas")
    assert other == SLOW
    assert noisy.figures == {"relative_half_width": 0.07}
    assert noisy.message.startswith("1 of 3 canvases, at worst ± 7.0 % when max-steps ended measuring")


def test_an_interval_as_wide_as_its_figure_is_said_to_reach_zero() -> None:
    warning = noise_warning(SPEC, [figure(1.3)], part="canvas")
    assert warning is not None
    assert warning.message.startswith("1 of 1 canvas, at worst an interval that reaches zero when max-steps ended")


def test_a_figure_that_other_trials_make_sure_has_no_warning_of_noise() -> None:
    assert settled_warnings(SPEC, [RECORDED, SLOW], [figure(0.04)], part="canvas") == (SLOW,)


def test_of_trials_that_met_their_target_nothing_is_said() -> None:
    assert settled_warnings(SPEC, [SLOW], [figure(0.2)], part=None) == (SLOW,)


@pytest.mark.parametrize(
    ("spec", "rule", "remedy"),
    [
        (SPEC, "max-steps", "try --max-steps 80, or"),
        (factory.loader_spec(max_epochs=1), "max-epochs", "try --max-epochs 4, or"),
        (SPEC, "max-measuring-time", "try --measuring-time 10s, or"),
    ],
)
def test_the_remedy_is_an_option_as_it_is_written(spec: TrialSpec, rule: StopRule, remedy: str) -> None:
    warning = noise_warning(spec, [figure(0.2, rule)], part=None)
    assert warning is not None
    assert remedy in warning.message


def test_of_several_processes_the_one_that_a_cap_ended_tells_why() -> None:
    capped = stop("max-steps")
    assert capped_stop([stop("noise-target"), capped]) == capped
    assert capped_stop([stop("noise-target")]) == stop("noise-target")
    assert capped_stop([]) is None
