"""A capacity plan in words: what to do, when it ends, how often to take a snapshot, and what to paste."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from vnbench.analysis.planning.capacity import Asked, Configuration, PlannedRun
from vnbench.analysis.planning.interruptions import best_interval_of_count_s, daly_interval_s, young_interval_s
from vnbench.analysis.planning.spread import Finish, Part
from vnbench.batching.alignment import IntArray
from vnbench.output.words.commands import Options, network_of
from vnbench.output.words.numbers import MISSING, significant
from vnbench.output.words.provenance import Provenance
from vnbench.records.spec.trial_spec import LEVERS
from vnbench.units import count, format_byte_range, format_bytes, format_duration

PART_WORDS: Mapping[Part, str] = {
    "coefficients": "the fit",
    "sizes": "size-specific kernels",
    "processes": "run-to-run",
    "loading": "loading",
    "interruptions": "interruptions",
    "forecast": "the forecast",
}


TAIL_PERCENT = 5
"""Probability beyond which a tail rests on the assumed shape of the errors, and not on the few repeats behind it."""


class Report(Protocol):
    """What a plan found, as far as its table tells."""

    @property
    def asked(self) -> Asked:
        """The run."""

    @property
    def values(self) -> Mapping[str, Any]:
        """The options."""

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """All configurations, the fastest first."""

    @property
    def recommended(self) -> PlannedRun:
        """The one to take."""

    @property
    def current(self) -> PlannedRun:
        """The one that changes start from."""

    @property
    def changes(self) -> tuple[tuple[str, PlannedRun], ...]:
        """Single changes of it."""

    @property
    def fits_in_time(self) -> PlannedRun | None:
        """The cheapest change that finishes in the window."""

    @property
    def shares(self) -> Mapping[Part, float]:
        """Share of each part in the spread."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to know."""

    @property
    def tier(self) -> str:
        """How far the recommended configuration was measured."""

    @property
    def is_bracket(self) -> bool:
        """Whether there is no single number, only a bracket."""

    @property
    def bracket(self) -> tuple[float, float]:
        """Factors of the earliest and the latest finish."""

    @property
    def origin(self) -> Provenance:
        """Where the records were measured."""


def named(one: Configuration) -> str:
    """Return a configuration in one phrase; switches at their defaults are left out."""
    order = ("batch_size", "micro_batch_size", *(name for name in LEVERS if name not in ("batch_size",)))
    words = []
    for name in dict.fromkeys(order):
        if name not in one.levers or (name == "micro_batch_size" and one.levers[name] == one.levers["batch_size"]):
            continue
        value = one.levers[name]
        if value is not None and value != LEVERS[name].quiet:
            words.append(LEVERS[name].phrase(value))
    return ", ".join(words)


def change_of(lever: str, current: Configuration, other: Configuration) -> str:
    """Return in what a single change differs, as ``batch-size 2 -> 4``; with the micro-batch where it is not the batch.

    Two changes to one batch may differ in it alone.
    """
    told = f"{lever.replace('_', '-')} {current.levers[lever]} -> {other.levers[lever]}"
    size = other.levers["micro_batch_size"]
    return f"{told}, micro-batch {size}" if lever == "batch_size" and size != other.levers["batch_size"] else told


def memory_told(one: Configuration) -> str | None:
    """Return the worst-case memory of a configuration, of a forecast as a bracket; None if it is not known."""
    if one.need_bytes is None:
        return None
    least = one.worst_case.least_bytes
    return format_bytes(one.need_bytes) if least is None else format_byte_range(least, one.need_bytes)


def lines_to_paste(report: Report) -> Iterator[str]:
    """Yield the recommended settings as lines of a training script."""
    levers = report.recommended.levers
    yield "# for the training script"
    yield f"batch_size, micro_batch_size = {levers['batch_size']}, {levers['micro_batch_size']}"
    yield f"accumulation_steps = {levers['batch_size'] // levers['micro_batch_size']}"
    if LEVERS["norm_precision"].value(report.recommended.family.spec) is None:
        yield f'precision = "{levers["precision"]}"'  # of a user's own network, whose norms are as it has them
    else:
        yield f'precision, norm_precision = "{levers["precision"]}", "{levers["norm_precision"]}"'
    known = {"none": "False", "stages": "True"}
    yield f"activation_checkpointing = {known.get(levers['checkpointing'], repr(levers['checkpointing']))}"
    yield f'sampler, num_workers = "{levers["sampler"]}", {levers["num_workers"] or 0}'
    if report.recommended.interval_steps is not None:
        yield f"snapshot_every_steps = {report.recommended.interval_steps}"


def shipped_line(report: Report, options: Options) -> str:
    """Return what the records that ship were measured on; ``options`` are those of a sweep like theirs."""
    sizes = " x ".join(options[name].replace(":", " to ") for name in ("heights", "widths"))
    return (
        f"This is an example, planned from the records that ship: {network_of(report.recommended.family.spec)} on "
        f"{report.origin.parts()[0]}, images of {sizes} px. For your machine and images, measure them with "
        "vnbench sweep and name its results here; for a GPU that is not at hand, name it with --card."
    )


def answer_lines(report: Report) -> Iterator[str]:
    """Yield what to do and when it ends, line by line."""
    yield from _answer(report)
    yield from _snapshots(report)


