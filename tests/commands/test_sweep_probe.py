from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_factory import record_of

from vnbench.commands.corpus import CorpusPlan, plan_corpus
from vnbench.commands.sweep.probe import Settled, estimate_sweep, probe_of, settle, workload_of
from vnbench.records.probe_reading import ProbeReading, ProbeStep
from vnbench.records.record import Cause, TrialRecord, TrialWarning
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import Precision
from vnbench.records.task import TrialTask
from vnbench.request.config import SweepConfig, complete
from vnbench.request.reading import read_request
from vnbench.sweep.design import Design, make_design
from vnbench.sweep.estimate import TrialTimes
from vnbench.sweep.loop import due_trials

CPU: dict[str, Any] = {"device_type": "cpu", "num_cpus": 2}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def config(environment: dict[str, Any] = CPU, *, path: Path | None = None, **flags: str) -> SweepConfig:
    names = {name.replace("_", "-"): text for name, text in flags.items()}
    request = read_request(({} if path else {"widths": "3200:12800"}) | names, config_path=path)
    return complete(request, environment=environment)


def designer(corpus: CorpusPlan) -> Callable[[SweepConfig], Design]:
    return lambda of: make_design(
        of,
        corpus_id=corpus.corpus_id,
        train_sizes_N2=corpus.train_sizes_N2,
        worst_case=corpus.worst_case,
        canvas_sizes=(corpus.worst_case,),
    )


def reading(*, s_per_mpx: float = 0.5, **convolution_s: float) -> ProbeReading:
    times: dict[Precision, float] = convolution_s  # type: ignore[assignment]
    fastest = min(times, key=lambda one: times[one])
    steps = [
        ProbeStep(precision=one, padded_pixels=10**6, seconds=s_per_mpx * times[one] / times[fastest], is_first=False)
        for one in times
    ]
    return ProbeReading(convolution_s=times, steps=tuple(steps))


def settled(
    of: SweepConfig,
    answer: ProbeReading | Cause,
    *,
    probes: Sequence[TrialRecord] = (),
    records: Sequence[TrialRecord] = (),
    is_busy: bool = False,
) -> tuple[Settled, list[TrialTask]]:
    """Settle a sweep on a machine whose probe answers so, and return the probes that were run too."""
    run: list[TrialTask] = []

    def probe(task: TrialTask, timeout_s: float) -> TrialRecord:
        run.append(task)
        warnings = (TrialWarning(code="busy-cores", message="other programs used 1.50 of 2 CPU cores"),)
        record = replace(record_of(task.spec, attempt=task.attempt), warnings=warnings if is_busy else ())
        if isinstance(answer, Cause):
            return replace(record, status="timeout", cause=answer)
        return replace(record, probe=answer)

    corpus = plan_corpus(of)
    found = settle(of, corpus, probes=probes, records=records, elapsed_s=3.0, design_of=designer(corpus), run=probe)
    return found, run


def test_a_processor_that_emulates_bf16_sweeps_fp32_and_says_why() -> None:
    found, _ = settled(config(), reading(bf16=9.2, fp32=0.27))
    assert found.config.axes["precision"] == ("fp32",)
    assert "left out: bf16 is slow here: a convolution takes 34 times as long as in fp32" in found.lines[1]
    assert "--precision fp32,bf16 measures it" in found.lines[1]


def test_a_processor_with_bf16_units_puts_it_at_the_centre() -> None:
    found, _ = settled(config(), reading(bf16=0.1, fp32=0.4))
    assert found.config.axes["precision"] == ("bf16", "fp32")
    assert not any("slow" in line for line in found.lines)


def test_an_emulated_precision_that_is_asked_for_runs_with_a_warning_and_an_honest_estimate() -> None:
    found, _ = settled(config(precision="bf16,fp32"), reading(bf16=9.0, fp32=0.3))
    assert found.config.axes["precision"] == ("bf16", "fp32"), "the centre is the one named first"
    warnings = [line for line in found.lines if line.startswith("warning: ")]
    assert warnings == ["warning: bf16 is slow here: a convolution takes 30 times as long as in fp32"]
    assert found.pace.s_per_mpx["bf16"] == pytest.approx(30 * found.pace.s_per_mpx["fp32"])


