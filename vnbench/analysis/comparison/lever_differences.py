"""Find the levers in which specs differ, and the spec that another was varied from."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from vnbench.records.spec.axes import COMPUTING_LEVERS, LOADER_FIELDS
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import TrialSpec

LEVER_FIELDS = (
    "model",
    "model_id",
    "task",
    "classes",
    "memory_limit_bytes",
    "batch_size",
    "micro_batch_size",
    *COMPUTING_LEVERS,
    "num_workers",
    *LOADER_FIELDS,
    "shapes",
    "shape_visits",
    "sampler",
)
"""Fields that say what is measured; other fields say how, or follow from these."""

_VALUES = attrgetter(*LEVER_FIELDS)


def differing_levers(one: TrialSpec, other: TrialSpec) -> tuple[str, ...]:
    """Return the levers in which two specs differ, in the order of LEVER_FIELDS.

    Two differences do not count. A micro-batch that equals the batch on both sides follows the batch. A norm precision
    follows the precision unless both precisions are reduced: otherwise both settings of the norm compute in fp32.
    """
    pairs = zip(LEVER_FIELDS, _VALUES(one), _VALUES(other), strict=True)
    names = [name for name, here, there in pairs if here != there]
    if "micro_batch_size" in names and one.accumulation_steps == other.accumulation_steps == 1:
        names.remove("micro_batch_size")
    is_reduced = all(spec.precision in REDUCED_PRECISIONS for spec in (one, other))
    if {"precision", "norm_precision"} <= set(names) and not is_reduced:
        names.remove("norm_precision")
    return tuple(names)


def is_comparable(one: TrialSpec, other: TrialSpec) -> bool:
    """Return whether two specs use the same examples; fields that both kinds of trial lack count as equal."""
    return all(getattr(one, name, None) == getattr(other, name, None) for name in ("corpus_id", "subset_size", "seed"))


def centre_among(specs: Sequence[TrialSpec], *, num_processes: Sequence[int]) -> TrialSpec | None:
    """Return the spec that a sweep was probably varied from; None without specs.

    It is the spec with the most processes, because a sweep repeats its reference trial. Among several, it is the spec
    from which most others differ in one lever, then the first.
    """
    if not specs:
        return None
    most = max(num_processes)
    often = [spec for spec, count in zip(specs, num_processes, strict=True) if count == most]

    def num_neighbours(spec: TrialSpec) -> int:
        return sum(is_comparable(spec, other) and len(differing_levers(spec, other)) == 1 for other in specs)

    return max(often, key=num_neighbours)


def varied_from(spec: TrialSpec, specs: Sequence[TrialSpec], *, centre: TrialSpec) -> TrialSpec | None:
    """Return the spec nearer to the centre from which ``spec`` differs in a single lever; None without one.

    It need not be the centre: samplers differ only if a pass holds several examples, so around a batch of 1 they are
    varied at batch 2.
    """
    distance = len(differing_levers(spec, centre))
    bases = [
        (names, other)
        for other in specs
        if is_comparable(spec, other)
        and len(names := differing_levers(spec, other)) == 1
        and len(differing_levers(other, centre)) < distance
    ]
    return max(bases, key=lambda base: LEVER_FIELDS.index(base[0][0]), default=((), None))[1]
