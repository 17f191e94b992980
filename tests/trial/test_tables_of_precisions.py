"""A new precision is a word first: these tables do without it in silence unless they learn it too."""

from __future__ import annotations

import re
from importlib.resources import files

from vnbench.output.plots.looks import LOOKS
from vnbench.records.spec.words import PRECISIONS, REDUCED_PRECISIONS
from vnbench.request.choosing import PREFERRED_PRECISIONS
from vnbench.trial.checks.equality import MULTIPLES, SIGNIFICANT_BITS
from vnbench.trial.step.optimizer_step import AUTOCAST_DTYPES


def test_every_table_of_precisions_knows_each_of_them() -> None:
    assert set(AUTOCAST_DTYPES) == set(REDUCED_PRECISIONS)
    assert set(SIGNIFICANT_BITS) == set(PRECISIONS)
    assert set(MULTIPLES) == set(PRECISIONS)
    assert set(PREFERRED_PRECISIONS) == set(PRECISIONS)
    assert set(PRECISIONS) <= set(LOOKS)


def test_the_page_draws_each_of_them() -> None:
    script = (files("vnbench") / "output/page/templates/planner_page.js").read_text(encoding="utf-8")
    found = re.search(r"PRECISIONS = \[([^\]]*)\]", script)
    assert found is not None
    assert set(re.findall(r'"(\w+)"', found[1])) == set(PRECISIONS)
