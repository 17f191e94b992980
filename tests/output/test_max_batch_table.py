"""The table of largest micro-batches."""

from __future__ import annotations

import dataclasses

import record_factory as factory
from rich.console import Console

from vnbench.analysis.models.max_batch import summarize_search
from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.output.tables.max_batch import max_batch_table
from vnbench.units import PixelRange


def table(num_peaks: int) -> str:
    """Return the table of a search in which so many sizes have a peak."""
    base = factory.memory_spec(factory.training_spec(batch_size=1, device="cuda"))
    specs = [dataclasses.replace(base, batch_size=n, micro_batch_size=n) for n in range(1, num_peaks + 1)]
    records = [
        factory.record_of(spec, memory=factory.reading_of(spec, peak_bytes=(1 + 2 * number) * 2**30))
        for number, spec in enumerate(specs, start=1)
    ]
    sizes = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))
    sizes_N2 = draw_sizes(sizes, 32, seed=0)
    console = Console(width=160)
    with console.capture() as captured:
        console.print(max_batch_table([summarize_search(base, records, train_sizes_N2=sizes_N2, sampler="bucketed")]))
    return " ".join(captured.get().split())


def test_a_line_through_two_peaks_claims_no_error_of_its_own() -> None:
    two, three = table(2), table(3)
    assert "Only two sizes have a peak: the line through them has no error of its own." in two
    assert "fit off" not in two
    assert "Only two sizes" not in three
    assert "fit off by: its error at a size that it was not fitted to, at worst." in three
