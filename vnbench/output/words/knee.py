"""What loader workers do for an appetite, in a sentence: which number is enough, or what would help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vnbench.analysis.models.knee import MARGIN, MOSTLY, Knee
from vnbench.analysis.trials.loading import LoaderSummary
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import format_estimate, significant, times
from vnbench.output.words.provenance import count
from vnbench.records.spec import FLAG_FIELDS, LOADING_LEVERS
from vnbench.units import format_percent

NOT_WORKERS = ("task", "batch_size", "micro_batch_size", *(name for name in LOADING_LEVERS if name != "num_workers"))
"""Levers of a loader beside its number of workers."""


def knee_line(knee: Knee, *, all_rows: Sequence[LoaderSummary]) -> str:
    """Return the sentence; ``all_rows`` are all loaders beside which the knee's are named."""
    differing = [name for name in varying(row.spec for row in all_rows) if name in NOT_WORKERS]
    spec = knee.rows[-1].spec
    which = f"{describe(spec, names=differing)}: " if differing else ""
    hunger = f"{appetite_text(knee)} with {format_percent(MARGIN)} to spare"
    if knee.enough is not None:
        sure = "" if knee.is_sure else "; its interval reaches below what is taken"
        return f"knee: {which}{workers(knee.enough)} feed {hunger}: {supply_text(knee.enough)} examples/s{sure}"
    assert knee.lack is not None
    helps = list(_helps(knee))
    remedy = f"; {'; '.join(helps)}" if helps else ""
    return (
        f"knee: {which}no number of workers tried feeds {hunger}: {workers(knee.best)} supply most, "
        f"{supply_text(knee.best)} examples/s, {format_percent(knee.lack)} too little{remedy}"
    )


def appetite_text(knee: Knee) -> str:
    """Return an appetite and where it comes from."""
    appetite = knee.appetite
    rate = format_estimate(appetite.examples_per_s, times(appetite.examples_per_s, appetite.relative_half_width))
    if appetite.spec is None:
        return f"{significant(appetite.examples_per_s)} examples/s (given)"
    names = ("precision", "norm_precision", "checkpointing", *(set(worth_naming([appetite.spec])) & set(FLAG_FIELDS)))
    return f"{rate} examples/s (computing in {describe(appetite.spec, names=names)})"


def workers(row: LoaderSummary) -> str:
    """Return a number of workers as a subject of several."""
    return count(row.spec.num_workers or 0, "worker")


def supply_text(row: LoaderSummary) -> str:
    """Return a supply with its interval."""
    assert row.supply is not None
    figure = row.supply.time_per_example
    return format_estimate(row.supply.examples_per_s, times(row.supply.examples_per_s, figure.relative_half_width))


def _helps(knee: Knee) -> Iterator[str]:
    """Yield what would help, from what was measured."""
    spec = knee.best.spec
    if knee.decode_ratio is not None and knee.decode_ratio >= MOSTLY and spec.cache == "none":
        yield (
            f"decoding is {format_percent(knee.decode_ratio)} of a batch's way: files that decode faster, or "
            "--cache memory"
        )
    most = max(row.spec.num_workers or 0 for row in knee.rows)
    if (spec.num_workers or 0) == most:
        yield f"more than {count(most, 'worker')}, if there are cores for them"
    if spec.worker_kind == "processes":
        yield "--worker-kind threads saves the way between processes"
