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
from vnbench.units import BYTES_PER_UNIT, count, format_bytes, format_percent, memory_unit

NOT_OF_MEMORY = ("batch_size", "micro_batch_size", "sampler", "shapes", "num_workers", "corpus_id")
"""Levers that a memory trial does not have, or that the search varies."""

MAX_NAMED = 4
"""Most configurations that are all named in the answer; of more it names the best."""

WHOLE = partial(fixed, decimals=0)


def max_batch_table(rows: Sequence[MaxBatchSummary]) -> RenderableType:
    """Return the answer in a sentence, then the table of some searches on one device, in their order."""
    specs = [row.spec for row in rows]
    names = [name for name in varying(specs) if name not in ("batch_size", "micro_batch_size")]
    is_cuda = any(spec.device == "cuda" for spec in specs)
    cards = [_on_card(size) for size in CARD_SIZES_GIB] if is_cuda else []
    peaks = [row.peak_bytes for row in rows if row.peak_bytes]
    unit = memory_unit(max(peaks, default=BYTES_PER_UNIT["GiB"]))
    columns = (*lever_columns(names, lambda row: row.spec), *_columns(unit), *cards, NEXT_SIZE)
    view = View(rows, columns).told()
    heading = Text(f"{_answer(rows, names)}\n\n{_heading(rows)}")
    return Group(heading, FittedTable(view=view), paragraphs(_lines(view, is_cuda=is_cuda)))


def _answer(rows: Sequence[MaxBatchSummary], names: Sequence[str]) -> str:
    """Return the largest micro-batches in a sentence, and what is not known of them."""
    found = max(rows, key=lambda row: row.found.largest)
    if not found.found.largest:
        return "Answer: not one image of the largest size fits in any configuration that was tried."
    of = {row.spec: f" with {describe(row.spec, names=names)}" if names else "" for row in rows}
    sizes = sorted({row.found.largest for row in rows}, reverse=True)
    told = sizes if len(rows) <= MAX_NAMED else sizes[:1]
    which = {size: " or".join(of[row.spec] for row in rows if row.found.largest == size) for size in told}
    others = "".join(f", {size or 'none'}{which[size]}" for size in told[1:])
    is_open = any(not row.found.is_exact or not row.found.is_confirmed for row in rows)
    rest = f"; the search is not finished{_further(found)}" if is_open else ""
    return f"Answer: a micro-batch of {sizes[0]} fits{which[sizes[0]] if len(sizes) > 1 else ''}{others}{rest}."


def _further(row: MaxBatchSummary) -> str:
    """Return how far an unfinished search would go, by the law; the limit of a CPU counts more than tensors."""
    blocker, most = row.found.blocker, row.most_by_law
    if most is None or most <= row.found.largest or row.found.is_exact:
        return ""
    most = most if blocker is None else min(most, blocker.spec.micro_batch_size - 1)
    return f": by the fit below, {'about' if row.spec.device == 'cuda' else 'at most'} {most} would"


def _heading(rows: Sequence[MaxBatchSummary]) -> str:
    specs = [row.spec for row in rows]
    size = f"{specs[0].worst_case_height} x {specs[0].worst_case_width:,} px"
    capacity = next((format_bytes(row.capacity_bytes) for row in rows if row.capacity_bytes), "unknown memory")
    shared = [name for name in worth_naming(specs) if name not in (*varying(specs), *NOT_OF_MEMORY)]
    return f"Largest micro-batch of images of {size} in {capacity}: {describe(specs[0], names=shared)}."


def _next_size(row: MaxBatchSummary) -> str:
    blocker = row.found.blocker
    if blocker is None:
        return "not tried"
    size = blocker.spec.micro_batch_size
    kind = blocker.cause.kind if blocker.cause else "no reason given"
    need = "" if row.need_bytes is None else f"; needs about {format_bytes(row.need_bytes)}"
    counted = "" if row.spec.device == "cuda" else "; the limit counts all of the process"
    return f"{size}: {blocker.status}, {kind}{need}{counted}"


