from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import memory_spec, reading_of, record_of, training_spec

from vnbench.analysis.models.max_batch import (
    Probe,
    next_probe,
    next_smaller,
    probes_left,
    result,
    summarize_search,
)
from vnbench.analysis.models.probe_law import NUM_FORECAST_PROBES, pixels_per_example
from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec

BASE = memory_spec(training_spec(batch_size=1, device="cuda"))
ON_CPU = memory_spec(training_spec(batch_size=1, device="cpu"))
GIB = 2**30
CAPACITY = 12 * GIB


def probe(size: int, status: Status = "ok", *, replicate: int = 0, base: TrialSpec = BASE) -> TrialRecord:
    spec = dataclasses.replace(base, batch_size=size, micro_batch_size=size)
    cause = None if status == "ok" else Cause(kind="torch-out-of-memory", message="too large")
    memory = reading_of(spec, peak_bytes=GIB + size * 2 * GIB, capacity_bytes=CAPACITY) if status == "ok" else None
    return record_of(spec, status=status, cause=cause, replicate=replicate, memory=memory)


def searched(fits: Callable[[int, int], bool], *, most: int = 4096, base: TrialSpec = BASE) -> list[TrialRecord]:
    """Run a search to its end; ``fits(size, replicate)`` is the machine, whatever peaks are told."""
    records: list[TrialRecord] = []
    while (asked := next_probe(records, most=most)) is not None:
        fits_now = fits(asked.micro_batch_size, asked.replicate)
        records.append(probe(asked.micro_batch_size, "ok" if fits_now else "oom", replicate=asked.replicate, base=base))
        assert len(records) < 60, "the search does not end"
    return records


def honest(largest: int) -> list[tuple[int, str]]:
    """Return the sizes and statuses of a search on a GPU whose peaks tell how many examples fit."""
    per_example = CAPACITY / (largest + 0.5)
    records: list[TrialRecord] = []
    while (asked := next_probe(records, most=4096)) is not None:
        size = asked.micro_batch_size
        fits = size <= largest
        memory = reading_of(BASE, peak_bytes=int(size * per_example), capacity_bytes=CAPACITY) if fits else None
        cause = None if fits else Cause(kind="torch-out-of-memory", message="too large")
        spec = dataclasses.replace(BASE, batch_size=size, micro_batch_size=size)
        status: Status = "ok" if fits else "oom"
        records.append(record_of(spec, status=status, cause=cause, replicate=asked.replicate, memory=memory))
        assert len(records) < 60, "the search does not end"
    return [(record.spec.micro_batch_size, record.status) for record in records]


@pytest.mark.parametrize("largest", [5, 11, 38, 300])
def test_three_sizes_on_a_gpu_forecast_the_largest_and_two_probes_confirm_it(largest: int) -> None:
    first = [(1, "ok"), (2, "ok"), (4, "ok")]
    assert honest(largest) == [*first, *2 * [(largest, "ok"), (largest + 1, "oom")]]


def test_what_fits_against_its_forecast_is_followed_by_a_leap_of_a_fourth() -> None:
    # The peaks say that 5 fit, and 40 do: what the allocator can give back is no part of them.
    sizes = [record.spec.micro_batch_size for record in searched(lambda size, _: size <= 40)]
    assert sizes[:6] == [1, 2, 4, 5, 6, 8]
    assert sizes[6] == 16, "after three forecasts it doubles"


def test_doubling_then_bisection_then_both_neighbours_once_more() -> None:
    records = searched(lambda size, _: size <= 11, base=ON_CPU)
    tried = [(record.spec.micro_batch_size, record.replicate, record.status) for record in records]
    assert tried == [
        *((size, 0, "ok") for size in (1, 2, 4, 8)),
        (16, 0, "oom"),
        (12, 0, "oom"),
        (10, 0, "ok"),
        (11, 0, "ok"),
        (11, 1, "ok"),
        (12, 1, "oom"),
    ]


