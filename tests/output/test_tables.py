import io
from collections.abc import Sequence

import pytest
import record_factory as factory
from rich.console import Console

from vnbench.errors import InputError
from vnbench.output.provenance import CPU_LABEL
from vnbench.output.tables import format_estimate, summary_table
from vnbench.record import TrialRecord, TrialWarning


def render(records: Sequence[TrialRecord], *, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(summary_table(records))
    return stream.getvalue()


def body(text: str) -> list[str]:
    """Return the rows between the rule under the headings and the blank line before the notes."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("──")) + 1
    return [line for line in lines[start : lines.index("", start)] if line.strip()]


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (1.2345, 0.0432, "1.23 ± 0.04"),
        (1.2345, 0.0132, "1.234 ± 0.013"),
        (1.2345, 0.0196, "1.23 ± 0.02"),
        (123.4, 45.0, "120 ± 40"),
        (1234.0, 17.0, "1234 ± 17"),
        (0.98, 0.0999, "0.98 ± 0.10"),
        (0.98, 0.16, "0.98 ± 0.16"),
        (5.0, 0.0, "5.00 ± 0"),
        (0.0, 0.2, "0.0 ± 0.2"),
        (12.345, None, "12"),
        (0.012345, None, "0.012"),
        (1234.5, None, "1200"),
        (None, None, "-"),
    ],
)
def test_a_figure_has_no_more_digits_than_its_half_width_supports(value, half_width, text) -> None:
    assert format_estimate(value, half_width) == text


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
    for word in ("batch", "micro", "preci-", "norm", "check-", "sampler", "work-"):
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
    note = "NVIDIA H200, torch 2.13.0+cu130, 2026-01-05, 17 training trials, 12 worst-case memory trials"
    assert note in text
    assert "cover the steps of one process only" in text
    assert CPU_LABEL not in text


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


def test_replicates_are_told_apart() -> None:
    spec = factory.training_spec()
    text = render([factory.measured_training_record(spec, replicate=n) for n in (0, 1)])
    assert "repli-" in text


def test_records_without_training_trials_give_their_notes_only() -> None:
    text = render([factory.measured_memory_record(factory.training_spec())])
    assert "No training trial" in text
    assert "0 training trials, 1 worst-case memory trial" in " ".join(text.split())
    assert render([]) == "No trials in these records.\n"


def test_records_of_two_devices_are_refused() -> None:
    with pytest.raises(InputError, match="NVIDIA H200"):
        summary_table([*factory.cpu_sweep(), *factory.cuda_sweep()])
