import errno
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import record_factory as factory
from matplotlib import rcParams
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.summary import summarize
from vnbench.errors import InputError
from vnbench.output.plots.figures import PLOTS, Drawn, Subject, draw_figures
from vnbench.output.plots.looks import CYCLE
from vnbench.output.plots.series import Point, Series, draw_series
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.records.record import TrialRecord

NAMES = (
    "effects",
    "step_time",
    "peak_memory",
    "padding",
    "repetition",
    "workers",
    "epoch_time",
    "compute",
    "fit",
    "supply",
    "drift",
)


def cuda_sweep() -> tuple[TrialRecord, ...]:
    return (*factory.cuda_sweep(), *factory.compute_sweep(), *loaders("cuda"))


def cpu_sweep() -> tuple[TrialRecord, ...]:
    """Training in one process per configuration, as in the first records, and repeated compute trials."""
    return (*factory.cpu_sweep(), *factory.compute_sweep(device="cpu", replicates=3), *loaders("cpu"))


def loaders(device: str) -> list[TrialRecord]:
    specs = [factory.loader_spec(device=device, num_workers=count) for count in (0, 2)]
    return list(map(factory.measured_loader_record, specs))


def draw(records: Sequence[TrialRecord], folder: Path) -> Drawn:
    return draw_figures(Subject(found=Findings(records)), folder)


def figure_of(name: str, records: Sequence[TrialRecord]) -> Figure:
    (plot,) = [plot for plot in PLOTS if plot.name == name]
    figure = plot.draw(Findings(records), provenance(records))
    assert figure is not None
    return figure


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def bars(figure: Figure) -> dict[str, ErrorbarContainer]:
    containers = figure.axes[0].containers
    return {str(one.get_label()): one for one in containers if isinstance(one, ErrorbarContainer)}


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_every_figure_is_written_as_png_and_svg(tmp_path) -> None:
    drawn = draw(cuda_sweep(), tmp_path / "new")
    assert {file.name for file in drawn.files} == {f"{name}.{suffix}" for name in NAMES for suffix in ("png", "svg")}
    assert all(file.stat().st_size > 1000 for file in drawn.files)
    assert drawn.left_out == ()


def test_a_figure_without_data_is_left_out_with_the_command_that_measures_it(tmp_path) -> None:
    record = factory.measured_training_record(factory.training_spec())
    drawn = draw([record], tmp_path)
    assert {file.stem for file in drawn.files} == {"step_time", "padding", "epoch_time", "fit"}
    of_these = (
        "vnbench sweep --widths 12800:12800 --heights 640:640 --task multiclass --model veernet-tiny --device cpu"
    )
    of_these += " --precision fp32"
    assert drawn.left_out == (
        "effects: no two trials differ in one lever alone; "
        f"measure with: {of_these} --kind memory,training --checkpointing none,stages",
        "peak memory: no worst-case memory trial has a peak; "
        f"measure with: {of_these} --kind memory --batch-size 1,2,4,8,16",
        "repetition: no two samplers have a plan with pairs of examples; "
        f"measure with: {of_these} --kind training --batch-size 16 --micro-batch-size 4 --sampler random,bucketed",
        "workers: no two trials differ in their number of loader workers alone; "
        f"measure with: {of_these} --kind training --num-workers 0,2,4",
        f"compute: no compute trial has a valid step time; measure with: {of_these} --kind compute",
        "supply: no two loader trials differ in their number of workers alone; "
        f"measure with: {of_these} --kind compute,loader --num-workers 0,1,2,4",
        f"drift: no timed trial ran 3 times; measure with: {of_these} --kind training --replicates 3",
    )


def test_no_records_give_no_files_and_a_line_per_figure(tmp_path) -> None:
    drawn = draw([], tmp_path)
    assert drawn.files == ()
    assert len(drawn.left_out) == len(NAMES)
    assert all("vnbench sweep" in line for line in drawn.left_out)


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path) -> None:
    before = dict(rcParams)
    draw([factory.measured_training_record(factory.training_spec())], tmp_path)
    assert dict(rcParams) == before


