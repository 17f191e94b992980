"""What benchmarks/experiments/accumulation_report.py says of records and gradients."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import accumulation_gradients as gradients
import accumulation_report as report
import pytest
import record_factory as factory
import torch
from accumulation_rows import Row, rows_of

from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import DEVICE_TYPES, DeviceType, Padding, SamplerName
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.cells import candidate_cells, reason_to_leave_out
from vnbench.units import PixelRange

pytestmark = pytest.mark.torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DIVISIONS: tuple[tuple[int, SamplerName], ...] = (
    (16, "random"),
    (8, "step-sorted"),
    (4, "step-sorted"),
    (2, "step-sorted"),
    (1, "random"),
    (8, "random"),
    (4, "random"),
    (2, "random"),
)
"""Every way to divide a step of 16, in the order of the report."""

GRADIENTS: dict[tuple[Padding, gradients.Arithmetic], float] = {
    ("plain", "fp32"): 0.5,
    ("exact", "fp32"): 1e-4,
    ("exact", "float64"): 1e-14,
}
"""What a measurement could have found."""

SMALL = SizeDistribution(widths=PixelRange(start=32, stop=160), heights=PixelRange(start=24, stop=64))


def spec_of(micro_batch_size: int, sampler: SamplerName) -> TrialSpec:
    return factory.training_spec(batch_size=16, micro_batch_size=micro_batch_size, sampler=sampler)


def trained(spec: TrialSpec, step_time_s: float, *, replicate: int = 0, waste: float = 0.0) -> TrialRecord:
    """Return a trial whose steps of a megapixel of images took so long."""
    padded = round(1e6 / (1 - waste))
    steps = factory.steps_of(
        [step_time_s] * 4, valid_pixels=[10**6] * 4, padded_pixels=[padded] * 4, num_warm_up=1, num_examples=16
    )
    return factory.record_of(spec, replicate=replicate, steps=steps, block=factory.block_of(steps))


def sweep(step_times_s: Mapping[int, Sequence[float]], *, wastes: Mapping[int, float] | None = None) -> list[Row]:
    """Return the rows of micro-batches whose processes took so long for a step."""
    return rows_of(
        [
            trained(spec_of(size, "random"), seconds, replicate=replicate, waste=(wastes or {}).get(size, 0.0))
            for size, times_s in step_times_s.items()
            for replicate, seconds in enumerate(times_s)
        ]
    )


@pytest.mark.parametrize("device", DEVICE_TYPES)
def test_the_definitions_divide_a_step_of_16_in_every_way(device: DeviceType) -> None:
    request = read_request({}, config_path=BENCHMARKS / report.DEFINITIONS[device])
    config = complete(request, environment={"device_type": device, "num_cpus": 16})
    cells = [
        cell
        for cell in candidate_cells(config)
        if reason_to_leave_out(cell, config, num_measured=config.subset_size) is None
    ]
    assert {cell.batch_size for cell in cells} == {16}
    assert sorted((cell.examples_per_pass, cell.sampler) for cell in cells) == sorted(DIVISIONS)
    # A GPU is rented by the minute.
    assert (config.replicates, config.kinds) == ({"cpu": 3, "cuda": 2}[device], ("memory", "training"))


def test_rows_stand_by_descending_micro_batch_and_those_as_drawn_below() -> None:
    rows = rows_of([trained(spec_of(*division), 1.0) for division in reversed(DIVISIONS)])
    assert [(row.micro_batch_size, row.summary.spec.sampler) for row in rows] == list(DIVISIONS)
    assert [report.grouped(row) for row in rows] == ["-", *["by size"] * 3, "-", *["as drawn"] * 3]


def test_times_are_compared_with_the_whole_batch_for_the_same_images() -> None:
    whole, single = sweep({16: (4.0, 4.0), 1: (3.0, 3.0)})
    assert whole.ratio is None
    assert single.ratio is not None
    assert single.ratio.value == pytest.approx(0.75)


def test_a_phase_is_the_mean_over_processes_and_the_share_is_of_the_step() -> None:
    (whole, _) = sweep({16: (4.0, 6.0), 1: (3.0, 3.0)})
    # record_factory: forward passes take 0.3 of a step, the optimizer 2 ms.
    assert whole.figures["forward"].value == pytest.approx(0.3 * 5.0)
    assert whole.figures["optimizer_share"].value == pytest.approx((0.002 / 4 + 0.002 / 6) / 2)
    assert whole.figures["valid_px_per_s"].value == pytest.approx((1e6 / 4 + 1e6 / 6) / 2)


def test_the_answer_states_that_one_by_one_is_faster_and_by_how_much() -> None:
    rows = sweep({16: (3.98, 4.0, 4.02), 1: (2.98, 3.0, 3.02)}, wastes={16: 0.52, 1: 0.04})
    assert rows[1].ratio is not None
    assert rows[1].ratio.interval is not None
    low, high = rows[1].ratio.interval
    assert low < 0.75 < high
    text = report.answer(rows)
    assert f"takes 0.750 ({low:.3f} to {high:.3f}) times as long" in text
    assert f"it is faster, by 25.0 % ({100 * (1 - high):.1f} to {100 * (1 - low):.1f} %)" in text
    # Of the padded batch's pixels 0.48 are images', of those of single images 0.96.
    assert "It computes 0.50 times the pixels, each of which takes 1.50 (" in text
    assert "least time" not in text


def test_the_answer_states_that_one_by_one_is_slower() -> None:
    text = report.answer(sweep({16: (1.99, 2.0, 2.01), 1: (2.98, 3.0, 3.02)}))
    assert "it is slower, by 50" in text


def test_the_answer_leaves_open_what_the_interval_does_not_tell() -> None:
    text = report.answer(sweep({16: (1.0, 3.0, 2.0), 1: (1.1, 3.1, 2.1)}))
    assert "which of both is faster is not told apart" in text
    assert "by size" not in text


def test_single_processes_have_no_interval() -> None:
    text = report.answer(sweep({16: (4.0,), 1: (3.0,)}))
    assert "takes 0.75 times as long" in text
    assert "is not told by single processes" in text


def test_a_whole_batch_that_did_not_fit_is_said_not_to_and_the_next_one_compared_with() -> None:
    records = [factory.record_of(spec_of(16, "random"), status="oom")]
    records += [
        trained(spec_of(size, "random"), seconds, replicate=replicate)
        for size, seconds in ((8, 4.0), (1, 2.0))
        for replicate in range(2)
    ]
    rows = rows_of(records)
    assert "a micro-batch of 8" in report.answer(rows)
    cells = {row.micro_batch_size: report.time_cells(row) for row in rows}
    assert cells[16][3:6] == ["-", "-", "-"]
    assert cells[8][4] == "1"
    assert any("oom" in note for note in report.noted(rows))


def test_nothing_timed_makes_rows_without_ratios() -> None:
    (row,) = rows_of([factory.record_of(spec_of(16, "random"), status="oom")])
    assert (row.ratio, row.figures) == (None, {})


@pytest.mark.parametrize("micro_batch_size", gradients.MICRO_BATCH_SIZES)
def test_a_drawn_step_holds_the_same_examples_however_it_is_divided(micro_batch_size: int) -> None:
    sizes_N2 = draw_sizes(SMALL, 16, seed=3)
    passes = gradients.divided(sizes_N2, micro_batch_size=micro_batch_size, seed=3)
    assert [len(one.examples) for one in passes] == [micro_batch_size] * (16 // micro_batch_size)
    assert sorted(index for one in passes for index in one.examples) == list(range(16))


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Compute on one thread: maps this small gain nothing from more, which wait for each other on busy cores."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.mark.usefixtures("_one_thread")
def test_only_with_exact_padding_is_an_accumulated_gradient_that_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "SEEDS", (0,))
    monkeypatch.setattr(gradients, "MICRO_BATCH_SIZES", (16, 4, 1))
    found = gradients.measure_differences(spec_of(16, "random"), sizes=SMALL)
    largest = {case: max(one.gradient for one in found if (one.padding, one.arithmetic) == case) for case in GRADIENTS}
    assert [one.micro_batch_size for one in found] == 3 * [16, 4, 1]
    assert largest["plain", "fp32"] > 0.05
    assert largest["exact", "fp32"] < 1e-2
    assert largest["exact", "float64"] < report.ROUNDING


def test_the_report_is_written_from_what_was_measured_before(tmp_path: Path) -> None:
    results = tmp_path / "cpu-tested" / "accumulation.jsonl"
    results.parent.mkdir()
    specs = [spec_of(*division) for division in DIVISIONS]
    records = [factory.measured_training_record(spec, replicate=number) for spec in specs for number in range(3)]
    records += [factory.measured_memory_record(spec) for spec in specs[:5]]
    results.write_text("".join(f"{record.to_json()}\n" for record in records))
    differences = [
        gradients.Difference(
            padding=padding,
            arithmetic=arithmetic,
            seed=seed,
            micro_batch_size=size,
            gradient=0.0 if size == 16 else value,
            padding_ratio=0.25,
        )
        for (padding, arithmetic), value in GRADIENTS.items()
        for seed in (0, 1)
        for size in gradients.MICRO_BATCH_SIZES
    ]
    document = {"differences": [dataclasses.asdict(one) for one in differences]}
    results.with_name(report.GRADIENTS).write_text(json.dumps(document))
    arguments = ["--results", str(results), "--out", str(tmp_path / "reports"), "--report-only"]
    assert report.main(arguments) == 0
    text = (tmp_path / "reports" / "accumulation_cpu-tested_202601.md").read_text()
    assert (tmp_path / "reports" / "accumulation_cpu-tested_202601.png").exists()
    for size, sampler in DIVISIONS:
        how = "-" if size in (16, 1) else report.GROUPINGS[sampler]
        assert text.count(f"\n| {size} | {how} | ") == 2, "in the table of times and in that of phases"
    assert "off by 0.5 of its norm" in text
    assert "that is rounding, and nothing else" in text
    assert "python benchmarks/experiments/accumulation_report.py --results" in text
    # As padding_leak.py says of the same plans.
    assert "| 16 | 42.7 % | 42.7 % |" in text


def test_a_sweep_of_other_levers_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "accumulation.jsonl"
    specs = [spec_of(16, "random"), dataclasses.replace(spec_of(1, "random"), precision="bf16")]
    results.write_text("".join(f"{trained(spec, 1.0).to_json()}\n" for spec in specs))
    assert report.main(["--results", str(results), "--out", str(tmp_path), "--report-only"]) == 2
    assert "precision" in capsys.readouterr().err
