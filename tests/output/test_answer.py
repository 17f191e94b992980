from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.output.answer import answer_lines
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.records.store import load_results

UNDECIDED = r"undecided \(0\.\d\d to 1\.\d\d times the time\)"
README_RUN = Path(__file__).parents[2] / "results" / "cpu-amd-epyc" / "readme.jsonl"


def test_the_answer_of_a_sweep_is_sentences_of_its_fastest_its_rivals_and_its_levers() -> None:
    lines = answer_lines(Findings(load_results(README_RUN).records))
    assert lines[0].startswith("Fastest: batch 1, bf16, norm in input precision,")
    assert re.search(r"[\d.]+ times the centre \([\d.]+ to [\d.]+\)\.$", lines[0])
    assert lines[1] == "Perhaps as fast: norm in fp32, 2 workers. With 95 % certainty the fastest is one of these."
    levers = {line.partition(":")[0].strip(): line.partition(": ")[2] for line in lines[3:]}
    assert list(levers) == [
        "batch 2",
        "2 workers",
        "precision fp32",
        "checkpointing stages",
        "norm in input precision",
        "random sampler at batch 2",
    ]
    assert levers["checkpointing stages"].endswith("), 0.49 times the peak memory")
    assert re.match(UNDECIDED, levers["2 workers"])
    assert levers["2 workers"].endswith("same peak memory")
    assert levers["batch 2"].endswith("2.00 times the peak memory")


def test_a_winner_that_stands_alone_is_called_so() -> None:
    assert answer_lines(Findings(factory.cuda_sweep()))[1] == "It is the fastest of all 14 with 95 % certainty."


def alike(spec: TrainingSpec, *, seconds: Sequence[float]) -> list[TrialRecord]:
    """Return a training trial of a spec in several processes, whose every step takes so many seconds per unit."""
    steps = [factory.steps_of([unit * one for unit in (1.0, 2.0, 1.5, 1.0)]) for one in seconds]
    return [factory.record_of(spec, replicate=n, steps=one, block=factory.block_of(one)) for n, one in enumerate(steps)]


@pytest.mark.parametrize(
    ("seconds", "line"),
    [((1.0, 1.001, 1.002), r"no change in time seen \([\d.]+ to [\d.]+ times\)"), ((1.0, 1.1, 1.2), UNDECIDED)],
)
def test_no_change_is_seen_only_where_a_change_that_matters_is_excluded(seconds: Sequence[float], line: str) -> None:
    records = [
        *alike(factory.training_spec(), seconds=seconds),
        *alike(factory.training_spec(precision="bf16"), seconds=seconds),
    ]
    lines = answer_lines(Findings(records))
    assert any(re.fullmatch(f"  precision (fp32|bf16): {line}", one) for one in lines), lines


def test_two_configurations_have_a_faster_one_and_a_close_rival_is_called_the_centre() -> None:
    centre, other = factory.training_spec(), factory.training_spec(precision="bf16")
    apart = [*alike(centre, seconds=(2.0, 2.01, 2.02)), *alike(other, seconds=(1.0, 1.01, 1.02))]
    assert answer_lines(Findings(apart))[1] == "It is the faster of the two with 95 % certainty."
    close = [*alike(centre, seconds=(1.01, 1.1, 1.2)), *alike(other, seconds=(1.0, 1.1, 1.2))]
    assert answer_lines(Findings(close))[1].startswith("Perhaps as fast: the centre. ")


def test_passes_of_another_size_than_the_step_are_named() -> None:
    assert any(line.startswith("  batch 16 in passes of 4: ") for line in answer_lines(Findings(factory.cuda_sweep())))


def test_a_sweep_without_repetition_says_what_its_certainty_lacks() -> None:
    lines = answer_lines(Findings(factory.cpu_sweep()))
    assert lines[1].endswith("with 95 % certainty, as far as single processes tell.")
    assert lines[-1].startswith("No configuration was repeated: these intervals leave out")


def test_one_configuration_alone_has_no_answer() -> None:
    assert answer_lines(Findings([factory.measured_training_record(factory.training_spec())])) == ()
    assert answer_lines(Findings([])) == ()


def test_an_interval_that_says_nothing_has_no_number() -> None:
    spec = factory.training_spec()
    records = [
        factory.measured_training_record(factory.training_spec(checkpointing="stages")),
        *(
            factory.record_of(spec, replicate=n, steps=steps, block=factory.block_of(steps))
            for n, seconds in enumerate((1.0, 9.0))
            for steps in [factory.steps_of([seconds, 2 * seconds])]
        ),
    ]
    assert any(
        line == "  checkpointing stages: undecided (too few repeats to tell its time)"
        for line in answer_lines(Findings(records))
    )