def test_the_same_records_give_the_same_svg(tmp_path) -> None:
    record = factory.measured_training_record(factory.training_spec())
    first, second = (draw([record], tmp_path / name).files for name in "ab")
    for one, other in zip(first, second, strict=True):
        if one.suffix == ".svg":
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_has_a_unit(name) -> None:
    axes = figure_of(name, cuda_sweep()).axes
    # Panels below each other share the x axis of the lowest, those beside each other their rows, which have names.
    has_rows = name == "effects"
    of_numbers = [one.get_xlabel() for one in axes] if has_rows else [one.get_ylabel() for one in axes]
    for label in (axes[-1].get_xlabel(), *of_numbers):
        assert "(" in label
        assert label.endswith(")")


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_where_and_when_and_how_many_trials(name) -> None:
    cuda, cpu = texts(figure_of(name, cuda_sweep())), texts(figure_of(name, cpu_sweep()))
    assert "NVIDIA H200, torch 2.13.0+cu130, 2026-01-05, " in cuda
    assert "configurations" in cuda or "trials" in cuda
    assert CPU_LABEL not in cuda
    assert "CPU Intel" in cpu
    assert CPU_LABEL in cpu


@pytest.mark.parametrize("name", ["step_time", "workers", "epoch_time"])
def test_every_measured_point_carries_an_interval(name) -> None:
    figure = figure_of(name, factory.cuda_sweep())
    assert bars(figure)
    for container in bars(figure).values():
        segments = container.lines[2][0].get_segments()
        assert len(segments) == len(container.lines[0].get_xdata())
        assert all(segment[1][1] > segment[0][1] for segment in segments)
    assert "Bars: 95 % interval with the run-to-run spread, 2.2 %." in texts(figure)


def test_a_bar_wider_than_its_figure_ends_at_zero() -> None:
    wide = Series(label="wide", look=CYCLE[0], points=(Point(x=1, y=2.0, half_width=3.0),))
    axes = Figure().add_subplot()
    draw_series(axes, [wide], scale="linear")
    (container,) = axes.containers
    assert isinstance(container, ErrorbarContainer)
    ((low, high),) = [[end for _, end in segment] for segment in container.lines[2][0].get_segments()]
    assert (low, high) == (0.0, 5.0)


def test_bars_of_single_processes_are_said_to_cover_one_process_only() -> None:
    text = texts(figure_of("step_time", factory.cpu_sweep()))
    assert "Bars: 95 % interval of one process; how far processes differ was not measured." in text


def test_a_point_of_one_step_is_drawn_without_a_bar_and_said_to_be() -> None:
    steps = factory.steps_of([2.0])
    record = factory.record_of(factory.training_spec(), steps=steps, block=factory.block_of(steps))
    figure = figure_of("step_time", [record])
    assert not bars(figure)["fp32"].lines[2]
    assert "A point without a bar rests on one step." in texts(figure)


def test_batch_sizes_stand_at_their_own_ticks() -> None:
    axes = figure_of("step_time", factory.cuda_sweep()).axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "8", "16"]


def test_a_line_holds_trials_that_differ_in_batch_size_alone() -> None:
    lines = bars(figure_of("step_time", factory.cpu_sweep()))
    assert set(lines) == {
        "fp32",
        "bf16",
        "fp32, checkpointing stages",
        "fp32, bucketed sampler",
        "fp32, 2 workers",
    }
    assert [len(one.lines[0].get_xdata()) for one in lines.values()] == [3, 1, 1, 1, 1]
    assert lines["fp32"].lines[0].get_linestyle() == "-"
    assert lines["fp32, 2 workers"].lines[0].get_linestyle() == "None"


def test_levers_that_the_legend_does_not_name_stand_in_the_footer() -> None:
    footer = figure_of("step_time", factory.cpu_sweep()).texts[2].get_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "Unless named: model veernet-tiny, no checkpointing, random sampler, 0 workers." in footer


def test_trials_that_are_not_drawn_are_counted() -> None:
    text = texts(figure_of("step_time", factory.cuda_sweep()))
    assert "Not drawn: 3 configurations with other levers. Without a valid time: 3 skipped." in text


def test_precisions_differ_in_marker_and_variants_in_fill() -> None:
    lines = [one.lines[0] for one in bars(figure_of("step_time", factory.cuda_sweep())).values()]
    looks = {(line.get_marker(), line.get_fillstyle(), line.get_markerfacecolor()) for line in lines}
    assert len(looks) == len(lines) == 6


def test_points_that_share_a_batch_size_stand_apart() -> None:
    lines = bars(figure_of("step_time", factory.cpu_sweep())).values()
    places = [x for one in lines for x in one.lines[0].get_xdata() if 1.5 < x < 3]
    assert len(places) == len({round(x, 3) for x in places}) == 5


