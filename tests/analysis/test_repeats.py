from __future__ import annotations

from typing import Any

from vnbench.analysis.trials.repeats import Difference, compare_runs
from vnbench.output.words.repeats import repeat_lines


def step(**changes: Any) -> dict[str, Any]:
    return {
        "loss": 0.5,
        "outputs": [["a (Conv2d)", "1"], ["b (Conv2d)", "2"]],
        "gradients": [["a.weight", "3"], ["b.weight", "4"]],
        "weights": [["a.weight", "5"], ["b.weight", "6"]],
    } | changes


def test_equal_runs_are_equal() -> None:
    report = compare_runs([[step(), step()]] * 3)
    assert (report.first, report.exit_code, report.num_runs, report.num_steps) == (None, 0, 3, 2)
    assert report.to_json()["is_bitwise_equal"]
    assert report.to_json()["first_difference"] is None
    assert "equal to the bit" in next(repeat_lines(report, threads=2))


def test_the_first_step_module_and_parameter_that_differ_are_named() -> None:
    other = step(
        loss=0.25,
        outputs=[["a (Conv2d)", "1"], ["b (Conv2d)", "9"]],
        gradients=[["a.weight", "9"], ["b.weight", "9"]],
    )
    report = compare_runs([[step(), step(), step()], [step(), other, step(loss=1.0)]])
    assert report.first == Difference(step=2, parameter="a.weight", operator="b (Conv2d)", losses=(0.5, 0.25), run=2)
    assert report.exit_code == 1
    assert report.losses == (0.5, 1.0)
    told = " ".join(repeat_lines(report, threads=2))
    assert "first in step 2, between run 1 and run 2, in the output of b (Conv2d)" in told
    assert "0.5 apart" in told


def test_what_differs_after_equal_forward_passes_is_in_the_backward_pass() -> None:
    report = compare_runs([[step()], [step(gradients=[["a.weight", "3"], ["b.weight", "9"]])]])
    assert report.first is not None
    assert (report.first.operator, report.first.parameter) == (None, "b.weight")
    assert "after equal forward passes" in next(repeat_lines(report, threads=2))
    only_weights = compare_runs([[step()], [step(weights=[["a.weight", "9"], ["b.weight", "6"]])]])
    assert only_weights.first is not None
    assert only_weights.first.parameter == "a.weight"


def test_a_module_that_ran_in_one_run_alone_is_named() -> None:
    report = compare_runs([[step()], [step(outputs=[["a (Conv2d)", "1"]])]])
    assert report.first is not None
    assert report.first.operator == "b (Conv2d)"


def test_the_earliest_difference_of_several_runs_counts() -> None:
    odd = step(loss=0.1)
    report = compare_runs([[step(), step()], [step(), odd], [odd, step()]])
    assert report.first is not None
    assert (report.first.step, report.first.run) == (1, 3)
