from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.output.plots.figures import PLOTS
from vnbench.output.plots.looks import CYCLE, LOOKS, VARIANTS, looks_of
from vnbench.output.words.provenance import provenance
from vnbench.records.record import TrialRecord
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import SAMPLER_NAMES


def test_every_precision_and_sampler_has_a_look_of_its_own() -> None:
    for values in (PRECISIONS, SAMPLER_NAMES):
        looks = looks_of(values)
        assert list(looks) == list(values)
        for told in ("colour", "marker"):
            assert len({getattr(look, told) for look in looks.values()}) == len(values)
    assert len({LOOKS[name].hatch for name in SAMPLER_NAMES}) == len(SAMPLER_NAMES)


def test_a_value_keeps_its_look_whatever_stands_beside_it() -> None:
    assert looks_of(["bf16"])["bf16"] == looks_of(["fp8", "bf16", "fp32"])["bf16"] == LOOKS["bf16"]


def test_values_that_nobody_has_styled_differ_from_all_others_in_colour() -> None:
    for known in (PRECISIONS, SAMPLER_NAMES):
        looks = looks_of([*known, "new", "newer"])
        assert list(looks) == [*known, "new", "newer"]
        assert len({look.colour for look in looks.values()}) == len(looks)
    assert looks_of({"b", "a"}) == looks_of(["a", "b", "a"])


def test_more_values_than_looks_share_them() -> None:
    names = [f"value {number:02}" for number in range(2 * len(CYCLE))]
    looks = looks_of(names)
    assert set(looks.values()) == set(CYCLE)
    assert looks[names[0]] == looks[names[len(CYCLE)]]


def test_looks_of_the_cycle_and_variants_can_be_told_apart_without_colour() -> None:
    assert len({look.marker for look in CYCLE}) == len({look.hatch for look in CYCLE}) == len(CYCLE)
    assert not {look.hatch for look in CYCLE} & {LOOKS[name].hatch for name in SAMPLER_NAMES}
    assert len({(variant.fill, str(variant.line)) for variant in VARIANTS}) == len(VARIANTS)


def renamed(record: TrialRecord, **values: str) -> TrialRecord:
    """Return a record as it would be if a lever had one more value."""
    spec = replace(record.spec)
    for name, value in values.items():
        object.__setattr__(spec, name, value)
    return replace(record, spec=spec)


def records_with_new_values() -> Iterator[TrialRecord]:
    for sampler in ("bucketed", "random"):
        for precision in ("fp32", "bf16"):
            for batch_size in (1, 2):
                spec = factory.training_spec(sampler=sampler, precision=precision, batch_size=batch_size)
                changes = {"random": {"sampler": "by-rows"}}.get(sampler, {})
                changes |= {"bf16": {"precision": "fp8"}}.get(precision, {})
                yield renamed(factory.measured_training_record(spec), **changes)


@pytest.mark.parametrize("name", ["step_time", "padding", "repetition", "epoch_time"])
def test_a_figure_shows_a_sampler_and_a_precision_that_nobody_has_styled(name: str) -> None:
    records = list(records_with_new_values())
    (plot,) = [plot for plot in PLOTS if plot.name == name]
    figure = plot.draw(Findings(records), provenance(records))
    assert figure is not None
    axes = figure.axes[0]
    texts = " ".join(text.get_text() for text in axes.get_legend().get_texts())
    assert "by-rows" in texts
    if name in ("step_time", "epoch_time"):
        assert "fp8" in texts
        colours = {one.lines[0].get_color() for one in axes.containers}
        assert colours == {look.colour for look in looks_of(["fp32", "fp8"]).values()}
