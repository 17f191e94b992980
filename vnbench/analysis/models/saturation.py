"""The smallest number of loader workers that feeds what computing takes, and what would help where none does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.compute import ComputeSummary
from vnbench.analysis.trials.cost import split_by_range, time_of_passes
from vnbench.analysis.trials.loading import LoaderSummary
from vnbench.records.spec.trial_spec import ComputeSpec, TrialSpec
from vnbench.records.spec.words import DEFAULT_PREFETCH_FACTOR

MARGIN = 0.1
"""What a supply is to exceed an appetite by, relative to it: steps and batches vary, and neither ever catches up."""

MOSTLY = 0.5
"""Share of a batch's way from which on a part of it is named as what to shorten."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Appetite:
    """What training would take if it never waited."""

    examples_per_s: Estimate
    """Examples per second; without an error where it was given."""
    spec: ComputeSpec | None
    """The compute spec that it was measured with; None where it was given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saturation:
    """What loaders that differ in their number of workers alone do for an appetite."""

    appetite: Appetite
    """What is to be fed."""
    rows: tuple[LoaderSummary, ...]
    """The loaders, by number of workers."""
    enough: LoaderSummary | None
    """The one with the fewest workers whose supply exceeds the appetite by MARGIN; None where none does."""
    is_sure: bool
    """Whether the lower end of its supply's interval still exceeds the appetite."""
    best: LoaderSummary
    """The one with the largest supply."""
    decode_ratio: float | None
    """Share of decoding in the time of a batch without workers; None where that was not measured."""

    @property
    def lack(self) -> float | None:
        """By how much the best supply falls short of the appetite with its margin, relative to that; None if enough."""
        if self.enough is not None:
            return None
        return 1 - _supply(self.best) / ((1 + MARGIN) * self.appetite.examples_per_s.value)


def appetites(rows: Iterable[ComputeSummary], loaders: Sequence[LoaderSummary]) -> tuple[Appetite, ...]:
    """Return what compute trials of the loaders' micro-batch take of their plan, the hungriest first.

    The time of a pass is that at the plan's mean padded pixels, between measured canvases; others are left out.
    """
    accounts = [row.batching for row in loaders if row.batching is not None]
    if not accounts:
        return ()
    pixels = round(accounts[0].padded_pixels / accounts[0].num_batches)
    found = []
    for row in rows:
        inside, _ = split_by_range(row.canvases, [pixels])
        if inside and row.spec.micro_batch_size == loaders[0].spec.micro_batch_size:
            time = time_of_passes(row.canvases, inside, spread=row.spread)
            found.append(
                Appetite(
                    examples_per_s=time.at(accounts[0].num_examples / accounts[0].num_batches / time.value),
                    spec=row.spec,
                )
            )
    return tuple(sorted(found, key=lambda one: one.examples_per_s.value, reverse=True))


def families(rows: Iterable[LoaderSummary]) -> tuple[tuple[LoaderSummary, ...], ...]:
    """Return the loaders with a supply in groups that differ in their number of workers alone, fewest first.

    A loader without workers stands at the head of every group that differs from it in what only workers have.
    """
    groups: dict[TrialSpec, list[LoaderSummary]] = {}
    without: dict[TrialSpec, LoaderSummary] = {}
    for row in rows:
        if row.supply is None:
            continue
        if row.spec.num_workers == 0:
            without[_plain(row.spec)] = row
        else:
            groups.setdefault(replace(row.spec, num_workers=1), []).append(row)
    lone = [[row] for plain, row in without.items() if plain not in {_plain(spec) for spec in groups}]
    joined = [
        [*([without[plain]] if (plain := _plain(spec)) in without else []), *group] for spec, group in groups.items()
    ]
    return tuple(tuple(sorted(group, key=lambda row: row.spec.num_workers)) for group in (*joined, *lone))


def find_saturation(rows: Sequence[LoaderSummary], appetite: Appetite) -> Saturation:
    """Return what the loaders of one family do for an appetite.

    Raises:
        ValueError: no loader.
    """
    if not rows:
        raise ValueError("no loader feeds anything")
    wanted = (1 + MARGIN) * appetite.examples_per_s.value
    enough = next((row for row in rows if _supply(row) >= wanted), None)
    alone = next((row for row in rows if row.spec.num_workers == 0), None)
    decode, collate = (alone.stage("decode"), alone.stage("collate")) if alone else (None, None)
    half_width = enough.supply.time_per_example.relative_half_width if enough and enough.supply else None
    return Saturation(
        appetite=appetite,
        rows=tuple(rows),
        enough=enough,
        is_sure=enough is not None
        and half_width is not None
        and _supply(enough) / (1 + half_width) >= appetite.examples_per_s.value,
        best=max(rows, key=_supply),
        decode_ratio=decode.time_per_example.value / collate.time_per_example.value if decode and collate else None,
    )


def _supply(row: LoaderSummary) -> float:
    assert row.supply is not None
    return row.supply.examples_per_s


def _plain(spec: TrialSpec) -> TrialSpec:
    """Return a spec with one worker of the default kind."""
    return replace(
        spec,
        num_workers=1,
        worker_kind="processes",
        prefetch_factor=DEFAULT_PREFETCH_FACTOR,
        persistent_workers="on",
    )
