"""Whether the worst case of a run fits: by trials on one as large, or else by the law of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vnbench.analysis.capacity import Asked
from vnbench.analysis.certification import Certificate, Verdict
from vnbench.analysis.fit import FamilyFit
from vnbench.analysis.memory_law import USABLE
from vnbench.data.alignment import align
from vnbench.spec import TrialSpec


def worst_case_memory(
    asked: Asked, family: FamilyFit, certificates: Sequence[Certificate]
) -> tuple[float | None, Verdict]:
    """Return the worst-case memory of a family and whether it fits: by its own trials, or else by the law.

    A trial on a smaller worst case than that of the run says nothing of it.
    """
    own = [
        one
        for one in certificates
        if one.spec.family == family.family and _covers(one.spec, asked.worst_case, has_failed=one.status != "ok")
    ]
    capacities = [one.capacity_bytes for one in certificates if one.capacity_bytes is not None]
    memory_bytes = asked.memory_bytes or max(capacities, default=None)
    if own:
        verdicts = [one.verdict(memory_bytes if memory_bytes is not None else math.inf) for one in own]
        needs = [one.need_bytes for one in own if one.need_bytes is not None]
        order: Sequence[Verdict] = ("does not fit", "unknown", "tight", "fits")
        return max(needs, default=None), next(one for one in order if one in verdicts)
    if family.memory is None or memory_bytes is None:
        return None, "unknown"
    height, width = asked.worst_case
    outside = [one.reading.outside_allocator_bytes or 0 for one in certificates if one.reading is not None]
    # The law is of what tensors hold; the context and libraries come on top.
    need = family.memory.peak_bytes(family.spec.micro_batch_size * height * width) + max(outside, default=0)
    if need > memory_bytes:
        return need, "does not fit"
    return need, "fits" if need <= USABLE * memory_bytes else "tight"


def _covers(spec: TrialSpec, worst_case: tuple[int, int], *, has_failed: bool) -> bool:
    """Return whether a memory trial tells of a worst case: on one as large, or where a smaller one failed already."""
    assert spec.worst_case_height is not None
    assert spec.worst_case_width is not None
    return has_failed or (
        align(spec.worst_case_height) >= worst_case[0] and align(spec.worst_case_width) >= worst_case[1]
    )
