import pytest
import record_factory as factory
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from vnbench.analysis.trials.compute import summarize_compute
from vnbench.analysis.trials.noise import measure_noise
from vnbench.output.plots.compute import compute_figure
from vnbench.output.words.provenance import provenance


def figure_of(records) -> Figure:
    figure = compute_figure(summarize_compute(records), noise=measure_noise(records), origin=provenance(records))
    assert figure is not None
    return figure


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_every_configuration_is_a_line_over_padded_pixels_with_an_interval_at_every_canvas() -> None:
    figure = figure_of(factory.compute_sweep())
    axes = figure.axes[0]
    assert legend(figure) == [f"micro-batch {n}, {precision}" for n in (1, 4) for precision in ("fp32", "bf16")]
    containers = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    assert [len(one.lines[0].get_xdata()) for one in containers] == [9] * 4
    assert all(segment[1][1] > segment[0][1] for one in containers for segment in one.lines[2][0].get_segments())
    assert max(containers[0].lines[0].get_xdata()) == pytest.approx(640 * 12_800 / 1e6)


def test_two_canvases_are_not_joined_by_a_line() -> None:
    two = factory.compute_spec(canvas_sizes=((480, 3200), (640, 12_800)))
    records = [factory.measured_compute_record(spec) for spec in (two, factory.compute_spec(precision="bf16"))]
    containers = [one for one in figure_of(records).axes[0].containers if isinstance(one, ErrorbarContainer)]
    assert {len(one.lines[0].get_xdata()): one.lines[0].get_linestyle() for one in containers} == {2: "None", 9: "-"}


def test_first_steps_are_open_markers_above_the_later_ones() -> None:
    axes = figure_of(factory.compute_sweep()[:1]).axes[0]
    (first,) = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    (container,) = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    steady = container.lines[0]
    assert all(early > late for early, late in zip(first.get_ydata(), steady.get_ydata(), strict=True))
    assert axes.get_ylim()[1] > max(first.get_ydata())


def test_lines_of_one_precision_differ_in_their_dashes_and_precisions_in_their_markers() -> None:
    axes = figure_of(factory.compute_sweep()).axes[0]
    containers = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    looks = [(one.lines[0].get_marker(), one.lines[0].get_linestyle()) for one in containers]
    assert looks == [("o", "-"), ("^", "-"), ("o", "--"), ("^", "--")]


def test_more_configurations_than_a_figure_can_show_are_counted() -> None:
    records = [factory.measured_compute_record(factory.compute_spec(micro_batch_size=n)) for n in range(1, 9)]
    figure = figure_of(records)
    assert len(legend(figure)) == 6
    assert "Not drawn: 2 configurations." in figure.texts[2].get_text().replace("\n", " ")


def test_without_a_step_time_there_is_no_figure() -> None:
    failed = [factory.record_of(factory.compute_spec(), status="oom")]
    rows = summarize_compute(failed)
    assert compute_figure(rows, noise=measure_noise(failed), origin=provenance(failed)) is None
    assert compute_figure([], noise=measure_noise([]), origin=provenance([])) is None
