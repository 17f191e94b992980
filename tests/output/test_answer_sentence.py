from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
import record_factory as factory
from rich.console import Console
from rich.text import Text

from vnbench.analysis.comparison.sweep_answer import LeverEffect
from vnbench.analysis.findings import Findings
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.output.answer import answer_lines, verdict_of
from vnbench.output.answer_sentence import answer_sentence, effects_sentence, undecided
from vnbench.output.tables.training import summary_table
from vnbench.records.record import TrialWarning
from vnbench.records.store import load_results

SHIPPED = Path(__file__).parents[2] / "results" / "cpu-intel-r-xeon-r-processor" / "readme.jsonl"


def effect(
    lever: str, value: object, *, log: float, se: float | None = 0.01, memory: float | None = 1.0
) -> LeverEffect:
    base = factory.training_spec(batch_size=4, micro_batch_size=4)
    changes = {lever: value} | ({"micro_batch_size": value} if lever == "batch_size" else {})
    spec = factory.training_spec(**({"batch_size": 4, "micro_batch_size": 4} | changes))
    return LeverEffect(lever=lever, spec=spec, base=base, time=Ratio(log=Estimate(value=log, se=se)), memory=memory)


def sentence(*effects: LeverEffect) -> str:
    return effects_sentence(effects, is_of_single_processes=False)


@pytest.mark.parametrize(
    ("log", "se", "verdict"),
    [
        (-0.3, 0.05, "faster"),
        (0.3, 0.05, "slower"),
        (0.01, 0.01, "same"),
        (0.01, 0.05, "undecided"),
        (-0.3, 0.2, "undecided"),
        (-0.3, None, "undecided"),
        (-0.3, 5.0, "undecided"),
    ],
)
def test_a_change_is_called_what_its_interval_supports(log: float, se: float | None, verdict: str) -> None:
    assert verdict_of(effect("precision", "bf16", log=log, se=se)) == verdict


def test_the_answer_names_what_is_faster_slower_without_effect_and_undecided_in_this_order() -> None:
    assert sentence(
        effect("sampler", "random", log=0.1, se=0.2),
        effect("num_workers", 2, log=0.0),
        effect("batch_size", 2, log=0.2, memory=0.5),
        effect("precision", "bf16", log=-0.2624, memory=0.5),
    ) == (
        "Answer: bf16 trains 1.30 times as fast as fp32 and needs half of the memory; batch 2 takes 1.22 times as long "
        "as batch 4 and needs half of the memory; 2 workers make no difference to the time; whether the random sampler "
        "changes the time is undecided."
    )


def test_of_several_faster_values_of_a_lever_the_fastest_is_named_and_slower_ones_share_a_clause() -> None:
    told = sentence(
        effect("batch_size", 8, log=-0.1, memory=2.0),
        effect("batch_size", 16, log=-0.2, memory=4.0),
        effect("precision", "bf16", log=0.5),
        effect("precision", "fp16", log=0.7),
    )
    assert told == (
        "Answer: batch 16 trains 1.22 times as fast as batch 4 and needs 4.0 times the memory; fp16 and bf16 take 2.01 "
        "and 1.65 times as long as fp32."
    )


def test_memory_is_told_of_a_change_whose_time_is_not() -> None:
    told = sentence(effect("checkpointing", "stages", log=0.0, se=0.2, memory=0.69))
    assert told == (
        "Answer: checkpointing stages needs 69 % of the memory; whether checkpointing stages changes the time is "
        "undecided."
    )


def test_a_switch_of_a_library_is_named_as_its_option() -> None:
    told = sentence(effect("memory_format", "channels-last", log=-0.2))
    assert told.startswith("Answer: memory-format channels-last trains 1.22 times as fast as memory-format contiguous")


def test_single_processes_are_told_as_such() -> None:
    told = effects_sentence([effect("precision", "bf16", log=-0.3)], is_of_single_processes=True)
    assert told.startswith("Answer, from one process per configuration: bf16 trains")


def test_where_nothing_was_varied_there_is_no_sentence() -> None:
    assert sentence() == ""
    assert answer_sentence(Findings([factory.measured_training_record(factory.training_spec())])) == ""


def test_the_readme_shows_what_its_run_prints() -> None:
    records = load_results(SHIPPED).records
    console = Console(width=120, file=io.StringIO())
    console.print(Text(f"{answer_sentence(Findings(records))}\n"))
    console.print(summary_table(records))
    for line in answer_lines(Findings(records)):
        console.print(Text(line))
    printed = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"```text\n{printed}\n```" in readme


def test_what_is_undecided_can_be_asked_for() -> None:
    changes = ["fp32", "checkpointing stages", "batch 2", "the random sampler"]
    assert undecided(Findings(load_results(SHIPPED).records)) == changes


@pytest.mark.parametrize(("num_disturbed", "is_told"), [(0, False), (3, False), (4, True), (6, True)])
def test_an_answer_from_trials_that_were_mostly_disturbed_says_so(num_disturbed: int, is_told: bool) -> None:
    specs = [factory.training_spec(), factory.training_spec(precision="bf16")]
    records = [factory.measured_training_record(spec, replicate=number) for spec in specs for number in range(3)]
    warning = TrialWarning(code="busy-cores", message="other programs used 1 core")
    disturbed = [dataclasses.replace(record, warnings=(warning,)) for record in records[:num_disturbed]]
    told = answer_sentence(Findings([*disturbed, *records[num_disturbed:]]))
    caveat = f"But {num_disturbed} of 6 training trials were disturbed by other programs: measure again"
    assert told.startswith("Answer: ")
    assert (caveat in told) == is_told
