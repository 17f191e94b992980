from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
import record_factory as factory
from rich.console import Console

from vnbench.analysis.trials.compute import summarize_compute
from vnbench.analysis.trials.loading import summarize_loading
from vnbench.analysis.trials.noise import measure_noise
from vnbench.output.plots.supply import supply_figure
from vnbench.output.tables.loader import loader_answer, loader_table
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.records.record import Cause, TrialRecord


def render(records: Sequence[TrialRecord], *, appetite: float | None = None) -> str:
    table = loader_table(records, appetite=appetite)
    assert table is not None
    stream = io.StringIO()
    Console(file=stream, width=110).print(table)
    return stream.getvalue()


def words(records: Sequence[TrialRecord], *, appetite: float | None = None) -> str:
    return " ".join(render(records, appetite=appetite).split())


def loaders(*counts: int, **changes: object) -> list[TrialRecord]:
    return [
        factory.measured_loader_record(factory.loader_spec(batch_size=2, num_workers=count, **changes))
        for count in counts
    ]


def computing() -> list[TrialRecord]:
    return [factory.measured_compute_record(factory.compute_spec(device="cpu", micro_batch_size=2))]


def test_every_stage_is_a_line_below_its_configuration() -> None:
    lines = render(loaders(2, 0)).splitlines()
    assert max(map(len, lines)) <= 110
    table = [line.split() for line in lines]
    assert ["0", "plan", "10000", "±", "200", "40000", *"-----", "1.0", "ok"] in table
    # 60 ms a batch with two workers: 33.3 examples/s, 17 MiB of image and mask per padded example.
    assert ["workers", "33.3", "±", "0.7", "130", "60", "60", "60", "8.39", "0.20", "1.0"] in table
    assert "precision" not in render(loaders(2, 0))


def test_a_given_appetite_finds_its_knee() -> None:
    text = words(loaders(0, 1, 2), appetite=30)
    assert "loader: 2 workers supply 30.0 examples/s (given), with 10.0 % to spare: 33.3 ± 0.7 examples/s" in text


def test_an_appetite_is_measured_by_compute_trials() -> None:
    text = words([*loaders(0, 1), *computing()])
    assert "loader: 0 workers supply 0.2" in text
    assert "computing in fp32, norm in fp32, no checkpointing" in text


def test_the_answer_of_loader_trials_is_a_sentence() -> None:
    assert loader_answer(loaders(0, 2), appetite=30.0).startswith(
        "Answer: 2 workers supply 30.0 examples/s (given), with"
    )
    assert loader_answer(loaders(0, 2)) == ""
    assert loader_answer([]) == ""


def test_what_would_help_is_said_where_no_number_is_enough() -> None:
    text = words(loaders(0, 2), appetite=300)
    assert "no tried number of workers supplies 300 examples/s (given)" in text
    assert "2 workers come closest, with 33.3 ± 0.7 examples/s, 89.9 % too few" in text
    assert "decoding takes 83.3 % of the loading time: use files that decode faster, or --cache memory" in text
    assert "more than 2 workers" in text
    assert "--worker-kind threads" in text


def test_without_an_appetite_it_is_said_how_to_measure_one() -> None:
    assert "(--kind compute,loader), or give --appetite" in words(loaders(0, 2))


def test_training_is_set_beside_what_its_parts_let_expect() -> None:
    spec = factory.training_spec(batch_size=2, num_workers=2, precision="fp32")
    text = words([*loaders(2), *computing(), factory.measured_training_record(spec)])
    assert "overlap: batch 2, micro-batch = batch, fp32" in text
    assert "with 0.0 % waiting; measured" in text


def test_failures_are_told_below() -> None:
    cause = Cause(kind="worker-died", message="worker died: at example 3 (images/000003.png)")
    failed = factory.measured_loader_record(factory.loader_spec(num_workers=4), status="crashed", cause=cause)
    text = words([*loaders(0), failed])
    assert "worker died: at example 3 (images/000003.png)" in text
    assert CPU_LABEL in text
    assert loader_table([factory.record_of(factory.training_spec())]) is None


def test_the_figure_has_a_line_per_kind_of_loader_and_the_demand() -> None:
    records = [*loaders(0, 1, 2), *loaders(1, 2, worker_kind="threads"), *computing()]
    figure = supply_figure(
        summarize_loading(records),
        computing=summarize_compute(records),
        noise=measure_noise(records),
        origin=provenance(records),
    )
    assert figure is not None
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "demand: fp32, norm in fp32, no checkpointing",
        "workers are processes",
        "workers are threads",
    ]
    assert [one.lines[0].get_xdata().size for one in axes.containers] == [3, 3]
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize("counts", [(), (2,)])
def test_without_two_numbers_of_workers_there_is_no_figure(counts: tuple[int, ...]) -> None:
    records = loaders(*counts) or computing()
    rows, noise = summarize_loading(records), measure_noise(records)
    assert supply_figure(rows, computing=(), noise=noise, origin=provenance(records)) is None