def test_a_band_holds_all_that_stands_at_a_batch_size_and_there_is_none_where_nothing_shares_one() -> None:
    axes = figure_of("step_time", factory.cpu_sweep()).axes[0]
    bands = [(band.get_x(), band.get_x() + band.get_width()) for band in axes.patches]
    places = [x for one in axes.containers for x in one.lines[0].get_xdata()]
    assert len(bands) == 3
    for tick in (1, 2, 4):
        (band,) = [(low, high) for low, high in bands if low < tick < high]
        assert all((band[0] < x < band[1]) == (tick / 2**0.5 < x < tick * 2**0.5) for x in places)
    assert not figure_of("workers", factory.cuda_sweep()).axes[0].patches


@pytest.mark.parametrize("name", NAMES)
def test_a_caption_has_at_most_two_sentences(name) -> None:
    for sweep in (cpu_sweep(), cuda_sweep()):
        caption = figure_of(name, sweep).texts[1].get_text()
        assert len(re.findall(r"[.](?=\s|$)", caption)) <= 2


def test_many_trials_of_single_points_stay_on_their_side_of_the_next_batch_size() -> None:
    levers = ({}, {"sampler": "bucketed"}, {"checkpointing": "stages"}, {"precision": "bf16"})
    records = [
        factory.measured_training_record(factory.training_spec(batch_size=2, seed=seed, **lever))
        for lever in levers
        for seed in range(6)
    ]
    records.append(factory.measured_training_record(factory.training_spec(batch_size=4)))
    axes = figure_of("step_time", records).axes[0]
    places = [x for one in axes.containers for x in one.lines[0].get_xdata()]
    assert len({round(x, 4) for x in places}) == 25
    assert sum(2 / 2**0.5 < x < 2 * 2**0.5 for x in places) == 24


def test_more_levers_than_a_figure_can_show_are_counted_even_without_their_centre() -> None:
    # Every trial differs from the most common value of some lever: the centre itself is not among them.
    changes = [
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"checkpointing": "stages"},
        {"sampler": "bucketed"},
        {"num_workers": 1},
        {"num_workers": 2},
        {"num_workers": 4},
        {"task": "binary"},
        {"norm_groups": "16"},
    ]
    records = [factory.measured_training_record(factory.training_spec(**change)) for change in changes]
    figure = figure_of("step_time", records)
    assert len(legend(figure)) == 6
    assert "Not drawn: 3 configurations with other levers." in texts(figure)


def test_an_interval_below_zero_does_not_break_a_logarithmic_axis() -> None:
    wild = factory.steps_of([0.1, 3.0])
    calm = factory.steps_of([30.0, 30.1])
    records = [
        factory.record_of(factory.training_spec(batch_size=n), steps=steps, block=factory.block_of(steps))
        for n, steps in ((1, wild), (2, calm))
    ]
    axes = figure_of("step_time", records).axes[0]
    assert axes.get_yscale() == "log"
    assert 0.1 < axes.get_ylim()[0] < 1.55


def test_the_processes_of_a_configuration_are_one_point() -> None:
    spec = factory.training_spec()
    records = [factory.measured_training_record(spec, replicate=n) for n in range(3)]
    (one,) = bars(figure_of("step_time", records)).values()
    assert len(one.lines[0].get_xdata()) == 1


def test_trials_that_differ_in_their_seed_are_points_of_one_line_through_their_means() -> None:
    records = [
        factory.measured_training_record(factory.training_spec(batch_size=size, seed=seed))
        for size in (1, 2, 4)
        for seed in (0, 1)
    ]
    axes = figure_of("step_time", records).axes[0]
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]
    assert len(drawn) == 1
    assert list(drawn[0].get_xdata()) == pytest.approx([1, 2, 4], rel=1e-2)


def test_two_batch_sizes_are_not_joined_by_a_line() -> None:
    for sizes, style in (((1, 2), "None"), ((1, 2, 4), "-")):
        records = [factory.measured_training_record(factory.training_spec(batch_size=size)) for size in sizes]
        (container,) = figure_of("step_time", records).axes[0].containers
        assert container.lines[0].get_linestyle() == style


def test_a_switch_that_all_trials_have_stands_in_the_footer() -> None:
    record = factory.measured_training_record(factory.training_spec(optimizer="foreach"))
    assert "foreach optimizer" in texts(figure_of("step_time", [record]))
    plain = factory.measured_training_record(factory.training_spec())
    assert "optimizer" not in texts(figure_of("step_time", [plain])).replace("optimizer step", "")


