"""What benchmarks/experiments/factored_report.py says of confirmations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import factored_report as report
import pytest
from record_factory import measured_training_record, training_spec

from vnbench.records.readings import Block, ForecastReading
from vnbench.records.record import TrialRecord
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.confirming import confirmations


def trained(measured_s: float, *, forecast_s: float | None = None, replicate: int = 0, seed: int = 0) -> TrialRecord:
    block = Block(wall_time_s=measured_s, num_steps=16, num_examples=16, valid_pixels=1000, padded_pixels=1000)
    record = replace(measured_training_record(training_spec(seed=seed), replicate=replicate), block=block)
    if forecast_s is None:
        return record
    low_s, high_s = 0.9 * forecast_s, 1.1 * forecast_s
    return replace(record, forecast=ForecastReading(value_s=forecast_s, low_s=low_s, high_s=high_s, num_examples=16))


def rows(errors: list[float]) -> list[report.Row]:
    records = [trained(10, forecast_s=10 * (1 + error), seed=seed) for seed, error in enumerate(errors)]
    return [
        report.Row(sweep="sweep_0", confirmation=one, parts_error=0.2, error_then=0.5) for one in confirmations(records)
    ]


@pytest.mark.parametrize(
    ("errors", "is_reached"),
    [
        # The thresholds: 5 % in the median, 85 to 95 % inside. An interval of 10 % holds an error of up to a tenth.
        ([0.04] * 9 + [0.3], ["yes", "yes"]),
        ([0.06] * 9 + [0.3], ["no", "yes"]),
        ([0.04] * 10, ["yes", "no"]),
        ([0.04] * 8 + [0.3] * 2, ["yes", "no"]),
    ],
)
def test_it_says_whether_median_and_coverage_are_reached(errors: list[float], is_reached: list[str]) -> None:
    table = next(report.answer(rows(errors))).splitlines()
    told = [line.rsplit("|", 2)[1].strip() for line in table]
    assert [word for word in told if word in ("yes", "no")] == is_reached
    assert any("20.0 %" in line for line in table if "from the parts alone" in line)
    assert any("50.0 %" in line for line in table if "as told when they ran" in line)


def test_what_cancels_between_neighbours_is_told_apart_from_what_does_not() -> None:
    # The centre drifts by a tenth from each of its processes to the next, and its pairs are forecast exactly.
    centers = [trained(10 * 1.1**place, replicate=place) for place in range(6)]
    pairs = [trained(20, forecast_s=20, replicate=place, seed=1) for place in range(2)]
    found = [
        report.Row(sweep="sweep_0", confirmation=one, parts_error=0.0, error_then=0.0) for one in confirmations(pairs)
    ]
    table = list(report.sources(found, [[*centers, *pairs]]))[1].splitlines()
    figures = {cells[1].strip(): float(cells[2]) for line in table[2:] if len(cells := line.split("|")) > 2}
    # log(1.1) over sqrt(2), and log(1.1) times the standard deviation of 0 to 5.
    assert figures["from one process of the centre's training to the next"] == pytest.approx(6.74, abs=0.01)
    assert figures["of the centre's training over a sweep"] == pytest.approx(17.8, abs=0.1)
    assert figures["of a forecast, from one process of a configuration to another"] == 0
    assert figures["of a configuration's forecast, whatever its process"] == 0


def test_its_definition_is_of_factored_sweeps_on_a_cpu(tmp_path: Path) -> None:
    config = complete(
        read_request({}, config_path=report.DEFINITION), environment={"device_type": "cpu", "num_cpus": 2}
    )
    assert (config.design, config.device) == ("factored", "cpu")
    assert config.replicates > 1, "a second process tells noise from error"
    with pytest.raises(SystemExit, match="no confirmation was measured"):
        report.main(["--results", str(tmp_path), "--out", str(tmp_path), "--report-only"])
