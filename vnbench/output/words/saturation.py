"""What loader workers do for an appetite, in a sentence: which number is enough, or what would help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vnbench.analysis.models.saturation import MARGIN, MOSTLY, Saturation
from vnbench.analysis.trials.loading import LoaderSummary
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import format_estimate, significant, times, told
from vnbench.records.spec.axes import FLAG_FIELDS, LOADING_LEVERS
from vnbench.units import count, format_percent

NOT_WORKERS = ("task", "batch_size", "micro_batch_size", *(name for name in LOADING_LEVERS if name != "num_workers"))
"""Levers of a loader beside its number of workers."""


def saturation_line(saturation: Saturation, *, all_rows: Sequence[LoaderSummary]) -> str:
    """Return the sentence; ``all_rows`` are all loaders beside which its own are named."""
    differing = [name for name in varying(row.spec for row in all_rows) if name in NOT_WORKERS]
    spec = saturation.rows[-1].spec
    which = f"{describe(spec, names=differing)}: " if differing else ""
    demand = f"{appetite_text(saturation)}, with {format_percent(MARGIN)} to spare"
    if saturation.enough is not None:
        sure = "" if saturation.is_sure else "; uncertain, as its interval reaches below the demand"
        supply = f"{supply_text(saturation.enough)} examples/s"
        return f"loader: {which}{workers(saturation.enough)} supply {demand}: {supply}{sure}"
    assert saturation.lack is not None
    helps = list(_helps(saturation))
    remedy = f"; {'; '.join(helps)}" if helps else ""
    return (
        f"loader: {which}no tried number of workers supplies {demand}: {workers(saturation.best)} come closest, with "
        f"{supply_text(saturation.best)} examples/s, {format_percent(saturation.lack)} too few{remedy}"
    )


def appetite_text(saturation: Saturation) -> str:
    """Return an appetite and where it comes from."""
    appetite = saturation.appetite
    if appetite.spec is None:
        return f"{significant(appetite.examples_per_s.value)} examples/s (given)"
    names = ("precision", "norm_precision", "checkpointing", *(set(worth_naming([appetite.spec])) & set(FLAG_FIELDS)))
    return f"{told(appetite.examples_per_s)} examples/s (computing in {describe(appetite.spec, names=names)})"


def workers(row: LoaderSummary) -> str:
    """Return a number of workers as a subject of several."""
    return count(row.spec.num_workers, "worker")


def supply_text(row: LoaderSummary) -> str:
    """Return a supply with its interval."""
    assert row.supply is not None
    figure = row.supply.time_per_example
    return format_estimate(row.supply.examples_per_s, times(row.supply.examples_per_s, figure.relative_half_width))


def _helps(saturation: Saturation) -> Iterator[str]:
    """Yield what would help, from what was measured."""
    spec = saturation.best.spec
    if saturation.decode_ratio is not None and saturation.decode_ratio >= MOSTLY and spec.cache == "none":
        yield (
            f"decoding takes {format_percent(saturation.decode_ratio)} of the loading time: use files that decode "
            "faster, or --cache memory"
        )
    most = max(row.spec.num_workers for row in saturation.rows)
    if (spec.num_workers or 0) == most:
        yield f"try more than {count(most, 'worker')} if there are cores for them"
    if spec.worker_kind == "processes":
        yield "--worker-kind threads avoids the transfer between processes"
