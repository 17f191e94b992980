from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import record_factory as factory
from scipy.special import stdtrit

from vnbench.analysis.comparison.compare import Comparison, compare
from vnbench.analysis.comparison.ratios import FAMILY_ERROR, compare_times
from vnbench.analysis.comparison.rows import ALL_ROWS, Row, Tolerances
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of, side_of
from vnbench.records.readings import MemoryReading
from vnbench.records.record import TrialRecord

KEYS = {"device": ("a card",), "torch": ("2.13.0",)}


def side(
    *, keys: dict[str, tuple[str, ...]] | None = None, notes: tuple[str, ...] = (), **times: Sequence[float]
) -> Side:
    """Return a side of configurations with the times of their processes."""
    return Side(
        keys=keys or KEYS,
        configurations={
            name: Configuration(
                name=name, statuses={"ok": len(values)}, figures={"time": figure_of(values, metric="time")}
            )
            for name, values in times.items()
        },
        notes=notes,
    )


def row_of(comparison: Comparison, name: str, metric: str = "time") -> Row:
    (row,) = (row for row in comparison.rows if (row.spec_id, row.metric) == (name, metric))
    return row


def test_the_interval_of_one_row_is_that_of_students_t() -> None:
    baseline, candidate = (1.0, 1.02, 0.99), (1.1, 1.11, 1.13)
    compared = compare_times([(figure_of(baseline, metric="time"), figure_of(candidate, metric="time"))])
    (ratio,) = compared.rows
    assert compared.mean is None
    logs = [list(map(math.log, values)) for values in (baseline, candidate)]
    means = [sum(values) / 3 for values in logs]
    pooled = sum((value - mean) ** 2 for values, mean in zip(logs, means, strict=True) for value in values) / 4
    error = math.sqrt(pooled * 2 / 3)
    assert ratio.log.value == pytest.approx(means[1] - means[0])
    assert ratio.log.se == pytest.approx(error)
    assert ratio.half_width == pytest.approx(float(stdtrit(4, 1 - FAMILY_ERROR / 2)) * error)


def test_the_error_rate_is_shared_by_the_rows_and_their_mean() -> None:
    pair = (figure_of((1.0, 1.01), metric="time"), figure_of((1.0, 1.01), metric="time"))
    compared = compare_times([pair] * 3)
    row, mean = compared.rows[0], compared.mean
    assert mean is not None
    assert row.log.se is not None
    assert row.half_width == pytest.approx(float(stdtrit(2, 1 - FAMILY_ERROR / 3 / 2)) * row.log.se)
    assert mean.log.se == pytest.approx(row.log.se / math.sqrt(3))
    assert mean.log.dof == pytest.approx(6)
    assert mean.half_width == pytest.approx(float(stdtrit(6, 1 - FAMILY_ERROR / 2)) * mean.log.se)


def test_the_smallest_detectable_change_is_found_19_times_in_20() -> None:
    pair = (figure_of((1.0, 1.01, 1.02), metric="time"), figure_of((1.0, 1.01, 1.02), metric="time"))
    (ratio,) = compare_times([pair]).rows
    assert ratio.half_width is not None
    assert ratio.log.se is not None
    expected = math.exp(ratio.half_width + float(stdtrit(4, 0.95)) * ratio.log.se) - 1
    assert ratio.smallest_detectable(0.001) == pytest.approx(expected)
    assert ratio.smallest_detectable(0.5) == pytest.approx(1.5 * math.exp(float(stdtrit(4, 0.95)) * ratio.log.se) - 1)


def test_a_clear_slowdown_is_worse_and_its_reversal_better() -> None:
    slow, fast = side(a=(1.1, 1.101, 1.102)), side(a=(1.0, 1.001, 1.002))
    assert row_of(compare(fast, slow, sweep_spread=0.0), "a").verdict == "worse"
    assert compare(fast, slow, sweep_spread=0.0).outcome == "regression"
    assert row_of(compare(slow, fast, sweep_spread=0.0), "a").verdict == "better"
    assert compare(slow, fast, sweep_spread=0.0).outcome == "pass"


def test_a_sure_slowdown_below_the_tolerance_is_the_same() -> None:
    sides = side(a=(1.0, 1.0001, 1.0002)), side(a=(1.01, 1.0101, 1.0102))
    comparison = compare(*sides, sweep_spread=0.0)
    row = row_of(comparison, "a")
    assert row.interval is not None
    assert row.interval[0] > 1
    assert row.verdict == "same"
    tight = compare(*sides, tolerances=Tolerances(time=0.005), sweep_spread=0.0)
    assert row_of(tight, "a").verdict == "worse"