def test_workers_are_compared_at_equal_levers_only() -> None:
    figure = figure_of("workers", factory.cuda_sweep())
    assert legend(figure) == ["fp32"]
    assert list(bars(figure)["fp32"].lines[0].get_xdata()) == [0, 2, 4, 8]
    assert "batch 4" in texts(figure)


def test_capacity_is_a_line_and_failed_families_are_crossed_out_there() -> None:
    figure = figure_of("peak_memory", factory.cuda_sweep())
    assert legend(figure)[-3:] == [
        "capacity 139 GiB",
        "out of memory",
        "skipped: a smaller one ran out of memory",
    ]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() in ("x", "+")]
    assert sorted(line.get_marker() for line in crosses) == ["+", "x", "x"]
    assert all(line.get_ydata()[0] == 139 for line in crosses)
    assert figure.axes[0].get_ylim()[1] > 139


def test_a_capacity_far_above_the_data_is_said_and_not_drawn() -> None:
    records = [factory.measured_memory_record(factory.training_spec())]
    figure = figure_of("peak_memory", records)
    assert figure.axes[0].get_ylim()[1] < 5
    assert "Capacity: 24.0 GiB, far above." in texts(figure)
    assert legend(figure) == ["fp32"]


@pytest.mark.parametrize(("peak_bytes", "unit"), [(300 * 2**20, "MiB"), (3 * 2**30, "GiB")])
def test_memory_is_drawn_in_the_unit_of_its_size(peak_bytes: int, unit: str) -> None:
    spec = factory.memory_spec(factory.training_spec())
    record = factory.record_of(spec, memory=factory.reading_of(spec, peak_bytes=peak_bytes, capacity_bytes=2**35))
    axes = figure_of("peak_memory", [record]).axes[0]
    assert axes.get_ylabel() == f"peak memory ({unit})"
    (line,) = [line for line in axes.lines if len(line.get_ydata())]
    assert line.get_ydata()[0] == (300 if unit == "MiB" else 3)


def test_failures_of_an_unknown_capacity_stand_above_the_data() -> None:
    small, large = factory.training_spec(), factory.training_spec(batch_size=2)
    spec = factory.memory_spec(small)
    reading = factory.reading_of(spec, peak_bytes=factory.GIB, capacity_bytes=None)
    records = [
        factory.record_of(spec, memory=reading),
        factory.record_of(factory.memory_spec(large), status="crashed"),
    ]
    figure = figure_of("peak_memory", records)
    assert "Capacity unknown" in texts(figure)
    assert legend(figure) == ["fp32", "did not finish"]


def test_the_memory_figure_says_what_was_counted_on_which_size() -> None:
    cuda, cpu = (texts(figure_of("peak_memory", sweep())) for sweep in (factory.cuda_sweep, factory.cpu_sweep))
    assert "images of 640 x 12,800 px" in cuda
    assert "Bytes reserved by the caching allocator." in cuda
    assert "Bytes held by tensors, without the workspace of oneDNN." in cpu
    assert "Each point is one reading, so it has no bar." in cuda


def test_padding_has_a_bar_per_plan_with_its_lower_bound() -> None:
    figure = figure_of("padding", factory.cpu_sweep())
    axes = figure.axes[0]
    assert sorted(round(bar.get_height(), 1) for bar in axes.patches) == [4.0, 5.0, 23.0, 32.5]
    assert len(axes.collections) == 4
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]
    assert {bar.get_hatch() for bar in axes.patches} == {"", "////"}
    assert legend(figure) == ["random sampler", "bucketed sampler", "least that any grouping pads"]


def test_repetition_has_a_point_per_plan_and_its_throughput_in_the_legend() -> None:
    figure = figure_of("repetition", factory.cuda_sweep())
    axes = figure.axes[0]
    points = {(line.get_xdata()[0], round(line.get_ydata()[0], 1)) for line in axes.lines[1:]}
    # Batches 2, 4, 8, and 16 in passes of 4 of random; one of bucketed. A whole batch of 16 ran out of memory.
    assert len(axes.lines) - 1 == 5
    assert {x for x, _ in points} == {0.1, 10.0}
    assert sum("random, batch" in text for text in legend(figure)) == 4
    assert sum("bucketed, batch 4:" in text for text in legend(figure)) == 1
    assert all("±" in text for text in legend(figure)[1:])


