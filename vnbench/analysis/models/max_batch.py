"""The search for the largest micro-batch that fits: doubling, then bisection, then both neighbours once more.

On a GPU a forecast from the first three sizes takes the place of most of the doubling. What to try next follows from
the records so far alone, so a search that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vnbench.analysis.models.mean_size import MeanSizePlan, plan_by_mean_size
from vnbench.analysis.models.probe_law import (
    capacity_of_probes,
    forecast_probe,
    law_of_probes,
    outside_of_probes,
    pixels_per_example,
)
from vnbench.analysis.trials.memory_law import USABLE, MemoryLaw
from vnbench.analysis.trials.summary import peak_bytes
from vnbench.batching.alignment import align
from vnbench.batching.sizes import SizeArray
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.spec.words import ALIGNMENT, SamplerName

NUM_SMALLER = 2
"""Smaller canvases that tell what the worst case would need: two points of a line."""

NUM_CONFIRMATIONS = 2
"""Processes in which the largest micro-batch must fit, and the next one must not."""

MAX_CONFIRMATIONS = 4
"""Processes after which a micro-batch that now fits and now does not is left at that: unsteady, and not confirmed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A micro-batch to try, in a process of its own."""

    micro_batch_size: int
    """Examples of the worst-case micro-batch."""
    replicate: int
    """Which process of this micro-batch, from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxBatch:
    """What a search found."""

    largest: int
    """Largest micro-batch that fitted in every process that tried it; 0 where none did."""
    blocker: TrialRecord[MemorySpec] | None
    """How the smallest that did not fit ended; None where all that were tried did."""
    is_exact: bool
    """Whether the blocker's micro-batch is the next one."""
    is_confirmed: bool
    """Whether both were seen in NUM_CONFIRMATIONS processes."""
    num_probes: int
    """Trials that the search took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxBatchSummary:
    """The largest micro-batch of one configuration, and what its probes say of its memory."""

    spec: MemorySpec
    """The memory spec of one example."""
    found: MaxBatch
    """What the search found."""
    peak_bytes: int | None
    """Largest peak of the largest micro-batch; None where none fitted."""
    capacity_bytes: int | None
    """Memory that there was."""
    law: MemoryLaw | None
    """Fitted to the probes that fitted; None below two sizes."""
    outside_bytes: int
    """Most bytes in use outside of the allocator, the context above all; 0 where that is not known (CPU)."""
    ran_out_ratio: float | None
    """What the law gives to the smallest micro-batch that ran out of memory, over the memory that there was: the part
    that the peaks can fill; None without such a law or failure."""
    need_bytes: float | None
    """Memory that one example needs by the law of smaller canvases; None unless not even one fits."""
    by_mean_size: MeanSizePlan | None
    """What planning by the mean size would have allowed; None where the search found no next one that does not fit."""

    @property
    def pixels_per_example(self) -> int:
        """Padded pixels of a worst-case example."""
        return pixels_per_example(self.spec)

    def on_card(self, card_bytes: float, *, share: float = USABLE) -> int | None:
        """Return the largest micro-batch that the law puts into a share of a card, the context beside it.

        None without a law that bounds it.
        """
        if self.law is None or self.law.bytes_per_pixel <= 0:
            return None
        room = share * card_bytes - self.outside_bytes
        return self.law.largest_micro_batch(memory_bytes=room, pixels_per_example=self.pixels_per_example)


def next_smaller(base: MemorySpec, smaller: Sequence[TrialRecord[MemorySpec]]) -> MemorySpec | None:
    """Return a spec of one example on a smaller canvas to try, where not even one of the worst case fits.

    Widths are halved until NUM_SMALLER canvases fit, from which the need of the worst case is forecast; None when they
    do, or at the end of halving.
    """
    if sum(record.status == "ok" for record in smaller) >= NUM_SMALLER:
        return None
    tried = {record.spec.worst_case_width for record in smaller}
    width = align(base.worst_case_width // 2)
    while width in tried and width >= 2 * ALIGNMENT:
        width = align(width // 2)
    return replace(base, worst_case_width=width) if width >= 2 * ALIGNMENT else None


def summarize_search(
    base: MemorySpec,
    records: Sequence[TrialRecord[MemorySpec]],
    *,
    train_sizes_N2: SizeArray,
    sampler: SamplerName,
    smaller: Sequence[TrialRecord[MemorySpec]] = (),
) -> MaxBatchSummary:
    """Return what the probes of one configuration say.

    ``train_sizes_N2`` are the sizes that a training would plan with, ``smaller`` the probes of smaller canvases.
    """
    found = result(records)
    peaks = [(record, peak) for record in records if (peak := peak_bytes(record.memory)) is not None]
    bare = MaxBatchSummary(
        spec=base,
        found=found,
        peak_bytes=max((p for record, p in peaks if record.spec.micro_batch_size == found.largest), default=None),
        capacity_bytes=capacity_of_probes(records),
        law=None,
        outside_bytes=outside_of_probes(records),
        ran_out_ratio=None,
        need_bytes=None,
        by_mean_size=None,
    )
    law = law_of_probes(records, smaller=smaller)
    need_bytes = law.peak_bytes(bare.pixels_per_example) if law is not None and found.largest == 0 else None
    by_mean = None
    if found.is_exact:
        by_mean = plan_by_mean_size(
            train_sizes_N2,
            too_many_pixels=(found.largest + 1) * bare.pixels_per_example,
            sampler=sampler,
            seed=base.seed,
        )
    ran_out_ratio = None
    if law is not None and bare.capacity_bytes and found.blocker is not None and found.blocker.status == "oom":
        failing_pixels = found.blocker.spec.micro_batch_size * bare.pixels_per_example
        ran_out_ratio = law.peak_bytes(failing_pixels) / bare.capacity_bytes
    return replace(bare, law=law, ran_out_ratio=ran_out_ratio, need_bytes=need_bytes, by_mean_size=by_mean)


def next_probe(records: Sequence[TrialRecord[MemorySpec]], *, most: int) -> Probe | None:
    """Return what to try next, given the memory trials of one configuration so far; None where all is known.

    On a GPU the law of the first sizes says where to look (forecast_probe). No micro-batch above ``most`` is tried. A
    micro-batch fits if each of its trials ended ``ok``, and what is larger than one that does not fit is not tried:
    memory grows with the micro-batch.
    """
    found = result(records)
    tried = _counts(records)
    guess = None
    if not found.is_exact:
        guess = forecast_probe(
            records,
            largest=found.largest,
            smallest_failing=found.blocker.spec.micro_batch_size if found.blocker else None,
        )
    if found.blocker is None:
        if found.largest >= most:
            return _confirmation(records, [found.largest])
        return Probe(micro_batch_size=min(guess or max(1, 2 * found.largest), most), replicate=0)
    smallest_failing = found.blocker.spec.micro_batch_size
    if guess is not None:
        return Probe(micro_batch_size=guess, replicate=0)
    if not found.is_exact:
        middle = (found.largest + smallest_failing) // 2
        return Probe(micro_batch_size=middle, replicate=tried.get(middle, 0))
    return _confirmation(records, [size for size in (found.largest, smallest_failing) if size > 0])


def result(records: Sequence[TrialRecord[MemorySpec]]) -> MaxBatch:
    """Return what the memory trials of one configuration say about its largest micro-batch."""
    failing = [record for record in records if record.status != "ok"]
    blocker = min(failing, key=lambda record: record.spec.micro_batch_size, default=None)
    fitting = {
        record.spec.micro_batch_size
        for record in records
        if blocker is None or record.spec.micro_batch_size < blocker.spec.micro_batch_size
    }
    largest = max(fitting, default=0)
    is_exact = blocker is not None and blocker.spec.micro_batch_size == largest + 1
    sizes = [size for size in (largest, blocker.spec.micro_batch_size if blocker else 0) if size > 0]
    return MaxBatch(
        largest=largest,
        blocker=blocker,
        is_exact=is_exact,
        is_confirmed=(is_exact or blocker is None) and all(_is_confirmed(records, size) for size in sizes),
        num_probes=len(records),
    )


def probes_left(records: Sequence[TrialRecord[MemorySpec]], *, most: int) -> int:
    """Return about how many trials the search still needs, if the next doubling fails."""
    found = result(records)
    above = found.blocker.spec.micro_batch_size if found.blocker else min(2 * max(found.largest, 1), most)
    bisections = max(above - found.largest - 1, 0).bit_length()
    confirmations = 0 if found.is_confirmed else NUM_CONFIRMATIONS
    return bisections + confirmations + (found.blocker is None and found.largest < most)


def _confirmation(records: Sequence[TrialRecord[MemorySpec]], sizes: Sequence[int]) -> Probe | None:
    tried = _counts(records)
    for size in sizes:
        if not _is_confirmed(records, size) and tried[size] < MAX_CONFIRMATIONS:
            return Probe(micro_batch_size=size, replicate=tried[size])
    return None


def _is_confirmed(records: Sequence[TrialRecord[MemorySpec]], size: int) -> bool:
    """Return whether a micro-batch was ok in NUM_CONFIRMATIONS processes and all others, or failed in so many."""
    statuses = [record.status for record in records if record.spec.micro_batch_size == size]
    num_failed = sum(status != "ok" for status in statuses)
    return len(statuses) >= NUM_CONFIRMATIONS if num_failed == 0 else num_failed >= NUM_CONFIRMATIONS


def _counts(records: Sequence[TrialRecord[MemorySpec]]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for record in records:
        counts[record.spec.micro_batch_size] = counts.get(record.spec.micro_batch_size, 0) + 1
    return counts
