from __future__ import annotations

from typing import Any, get_args

import pytest
from broken_loops import BROKEN, short_window_divided_by_the_full_number
from small_loop import audited

from vnbench.records.audit_reading import FindingCode


@pytest.mark.parametrize("function", BROKEN, ids=lambda function: function.__name__)
def test_an_audit_tells_the_bug_of_a_loop_with_its_step_and_passes(function: Any) -> None:
    code, step, passes = BROKEN[function]
    reading = audited(function)
    assert reading.outcome == "broken"
    assert {one.code for one in reading.findings} == {code}
    assert (step, passes) in [(one.step, one.passes) for one in reading.findings]


def test_a_short_window_that_is_divided_by_the_full_number_of_passes_is_told_beside_the_mean_of_means() -> None:
    means, short = audited(short_window_divided_by_the_full_number).findings
    assert "a mean over each pass counts every pass alike" in means.message
    assert "8 examples in batches of 8 give 0.26 times the gradient" in short.message
    assert "also in a short last one" in short.message


def test_there_are_twenty_bugs_and_every_code_but_that_of_ranks_is_among_them() -> None:
    assert len(BROKEN) >= 20
    assert {code for code, _, _ in BROKEN.values()} == {*get_args(FindingCode)} - {"no-gradient-exchange"}
