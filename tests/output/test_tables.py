import io
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
import record_factory as factory
from rich.console import Console

from vnbench.errors import InputError
from vnbench.output.tables.training import summary_table
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.records.record import TrialRecord, TrialWarning
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import load_results


def render(records: Sequence[TrialRecord], *, width: int = 100, price_per_hour: float | None = None) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(summary_table(records, price_per_hour=price_per_hour))
    return stream.getvalue()


def body(text: str) -> list[str]:
    """Return the rows between the rule under the headings and the notes."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("──")) + 1
    end = next(n for n, line in enumerate(lines) if n >= start and (not line or line.startswith("No room for")))
    return [line for line in lines[start:end] if line.strip()]


@pytest.mark.parametrize("sweep", [factory.cpu_sweep, factory.cuda_sweep])
def test_the_table_fits_a_hundred_columns_without_cutting_a_word(sweep) -> None:
    text = render(sweep())
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text


def test_the_fastest_trial_stands_first() -> None:
    throughputs = [float(row.split(" ± ")[0].split()[-1]) for row in body(render(factory.cpu_sweep()))]
    assert len(throughputs) == 7
    assert throughputs == sorted(throughputs, reverse=True)


def test_failed_and_skipped_trials_stand_below_with_their_reasons() -> None:
    text = render(factory.cuda_sweep())
    statuses = [row.split()[-1] for row in body(text)]
    assert statuses == ["ok"] * 14 + ["skipped"] * 3
    assert "skipped: batch 16, bf16: the worst case of micro-batch 16 ran out of memory" in text


def test_levers_that_do_not_vary_stand_in_the_caption_and_not_in_a_column() -> None:
    text = render(factory.cpu_sweep())
    caption, _, heading = text.partition("──")[0].partition("corpus 0123456789ab.")
    assert "micro-batch = batch" in caption
    assert "norm in fp32" in " ".join(caption.split())
    assert "batch" in heading
    assert "micro" not in heading
    assert "norm" not in heading


def test_levers_that_vary_have_a_column() -> None:
    heading = render(factory.cuda_sweep()).split("──")[0]
    for word in ("batch", "micro", "precision", "norm", "checkpoint", "sampler", "workers"):
        assert word in heading


def test_peaks_and_failed_worst_cases_are_told() -> None:
    rows = body(render(factory.cuda_sweep()))
    assert " 18.3 ok" in next(row for row in rows if row.split()[:3] == ["1", "1", "fp32"])
    assert next(row for row in rows if row.split()[:3] == ["8", "8", "fp32"]).split()[-2] == "oom"


def test_small_peaks_are_in_mebibytes() -> None:
    spec = factory.training_spec()
    worst = factory.memory_spec(spec, height=64, width=1280)
    reading = factory.reading_of(worst, peak_bytes=53 * 2**20)
    text = render([factory.measured_training_record(spec), factory.record_of(worst, memory=reading)])
    assert "MiB" in text
    assert " 53.0 ok" in text.replace("  ", " ")


def test_a_failed_worst_case_of_a_trial_that_ran_is_told_with_its_reason() -> None:
    spec = factory.training_spec()
    worst = factory.record_of(factory.memory_spec(spec), status="oom")
    text = render([factory.measured_training_record(spec), worst])
    assert "worst case oom: batch 1: made to end oom" in text


def test_a_missing_worst_case_is_said_to_be_missing() -> None:
    text = render([factory.measured_training_record(factory.training_spec())])
    assert "- under peak: no worst-case trial covers this configuration." in text


def test_notes_say_device_torch_date_trials_and_what_the_intervals_cover() -> None:
    text = " ".join(render(factory.cuda_sweep()).split())
    note = "NVIDIA H200, torch 2.13.0+cu130, 2026-01-05, 19 training trials of 17 configurations, 12 worst-case memory"
    assert note in text
    assert (
        "Intervals: 95 %, the spread between processes included (2.2 %, from 3 repeated trials of 1 configuration)"
        in text
    )
    assert CPU_LABEL not in text


def test_a_sweep_of_single_processes_says_that_its_intervals_cover_one_process_only() -> None:
    text = " ".join(render(factory.cpu_sweep()).split())
    assert "95 %, of one process: the spread between processes is not included (--replicates 3" in text
    assert "drift" not in text


def repeated(*, minutes: float, drift_per_hour: float = 0.0, noise: float = 0.002) -> list[TrialRecord]:
    """Four runs of one trial, alternately above and below a drifting time."""
    records = []
    for n in range(4):
        time_s = 10 * (1 + drift_per_hour * n * minutes / 60) * (1 + noise * (-1) ** n)
        steps = factory.steps_of([time_s] * 4)
        values = {"steps": steps, "block": factory.block_of(steps), "started_at": factory.started_at(n * minutes)}
        records.append(factory.record_of(factory.training_spec(), replicate=n, **values))
    return records


def drift_line_of(records: Sequence[TrialRecord]) -> str:
    (line,) = [line for line in render(records, width=200).splitlines() if line.startswith("drift:")]
    return line


def test_one_line_tells_the_drift_and_whether_it_is_any() -> None:
    assert drift_line_of(repeated(minutes=60, noise=0.002)) == (
        "drift: none seen: -0.1 ± 0.5 % per hour, -0.2 ± 1.5 % over the sweep's 3 h, from 4 repeated trials."
    )
    assert drift_line_of(repeated(minutes=60, drift_per_hour=0.05)).startswith("drift: steps got slower: +")
    assert drift_line_of(repeated(minutes=60, drift_per_hour=-0.05)).startswith("drift: steps got faster: -")


def test_a_drift_per_hour_that_says_nothing_is_left_out_of_a_short_sweep() -> None:
    line = drift_line_of(repeated(minutes=0.5, noise=0.05))
    assert "per hour" not in line
    assert "over the sweep's 1 min 45 s" in line


def test_a_drift_that_nothing_can_be_said_of_has_no_number() -> None:
    assert drift_line_of(repeated(minutes=1, noise=0.4)) == (
        "drift: unknown, 4 repeated trials over the sweep's 3 min 15 s are too few (raise --reference-runs)."
    )
    assert drift_line_of(repeated(minutes=1)[:2]) == (
        "drift: unknown, 2 repeated trials only (--replicates 3 or --reference-runs 3 measures it)."
    )


def test_cpu_figures_are_labelled() -> None:
    assert CPU_LABEL in render(factory.cpu_sweep())


def test_warnings_are_marked_and_told() -> None:
    warning = TrialWarning(code="few-steps", message="only 3 steps; raise --subset")
    record = factory.measured_training_record(factory.training_spec(), warnings=(warning,))
    text = render([record])
    assert "ok !" in text
    assert "! batch 1: only 3 steps; raise --subset (few-steps)" in text


def test_square_brackets_in_a_message_are_printed_as_they_are() -> None:
    spec = factory.training_spec()
    cause = factory.Cause(kind="exception", message="[bold]size[/] 3")
    assert "[bold]size[/] 3" in render([factory.record_of(spec, status="crashed", cause=cause)])


def test_the_processes_of_a_configuration_share_a_row_that_counts_them() -> None:
    spec = factory.training_spec()
    text = render([factory.measured_training_record(spec, replicate=n) for n in (0, 1)])
    (row,) = body(text)
    assert row.split()[0] == "2"
    heading = text.split("──")[0].splitlines()[-2].split()
    assert "n" in [*heading, *text.split("──")[0].splitlines()[-1].split()]


def test_single_processes_are_not_counted() -> None:
    heading = render(factory.cpu_sweep()).split("──")[0]
    assert "n" not in heading.split()


def test_a_row_says_which_of_its_processes_failed_and_why() -> None:
    spec = factory.training_spec()
    records = [factory.measured_training_record(spec, replicate=n) for n in (0, 1)]
    records.append(factory.record_of(spec, status="timeout", replicate=2))
    text = render(records)
    assert "ok !" in text
    assert "! batch 1: 1 of 3 processes without figures (timeout: made to end timeout)" in text


def test_a_warning_that_many_rows_share_takes_one_line_with_their_number() -> None:
    warning = TrialWarning(code="few-steps", message="only 3 steps", figures={"num_steps": 3})
    specs = [factory.training_spec(batch_size=size) for size in (1, 2, 4)]
    records = [factory.measured_training_record(spec, warnings=(warning,)) for spec in specs]
    others = [factory.measured_training_record(factory.training_spec(batch_size=size)) for size in (8, 16, 32)]
    text = render([*records, *others])
    lines = [line for line in text.splitlines() if line.startswith("!")]
    assert lines == ["! 3 configurations, for example batch 1: only 3 steps (few-steps)"]
    assert sum("ok !" in row for row in body(text)) == 3
    two = [line for line in render([*records[:2], *others]).splitlines() if line.startswith("!")]
    assert two == ["! 2 configurations, for example batch 1: only 3 steps (few-steps)"]
    one = [line for line in render([records[1], *others]).splitlines() if line.startswith("!")]
    assert one == ["! batch 2: only 3 steps (few-steps)"]


def test_a_warning_that_most_rows_share_is_said_once_and_marks_none_of_them() -> None:
    shared = TrialWarning(code="few-steps", message="only 3 steps", figures={"num_steps": 3})
    own = TrialWarning(code="data-wait", message="waited for its loader")
    specs = [factory.training_spec(batch_size=size) for size in (1, 2, 4, 8, 16)]
    warnings = ((shared,), (shared,), (shared, own), (), ())
    records = [
        factory.measured_training_record(spec, warnings=some) for spec, some in zip(specs, warnings, strict=True)
    ]
    text = render(records)
    assert "3 of 5 configurations, for example batch 1: only 3 steps (few-steps)" in text.splitlines()
    assert [line for line in text.splitlines() if line.startswith("!")] == [
        "! batch 4: waited for its loader (data-wait)"
    ]
    assert [row.split()[0] for row in body(text) if "ok !" in row] == ["4"]


def column(text: str, *, after: str) -> list[str]:
    """Return what stands in the rows of a table after a pattern of the column before."""
    return [match.group(1) for row in body(text) if (match := re.search(after, row))]


RATIO = r"\d ± [\d.]+ +(centre|[\d.]+ ± [\d.]+)"


def test_each_row_shows_its_speed_over_the_centre_s() -> None:
    records = factory.cuda_sweep()
    ratios = column(render(records), after=RATIO)
    assert len(ratios) == 14
    assert ratios.count("centre") == 1
    values = [float(ratio.split()[0]) for ratio in ratios if ratio != "centre"]
    assert values == sorted(values, reverse=True)
    centre = factory.training_spec(device="cuda", model="veernet", num_workers=4, subset_size=256, batch_size=1)
    given = body(render_around(records, centre=centre))
    assert [row.split()[:3] for row in given if "centre" in row] == [["1", "1", "fp32"]]


def render_around(records: Sequence[TrialRecord], *, centre: TrialSpec) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(summary_table(records, centre=centre))
    return stream.getvalue()


README_RUN = Path(__file__).parents[2] / "results" / "cpu-amd-epyc" / "readme.jsonl"


def test_at_least_half_of_the_rows_of_the_readme_s_run_are_free_of_marks() -> None:
    rows = body(render(load_results(README_RUN).records))
    assert sum("!" in row for row in rows) <= len(rows) / 2


def test_paired_ratios_are_at_most_five_times_as_wide_as_the_spread_of_processes() -> None:
    text = render(load_results(README_RUN).records)
    spread = re.search(r"included \(([\d.]+) %,", text)
    assert spread is not None
    shares = [
        float(ratio.split(" ± ")[1]) / float(ratio.split(" ± ")[0])
        for ratio in column(text, after=RATIO)
        if ratio != "centre"
    ]
    assert statistics.median(shares) <= 5 * float(spread[1]) / 100


def test_a_narrow_console_gets_the_table_without_its_least_columns() -> None:
    text = render(load_results(README_RUN).records, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert len(body(text)) == 7, "no word is folded"
    heading = text.split("──")[0]
    assert "centre" in heading
    assert "step" not in heading
    assert "wait" not in heading


def test_a_single_row_is_compared_with_nothing() -> None:
    text = render([factory.measured_training_record(factory.training_spec())])
    assert "centre" not in text


def test_a_warning_of_several_processes_of_a_row_takes_one_line() -> None:
    spec = factory.training_spec()
    records = [
        factory.measured_training_record(
            spec, replicate=n, warnings=(TrialWarning(code="throttled", message=f"SM clock at {60 + n} %"),)
        )
        for n in (0, 1)
    ]
    assert "! batch 1: SM clock at 60 % (throttled, 2 times)" in render(records)


def test_switches_stand_in_the_table_only_where_a_trial_has_another_than_the_default() -> None:
    plain, switched = factory.training_spec(), factory.training_spec(memory_format="channels-last")
    text = render([factory.measured_training_record(spec) for spec in (plain, switched)])
    assert "memory" in text.split("──")[0]
    assert sorted(row.split()[0] for row in body(text)) == ["channels-last", "contiguous"]
    alone = render([factory.measured_training_record(switched)])
    assert "channels-last memory" in alone.split("──")[0]
    default = render([factory.measured_training_record(plain)])
    for word in ("contiguous", "compile", "allocator", "optimizer", "cudnn"):
        assert word not in default


def test_a_price_adds_what_an_epoch_takes_and_costs_with_intervals() -> None:
    text = render(factory.cuda_sweep(), price_per_hour=3.5)
    assert "An epoch of all 15,000 training examples, at 3.5 per hour, energy at the mean power of the device:" in text
    heading, rows = text.split("An epoch of all")[1].split("──", maxsplit=1)
    assert "cost per" in heading
    assert "kWh per" in heading
    first = rows.splitlines()[1].split()
    minutes, cost, energy = (float(first[i]) for i in (-9, -6, -3))
    assert cost == pytest.approx(3.5 * minutes / 60, rel=0.05)
    assert energy == pytest.approx(factory.POWER_W / 1000 * minutes / 60, rel=0.05)
    assert max(map(len, text.splitlines())) <= 100


def test_energy_that_nothing_told_has_no_column() -> None:
    text = render(factory.cpu_sweep(), price_per_hour=0.5)
    assert "cost per" in text
    assert "kWh" not in text


def test_the_first_records_are_still_drawn_as_a_table() -> None:
    records = load_results(Path(__file__).parent / "first_records.jsonl").records
    text = render(records, width=120)
    assert len(body(text)) == 7
    assert "1.99 ± 0.17 " in text
    assert " 2180 " in text
    assert "7 training trials, 5 worst-case memory trials" in text


def test_records_without_training_trials_give_their_notes_only() -> None:
    text = render([factory.measured_memory_record(factory.training_spec())])
    assert "No training trial" in text
    assert "0 training trials, 1 worst-case memory trial" in " ".join(text.split())
    assert render([]) == "No trials in these records.\n"


def test_records_of_two_devices_are_refused() -> None:
    with pytest.raises(InputError, match="NVIDIA H200"):
        summary_table([*factory.cpu_sweep(), *factory.cuda_sweep()])
