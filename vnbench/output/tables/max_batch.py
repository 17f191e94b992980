"""The largest micro-batch of each configuration as a table, with the law of its memory and other cards beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.models.max_batch import MaxBatchSummary
from vnbench.analysis.trials.memory_law import CARD_SIZES_GIB, USABLE
from vnbench.output.fitted_table import FittedTable, paragraphs
from vnbench.output.tables.lever_columns import lever_columns
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import fixed, roughly, significant, times
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.units import BYTES_PER_UNIT, format_bytes, format_percent, gib

NOT_OF_MEMORY = ("batch_size", "micro_batch_size", "sampler", "shapes", "num_workers", "corpus_id")
"""Levers that a memory trial does not have, or that the search varies."""

WHOLE = partial(fixed, decimals=0)


def max_batch_table(rows: Sequence[MaxBatchSummary]) -> RenderableType:
    """Return the table of some searches on one device, in their order."""
    specs = [row.spec for row in rows]
    names = [name for name in varying(specs) if name not in ("batch_size", "micro_batch_size")]
    is_cuda = any(spec.device == "cuda" for spec in specs)
    cards = [_on_card(size) for size in CARD_SIZES_GIB] if is_cuda else []
    view = View(rows, (*lever_columns(names, lambda row: row.spec), *SEARCH, *cards, NEXT_ONE))
    return Group(Text(_heading(rows)), FittedTable(view=view), paragraphs(_lines(is_cuda=is_cuda)))


def _heading(rows: Sequence[MaxBatchSummary]) -> str:
    specs = [row.spec for row in rows]
    size = f"{specs[0].worst_case_height} x {specs[0].worst_case_width:,} px"
    capacity = next((format_bytes(row.capacity_bytes) for row in rows if row.capacity_bytes), "unknown memory")
    shared = [name for name in worth_naming(specs) if name not in (*varying(specs), *NOT_OF_MEMORY)]
    return f"Largest micro-batch of {size} in {capacity}: {describe(specs[0], names=shared)}."


def _next_one(row: MaxBatchSummary) -> str:
    blocker = row.found.blocker
    if blocker is None:
        return "not tried"
    size = blocker.spec.micro_batch_size
    kind = blocker.cause.kind if blocker.cause else "no reason given"
    need = "" if row.need_bytes is None else f"; needs about {format_bytes(row.need_bytes)}"
    return f"{size}: {blocker.status}, {kind}{need}"


def _on_card(size: int) -> Column[MaxBatchSummary]:
    return Column(str(size), lambda row: row.on_card(size * BYTES_PER_UNIT["GiB"]), unit="GiB", gives_way=2)


def _largest(row: MaxBatchSummary) -> str:
    return f"{row.found.largest}{'' if row.found.is_confirmed else ' ?'}"


def _per_example(row: MaxBatchSummary) -> float | None:
    return None if row.law is None else gib(row.law.bytes_per_pixel * row.pixels_per_example)


def _law_error(row: MaxBatchSummary) -> float | None:
    law = row.law
    return None if law is None else law.loo_error_max if law.loo_error_max is not None else law.largest_residual


SEARCH: tuple[Column[MaxBatchSummary], ...] = (
    Column("largest\nmicro-batch", _largest),
    Column("by mean\nsize", lambda row: row.by_mean_size and row.by_mean_size.micro_batch_size, gives_way=4),
    Column(
        "then\nfail %",
        lambda row: row.by_mean_size and 100 * row.by_mean_size.failing_steps_ratio,
        text=WHOLE,
        gives_way=5,
    ),
    Column("peak", lambda row: row.peak_bytes and gib(row.peak_bytes), unit="GiB", text=significant, gives_way=1),
    Column("fixed", lambda row: row.law and gib(row.law.bytes_fixed), unit="GiB", text=roughly, gives_way=6),
    Column("GiB per\nexample", _per_example, text=significant, gives_way=3),
    Column("law off\nby %", lambda row: times(_law_error(row), 100), text=partial(fixed, decimals=1), gives_way=7),
    Column("ran out\nat %", lambda row: times(row.ran_out_ratio, 100), text=WHOLE, gives_way=8),
)
"""What is told of a search, before what it says of cards."""

NEXT_ONE: Column[MaxBatchSummary] = Column("the next one", _next_one, align="left", is_folded=True)


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
    return lines