@given(largest=st.integers(0, 300), most=st.integers(1, 400))
def test_the_search_is_exact_confirmed_and_short(largest: int, most: int) -> None:
    records = searched(lambda size, _: size <= largest, most=most)
    found = result(records)
    assert found.largest == min(largest, most)
    assert found.is_confirmed
    assert found.is_exact == (largest < most)
    assert (found.blocker is None) == (largest >= most)
    if found.blocker is not None:
        assert found.blocker.spec.micro_batch_size == largest + 1
    assert found.num_probes == len(records) <= 2 * max(largest, 1).bit_length() + 4 + NUM_FORECAST_PROBES
    keys = [(record.spec.micro_batch_size, record.replicate) for record in records]
    assert len(set(keys)) == len(keys), "no probe is run twice"


@given(largest=st.integers(0, 40), cut=st.integers(0, 20))
def test_a_search_goes_on_where_it_was_interrupted(largest: int, cut: int) -> None:
    whole = searched(lambda size, _: size <= largest)
    again = whole[:cut]
    asked = next_probe(again, most=4096)
    if cut < len(whole):
        expected = whole[cut]
        assert asked == Probe(micro_batch_size=expected.spec.micro_batch_size, replicate=expected.replicate)
    else:
        assert asked is None


def test_what_failed_once_does_not_fit_and_the_search_goes_below() -> None:
    # 8 fits in the first process and not in the second: memory so tight is none to rely on.
    records = searched(lambda size, replicate: size < 8 or (size == 8 and replicate == 0))
    found = result(records)
    assert found.largest == 7
    assert found.is_confirmed
    assert found.blocker is not None
    assert found.blocker.spec.micro_batch_size == 8


def test_a_next_one_that_fits_now_and_then_is_tried_until_it_failed_twice() -> None:
    outcomes = {(6, 0): False, (6, 1): True, (6, 2): False}
    records = searched(lambda size, replicate: size < 6 or outcomes.get((size, replicate), False))
    found = result(records)
    assert (found.largest, found.is_exact, found.is_confirmed) == (5, True, True)
    assert sum(record.spec.micro_batch_size == 6 for record in records) == 3


def test_what_stays_unsteady_is_not_confirmed() -> None:
    # 6 failed once and fits ever since.
    records = searched(lambda size, replicate: size < 6 or (size == 6 and replicate > 0))
    found = result(records)
    assert (found.largest, found.is_exact, found.is_confirmed) == (5, True, False)
    assert sum(record.spec.micro_batch_size == 6 for record in records) == 4


def test_where_nothing_fits_the_first_failure_is_seen_twice() -> None:
    records = searched(lambda size, _: False)
    assert [(record.spec.micro_batch_size, record.replicate) for record in records] == [(1, 0), (1, 1)]
    assert result(records).largest == 0
    assert result(records).is_confirmed


@pytest.mark.parametrize("status", ["timeout", "crashed", "wrong"])
def test_another_failure_bounds_the_micro_batch_too_and_is_named(status: Status) -> None:
    found = result([probe(1), probe(2, status)])
    assert found.largest == 1
    assert found.blocker is not None
    assert found.blocker.status == status


def test_an_unconfirmed_result_says_so() -> None:
    assert not result([probe(1), probe(2, "oom")]).is_confirmed
    assert not result([probe(1), probe(2)]).is_confirmed
    assert result([probe(1), probe(2, "oom"), probe(1, replicate=1), probe(2, "oom", replicate=1)]).is_confirmed


@given(largest=st.integers(0, 60))
def test_the_estimate_of_what_is_left_never_grows_once_a_probe_failed(largest: int) -> None:
    records = searched(lambda size, _: size <= largest)
    left = [probes_left(records[:n], most=4096) for n in range(len(records) + 1)]
    first_failure = next(n for n, record in enumerate(records, start=1) if record.status != "ok")
    assert left[first_failure:] == sorted(left[first_failure:], reverse=True)
    assert left[-1] == 0


def test_the_summary_has_the_peak_of_the_largest_and_the_law_of_all() -> None:
    records = searched(lambda size, _: size <= 5)
    sizes_N2 = np.array([[480, 3200], [640, 12_800]] * 50)
    summary = summarize_search(BASE, records, train_sizes_N2=sizes_N2, sampler="bucketed")
    assert summary.peak_bytes == 11 * GIB
    assert summary.capacity_bytes is not None
    assert summary.ran_out_ratio == pytest.approx(13 * GIB / summary.capacity_bytes, rel=1e-6)
    assert summary.law is not None
    assert summary.law.bytes_fixed == pytest.approx(GIB, rel=1e-6)
    assert summary.law.bytes_per_pixel * summary.pixels_per_example == pytest.approx(2 * GIB, rel=1e-6)
    assert summary.by_mean_size is not None
    assert summary.by_mean_size.micro_batch_size > 5