def _answer(report: Report) -> Iterator[str]:
    best, asked = report.recommended, report.asked
    heights, widths = asked.train_sizes_N2[:, 0], asked.train_sizes_N2[:, 1]
    run = (
        f"{count(len(asked.train_sizes_N2), 'example')} of {_span(heights)} x {_span(widths)} px, "
        f"{count(asked.num_epochs, 'epoch')}"
    )
    if report.is_bracket:
        low, high = report.bracket
        yield (
            f"{run}: between {format_duration(low * best.finish.p10)} and {format_duration(high * best.finish.p90)} "
            f"with {named(best)}. That device was not measured."
        )
    else:
        yield f"{run}: {time_range(best.finish, report.bracket)} with {named(best)}."
        if asked.window_s is not None:
            yield from _in_window(report)
    memory = memory_told(best) or "unknown"
    limit = "" if asked.memory_bytes is None else f" of {format_bytes(asked.memory_bytes)}"
    yield f"Worst-case memory {memory}{limit}: {best.verdict}. Evidence: {report.tier}."
    if report.shares:
        known = [(part, share) for part, share in report.shares.items() if share >= 0.005]
        told = ", ".join(
            f"{100 * share:.0f} % {PART_WORDS[part]}" for part, share in sorted(known, key=lambda one: -one[1])
        )
        yield f"Uncertainty: {told}."
    price = report.values.get("price-per-hour")
    if math.isfinite(best.finish.mean) and not report.is_bracket:
        hours = best.finish.mean / 3600
        cost = "" if price is None else f", {significant(price * hours)} at {price:g} an hour"
        energy = "" if best.power_w is None else f", {significant(hours * best.power_w / 1000)} kWh of the device"
        if cost or energy:
            yield f"Expected: {significant(hours)} device hours{cost}{energy}."


def _span(sides_N: IntArray) -> str:
    """Return the smallest and the largest of some sides, one number where they are the same."""
    low, high = int(sides_N.min()), int(sides_N.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _in_window(report: Report) -> Iterator[str]:
    best, window_s = report.recommended, report.asked.window_s
    assert window_s is not None
    bare = report.asked.interruptions.is_none
    without = "" if bare else f" ({probability(best.finish_without_snapshots)} without snapshots)"
    yield f"Probability that it finishes within {format_duration(window_s)}: {probability(best.finish)}{without}."
    if math.isfinite(best.finish.p50) and best.finish.p50 > window_s:
        done = int(window_s // best.run.epoch.total_s)
        yield (
            f"In {format_duration(window_s)} it trains {done:,} of {count(report.asked.num_epochs, 'epoch')}; a device "
            f"{significant(best.finish.p50 / window_s, digits=2)} times as fast would finish."
        )
    cheapest = report.fits_in_time
    if cheapest is report.current:
        same = report.current is best
        who = "it finishes in time" if same else f"{named(report.current)} finishes in time too"
        yield f"No change is needed: {who} ({probability(cheapest.finish)})."
    elif cheapest is not None:
        lever = next(name for name, one in report.changes if one is cheapest)
        yield (
            f"The smallest change that finishes in time, from {named(report.current)}: "
            f"{change_of(lever, report.current, cheapest)} "
            f"({time_range(cheapest.finish)}, {probability(cheapest.finish)})."
        )
    else:
        yield f"No single change of {named(report.current)} finishes in time with a probability of 90 %."


def _snapshots(report: Report) -> Iterator[str]:
    inside, best = report.asked.interruptions, report.recommended
    if inside.is_none or report.is_bracket:
        return
    if best.interval_s is None or best.interval_steps is None:
        is_asked = report.asked.snapshots == "none"
        yield "No snapshots are taken, as asked." if is_asked else "Take no snapshots: they cost more than they save."
        return
    often = (
        f"{count(inside.count or 0, 'interruption')}"
        if inside.mtbi_s is None
        else f"an interruption every {format_duration(inside.mtbi_s)} on average"
    )
    yield (
        f"With {often}, {format_duration(inside.restart_s)} to restart and {format_duration(inside.snapshot_s)} per "
        f"snapshot: {'save' if report.asked.snapshots == 'best' else 'as asked, save'} one every "
        f"{format_duration(best.interval_s)} ({count(best.interval_steps, 'step')}). "
        f"With one after every epoch ({format_duration(best.run.epoch.total_s)}): {time_range(best.finish_per_epoch)}. "
        f"With none: {time_range(best.finish_without_snapshots)}."
    )
    if inside.source is not None:
        yield f"{inside.source[0].upper()}{inside.source[1:]}."
    if report.asked.snapshots != "best":
        return
    if inside.mtbi_s is not None:
        young = young_interval_s(snapshot_s=inside.snapshot_s, mtbi_s=inside.mtbi_s)
        daly = daly_interval_s(snapshot_s=inside.snapshot_s, mtbi_s=inside.mtbi_s)
        yield f"Young's formula gives {format_duration(young)}, Daly's {format_duration(daly)}."
    elif inside.count:
        worst_s = best_interval_of_count_s(
            work_s=best.run.work_s,
            snapshot_s=inside.snapshot_s,
            num_interruptions=inside.count,
            is_worst=True,
        )
        yield f"This minimises the expected time; one every {format_duration(worst_s)} minimises the worst case."


def time_range(finish: Finish, bracket: tuple[float, float] = (1.0, 1.0)) -> str:
    """Return the median finish with what lies between p10 and p90, of a bracket its ends."""
    if not math.isfinite(finish.p50):
        return "probably never"
    low, high = bracket
    latest = format_duration(high * finish.p90) if math.isfinite(finish.p90) else "never"
    return f"{format_duration(finish.p50)} (80 %: {format_duration(low * finish.p10)} to {latest})"


def probability(finish: Finish) -> str:
    """Return the probability of finishing in the window; a small one, either way, as no more than small."""
    if finish.probability is None:
        return MISSING
    percent = round(100 * finish.probability)
    if 0 < percent < TAIL_PERCENT:
        return f"under {TAIL_PERCENT} %"
    return f"over {100 - TAIL_PERCENT} %" if 100 - TAIL_PERCENT < percent < 100 else f"{percent} %"
