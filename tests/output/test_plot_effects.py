from __future__ import annotations

import record_factory as factory
from matplotlib.figure import Figure

from vnbench.analysis.comparison.sweep_answer import answer_of
from vnbench.analysis.findings import Findings
from vnbench.output.answer import is_too_wide
from vnbench.output.plots.effects import effects_figure
from vnbench.output.plots.style import styled
from vnbench.output.words.provenance import provenance


def drawn(found: Findings) -> Figure | None:
    with styled():
        return effects_figure(found.training, sides=found.sides, origin=provenance(found.records))


def test_each_change_is_a_row_with_its_time_and_its_memory_the_fastest_first() -> None:
    figure = drawn(Findings(factory.cuda_sweep()))
    assert figure is not None
    times, memory = figure.axes
    labels = [label.get_text() for label in times.get_yticklabels()]
    assert "checkpointing stages" in labels
    marks = [line for line in times.lines if line.get_marker() == "o"]
    ratios = [float(line.get_xdata()[0]) for line in marks]
    assert len(ratios) == len(labels)
    assert ratios == sorted(ratios)
    peaks = {
        labels[round(float(line.get_ydata()[0]))]: line.get_xdata()[0]
        for line in memory.lines
        if len(line.get_xdata()) == 1
    }
    assert peaks["checkpointing stages"] < 1


def test_without_a_change_there_is_no_figure() -> None:
    spec = factory.training_spec()
    alone = Findings([factory.measured_training_record(spec, replicate=n) for n in range(2)])
    assert drawn(alone) is None


def test_bars_end_where_the_intervals_of_the_answer_do() -> None:
    found = Findings(factory.cuda_sweep())
    figure, answer = drawn(found), answer_of(found.training, found.sides)
    assert figure is not None
    assert answer is not None
    told = {one.time.interval for one in answer.effects if one.time.interval and not is_too_wide(one.time)}
    bars = {tuple(line.get_xdata()) for line in figure.axes[0].lines if len(line.get_xdata()) == 2}
    assert told
    assert told <= bars
