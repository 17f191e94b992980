from dataclasses import replace

import pytest
import record_factory as factory
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.noise import Noise, measure_noise
from vnbench.output.plots.drift import drift_figure
from vnbench.output.words.provenance import provenance


def figure_of(records) -> Figure:
    figure = drift_figure(measure_noise(records), origin=provenance(records))
    assert figure is not None
    return figure


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def caption(figure: Figure) -> str:
    return figure.texts[1].get_text().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def repeated(*, count: int, specs: int = 1, minutes: float = 5.0) -> list[factory.TrialRecord]:
    return [
        factory.measured_training_record(
            factory.training_spec(batch_size=size), replicate=n, started_at=factory.started_at(minutes * n + size)
        )
        for n in range(count)
        for size in range(1, specs + 1)
    ]


def test_the_reference_has_a_point_with_its_interval_per_run_and_other_specs_faint_ones() -> None:
    axes = figure_of(repeated(count=4, specs=3)).axes[0]
    (container,) = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    assert len(container.lines[0].get_xdata()) == 4
    assert all(segment[1][1] > segment[0][1] for segment in container.lines[2][0].get_segments())
    (faint,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(faint.get_xdata()) == 8


def test_time_is_in_minutes_since_the_sweeps_start() -> None:
    axes = figure_of(repeated(count=3)).axes[0]
    (container,) = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    # A record without a measured span stands at the middle of its thirty seconds.
    assert list(container.lines[0].get_xdata()) == pytest.approx([0.25, 5.25, 10.25])


def drifting(noise: Noise, *, se: float) -> Noise:
    assert noise.drift is not None
    return replace(noise, drift=replace(noise.drift, per_hour=Estimate(value=20 * se, se=se, dof=10)))


def test_a_drift_that_is_seen_has_a_line_with_its_interval_and_no_area_is_filled() -> None:
    records = repeated(count=6, specs=4)
    figure = drift_figure(drifting(measure_noise(records), se=0.001), origin=provenance(records))
    assert figure is not None
    names = legend(figure)
    assert names[:2] == ["reference trial", "other repeated trials"]
    assert names[2].startswith("run-to-run spread: ± ")
    assert names[3:] == ["fitted drift", "its 95 % interval"]
    assert not [one for one in figure.axes[0].collections if isinstance(one, PolyCollection)]


def test_a_drift_that_is_not_seen_has_no_line() -> None:
    figure = figure_of(repeated(count=6, specs=4))
    assert len(legend(figure)) == 3
    assert "Drift: none seen: " in caption(figure)


def test_an_interval_that_leaves_the_figure_is_said_to_be_cut() -> None:
    records = repeated(count=3)
    figure = drift_figure(drifting(measure_noise(records), se=0.1), origin=provenance(records))
    assert figure is not None
    assert legend(figure)[-1] == "its 95 % interval, cut at the frame"


def test_no_point_or_interval_leaves_the_figure() -> None:
    axes = figure_of(repeated(count=5, specs=3)).axes[0]
    (container,) = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    low, high = axes.get_ylim()
    assert all(low < y < high for segment in container.lines[2][0].get_segments() for _, y in segment)


def test_the_caption_tells_the_drift_and_the_footer_the_reference() -> None:
    figure = figure_of(repeated(count=6))
    assert "Drift: " in caption(figure)
    assert "from 6 repeated trials" in caption(figure)
    footer = figure.texts[2].get_text().replace("\n", " ")
    assert "Reference: model veernet-tiny, batch 1, fp32, no checkpointing, random sampler, 0 workers, 6 proc" in footer


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_runs_have_no_figure(count) -> None:
    records = repeated(count=count, specs=3)
    assert drift_figure(measure_noise(records), origin=provenance(records)) is None


def test_runs_at_one_time_have_no_figure() -> None:
    records = [factory.measured_training_record(factory.training_spec(), replicate=n) for n in range(3)]
    assert drift_figure(measure_noise(records), origin=provenance(records)) is None


def test_bars_of_too_few_steps_are_left_out() -> None:
    records = repeated(count=4, specs=3)
    noise = measure_noise(records)
    assert noise.drift is not None
    wide = replace(
        noise.drift,
        reference=tuple(replace(one, figure=replace(one.figure, se=3.0)) for one in noise.drift.reference),
    )
    plain, cut = figure_of(records), drift_figure(replace(noise, drift=wide), origin=provenance(records))
    assert cut is not None
    assert "Bars: " not in caption(cut)
    assert "Bars: " in caption(plain)
    assert cut.axes[0].get_ylim()[1] < 100, "points and spread fill the frame"
