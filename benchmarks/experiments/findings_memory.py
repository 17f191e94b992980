"""Memory saved by bf16 with each norm precision, and accuracy of the memory law."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from findings_sources import NotMeasured, Sources
from memory_report import find_searches
from recipe import choice_of

from vnbench.analysis.models.max_batch import MaxBatchSummary
from vnbench.output.words.levers import describe
from vnbench.output.words.numbers import MISSING, significant
from vnbench.units import count, format_percent, gib


def autocast(sources: Sources) -> list[str]:
    searches = find_searches(sources.findings("memory").records)
    plain = {one.spec.checkpointing: one for one in searches if choice_of(one.spec)[:2] == ("fp32", "fp32")}
    lines = [
        "| precision | norm | checkpointing | GiB per worst-case example | of fp32's | largest micro-batch |",
        "|---|---|---|---:|---:|---:|",
    ]
    for one in sorted(searches, key=lambda one: (one.spec.checkpointing, -per_example(one))):
        base = plain.get(one.spec.checkpointing)
        share = MISSING if base is None else format_percent(per_example(one) / per_example(base))
        size = significant(gib(per_example(one)))
        lines.append(f"| {' | '.join(choice_of(one.spec))} | {size} | {share} | {one.found.largest} |")
    if len(lines) == 2:
        raise NotMeasured("no search for the largest micro-batch")
    return ["\n".join(lines), *autocast_lines(searches, plain)]


def autocast_lines(searches: Sequence[MaxBatchSummary], plain: dict[Any, MaxBatchSummary]) -> Iterator[str]:
    """Yield whether bf16 saves memory with each norm precision, without checkpointing."""
    shares = {
        one.spec.norm_precision: per_example(one) / per_example(plain["none"])
        for one in searches
        if one.spec.precision == "bf16" and one.spec.checkpointing == "none" and "none" in plain
    }
    for norm, share in sorted(shares.items()):
        where = "in input precision" if norm == "input" else f"in {norm}"
        change = f"{format_percent(abs(1 - share))} {'less' if share < 1 else 'more'}"
        yield f"bf16 autocast with the norm {where} takes {change} memory for an example than fp32."


def per_example(search: MaxBatchSummary) -> float:
    """Return the bytes of each further worst-case example, or those of the first if no second one fits."""
    if search.law is not None:
        return search.law.bytes_per_pixel * search.pixels_per_example
    if search.peak_bytes is None:
        raise NotMeasured(f"no worst case fits with {describe(search.spec, names=('precision', 'norm_precision'))}")
    return search.peak_bytes / max(search.found.largest, 1)


def memory_errors(sources: Sources) -> list[str]:
    try:
        searches = find_searches(sources.findings("memory").records)
    except NotMeasured as missing:
        return [f"Memory was not measured: {missing}."]
    laws = [one.law for one in searches if one.law is not None and one.law.loo_error_max is not None]
    if not laws:
        return ["No law of memory rests on enough micro-batches to be tried at one that it was fitted without."]
    typical, worst = median(law.loo_error_median or 0 for law in laws), max(law.loo_error_max or 0 for law in laws)
    return [
        "Worst-case memory of a micro-batch that the law was fitted without, over "
        f"{count(len(laws), 'configuration')}: off by {format_percent(typical)} in the median, at worst "
        f"{format_percent(worst)}."
    ]