def test_noise_that_hides_a_change_of_the_tolerance_is_ambiguous_and_undecided() -> None:
    comparison = compare(side(a=(1.0, 1.1, 0.9)), side(a=(1.01, 1.12, 0.9)))
    row = row_of(comparison, "a")
    assert row.verdict == "ambiguous"
    assert "about" in row.reason
    assert "processes a side would decide it" in row.reason
    assert comparison.outcome == "undecided"
    assert comparison.is_blunt_only


def test_a_blunt_row_whose_interval_ends_below_the_tolerance_is_the_same() -> None:
    comparison = compare(side(a=(1.0, 1.05, 0.95)), side(a=(0.7, 0.72, 0.68)), sweep_spread=0.0)
    assert row_of(comparison, "a").verdict == "better"
    unsure = compare(side(a=(1.0, 1.05, 0.95)), side(a=(0.85, 0.87, 0.9)), tolerances=Tolerances(time=0.2))
    row = row_of(unsure, "a")
    assert row.interval is not None
    assert row.interval[1] < 1.2
    assert row.verdict == "same"


def test_one_process_on_each_side_tells_nothing_of_a_single_row() -> None:
    comparison = compare(side(a=(1.0,)), side(a=(2.0,)))
    assert row_of(comparison, "a").verdict == "ambiguous"
    assert row_of(comparison, "a").interval is None
    assert comparison.outcome == "undecided"


def test_a_slowdown_of_all_rows_shows_in_their_mean_without_any_repetition() -> None:
    names = "abcdefghij"
    before = {name: (1.0 + 0.01 * (index % 3),) for index, name in enumerate(names)}
    after = {name: (1.1 + 0.01 * (index % 4),) for index, name in enumerate(names)}
    comparison = compare(side(**before), side(**after), sweep_spread=0.0)
    assert row_of(comparison, ALL_ROWS).verdict == "worse"
    assert comparison.outcome == "regression"
    assert {row.verdict for row in comparison.rows if row.metric == "time" and row.spec_id != ALL_ROWS} == {"ambiguous"}


def test_identical_figures_are_the_same_whatever_their_number() -> None:
    for times in ((1.0,), (1.0, 2.0, 3.0)):
        comparison = compare(side(a=times, b=times), side(a=times, b=times))
        assert {row.verdict for row in comparison.rows} == {"same"}
        assert comparison.outcome == "pass"


def test_a_summary_without_its_values_is_identical_as_far_as_its_digits_go() -> None:
    before, after = side(a=(1.0,)), side(a=(1.0001,))
    kept = dataclasses.replace(before.configurations["a"].figures["time"], values=())
    summary = dataclasses.replace(
        before, configurations={"a": dataclasses.replace(before.configurations["a"], figures={"time": kept})}
    )
    assert row_of(compare(summary, after), "a").verdict == "same"
    assert row_of(compare(before, after), "a").verdict == "ambiguous"


def test_what_the_candidate_does_not_have_is_missing_and_never_a_pass() -> None:
    comparison = compare(side(a=(1.0, 1.0), b=(1.0, 1.0)), side(a=(1.0, 1.0)))
    assert {row.verdict for row in comparison.rows if row.spec_id == "b"} == {"missing"}
    assert comparison.outcome == "undecided"
    assert not comparison.is_blunt_only


def test_what_only_the_candidate_has_is_told_and_not_compared() -> None:
    comparison = compare(side(a=(1.0, 1.0)), side(a=(1.0, 1.0), b=(9.0, 9.0)))
    assert comparison.not_in_baseline == ("b",)
    assert comparison.outcome == "pass"


def test_other_keys_are_not_comparable_and_are_named() -> None:
    other = {"device": ("another card",), "torch": ("2.13.0",)}
    comparison = compare(side(a=(1.0, 1.0)), side(a=(1.0, 1.0), keys=other))
    assert comparison.rows == ()
    assert comparison.differing == ("device: baseline a card, candidate another card",)
    assert comparison.outcome == "undecided"
    exact = compare(side(a=(1.0, 1.0)), side(a=(1.0, 1.0), keys=other), metrics=("status", "memory"))
    assert exact.differing == ()


@pytest.mark.parametrize(
    ("key", "there", "here"),
    [("num_threads", "2", "1"), ("cpu_model", "1", "17"), ("isa_variables", "none", "ONEDNN_MAX_CPU_ISA=AVX2")],
)
def test_times_of_another_processor_or_other_threads_are_not_comparable_and_everything_else_is(
    key: str, there: str, here: str
) -> None:
    before = side(a=(1.0, 1.0), keys={"device": ("a card",), key: (there,)})
    after = side(a=(0.5, 0.5), keys={"device": ("a card",), key: (here,)})
    comparison = compare(before, after)
    assert comparison.differing == (f"{key}: baseline {there}, candidate {here}",)
    assert (comparison.rows, comparison.outcome) == ((), "undecided")
    assert compare(before, after, metrics=("status", "time")).differing
    assert compare(before, after, metrics=("status", "memory")).differing == ()


