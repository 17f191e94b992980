"""What worst-case memory trials certify, as a table: peaks, what lies outside of the allocator, and which cards do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.models.certification import Certificate, certify
from vnbench.analysis.trials.memory_law import USABLE
from vnbench.output.fitted_table import FittedTable, paragraphs
from vnbench.output.tables.lever_columns import lever_columns
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import significant, times
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.records.record import TrialRecord
from vnbench.units import BYTES_PER_UNIT, count, format_bytes, format_percent, memory_unit

SOAK_WORDS = {None: "none", "sampler-order": "in its order", "largest-first": "largest first"}

THEIRS = "theirs"

TRACED = "Traced: the step was not run, its operators were followed on tensors that hold nothing."


def certification_table(records: Sequence[TrialRecord]) -> RenderableType | None:
    """Return the table of all worst-case memory trials; None without any.

    Raises:
        InputError: the records come from more than one device.
    """
    rows = certify(records)
    if not rows:
        return None
    origin = provenance(records)
    specs = [row.spec for row in rows]
    names = [name for name in varying(specs) if name != "batch_size"]
    names += [] if "micro_batch_size" in names or not _differ_in_batch(rows) else ["micro_batch_size"]
    # A column of which nothing is known is what this device does not tell.
    view = View(rows, (*lever_columns(names, lambda row: row.spec), *certificate_columns(rows))).told()
    traced = [TRACED] if any(spec.is_traced for spec in specs) else []
    is_after_others = any(column.heading == THEIRS for column in view.columns)
    explained = explanations(is_cpu=origin.is_cpu, is_after_others=is_after_others)
    notes = [*explained, *traced, origin.line(count(len(rows), "worst-case memory trial"))]
    return Group(Text(_heading(rows)), FittedTable(view=view, elsewhere="vnbench export"), Text(), paragraphs(notes))


def verdict(row: Certificate) -> str:
    """Return what a certificate says of common cards (CUDA), or of this machine (CPU)."""
    if row.status not in ("ok", "oom"):
        return f"{row.status}: {row.cause.kind if row.cause else 'no reason given'}"
    if row.spec.device == "cpu":
        return _on_this_machine(row)
    cards = row.cards
    fits = [size for size, one in cards.items() if one == "fits"]
    parts = [f"fits {min(fits)} GiB{' and more' if min(fits) < max(cards) else ''}"] if fits else []
    parts += [f"tight in {size} GiB" for size, one in cards.items() if one == "tight"]
    not_fitting = [size for size, one in cards.items() if one == "does not fit"]
    parts += [f"does not fit {max(not_fitting)} GiB"] if not_fitting else []
    return ", ".join(parts) or f"out of memory at {_capacity(row)}"


def _on_this_machine(row: Certificate) -> str:
    if row.status == "oom":
        return f"does not fit {_capacity(row)}"
    how = "traced for" if row.spec.is_traced else "ran in"
    if row.need_bytes is None or row.capacity_bytes is None:
        return f"{how} {_capacity(row)}"
    return f"{how} {_capacity(row)}, tensors {format_percent(row.need_bytes / row.capacity_bytes)} of it"


def _capacity(row: Certificate) -> str:
    return "unknown memory" if row.capacity_bytes is None else format_bytes(row.capacity_bytes)


def _differ_in_batch(rows: Sequence[Certificate]) -> bool:
    return len({row.spec.micro_batch_size for row in rows}) > 1


def _heading(rows: Sequence[Certificate]) -> str:
    specs = [row.spec for row in rows]
    size = f"{specs[0].worst_case_height} x {specs[0].worst_case_width:,} px"
    left_out = (*varying(specs), "sampler", "shapes", "num_workers", "corpus_id", "batch_size", "micro_batch_size")
    shared = [name for name in worth_naming(specs) if name not in left_out]
    batch = "" if _differ_in_batch(rows) else f", micro-batch {specs[0].micro_batch_size}"
    return f"Memory of one training step at the worst case of {size}{batch}: {describe(specs[0], names=shared)}."


def explanations(*, is_cpu: bool, is_after_others: bool = True) -> list[str]:
    """Return what the columns are; that of the passes before only if a worst case came after others."""
    theirs = (
        "Theirs: most bytes of tensors in the passes of mixed widths that a sampler begins an epoch with, which went "
        "before the worst case. "
        if is_after_others
        else ""
    )
    if is_cpu:
        return [
            f"{theirs}Peak: bytes of live tensors in the worst-case step. What is no tensor is not counted, oneDNN's "
            f"workspace above all, so that a share of the memory is no margin. {CPU_LABEL}."
        ]
    return [
        f"{theirs}Cold: in the first worst-case step. Peak: in a later one. Asked: before the allocator rounds up. "
        "Reserved: by the allocator. Outside: the context and libraries. Needs: both. A card that it fits has "
        f"{format_percent(1 - USABLE)} to spare, one that it is tight in has less: what was measured on this card is "
        "a forecast for others. With retries, times are not valid."
    ]


def _read(heading: str, name: str, *, unit: str, gives_way: int) -> Column[Certificate]:
    def value(row: Certificate) -> float | None:
        return times(getattr(row.reading, name, None), 1 / BYTES_PER_UNIT[unit])

    return Column(heading, value, unit=unit, text=significant, gives_way=gives_way)


def _need(row: Certificate) -> float | None:
    # On the CPU it is the peak of tensors once more.
    return None if row.spec.device == "cpu" else row.need_bytes


def certificate_columns(rows: Sequence[Certificate]) -> tuple[Column[Certificate], ...]:
    """Return what is told of certificates, in a unit that suits the largest."""
    peaks = [row.reading.peak_allocated_bytes or 0 for row in rows if row.reading is not None]
    unit = memory_unit(max(peaks, default=BYTES_PER_UNIT["GiB"]))
    read = partial(_read, unit=unit)
    return (
        Column("passes before", lambda row: SOAK_WORDS[row.spec.soak], align="left"),
        read(THEIRS, "soak_peak_allocated_bytes", gives_way=6),
        read("cold", "cold_peak_allocated_bytes", gives_way=4),
        read("peak", "peak_allocated_bytes", gives_way=1),
        read("asked", "peak_requested_bytes", gives_way=5),
        read("reserved", "peak_reserved_bytes", gives_way=2),
        read("outside", "outside_allocator_bytes", gives_way=3),
        Column("needs", lambda row: times(_need(row), 1 / BYTES_PER_UNIT[unit]), unit=unit, text=significant),
        Column("retries", lambda row: None if row.reading is None else row.reading.num_alloc_retries, gives_way=7),
        Column("verdict", verdict, align="left", is_folded=True),
    )