def test_the_same_request_goes_on_with_what_was_chosen_whatever_the_machine_does_by_then() -> None:
    first, _ = settled(config(), reading(bf16=0.1, fp32=0.4, s_per_mpx=0.5))
    again, run = settled(config(time_budget="1h"), reading(bf16=9.0, fp32=0.3), probes=[first.probe])
    assert run == []
    assert not again.is_new
    what = {"time_budget_s": None, "asked": ()}
    assert replace(again.config, **what) == replace(first.config, **what)  # type: ignore[arg-type]


def test_a_remembered_probe_is_said_to_be_remembered_with_its_time() -> None:
    first, _ = settled(config(), reading(bf16=0.1, fp32=0.4))
    assert first.lines == ("speed: about 0.50 s per megapixel of training in bf16, from a few small steps",)
    when = replace(first.probe, started_at="2026-12-01T04:15:29+00:00")
    again, _ = settled(config(), reading(bf16=0.1, fp32=0.4), probes=[when])
    assert again.lines == (f"{first.lines[0]}, remembered from 2026-12-01 04:15 UTC",)


def test_a_disturbed_probe_is_taken_again_until_a_trial_was_measured_with_its_choices() -> None:
    of = config()
    busy, _ = settled(of, reading(bf16=9.0, fp32=0.3), is_busy=True)
    assert busy.config.axes["precision"] == ("fp32",)
    assert busy.lines[-1] == (
        "warning: the machine was disturbed at this probe (busy-cores): its speed, and what is chosen by it, may be off"
    )
    quiet, run = settled(of, reading(bf16=0.1, fp32=0.4), probes=[busy.probe])
    assert [task.attempt for task in run] == [1]
    assert quiet.is_new
    assert quiet.config.axes["precision"] == ("bf16", "fp32")
    assert not any("disturbed" in line for line in quiet.lines)

    last, run = settled(of, reading(bf16=9.0, fp32=0.3), probes=[busy.probe, quiet.probe])
    assert (run, last.config) == ([], quiet.config), "the last probe counts"


def test_a_sweep_that_has_measured_goes_on_with_its_design_whatever_disturbed_its_probe() -> None:
    of = config()
    busy, _ = settled(of, reading(bf16=9.0, fp32=0.3), is_busy=True)
    trial = designer(plan_corpus(of))(busy.config).trials[0]
    again, run = settled(
        of, reading(bf16=0.1, fp32=0.4), probes=[busy.probe], records=[record_of(trial.spec, replicate=trial.replicate)]
    )
    assert (run, again.is_new) == ([], False)
    assert again.config == busy.config
    assert again.lines[-1].endswith(
        "; trials were measured with these choices, so they stay; --out NEW.jsonl probes again"
    )

    other = designer(plan_corpus(of))(quiet_config(of)).trials[0]
    _, run = settled(of, reading(bf16=0.1, fp32=0.4), probes=[busy.probe], records=[record_of(other.spec)])
    assert len(run) == 1, "a trial of another design holds none to these choices"


def quiet_config(of: SweepConfig) -> SweepConfig:
    return settled(of, reading(bf16=0.1, fp32=0.4))[0].config


def test_another_request_in_the_same_file_is_chosen_for_anew() -> None:
    first, _ = settled(config(), reading(bf16=0.1, fp32=0.4))
    other, run = settled(config(batch_size="1,4"), reading(bf16=0.1, fp32=0.4), probes=[first.probe])
    assert len(run) == 1
    assert other.config.subset_size % 4 == 0


def test_what_was_chosen_is_written_and_what_was_asked_for_is_not() -> None:
    assert settled(config(), reading(bf16=0.1, fp32=0.4))[0].is_new
    assert not settled(config(subset="4", precision="fp32"), reading(fp32=0.4))[0].is_new


@pytest.mark.parametrize("flag", ["subset", "max_epochs", "replicates", "reference_runs", "warm_up_steps"])
def test_a_sweep_that_says_how_much_is_measured_is_taken_at_its_word(flag: str) -> None:
    found, _ = settled(config(**{flag: "4"}), reading(bf16=0.001, fp32=0.004, s_per_mpx=0.001))
    plain = config(**{flag: "4"})
    assert found.config.subset_size == plain.subset_size
    assert (found.config.max_epochs, found.config.replicates) == (plain.max_epochs, plain.replicates)