def test_a_legend_that_would_fill_the_figure_names_the_fastest_plans_and_counts_the_others() -> None:
    records = [
        factory.measured_training_record(factory.training_spec(batch_size=n, sampler=sampler))
        for n in range(2, 9)
        for sampler in ("random", "bucketed")
    ]
    figure = figure_of("repetition", records)
    figure.draw_without_rendering()
    assert len(legend(figure)) == 8
    assert legend(figure)[-1] == "and 8 more"
    assert len(figure.axes[0].lines) == 15
    assert figure.axes[0].get_position().height > 0.25


def test_repetition_needs_two_samplers() -> None:
    records = [factory.measured_training_record(factory.training_spec(batch_size=n)) for n in (2, 4)]
    (plot,) = [plot for plot in PLOTS if plot.name == "repetition"]
    assert plot.draw(Findings(records), provenance(records)) is None


def test_padding_names_a_micro_batch_that_is_not_the_batch() -> None:
    axes = figure_of("padding", factory.cuda_sweep()).axes[0]
    assert axes.get_xticklabels()[-1].get_text() == "16\n(micro 4)"


def test_plans_that_differ_by_seed_share_a_bar_with_their_span() -> None:
    first = factory.record_of(
        factory.training_spec(), batching=factory.account(valid_pixels=80, padded_pixels=100, lower_bound=0.1)
    )
    second = factory.record_of(
        factory.training_spec(seed=1), batching=factory.account(valid_pixels=90, padded_pixels=100, lower_bound=0.1)
    )
    axes = figure_of("padding", [first, second]).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [pytest.approx(15)]


def test_epoch_time_says_that_it_is_scaled_from_a_subset() -> None:
    figure = figure_of("epoch_time", factory.cuda_sweep())
    assert figure.axes[0].get_ylabel() == "estimated time per epoch (min)"
    assert "Estimated for all 15,000 training examples from the subset measured." in texts(figure)


def test_the_figure_of_the_epoch_time_ranks_as_the_table_does() -> None:
    # The subset of batch 2 pads more than the plan does: by padded pixels its epoch would look shorter.
    plan = factory.account(valid_pixels=90, padded_pixels=100, lower_bound=0.1)
    records = []
    for batch_size, padding in ((1, 1.0), (2, 1.5)):
        steps = factory.steps_of([1.0, 1.1, 0.9])
        steps["padded_pixels"] = tuple(round(padding * pixels) for pixels in steps["padded_pixels"])
        spec = factory.training_spec(batch_size=batch_size, micro_batch_size=batch_size)
        block = factory.block_of(steps)
        records.append(factory.record_of(spec, steps=steps, block=block, batching=plan))
    first, second = summarize(records)
    assert first.valid_px_per_s == second.valid_px_per_s
    assert first.epoch_time != second.epoch_time
    one, two = figure_of("epoch_time", records).axes[0].lines[0].get_ydata()
    assert one == pytest.approx(two)


def test_no_text_leaves_the_figure() -> None:
    for sweep in (cpu_sweep(), cuda_sweep()):
        for name in NAMES:
            figure = figure_of(name, sweep)
            figure.draw_without_rendering()
            box = figure.axes[0].get_tightbbox()
            assert box is not None
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= figure.bbox.width + 1
            footer, heading = figure.texts[2].get_window_extent(), figure.texts[1].get_window_extent()
            assert box.y0 >= footer.y1
            assert box.y1 <= heading.y0
            assert max(text.get_window_extent().x1 for text in figure.texts) <= figure.bbox.width


def test_records_of_two_devices_are_refused(tmp_path) -> None:
    other = {"device_name": "NVIDIA H100", "torch_version": "2.13.0"}
    records = [replace(record, environment=other) for record in factory.cuda_sweep()[:1]]
    with pytest.raises(InputError, match="one device"):
        draw([*factory.cuda_sweep(), *records], tmp_path)


def test_a_picture_that_cannot_be_written_is_named_where_none_is_needed(tmp_path: Path) -> None:
    subject, folder = Subject(found=Findings(cpu_sweep()[:1])), tmp_path / "plots"
    folder.touch()
    with pytest.raises(OSError, match="exists"):
        draw_figures(subject, folder)
    drawn = draw_figures(subject, folder, is_needed=False)
    assert drawn.files == ()
    assert any(f": {folder} cannot be written (File exists)" in line for line in drawn.left_out)


def test_of_a_picture_that_a_full_disk_cuts_off_no_part_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(_: Figure, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", write_half)
    drawn = draw_figures(Subject(found=Findings(cpu_sweep()[:1])), tmp_path / "plots", is_needed=False)
    assert any("No space left" in line for line in drawn.left_out)
    assert list((tmp_path / "plots").iterdir()) == []
