from __future__ import annotations

from typing import Any

import pytest
from correct_loops import CORRECT
from small_loop import audited


@pytest.mark.parametrize("function", CORRECT, ids=lambda function: function.__name__)
def test_an_audit_finds_nothing_wrong_with_a_loop_that_is_right(function: Any) -> None:
    assert audited(function).findings == ()


def test_there_are_thirty_loops_that_are_right() -> None:
    assert len(CORRECT) >= 30
