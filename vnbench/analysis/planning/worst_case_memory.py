"""Decide whether the worst case of a run fits into memory, from trials on it or else from the memory law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.analysis.models.certification import Certificate, Verdict
from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.forecast_fit import ForecastFit
from vnbench.analysis.trials.memory_law import USABLE
from vnbench.batching.alignment import align
from vnbench.records.spec.trial_spec import MemorySpec


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstCaseMemory:
    """The worst-case memory of a family."""

    need_bytes: float | None
    """Bytes that it needs; None if unknown."""
    own: tuple[Certificate, ...]
    """Trials that cover the worst case; if there are none, the memory law decides."""
    capacity_bytes: float | None
    """Memory of the measured device, or of the card of a forecast; None if unknown."""
    least_bytes: float | None = None
    """Lower end of a forecast, whose upper end is then need_bytes; None if it was measured."""
    on_card: Verdict | None = None
    """Verdict on the card of a forecast, where a replay knows what the allocator can give back."""

    def verdict(self, memory_bytes: float | None) -> Verdict:
        """Return whether it fits into ``memory_bytes``; None stands for the memory of the measured device."""
        if self.on_card is not None and memory_bytes is None:
            return self.on_card
        limit = memory_bytes or self.capacity_bytes
        if self.own:
            verdicts = [one.verdict(math.inf if limit is None else limit) for one in self.own]
            order: Sequence[Verdict] = ("does not fit", "unknown", "tight", "fits")
            return next(one for one in order if one in verdicts)
        if self.need_bytes is None or limit is None:
            return "unknown"
        if (self.need_bytes if self.least_bytes is None else self.least_bytes) > limit:
            return "does not fit"
        return "fits" if self.need_bytes <= USABLE * limit else "tight"


def worst_case_memory(
    family: FamilyFit, *, worst_case: tuple[int, int], certificates: Sequence[Certificate]
) -> WorstCaseMemory:
    """Return the worst-case memory of a family, from its own trials or else from the memory law.

    ``worst_case`` is the largest aligned height and width in pixels. A successful trial on a smaller worst case does
    not count.
    """
    if family.forecast is not None:
        return _forecast(family.forecast, worst_case)
    own = tuple(
        one
        for one in certificates
        if one.spec.family == family.family and _covers(one.spec, worst_case, has_failed=one.status != "ok")
    )
    capacities = [one.capacity_bytes for one in certificates if one.capacity_bytes is not None]
    need_bytes: float | None = None
    if own:
        need_bytes = max((one.need_bytes for one in own if one.need_bytes is not None), default=None)
    elif family.memory is not None:
        height, width = worst_case
        outside = [one.reading.outside_allocator_bytes or 0 for one in certificates if one.reading is not None]
        # The law covers only the allocator's memory; the context and libraries need more.
        need_bytes = family.memory.peak_bytes(family.spec.micro_batch_size * height * width) + max(outside, default=0)
    return WorstCaseMemory(need_bytes=need_bytes, own=own, capacity_bytes=max(capacities, default=None))


def _forecast(family: ForecastFit, worst_case: tuple[int, int]) -> WorstCaseMemory:
    card = family.card
    is_covered = all(has >= asked for has, asked in zip(family.worst_case, worst_case, strict=True))
    return WorstCaseMemory(
        need_bytes=card.device_bytes.high if is_covered else None,
        own=(),
        capacity_bytes=card.card_bytes,
        least_bytes=card.device_bytes.low if is_covered else None,
        on_card=card.verdict if is_covered else None,
    )


def _covers(spec: MemorySpec, worst_case: tuple[int, int], *, has_failed: bool) -> bool:
    """Return whether a memory trial covers a worst case: its own is at least as large, or it failed."""
    return has_failed or (
        align(spec.worst_case_height) >= worst_case[0] and align(spec.worst_case_width) >= worst_case[1]
    )
