from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from record_factory import some_pace, some_workload

from vnbench.records.probe_reading import ProbeReading, SweepChoices
from vnbench.records.spec.words import Precision
from vnbench.request.config import SweepConfig, complete
from vnbench.request.reading import read_request
from vnbench.sweep.choices import LADDER, choose, chosen_config, precisions_to_sweep
from vnbench.sweep.design import Design, make_design
from vnbench.sweep.estimate import Pace, TrialTimes

CPU: dict[str, Any] = {"device_type": "cpu", "num_cpus": 2}


def probe(convolution_s: Mapping[Precision, float]) -> ProbeReading:
    return ProbeReading(convolution_s=convolution_s, steps=())


def config(**flags: str) -> SweepConfig:
    names = {name.replace("_", "-"): text for name, text in flags.items()}
    return complete(read_request({"widths": "3200:12800"} | names, config_path=None), environment=CPU)


def design_of(of: SweepConfig) -> Design:
    workload = some_workload()
    return make_design(
        of,
        corpus_id="0" * 12,
        train_sizes_N2=workload.train_sizes_N2,
        worst_case=workload.worst_case,
        canvas_sizes=((640, 12_800),),
    )


def chosen(pace: Pace, *, precision: tuple[Precision, ...] = ("bf16", "fp32"), **flags: str) -> SweepChoices:
    asked = config(**flags)
    assert asked.time_budget_s is not None
    times = TrialTimes(workload=some_workload(), pace=pace)
    return choose(
        asked,
        precision=precision,
        budget_s=asked.time_budget_s,
        num_train=48,
        design_of=design_of,
        takes_s=lambda made: times.total(trial.spec for trial in made.trials if trial.spec.kind == "training"),
    )


def seconds(pace: Pace, choices: SweepChoices) -> float:
    """Return what two processes of each configuration take."""
    times = TrialTimes(workload=some_workload(), pace=pace)
    made = design_of(chosen_config(config(), replace(choices, replicates=2, reference_runs=2)))
    return times.total(trial.spec for trial in made.trials if trial.spec.kind == "training")


@pytest.mark.parametrize(
    ("convolution_s", "expected"),
    [
        ({"bf16": 1.0, "fp32": 4.0}, ("bf16", "fp32")),
        ({"bf16": 9.2, "fp32": 0.27}, ("fp32",)),
        ({"bf16": 3.9, "fp32": 4.0}, ("bf16", "fp32")),
        ({"bf16": 1.05, "fp32": 4.0, "tf32": 2.0, "fp16": 1.0}, ("bf16", "fp32", "tf32", "fp16")),
        ({"fp16": 1.0, "fp32": 4.0}, ("fp16", "fp32")),
        ({"bf16": 4.0, "fp32": 2.0, "fp16": 1.0}, ("fp16", "fp32")),
    ],
    ids=["units", "emulated", "hardly", "as fast as another", "volta", "emulated beside units"],
)
def test_the_centre_is_the_fastest_precision_and_none_slower_than_fp32_is_swept(
    convolution_s: Mapping[Precision, float], expected: tuple[Precision, ...]
) -> None:
    assert precisions_to_sweep(probe(convolution_s)) == expected


def test_the_slowest_machine_still_gets_a_design_of_every_axis() -> None:
    slow = chosen(some_pace(bf16=50.0, fp32=50.0))
    assert (slow.subset_size, slow.max_epochs) == (2, 1)
    assert len(design_of(chosen_config(config(), slow)).cells) == 7


def test_a_faster_machine_measures_more_and_ends_in_the_same_time() -> None:
    paces = [some_pace(bf16=s, fp32=s) for s in (0.6, 0.3, 0.1, 0.03)]
    found = [chosen(pace) for pace in paces]
    amounts = [one.subset_size * one.max_epochs for one in found]
    assert amounts == sorted(amounts)
    assert amounts[-1] >= 4 * amounts[0]
    assert all(seconds(pace, one) <= 270 for pace, one in zip(paces[1:], found[1:], strict=True))


def test_two_slow_cores_train_six_configurations_in_five_minutes() -> None:
    # Two cores of an AMD EPYC without AVX-512 took 0.7 s for a megapixel of these images in fp32.
    slow = some_pace(fp32=0.7, bf16=0.7)
    assert seconds(slow, chosen(slow)) < 2 * 270, "one process of each in less than that"
    without = chosen(slow, precision=("fp32",))
    made = design_of(chosen_config(config(), without))
    assert len(made.cells) == 5
    assert seconds(slow, without) < 270


def test_a_larger_budget_measures_more() -> None:
    pace = some_pace(bf16=0.5, fp32=0.5)
    assert chosen(pace, time_budget="20m").subset_size > chosen(pace, time_budget="2m").subset_size


def test_an_epoch_holds_whole_batches_and_no_more_than_there_are_images() -> None:
    one = chosen(some_pace(bf16=0.001, fp32=0.001), batch_size="1,4,16")
    assert one.subset_size == 48
    assert LADDER[-1].batches * 16 > 48


def test_without_a_reduced_precision_the_norm_is_no_axis_unless_asked_for() -> None:
    choices = replace(chosen(some_pace()), precision=("fp32",))
    assert chosen_config(config(), choices).axes["norm_precision"] == ("fp32",)
    asked = config(norm_precision="fp32,input")
    assert chosen_config(asked, choices).axes["norm_precision"] == ("fp32", "input")


def test_traced_memory_comes_first_and_is_confirmed_behind_one_process_of_each_configuration() -> None:
    made = design_of(chosen_config(config(), chosen(some_pace(bf16=0.5, fp32=0.5))))
    sorts = [(trial.spec.kind, trial.spec.is_traced) for trial in made.trials]
    num_traces = sorts.count(("memory", True))
    assert num_traces == 5
    first = num_traces + len(made.cells)
    assert sorts[:num_traces] == [("memory", True)] * num_traces
    assert set(sorts[num_traces:first]) == {("training", False)}
    assert sorts[first] == ("memory", False)
    assert set(sorts[first + 1 :]) == {("training", False)}
    assert "memory" not in {trial.spec.kind for trial in design_of(config(kind="training")).trials}