def _on_card(size: int) -> Column[MaxBatchSummary]:
    return Column(str(size), lambda row: row.on_card(size * BYTES_PER_UNIT["GiB"]), unit="GiB", gives_way=2)


def _largest(row: MaxBatchSummary) -> str:
    return f"{row.found.largest}{'' if row.found.is_confirmed else ' ?'}"


def _fit_error(row: MaxBatchSummary) -> float | None:
    """Return the law's error at a size that it was not fitted to; None where a line through two sizes shows none."""
    return None if row.law is None else row.law.loo_error_max


def _columns(unit: str) -> tuple[Column[MaxBatchSummary], ...]:
    """Return what is told of a search, before what it says of cards; memory in a unit."""
    scale = BYTES_PER_UNIT[unit]

    def per_image(row: MaxBatchSummary) -> float | None:
        return None if row.law is None else row.law.bytes_per_pixel * row.pixels_per_example / scale

    return (
        Column("largest\nmicro-batch", _largest),
        Column("peak", lambda row: row.peak_bytes and row.peak_bytes / scale, unit=unit, text=significant, gives_way=1),
        Column("per\nimage", per_image, unit=unit, text=significant, gives_way=3),
        Column("fixed", lambda row: row.law and row.law.bytes_fixed / scale, unit=unit, text=roughly, gives_way=6),
        Column(FIT_OFF, lambda row: times(_fit_error(row), 100), unit="%", text=ONE_DECIMAL, gives_way=7),
        Column(NEXT_NEEDS, lambda row: times(row.ran_out_ratio, 100), unit="%", text=WHOLE, gives_way=8),
        Column(BY_MEAN, lambda row: row.by_mean_size and row.by_mean_size.micro_batch_size, gives_way=4),
        Column(
            "steps it\nfails in",
            lambda row: row.by_mean_size and 100 * row.by_mean_size.failing_steps_ratio,
            unit="%",
            text=WHOLE,
            gives_way=5,
        ),
    )


ONE_DECIMAL = partial(fixed, decimals=1)

FIT_OFF = "fit off\nby"

BY_MEAN = "at mean\nsize"

NEXT_NEEDS = "next's\npeak"

NEXT_SIZE: Column[MaxBatchSummary] = Column("next size", _next_size, align="left", is_folded=True)


def _lines(view: View[MaxBatchSummary], *, is_cuda: bool) -> list[str]:
    """Return what the columns mean."""
    headings = {column.heading for column in view.columns}
    lines = [
        "Each size was tried with whole training steps in a fresh process; the largest that fits and the next size in "
        "two (? where not yet).",
        "Memory = fixed + per image x images, fitted to the peaks"
        + ("; fit off by: its error at a size that it was not fitted to, at worst." if FIT_OFF in headings else "."),
    ]
    num_lines = sum(row.law is not None and row.law.loo_error_max is None for row in view.rows)
    if num_lines:
        where = "" if num_lines == len(view.rows) else f" in {count(num_lines, 'configuration')}"
        lines.append(f"Only two sizes have a peak{where}: the line through them has no error of its own.")
    if NEXT_NEEDS in headings:
        lines.append("next's peak: what this gives for the next size, as a share of the memory.")
    if BY_MEAN in headings:
        lines.append(
            "at mean size: the micro-batch that would fit if every image had the mean size; steps it fails in: the "
            "share of an epoch's steps in which it would run out of memory."
        )
    if is_cuda:
        lines.append(
            f"Under a card's size: the largest micro-batch that takes at most {format_percent(USABLE)} of it; a "
            "forecast where it was not measured."
        )
    else:
        lines.append(
            f"Peaks are bytes of live tensors; the limit counts all of a process, oneDNN's workspace too. {CPU_LABEL}."
        )
    return lines
