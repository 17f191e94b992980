from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import record_factory as factory

from vnbench.analysis.trials.reproduced import reproduced
from vnbench.output.words.reproduced import reproduced_lines
from vnbench.records.readings import WeightsReading
from vnbench.records.record import TrialRecord


def processes(*digests: str | None, num_updates: Sequence[int] = (), batch_size: int = 1) -> list[TrialRecord]:
    spec = factory.training_spec(batch_size=batch_size)
    updates = num_updates or [10] * len(digests)
    return [
        replace(
            factory.record_of(spec, replicate=number),
            weights=None if digest is None else WeightsReading(digest=digest, num_updates=done),
        )
        for number, (digest, done) in enumerate(zip(digests, updates, strict=True))
    ]


def test_processes_with_the_same_weights_are_told_of_in_a_line() -> None:
    (line,) = reproduced_lines([*processes("a", "a", "a"), *processes("b", "b", batch_size=2)])
    assert line == "to the bit: all processes of 2 repeated configurations trained to the same weights."


def test_configurations_whose_processes_differ_are_named_with_how_many_agree() -> None:
    (line,) = reproduced_lines([*processes("a", "b", "a"), *processes("c", "c", batch_size=2)])
    assert line.startswith("to the bit: 1 of 2 repeated configurations trained to weights that differ")
    assert "(2 of 3 equal)" in line
    assert "--deterministic on" in line


@pytest.mark.parametrize(
    "records", [processes("a"), processes("a", None), processes(None, None), processes("a", "b", num_updates=(5, 10))]
)
def test_weights_after_other_numbers_of_updates_say_nothing_of_each_other(records: list[TrialRecord]) -> None:
    assert reproduced(records) == ()
    assert not list(reproduced_lines(records))
