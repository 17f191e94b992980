from __future__ import annotations

import record_factory as factory
from matplotlib.figure import Figure

from vnbench.analysis.findings import Findings
from vnbench.output.answer import is_too_wide
from vnbench.output.plots.effects import effects_figure
from vnbench.output.plots.style import styled
from vnbench.output.words.provenance import provenance
from vnbench.records.record import TrialRecord


def drawn(found: Findings) -> Figure | None:
    with styled():
        return effects_figure(
            found.training,
            answer=found.answer,
            centre=found.sides.centre,
            computing=found.computing_effects,
            num_compute_trials=sum(row.num_processes for row in found.compute),
            origin=provenance(found.records),
        )


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
    (points,) = [line for line in memory.lines if line.get_marker() == "D"]
    peaks = {labels[round(y)]: x for x, y in zip(points.get_xdata(), points.get_ydata(), strict=True)}
    assert peaks["checkpointing stages"] < 1


def test_without_a_change_there_is_no_figure() -> None:
    spec = factory.training_spec()
    alone = Findings([factory.measured_training_record(spec, replicate=n) for n in range(2)])
    assert drawn(alone) is None


def test_bars_end_where_the_intervals_of_the_answer_do() -> None:
    found = Findings(factory.cuda_sweep())
    figure, answer = drawn(found), found.answer
    assert figure is not None
    assert answer is not None
    told = {one.time.interval for one in answer.effects if one.time.interval and not is_too_wide(one.time)}
    bars = {tuple(line.get_xdata()) for line in figure.axes[0].lines if len(line.get_xdata()) == 2}
    assert told
    assert told <= bars


def compute_trials(**levers: str) -> list[TrialRecord]:
    spec = factory.compute_spec(**levers)
    memory = factory.measured_memory_record(factory.training_spec(**levers))
    return [*(factory.measured_compute_record(spec, replicate=n) for n in range(3)), memory]


def test_what_training_leaves_out_compute_trials_tell_as_squares() -> None:
    trained = [
        factory.measured_training_record(factory.training_spec(num_workers=workers), replicate=n)
        for workers in (0, 2)
        for n in range(2)
    ]
    alone = drawn(Findings(trained))
    assert alone is not None
    assert len(alone.axes) == 1, "no memory was measured"
    figure = drawn(Findings([*trained, *compute_trials(), *compute_trials(checkpointing="stages")]))
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    points = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    marks = {labels[round(float(line.get_ydata()[0]))]: line.get_marker() for line in points}
    assert set(labels) == {"2 workers", "checkpointing stages"}
    assert (marks["2 workers"], marks["checkpointing stages"]) == ("o", "s")
    assert "squares: computing alone" in figure.texts[1].get_text().replace("\n", " ")
    assert "4 training trials, 6 compute trials" in figure.texts[2].get_text().replace("\n", " ")


def test_compute_trials_alone_have_a_figure() -> None:
    figure = drawn(Findings([*compute_trials(), *compute_trials(checkpointing="stages")]))
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["checkpointing stages"]
    assert "Centre: " in figure.texts[2].get_text()
