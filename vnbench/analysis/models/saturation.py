"""Find the smallest number of loader workers that keeps computing supplied, and the bottleneck if none does."""

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
"""Share of the appetite by which a supply must exceed it: steps and batches vary, and lost time is not regained."""

MOSTLY = 0.5
"""Share of a batch's loading time above which a part of it is named as the bottleneck."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Appetite:
    """The rate at which training would consume examples if it never waited."""

    examples_per_s: Estimate
    """Examples per second; without an error if given by the user."""
    spec: ComputeSpec | None
    """The compute spec that it was measured with; None if given by the user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saturation:
    """The supply of loaders that differ only in their number of workers, compared with an appetite."""

    appetite: Appetite
    """The appetite."""
    rows: tuple[LoaderSummary, ...]
    """The loaders, by number of workers."""
    enough: LoaderSummary | None
    """The loader with the fewest workers whose supply exceeds the appetite by MARGIN; None if none does."""
    is_sure: bool
    """Whether the lower end of the interval of that supply still exceeds the appetite."""
    best: LoaderSummary
    """The loader with the largest supply."""
    decode_ratio: float | None
    """Share of decoding in the time of a batch without workers; None if not measured."""

    @property
    def lack(self) -> float | None:
        """Relative shortfall of the best supply from the appetite plus margin; None if a supply is enough."""
        if self.enough is not None:
            return None
        return 1 - _supply(self.best) / ((1 + MARGIN) * self.appetite.examples_per_s.value)


def appetites(rows: Iterable[ComputeSummary], loaders: Sequence[LoaderSummary]) -> tuple[Appetite, ...]:
    """Return the appetites of compute trials with the loaders' micro-batch, the largest first.

    The time of a pass is interpolated at the mean padded pixels of the loaders' plan. Trials whose canvases do not
    enclose this size are left out.
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
    """Return the loaders with a supply in groups that differ only in the number of workers, the fewest first.

    A loader without workers is the first of every group that differs from it only in levers of workers.
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
    """Return the comparison of one group of loaders with an appetite.

    Raises:
        ValueError: there are no loaders.
    """
    if not rows:
        raise ValueError("at least one loader is needed")
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
    """Return the spec with one worker and the defaults of all worker levers."""
    return replace(
        spec,
        num_workers=1,
        worker_kind="processes",
        prefetch_factor=DEFAULT_PREFETCH_FACTOR,
        persistent_workers="on",
    )
