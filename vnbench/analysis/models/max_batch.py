"""Search for the largest micro-batch that fits: double, then bisect, then confirm both neighbours.

On a GPU, a forecast from the first three sizes replaces most of the doubling. The next trial depends only on the
records so far, so an interrupted search continues where it stopped.
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
"""Number of smaller canvases from which the need of the worst case is forecast: two points of a line."""

NUM_CONFIRMATIONS = 2
"""Number of processes in which the largest micro-batch must fit, and the next larger one must not."""

MAX_CONFIRMATIONS = 4
"""Most processes for a micro-batch that sometimes fits; after these it stays unconfirmed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A micro-batch to try, in a separate process."""

    micro_batch_size: int
    """Examples of the worst-case micro-batch."""
    replicate: int
    """Number of the process with this micro-batch, from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxBatch:
    """The result of a search."""

    largest: int
    """Largest micro-batch that fitted in every process that tried it; 0 if none did."""
    blocker: TrialRecord[MemorySpec] | None
    """Record of the smallest micro-batch that did not fit; None if all fitted."""
    is_exact: bool
    """Whether the blocker's micro-batch is the next larger one."""
    is_confirmed: bool
    """Whether both were seen in NUM_CONFIRMATIONS processes."""
    num_probes: int
    """Number of trials in the search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxBatchSummary:
    """The largest micro-batch of one configuration, and its memory by the probes of the search."""

    spec: MemorySpec
    """The memory spec of one example."""
    found: MaxBatch
    """Result of the search."""
    peak_bytes: int | None
    """Largest peak of the largest micro-batch; None if none fitted."""
    capacity_bytes: int | None
    """Memory that was available; None if unknown."""
    law: MemoryLaw | None
    """Memory law of the probes; None below two sizes."""
    outside_bytes: int
    """Most bytes in use outside the allocator, mainly the CUDA context; 0 if unknown (CPU)."""
    ran_out_ratio: float | None
    """Peak, by the law, of the smallest micro-batch that ran out of memory over the memory that was available: the
    share that peaks can fill; None without a law or such a failure."""
    need_bytes: float | None
    """Memory that one example needs, by the law; only if not even one example fits, else None."""
    by_mean_size: MeanSizePlan | None
    """The micro-batch that the mean size would allow; None if the search did not find the exact limit."""

    @property
    def pixels_per_example(self) -> int:
        """The padded pixels of a worst-case example."""
        return pixels_per_example(self.spec)

    @property
    def most_by_law(self) -> int | None:
        """The largest micro-batch whose peak stays within the memory of the search, by the law; None if unknown."""
        if self.capacity_bytes is None:
            return None
        # Under a limit, the context does not count (probe_law).
        is_limited = self.spec.memory_limit_bytes is not None
        return self.on_card(self.capacity_bytes + (self.outside_bytes if is_limited else 0), share=1.0)

    def on_card(self, card_bytes: float, *, share: float = USABLE) -> int | None:
        """Return the largest micro-batch that fits a share of a card's memory beside the context, by the law.

        None without a law that limits it.
        """
        if self.law is None or self.law.bytes_per_pixel <= 0:
            return None
        room = share * card_bytes - self.outside_bytes
        return self.law.largest_micro_batch(memory_bytes=room, pixels_per_example=self.pixels_per_example)


def next_smaller(base: MemorySpec, smaller: Sequence[TrialRecord[MemorySpec]]) -> MemorySpec | None:
    """Return a spec of one example on a smaller canvas to try, for when not even one worst-case example fits.

    The width is halved until NUM_SMALLER canvases fit, from which the need of the worst case is forecast. None when
    they do, or when the width cannot be halved further.
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
    """Return the summary of the probes of one configuration.

    ``train_sizes_N2`` holds the sizes of the training examples, ``smaller`` the probes on smaller canvases.
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
    """Return the next probe, given the memory trials of one configuration so far; None if the search is finished.

    On a GPU, the law of the first sizes gives the next size (forecast_probe). No micro-batch above ``most`` is tried. A
    micro-batch fits if all its trials ended ``ok``. Sizes above one that does not fit are not tried, because memory
    grows with the micro-batch.
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
    """Return the largest micro-batch that the memory trials of one configuration show."""
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
    """Return the approximate number of trials that the search still needs if the next doubling fails."""
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
    """Return whether NUM_CONFIRMATIONS processes failed with a micro-batch, or as many ran and none failed."""
    statuses = [record.status for record in records if record.spec.micro_batch_size == size]
    num_failed = sum(status != "ok" for status in statuses)
    return len(statuses) >= NUM_CONFIRMATIONS if num_failed == 0 else num_failed >= NUM_CONFIRMATIONS


def _counts(records: Sequence[TrialRecord[MemorySpec]]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for record in records:
        counts[record.spec.micro_batch_size] = counts.get(record.spec.micro_batch_size, 0) + 1
    return counts
