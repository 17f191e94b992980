"""The largest micro-batch of each configuration as a table, with the law of its memory and other cards beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.models.max_batch import MaxBatchSummary
from vnbench.analysis.trials.memory_law import CARD_SIZES_GIB, USABLE
from vnbench.output.words.lever_columns import add_lever_columns, lever_cells
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import MISSING, significant
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.units import BYTES_PER_UNIT, format_bytes, format_percent, gib

HEADERS = (
    "largest\nmicro-\nbatch",
    "by mean\nsize",
    "then\nfail %",
    "peak\nGiB",
    "fixed\nGiB",
    "GiB per\nexample",
    "law off\nby %",
    "ran out\nat %",
)

NOT_OF_MEMORY = ("batch_size", "micro_batch_size", "sampler", "shapes", "num_workers", "corpus_id")
"""Levers that a memory trial does not have, or that the search varies."""

TEXT_COLUMNS = 120
"""Width of the lines under the table."""


def max_batch_table(rows: Sequence[MaxBatchSummary]) -> RenderableType:
    """Return the table of some searches on one device, in their order."""
    specs = [row.spec for row in rows]
    names = [name for name in varying(specs) if name not in ("batch_size", "micro_batch_size")]
    is_cuda = any(spec.device == "cuda" for spec in specs)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    add_lever_columns(table, names)
    for header in HEADERS:
        table.add_column(header, justify="right", no_wrap=True)
    if is_cuda:
        for size in CARD_SIZES_GIB:
            table.add_column(f"{size}\nGiB", justify="right", no_wrap=True)
    table.add_column("the next one", overflow="fold")
    for row in rows:
        cells = [*lever_cells(names, row.spec), *_figures(row), *(_on_cards(row) if is_cuda else ()), _next_one(row)]
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    return Group(Text(_heading(rows)), table, Text("\n".join(_lines(is_cuda=is_cuda))))


def _heading(rows: Sequence[MaxBatchSummary]) -> str:
    specs = [row.spec for row in rows]
    size = f"{specs[0].worst_case_height} x {specs[0].worst_case_width:,} px"
    capacity = next((format_bytes(row.capacity_bytes) for row in rows if row.capacity_bytes), "unknown memory")
    shared = [name for name in worth_naming(specs) if name not in (*varying(specs), *NOT_OF_MEMORY)]
    return f"Largest micro-batch of {size} in {capacity}: {describe(specs[0], names=shared)}."


def _figures(row: MaxBatchSummary) -> list[str]:
    law, mean = row.law, row.by_mean_size
    error = None if law is None else law.loo_error_max if law.loo_error_max is not None else law.largest_residual
    return [
        f"{row.found.largest}{'' if row.found.is_confirmed else ' ?'}",
        MISSING if mean is None else str(mean.micro_batch_size),
        MISSING if mean is None else f"{100 * mean.failing_steps_ratio:.0f}",
        MISSING if row.peak_bytes is None else significant(gib(row.peak_bytes)),
        MISSING if law is None else significant(gib(law.bytes_fixed), digits=2),
        MISSING if law is None else significant(gib(law.bytes_per_pixel * row.pixels_per_example)),
        MISSING if error is None else f"{100 * error:.1f}",
        MISSING if row.ran_out_ratio is None else f"{100 * row.ran_out_ratio:.0f}",
    ]


def _on_cards(row: MaxBatchSummary) -> list[str]:
    fitting = [row.on_card(size * BYTES_PER_UNIT["GiB"]) for size in CARD_SIZES_GIB]
    return [MISSING if number is None else str(number) for number in fitting]


def _next_one(row: MaxBatchSummary) -> str:
    blocker = row.found.blocker
    if blocker is None:
        return "not tried"
    size = blocker.spec.micro_batch_size
    kind = blocker.cause.kind if blocker.cause else "no reason given"
    need = "" if row.need_bytes is None else f"; needs about {format_bytes(row.need_bytes)}"
    return f"{size}: {blocker.status}, {kind}{need}"


def _lines(*, is_cuda: bool) -> list[str]:
    lines = [
        "Each was seen with whole training steps in fresh processes, the largest and the next one in two (? where "
        "not). By mean size: what a plan by the mean image would take, and the steps of an epoch that would not fit. "
        "The law, fixed + per example x examples, is off by so much where it is worst, when fitted without that size; "
        "at so much of the memory, by the law, the next one ran out."
    ]
    if is_cuda:
        lines.append(
            f"Under a card's size: the largest micro-batch that the law puts into {format_percent(USABLE)} of it; what "
            "was not measured there is a forecast."
        )
    else:
        lines.append(
            f"Peaks are bytes of live tensors; the limit counts all of a process, oneDNN's workspace too. {CPU_LABEL}."
        )
    return [part for line in lines for part in textwrap.wrap(line, TEXT_COLUMNS)]