def test_a_definition_in_a_file_never_adapts(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('widths = "3200:12800"\n')
    of = config(path=path)
    found, _ = settled(of, reading(bf16=9.0, fp32=0.3))
    assert replace(found.config) == of
    assert not found.is_new


@pytest.mark.parametrize("kind", ["deadline", "signal"])
def test_a_probe_that_hangs_or_dies_leaves_a_rough_guess_and_says_so(kind: Any) -> None:
    found, _ = settled(config(), Cause(kind=kind, message="gone"))
    assert not found.pace.is_probed
    assert found.config.axes["precision"] == ("fp32",), "every machine computes it"
    assert found.lines[0] == "warning: the probe of this machine failed (timeout: gone): time estimates are rough"
    assert found.is_new, "the same command goes on with the same trials"
    again, run = settled(config(), reading(bf16=0.1, fp32=0.4), probes=[found.probe])
    assert (run, again.config.axes["precision"]) == ([], ("fp32",))


def test_a_probe_stays_within_the_images_of_its_sweep() -> None:
    of = config(widths="64:128", heights="32:64")
    spec = probe_of(of, plan_corpus(of))
    assert spec.canvas_sizes == ((64, 128),)


@pytest.mark.parametrize(
    ("capability", "swept"),
    [
        pytest.param((7, 5), ("fp16", "fp32"), id="T4"),
        pytest.param((7, 0), ("fp16", "fp32"), id="V100"),
        pytest.param((9, 0), ("bf16", "fp32", "tf32", "fp16"), id="H200"),
    ],
)
def test_the_centre_on_a_gpu_is_a_precision_that_it_has_units_for(
    capability: tuple[int, int], swept: tuple[Precision, ...]
) -> None:
    native = [name for name, one in PRECISIONS.items() if one.has_units(capability)]
    environment = {"device_type": "cuda", "num_cpus": 8, "native_precisions": native}
    of = config(environment)
    assert of.axes["precision"] == swept
    assert not of.chooses_size
    design = designer(plan_corpus(of))(of)
    assert design.cells[0].precision == swept[0]
    units = dict.fromkeys(swept, 0.2) | {"fp32": 1.0}
    found, _ = settled(of, reading(**units))
    assert found.config.axes["precision"] == swept
    failed, _ = settled(of, Cause(kind="signal", message="gone"))
    assert failed.config.axes["precision"] == swept, "what a GPU has units for is known without a probe"


def test_precisions_without_units_are_named_on_a_gpu_too() -> None:
    environment = {"device_type": "cuda", "num_cpus": 8, "native_precisions": ["fp32", "fp16"]}
    found, _ = settled(config(environment), reading(fp16=0.2, fp32=1.0))
    assert "left out: this GPU has no units for bf16, tf32; --precision measures it all the same" in found.lines


def test_what_is_asked_for_stands_whatever_an_earlier_command_of_the_file_was_asked() -> None:
    first, _ = settled(config(subset="4", replicates="3"), reading(bf16=0.1, fp32=0.4))
    again, run = settled(config(subset="8", replicates="6"), reading(bf16=9.0, fp32=0.3), probes=[first.probe])
    assert run == []
    assert (again.config.subset_size, again.config.replicates) == (8, 6)
    assert again.config.axes["precision"] == ("bf16", "fp32"), "the precisions were chosen, and stay"


def test_each_configuration_once_takes_what_comes_before_the_first_repeat() -> None:
    of = config(replicates="3", time_budget="1h")
    corpus = plan_corpus(of)
    times = TrialTimes(workload=workload_of(corpus), pace=settled(of, reading(fp32=0.3))[0].pace)
    due = due_trials(designer(corpus)(of).trials, records=(), retry=())
    repeats = next(at for at, trial in enumerate(due) if trial.planned.replicate)
    whole = estimate_sweep(corpus, due, times, elapsed_s=0.0)
    assert whole.once_s == pytest.approx(estimate_sweep(corpus, due[:repeats], times, elapsed_s=0.0).total_s)
    assert whole.least_s < whole.once_s < whole.total_s / 2
    only_repeats = estimate_sweep(corpus, due[repeats:], times, elapsed_s=0.0)
    assert only_repeats.once_s < only_repeats.least_s, "nothing is left to measure for the first time"
