from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import own_loop
import pytest
from correct_loops import CORRECT
from small_loop import audited

from vnbench.records.audit_reading import FindingCode

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("function", CORRECT, ids=lambda function: function.__name__)
def test_an_audit_finds_nothing_wrong_with_a_loop_that_is_right(function: Any) -> None:
    assert audited(function).findings == ()


def test_there_are_thirty_loops_that_are_right() -> None:
    assert len(CORRECT) >= 30


def test_the_loops_that_the_guide_and_the_benchmarks_show_are_right() -> None:
    page = (ROOT / "vnbench" / "guide" / "audit.md").read_text(encoding="utf-8")
    (code, _) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    shown: dict[str, Any] = {}
    exec(code, shown)
    for function in (shown["train"], own_loop.train):
        reading = audited(function)
        assert (reading.findings, reading.notes, reading.num_steps) == ((), (), 3)


def test_every_code_stands_in_the_guide_with_its_remedy() -> None:
    page = (ROOT / "vnbench" / "guide" / "audit.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, flags=re.M)) == {*get_args(FindingCode)}