def test_other_cards_hold_what_the_law_and_the_context_leave_room_for() -> None:
    # 1 GiB fixed, 2 GiB per example, half a GiB of context.
    records = []
    for record in searched(lambda size, _: size <= 5):
        memory = record.memory and dataclasses.replace(record.memory, outside_allocator_bytes=GIB // 2)
        records.append(dataclasses.replace(record, memory=memory))
    summary = summarize_search(BASE, records, train_sizes_N2=np.array([[640, 12_800]] * 9), sampler="bucketed")
    assert summary.outside_bytes == GIB // 2
    assert summary.on_card(16 * GIB, share=1.0) == 7, "16 - 0.5 - 1 = 14.5 GiB"
    assert summary.on_card(16 * GIB) == 6, "14.4 - 0.5 - 1 = 12.9 GiB"
    assert summary.on_card(GIB) == 0
    nothing = summarize_search(
        BASE, searched(lambda size, _: False), train_sizes_N2=np.array([[640, 12_800]]), sampler="bucketed"
    )
    assert nothing.on_card(16 * GIB) is None


def test_a_probe_that_ran_out_where_the_peaks_let_it_fit_raises_the_law() -> None:
    # 3 fit with 1 + 2 x 3 = 7 GiB, 4 would take 9 of 12 GiB by the law, and did not fit.
    records = searched(lambda size, _: size <= 3)
    plain = summarize_search(BASE, records, train_sizes_N2=np.array([[640, 12_800]] * 9), sampler="bucketed").law
    assert plain is not None
    assert plain.num_raising == 2, "the next one was tried twice"
    assert plain.bytes_per_pixel * pixels_per_example(BASE) > 2 * GIB
    on_the_cpu = dataclasses.replace(BASE, device="cpu")
    records = [dataclasses.replace(one, spec=dataclasses.replace(one.spec, device="cpu")) for one in records]
    law = summarize_search(on_the_cpu, records, train_sizes_N2=np.array([[640, 12_800]] * 9), sampler="bucketed").law
    assert law is not None
    assert law.num_raising == 0, "what counts against a limit there is more than tensors"


def test_smaller_canvases_tell_what_the_worst_case_would_need() -> None:
    failed = searched(lambda size, _: False)
    tried: list[TrialRecord] = []
    while (smaller := next_smaller(BASE, tried)) is not None:
        pixels = pixels_per_example(smaller)
        fits = pixels < 0.3 * pixels_per_example(BASE)
        memory = reading_of(smaller, peak_bytes=GIB + 1000 * pixels) if fits else None
        cause = None if fits else Cause(kind="torch-out-of-memory", message="too large")
        tried.append(record_of(smaller, status="ok" if fits else "oom", cause=cause, memory=memory))
    assert [record.spec.worst_case_width for record in tried] == [6400, 3200, 1600]
    sizes_N2 = np.array([[640, 12_800]])
    summary = summarize_search(BASE, failed, train_sizes_N2=sizes_N2, sampler="bucketed", smaller=tried)
    assert summary.need_bytes == pytest.approx(GIB + 1000 * 640 * 12_800, rel=1e-6)


def test_halving_ends_where_a_canvas_has_hardly_a_width() -> None:
    tried: list[TrialRecord] = []
    while (smaller := next_smaller(BASE, tried)) is not None:
        cause = Cause(kind="torch-out-of-memory", message="too large")
        tried.append(record_of(smaller, status="oom", cause=cause))
    assert 5 <= len(tried) <= 9


def test_a_search_in_which_nothing_fitted_has_no_law() -> None:
    records = searched(lambda size, _: False)
    summary = summarize_search(BASE, records, train_sizes_N2=np.array([[640, 12_800]]), sampler="bucketed")
    assert (summary.peak_bytes, summary.law) == (None, None)
    assert summary.by_mean_size is not None
    assert summary.by_mean_size.micro_batch_size == 0
