"""The fitted wall-clock models as a table: what a step costs, how far that is off, where counting steps fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.models.composition import Composition
from vnbench.analysis.models.fit import FamilyFit, why_unfitted
from vnbench.analysis.models.linearity import Linearity, StepCounting, count_steps, linearity_of
from vnbench.analysis.models.step_fit import ASSUMED_BETWEEN, CONFIDENCE, StepFit
from vnbench.output.fitted_table import FittedTable
from vnbench.output.tables.lever_columns import lever_columns
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import MISSING, format_estimate, roughly, significant
from vnbench.output.words.provenance import CPU_LABEL, Provenance
from vnbench.units import BYTES_PER_UNIT, PIXELS_PER_MPX, count, format_percent, mpx

NOT_OF_A_FAMILY = ("batch_size", "sampler", "shapes", "num_workers", "corpus_id")
"""Levers that trials of one family may differ in."""

CAUSE_WORDS = {
    "overhead": "a fixed cost per step",
    "kernel-efficiency": "kernels that do more or less per second on larger maps",
    "quadratic-term": "a term that grows with the square of the pixels, as attention's",
    "none": "nothing of note",
}


def fit_table(
    families: Sequence[FamilyFit],
    *,
    left_out: Mapping[str, str],
    compositions: Sequence[Composition],
    origin: Provenance,
) -> RenderableType:
    """Return the table of all fits with what they mean below it."""
    specs = [family.spec for family in families]
    names = [name for name in varying(specs) if name not in NOT_OF_A_FAMILY]
    if "micro_batch_size" not in names and len({spec.micro_batch_size for spec in specs}) > 1:
        names.insert(0, "micro_batch_size")
    view = View(families, (*lever_columns(names, lambda family: family.spec), *FIT))
    notes = list(_notes(families, left_out=left_out, compositions=compositions))
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}.")
    notes.append(origin.line(count(len(families), "configuration")))
    shared = [name for name in worth_naming(specs) if name not in (*varying(specs), *NOT_OF_A_FAMILY)]
    heading = f"Step time by padded pixels: {describe(specs[0], names=[n for n in shared if n != 'micro_batch_size'])}."
    return Group(Text(heading), FittedTable(view=view), Text(), *map(Text, notes))


def _mib(num_bytes: float) -> float:
    return round(num_bytes / BYTES_PER_UNIT["MiB"], 3)


def _errors(fit: StepFit) -> str:
    if fit.loo_error_median is None or fit.loo_error_max is None:
        return MISSING
    return f"{significant(100 * fit.loo_error_median, digits=2)} ({significant(100 * fit.loo_error_max, digits=2)})"


FIT: tuple[Column[FamilyFit], ...] = (
    Column("sizes", lambda family: family.fit.num_sizes, gives_way=6),
    Column("n", lambda family: family.fit.num_processes, gives_way=5),
    Column("overhead\nms", lambda family: 1e3 * family.fit.model.overhead_s, text=roughly),
    Column("ms per\nMpx", lambda family: 1e3 * family.fit.model.s_per_pixel * PIXELS_PER_MPX, text=significant),
    Column("off by %\n(worst)", lambda family: _errors(family.fit)),
    Column("steps alone\n% (worst)", lambda family: _errors(family.step_count), gives_way=4),
    Column(
        "fixed", lambda family: family.memory and _mib(family.memory.bytes_fixed), unit="MiB", text=roughly, gives_way=2
    ),
    Column(
        "bytes\nper px", lambda family: family.memory and family.memory.bytes_per_pixel, text=significant, gives_way=2
    ),
    Column("curve", lambda family: family.fit.model.form, align="left", gives_way=3),
)
"""What is told of a fit."""


def _notes(
    families: Sequence[FamilyFit], *, left_out: Mapping[str, str], compositions: Sequence[Composition]
) -> Iterator[str]:
    yield (
        "n: processes. off by: the error at a size that the curve was not fitted to, median and worst. steps alone: "
        "the same if every step cost the same."
    )
    unmeasured = [family for family in families if not family.fit.is_between_measured]
    if unmeasured:
        yield (
            f"Run-to-run differences were not measured: intervals assume {format_percent(ASSUMED_BETWEEN)} "
            "(--replicates 3 or --reference-runs 3 measures them)."
        )
    num_lines = sum(family.memory is not None and family.memory.loo_error_max is None for family in families)
    if num_lines:
        yield (
            f"fixed, bytes per px: a line through two sizes in {count(num_lines, 'configuration')}, which has no error "
            "of its own."
        )
    for family in families:
        line = linearity_line(linearity_of(family))
        if line is not None:
            yield f"not linear: {named(family, families)}: {line}"
    for one in count_steps(families):
        yield f"if every step cost the same: {counting_line(one, families)}"
    for composition in compositions:
        yield f"composed: {composition_line(composition)}"
    for line in why_unfitted(left_out):
        yield f"not fitted: {line}"


def named(family: FamilyFit, families: Sequence[FamilyFit]) -> str:
    """Return what tells a family from the others."""
    names = [name for name in varying(other.spec for other in families) if name not in NOT_OF_A_FAMILY]
    words = describe(family.spec, names=[name for name in names if name != "micro_batch_size"])
    return ", ".join(filter(None, (f"micro-batch {family.spec.micro_batch_size}", words)))


def linearity_line(linearity: Linearity) -> str | None:
    """Return how a step time bends and why, in a sentence; None where it does not."""
    if linearity.cause == "none":
        return None
    rate = f"the largest canvas computes {linearity.rate_ratio:.2f} times the padded pixels per second of the smallest"
    flops = "" if linearity.flop_ratio is None else f", and {linearity.flop_ratio:.2f} times the operations"
    share = (
        f"the fixed part is {format_percent(linearity.overhead_ratio_smallest)} of a step on the smallest and "
        f"{format_percent(linearity.overhead_ratio_largest)} on the largest"
    )
    slope = "" if abs(linearity.slope_ratio - 1) < 0.005 else f", at {linearity.slope_ratio:.2f} times the slope"
    return f"{rate}{flops}{slope}; {share}: {CAUSE_WORDS[linearity.cause]}"


def counting_line(one: StepCounting, families: Sequence[FamilyFit]) -> str:
    """Return what counting steps says over micro-batches, in a sentence."""
    parts = [
        f"{family.spec.micro_batch_size}: {significant(counted)} s an example, measured {significant(measured)}"
        for family, measured, counted in zip(one.families, one.times_per_example_s, one.counted_s, strict=True)
    ]
    worst = max(one.errors, key=abs)
    names = [name for name in varying(other.spec for other in families) if name not in NOT_OF_A_FAMILY]
    words = describe(one.families[0].spec, names=[name for name in names if name != "micro_batch_size"])
    where = f"{words}, " if words else ""
    return (
        f"{where}at {mpx(one.pixels_per_example):.3g} padded Mpx an example, by micro-batch {'; '.join(parts)}: off by "
        f"up to {format_percent(abs(worst))}"
    )


def composition_line(one: Composition) -> str:
    """Return a composed epoch beside the measured one, in a sentence."""
    names = ("batch_size", "micro_batch_size", "precision", "norm_precision", "checkpointing", "sampler", "num_workers")
    forecast = format_estimate(one.expected.total_s, one.computing.margin(CONFIDENCE))
    loading = "no loader trial" if one.loading_s is None else f"loading {significant(one.loading_s)} s"
    computing = f"computing {significant(one.computing.value)} s"
    return (
        f"{describe(one.spec, names=names)}: {forecast} s forecast ({computing}, {loading}), "
        f"{significant(one.measured_s)} s measured, off by {100 * one.error:+.1f} %"
        f"{' (extrapolated: sizes outside of those timed)' if one.is_extrapolated else ''}"
    )
