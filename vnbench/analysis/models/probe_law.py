"""Fit a memory law to the probes of one configuration, and forecast its largest micro-batch."""

from __future__ import annotations

from collections.abc import Sequence

from vnbench.analysis.trials.memory_law import CensoredPoint, MemoryLaw, PeakPoint, fit_memory_law
from vnbench.analysis.trials.summary import peak_bytes
from vnbench.batching.alignment import align
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec

NUM_FOR_FORECAST = 3
"""Fewest sizes with peaks for a forecast of the largest: a line fits any two points."""

NUM_FORECAST_PROBES = 3
"""Most sizes tried because of a forecast; after that, the search goes on by doubling and bisection."""


def pixels_per_example(spec: MemorySpec) -> int:
    """Return the padded pixels of an example of a memory spec."""
    return align(spec.worst_case_height) * align(spec.worst_case_width)


def capacity_of_probes(records: Sequence[TrialRecord[MemorySpec]]) -> int | None:
    """Return the memory that the probes had; None if unknown."""
    told = next((record.memory.capacity_bytes for record in records if record.memory), None)
    return told if told is not None or not records else records[0].spec.memory_limit_bytes


def outside_of_probes(records: Sequence[TrialRecord[MemorySpec]]) -> int:
    """Return the most bytes in use outside the allocator; 0 if unknown."""
    return max((one.memory.outside_allocator_bytes or 0 for one in records if one.memory), default=0)


def law_of_probes(
    records: Sequence[TrialRecord[MemorySpec]], *, smaller: Sequence[TrialRecord[MemorySpec]] = ()
) -> MemoryLaw | None:
    """Return the law from the peaks of probes that fitted, with lower bounds from those out of memory on a GPU.

    ``smaller`` holds the probes on smaller canvases. None below two sizes.
    """
    points = [
        PeakPoint(padded_pixels=one.spec.micro_batch_size * pixels_per_example(one.spec), peak_bytes=peak)
        for one in (*records, *smaller)
        if one.status == "ok" and (peak := peak_bytes(one.memory)) is not None
    ]
    return fit_memory_law(points, censored=_censored(records))


def forecast_probe(
    records: Sequence[TrialRecord[MemorySpec]], *, largest: int, smallest_failing: int | None
) -> int | None:
    """Return the micro-batch to try next: the largest that fits by the law of the probes, or one above it.

    ``largest`` fits and ``smallest_failing`` does not; sizes between them are unknown. None if the law gives no
    forecast: on the CPU, whose memory holds more than tensors; with too few sizes; or after enough forecasts. The law
    ignores the cache that the allocator frees when memory runs short, so more may fit than it says. If a size fits
    beyond the forecast, the next size is larger by a quarter.
    """
    sizes = {record.spec.micro_batch_size for record in records}
    is_enough = NUM_FOR_FORECAST <= len(sizes) < NUM_FOR_FORECAST + NUM_FORECAST_PROBES
    if not is_enough or any(record.spec.device != "cuda" for record in records):
        return None
    law, room = law_of_probes(records), _room(records)
    if law is None or room is None or law.bytes_per_pixel <= 0:
        return None
    forecast = law.largest_micro_batch(memory_bytes=room, pixels_per_example=pixels_per_example(records[0].spec))
    if smallest_failing is not None:
        # A failure below the forecast contradicts the law, which is then ignored.
        return max(forecast, largest + 1) if forecast < smallest_failing else None
    if forecast > largest:
        return forecast
    return largest + 1 if forecast == largest else largest + max(2, largest // 4)


def _room(records: Sequence[TrialRecord[MemorySpec]]) -> int | None:
    """Return the bytes that were available to the caching allocator; None if unknown."""
    capacity = capacity_of_probes(records)
    if capacity is None:
        return None
    return capacity - (outside_of_probes(records) if records[0].spec.memory_limit_bytes is None else 0)


def _censored(records: Sequence[TrialRecord[MemorySpec]]) -> list[CensoredPoint]:
    """Return lower bounds on the peaks of probes out of memory: the bytes available to the caching allocator.

    Empty on the CPU, where more than tensors counts against the limit.
    """
    room = _room(records)
    if not records or records[0].spec.device == "cpu" or room is None:
        return []
    return [
        CensoredPoint(padded_pixels=one.spec.micro_batch_size * pixels_per_example(one.spec), more_than_bytes=room)
        for one in records
        if one.status == "oom"
    ]
