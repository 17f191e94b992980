"""What the probes of one configuration say of its memory: a law of its peaks, and the micro-batch at which it ends."""

from __future__ import annotations

from collections.abc import Sequence

from vnbench.analysis.trials.memory_law import CensoredPoint, MemoryLaw, PeakPoint, fit_memory_law
from vnbench.analysis.trials.summary import peak_bytes
from vnbench.batching.alignment import align
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec

NUM_FOR_FORECAST = 3
"""Sizes whose peaks a forecast of the largest needs: two are a line through anything."""

NUM_FORECAST_PROBES = 3
"""Sizes tried on the word of forecasts; then a search goes on by doubling and bisection, whatever the law says."""


def pixels_per_example(spec: MemorySpec) -> int:
    """Return the padded pixels of an example of a memory spec."""
    return align(spec.worst_case_height) * align(spec.worst_case_width)


def capacity_of_probes(records: Sequence[TrialRecord[MemorySpec]]) -> int | None:
    """Return the memory that some probes had; None where none of them tells."""
    told = next((record.memory.capacity_bytes for record in records if record.memory), None)
    return told if told is not None or not records else records[0].spec.memory_limit_bytes


def outside_of_probes(records: Sequence[TrialRecord[MemorySpec]]) -> int:
    """Return the most bytes in use outside of the allocator; 0 where that is not known."""
    return max((one.memory.outside_allocator_bytes or 0 for one in records if one.memory), default=0)


def law_of_probes(
    records: Sequence[TrialRecord[MemorySpec]], *, smaller: Sequence[TrialRecord[MemorySpec]] = ()
) -> MemoryLaw | None:
    """Return the law of the peaks of probes that fitted, bounded by those that ran out of memory on a GPU.

    ``smaller`` are probes of smaller canvases. None below two sizes.
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
    """Return the micro-batch at which the law of the probes says that memory ends, or one next to it, to be tried next.

    ``largest`` fits, ``smallest_failing`` does not; between them lies what is not known. None where the law says
    nothing: on the CPU, whose memory holds more than tensors, and without enough sizes, or after enough forecasts. The
    law knows nothing of what the allocator gives back when memory runs short, so some more may fit than it says: what
    fits against it is followed by a leap of a fourth.
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
        # A law that what failed contradicts has nothing more to say.
        return max(forecast, largest + 1) if forecast < smallest_failing else None
    if forecast > largest:
        return forecast
    return largest + 1 if forecast == largest else largest + max(2, largest // 4)


def _room(records: Sequence[TrialRecord[MemorySpec]]) -> int | None:
    """Return what the caching allocator could have had of the memory that there was."""
    capacity = capacity_of_probes(records)
    if capacity is None:
        return None
    return capacity - (outside_of_probes(records) if records[0].spec.memory_limit_bytes is None else 0)


def _censored(records: Sequence[TrialRecord[MemorySpec]]) -> list[CensoredPoint]:
    """Return what the probes that ran out of memory exceed: what the caching allocator could have had.

    None on the CPU, where the memory of tensors is not all that counts against the limit.
    """
    room = _room(records)
    if not records or records[0].spec.device == "cpu" or room is None:
        return []
    return [
        CensoredPoint(padded_pixels=one.spec.micro_batch_size * pixels_per_example(one.spec), more_than_bytes=room)
        for one in records
        if one.status == "oom"
    ]