def test_a_processor_that_one_side_does_not_tell_is_not_compared() -> None:
    before = side(a=(1.0, 1.0), keys={"device": ("a card",)})
    after = side(a=(1.0, 1.0), keys={"device": ("a card",), "cpu_model": ("17",), "num_threads": ("2",)})
    assert compare(before, after).differing == ()
    assert compare(after, before).differing == ()


def test_a_side_that_could_not_be_read_whole_passes_nothing() -> None:
    comparison = compare(side(a=(1.0, 1.0)), side(a=(1.0, 1.0), notes=("line 3: torn",)))
    assert {row.verdict for row in comparison.rows} == {"same"}
    assert comparison.outcome == "undecided"
    assert not comparison.is_blunt_only


def test_nothing_in_common_decides_nothing() -> None:
    assert compare(side(), side()).outcome == "undecided"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (("ok", "ok"), ("ok", "ok"), "same"),
        (("ok", "ok"), ("oom", "oom"), "worse"),
        (("ok", "ok"), ("ok", "crashed"), "worse"),
        (("ok",), ("wrong",), "worse"),
        (("oom",), ("ok",), "better"),
        (("oom",), ("skipped",), "same"),
        (("skipped",), ("oom",), "same"),
        (("oom",), ("crashed",), "worse"),
        (("crashed",), ("crashed",), "same"),
        (("ok", "oom"), ("oom", "oom"), "worse"),
        (("ok", "oom"), ("ok", "ok"), "better"),
        (("crashed",), ("timeout",), "worse"),
    ],
)
def test_a_failure_that_the_baseline_did_not_have_is_worse(
    before: tuple[Any, ...], after: tuple[Any, ...], verdict: str
) -> None:
    def of(statuses: tuple[Any, ...]) -> Side:
        spec = factory.training_spec()
        records = [factory.record_of(spec, status=status, replicate=i) for i, status in enumerate(statuses)]
        return side_of(records)

    comparison = compare(of(before), of(after))
    (row,) = (row for row in comparison.rows if row.metric == "status")
    assert row.verdict == verdict


def memory_record(
    peak_bytes: int, *, replicate: int = 0, num_operators: int | None = None, instrument: str | None = None
) -> TrialRecord:
    spec = factory.memory_spec(factory.training_spec())
    counted: dict[str, Any] = {"instrument": instrument} if instrument else {}
    reading: MemoryReading = factory.reading_of(spec, peak_bytes=peak_bytes, num_operators=num_operators, **counted)
    return factory.record_of(spec, memory=reading, replicate=replicate)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((1000,), (1000,), "same"),
        ((1000,), (1004,), "same"),
        ((1000,), (1006,), "worse"),
        ((1000,), (990,), "better"),
        ((1000, 1200), (1100, 1210), "ambiguous"),
        ((1000, 1001), (1100, 1101), "worse"),
    ],
)
def test_peaks_are_compared_as_they_are(before: tuple[int, ...], after: tuple[int, ...], verdict: str) -> None:
    sides = [side_of([memory_record(peak, replicate=i) for i, peak in enumerate(peaks)]) for peaks in (before, after)]
    comparison = compare(*sides)
    (row,) = (row for row in comparison.rows if row.metric == "memory")
    assert row.verdict == verdict
    assert row.ratio == pytest.approx(max(after) / max(before))


@pytest.mark.parametrize("counted", [("live-tensor-tracker", "live-tensors"), ("traced-tensors", "traced")])
def test_peaks_that_two_instruments_counted_differently_are_not_compared(counted: tuple[str, str]) -> None:
    sides = [side_of([memory_record(1000, instrument=instrument)]) for instrument in counted]
    comparison = compare(*sides)
    (row,) = (row for row in comparison.rows if row.metric == "memory")
    assert (row.verdict, row.ratio, row.baseline, row.candidate) == ("missing", None, 1000, 1000)
    holder = ("baseline", "candidate")[counted[1] == "traced"]
    assert row.reason.startswith(f"not comparable: the {holder}'s instrument also counted the gradients")
    assert comparison.outcome == "undecided"
    (row,) = (row for row in compare(sides[0], sides[0]).rows if row.metric == "memory")
    assert row.verdict == "same"


def test_one_more_operator_is_worse() -> None:
    sides = [side_of([memory_record(1000, num_operators=count)]) for count in (500, 501)]
    (row,) = (row for row in compare(*sides).rows if row.metric == "operators")
    assert row.verdict == "worse"
    (row,) = (row for row in compare(*reversed(sides)).rows if row.metric == "operators")
    assert row.verdict == "better"
