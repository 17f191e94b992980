"""The table of largest micro-batches."""

from __future__ import annotations

import dataclasses

import record_factory as factory
from rich.console import Console

from vnbench.analysis.models.max_batch import summarize_search
from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.output.tables.max_batch import max_batch_table
from vnbench.records.spec.words import DeviceType, Precision
from vnbench.units import PixelRange

GIB = 2**30

CAPACITY = 10 * GIB + GIB // 2

SIZES_N2 = draw_sizes(
    SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640)), 32, seed=0
)


def table(num_peaks: int) -> str:
    """Return the table of a search in which so many sizes have a peak."""
    base = factory.memory_spec(factory.training_spec(batch_size=1, device="cuda"))
    specs = [dataclasses.replace(base, batch_size=n, micro_batch_size=n) for n in range(1, num_peaks + 1)]
    records = [
        factory.record_of(spec, memory=factory.reading_of(spec, peak_bytes=(1 + 2 * number) * 2**30))
        for number, spec in enumerate(specs, start=1)
    ]
    console = Console(width=160)
    with console.capture() as captured:
        console.print(max_batch_table([summarize_search(base, records, train_sizes_N2=SIZES_N2, sampler="bucketed")]))
    return " ".join(captured.get().split())


def answer(*searches: tuple[Precision, int], device: DeviceType = "cuda", is_finished: bool = False) -> str:
    """Return the table of searches that found such sizes in CAPACITY, of which an image takes 1 GiB and the rest 2."""
    found = []
    for precision, largest in searches:
        base = factory.memory_spec(factory.training_spec(batch_size=1, device=device, precision=precision))
        base = dataclasses.replace(base, memory_limit_bytes=CAPACITY)
        specs = [dataclasses.replace(base, batch_size=n, micro_batch_size=n) for n in range(1, largest + 2)]
        readings = [
            factory.reading_of(one, peak_bytes=(2 + n) * GIB, capacity_bytes=CAPACITY)
            for n, one in enumerate(specs, start=1)
        ]
        records = [factory.record_of(one, memory=memory) for one, memory in zip(specs, readings, strict=True)][:-1]
        if is_finished:
            failed = factory.record_of(specs[-1], status="oom")
            records = [*records, failed, *(dataclasses.replace(one, replicate=1) for one in (records[-1], failed))]
        found.append(summarize_search(base, records, train_sizes_N2=SIZES_N2, sampler="bucketed"))
    console = Console(width=200)
    with console.capture() as captured:
        console.print(max_batch_table(found))
    return " ".join(captured.get().split())


def test_the_answer_names_what_fits_in_each_of_a_few_configurations() -> None:
    two = answer(("bf16", 3), ("fp32", 2), is_finished=True)
    assert two.startswith("Answer: a micro-batch of 3 fits with bf16, 2 with fp32. ")
    assert answer(("bf16", 3), ("fp32", 3), is_finished=True).startswith("Answer: a micro-batch of 3 fits. ")


def test_an_unfinished_search_tells_how_far_its_fit_would_go() -> None:
    assert "fits; the search is not finished: by the fit below, about 8 would." in answer(("bf16", 3))
    cpu = answer(("bf16", 3), device="cpu")
    assert "by the fit below, at most 8 would." in cpu, "more than tensors counts there"
    assert "would" not in answer(("bf16", 3), is_finished=True).partition(". ")[0]


def test_beside_a_size_that_failed_on_a_cpu_stands_what_the_limit_counts() -> None:
    assert "4: oom, exception; the limit counts all of the process" in answer(
        ("bf16", 3), device="cpu", is_finished=True
    )
    assert "the limit counts" not in answer(("bf16", 3), is_finished=True)


def test_a_line_through_two_peaks_claims_no_error_of_its_own() -> None:
    two, three = table(2), table(3)
    assert "Only two sizes have a peak: the line through them has no error of its own." in two
    assert "fit off" not in two
    assert "Only two sizes" not in three
    assert "fit off by: its error at a size that it was not fitted to, at worst." in three
