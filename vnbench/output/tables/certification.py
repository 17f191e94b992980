"""What worst-case memory trials certify, as a table: peaks, what lies outside of the allocator, and which cards do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.models.certification import Certificate, certify
from vnbench.analysis.trials.memory_law import USABLE
from vnbench.output.words.lever_columns import add_lever_columns, lever_cells
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import MISSING, significant
from vnbench.output.words.provenance import CPU_LABEL, count, provenance
from vnbench.records.record import TrialRecord
from vnbench.units import format_bytes, format_percent, gib

HEADERS = (
    "passes before",
    "theirs\nGiB",
    "cold\nGiB",
    "peak\nGiB",
    "asked\nGiB",
    "reserved\nGiB",
    "outside\nGiB",
    "needs\nGiB",
    "re-\ntries",
)

SOAK_WORDS = {None: "none", "sampler-order": "in its order", "largest-first": "largest first"}

TRACED = "Traced: the step was not run, its operators were followed on tensors that hold nothing."

TEXT_COLUMNS = 100
"""Width of the lines under the table."""


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
    lines = [(*lever_cells(names, row.spec), *figures(row)) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    add_lever_columns(table, names)
    # A column of nothing but missing figures is what this device does not tell.
    shown = [
        index
        for index in range(len(names) + len(HEADERS))
        if index < len(names) or any(line[index] != MISSING for line in lines)
    ]
    for index in shown[len(names) :]:
        header = HEADERS[index - len(names)]
        table.add_column(header, justify="left" if header == HEADERS[0] else "right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for row, line in zip(rows, lines, strict=True):
        table.add_row(*(Text(line[index], overflow="fold") for index in shown), Text(verdict(row), overflow="fold"))
    traced = [TRACED] if any(spec.memory_by == "trace" for spec in specs) else []
    notes = [*explanations(is_cpu=origin.is_cpu), *traced, origin.line(count(len(rows), "worst-case memory trial"))]
    wrapped = [part for note in notes for part in textwrap.wrap(note, TEXT_COLUMNS)]
    return Group(Text(_heading(rows)), table, Text(), Text("\n".join(wrapped)))


def figures(row: Certificate) -> tuple[str, ...]:
    """Return the cells of a certificate under HEADERS."""
    reading = row.reading
    sizes = (
        (None,) * 6
        if reading is None
        else (
            reading.soak_peak_allocated_bytes,
            reading.cold_peak_allocated_bytes,
            reading.peak_allocated_bytes,
            reading.peak_requested_bytes,
            reading.peak_reserved_bytes,
            reading.outside_allocator_bytes,
        )
    )
    retries = None if reading is None else reading.num_alloc_retries
    # On the CPU it is the peak of tensors once more.
    need_bytes = row.need_bytes if row.spec.device == "cuda" else None
    return (
        SOAK_WORDS[row.spec.soak],
        *(MISSING if size is None else significant(gib(size)) for size in (*sizes, need_bytes)),
        MISSING if retries is None else str(retries),
    )


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
    how = "traced for" if row.spec.memory_by == "trace" else "ran in"
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


def explanations(*, is_cpu: bool) -> list[str]:
    """Return what the columns are."""
    theirs = (
        "Theirs: most bytes of tensors in the passes of mixed widths that a sampler begins an epoch with, which went "
        "before the worst case."
    )
    if is_cpu:
        return [
            f"{theirs} Peak: bytes of live tensors in the worst-case step. What is no tensor is not counted, oneDNN's "
            f"workspace above all, so that a share of the memory is no margin. {CPU_LABEL}."
        ]
    return [
        f"{theirs} Cold: in the first worst-case step. Peak: in a later one. Asked: before the allocator rounds up. "
        "Reserved: by the allocator. Outside: the context and libraries. Needs: both. A card that it fits has "
        f"{format_percent(1 - USABLE)} to spare, one that it is tight in has less: what was measured on this card is "
        "a forecast for others. With retries, times are not valid."
    ]
