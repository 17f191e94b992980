from __future__ import annotations

from typing import Any

import pytest
from broken_loops import BROKEN, head_replaced_after_the_optimizer_was_made
from small_loop import audited

pytest.importorskip("lightning")
pytest.importorskip("accelerate")

from framework_loops import (
    BROKEN_IN_FRAMEWORKS,
    CORRECT_IN_FRAMEWORKS,
    through_accelerate,
    through_fabric,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # what the frameworks warn about is theirs

WRAPPED = [function for function in BROKEN if function is not head_replaced_after_the_optimizer_was_made]
"""Plain loops with a bug; a wrapper has no layer to replace."""


@pytest.mark.parametrize("function", CORRECT_IN_FRAMEWORKS, ids=lambda function: function.__name__)
def test_an_audit_finds_nothing_wrong_with_a_right_loop_in_a_framework(function: Any) -> None:
    assert audited(function).findings == ()


@pytest.mark.parametrize("function", BROKEN_IN_FRAMEWORKS, ids=lambda function: function.__name__)
def test_an_audit_tells_the_bug_of_a_loop_in_lightning_or_accelerate(function: Any) -> None:
    assert {one.code for one in audited(function).findings} == {BROKEN_IN_FRAMEWORKS[function]}


@pytest.mark.parametrize("through", [through_fabric, through_accelerate])
@pytest.mark.parametrize("function", WRAPPED, ids=lambda function: function.__name__)
def test_wrappers_of_a_framework_change_nothing_of_what_is_told(function: Any, through: Any) -> None:
    code, step, passes = BROKEN[function]
    reading = audited(through(function))
    assert {one.code for one in reading.findings} == {code}
    assert (step, passes) in [(one.step, one.passes) for one in reading.findings]
