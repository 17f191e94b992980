"""Break the time of a training loop down by concern: whose code it is, and its seconds per example.

Each loader stage includes those before it, so the time of a loading concern is the difference of two stages. The phases
of a step are measured separately.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.compute import ComputeSummary
from vnbench.analysis.trials.loading import LoaderSummary, StageSummary
from vnbench.records.readings import LoaderStageName

Owner = Literal["project", "library", "framework"]
"""``project``: code that knows the images, which nobody else can write; ``library``: planning and measuring, as in
vnbench; ``framework``: parts of every training loop, as in torch or a trainer on top of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """One task of a training loop."""

    name: str
    """Name of the task."""
    owner: Owner
    """Whose code it is."""
    per_example: Estimate
    """Seconds per example."""
    note: str
    """A remark for people."""


def time_breakdown(
    loading: Sequence[LoaderSummary], computing: Sequence[ComputeSummary], *, family: str, sampler: str
) -> tuple[Concern, ...]:
    """Return the concerns of a configuration that were timed: loading first, then computing."""
    summary = next((one for one in computing if one.spec.family == family and one.canvases), None)
    rows = [] if summary is None else [row for row in loading if _loads(row, summary, sampler)]
    inside = next((row for row in rows if row.spec.num_workers == 0 and row.stages), None)
    beside = next((row for row in rows if row.spec.num_workers and row.stages), None)
    return (*_loading(inside, beside), *_computing(summary))


def _loads(row: LoaderSummary, summary: ComputeSummary, sampler: str) -> bool:
    return row.spec.micro_batch_size == summary.spec.micro_batch_size and row.spec.sampler == sampler


def _loading(inside: LoaderSummary | None, beside: LoaderSummary | None) -> Iterator[Concern]:
    def stage(row: LoaderSummary | None, name: LoaderStageName) -> StageSummary | None:
        return None if row is None else row.stage(name)

    plan, decode, collate = (stage(inside, name) for name in ("plan", "decode", "collate"))
    account = None if inside is None else inside.batching
    padded = "" if account is None else f"; {100 * account.padding_ratio:.1f} % of its output is padding"
    yield from _difference("order of the examples, and their batches", "library", plan, None, "once per epoch")
    yield from _difference("reading and decoding images", "project", decode, plan, "with a library for each format")
    yield from _difference(
        "collate: padding to the widest of a batch, and its mask",
        "project",
        collate,
        decode,
        f"code of your own{padded}",
    )
    yield from _difference(
        "workers: processes beside, and handing over",
        "framework",
        stage(beside, "empty-workers"),
        None,
        "without pixels",
    )
    yield from _difference(
        "copying to the device, and converting for the network",
        "framework",
        stage(inside, "device"),
        collate,
        "asynchronous from pinned memory",
    )


def _difference(
    name: str, owner: Owner, after: StageSummary | None, before: StageSummary | None, note: str
) -> Iterator[Concern]:
    if after is not None:
        taken = after.time_per_example if before is None else after.time_per_example.less(before.time_per_example)
        yield Concern(name=name, owner=owner, per_example=taken, note=note)


def _computing(summary: ComputeSummary | None) -> Iterator[Concern]:
    phases: Sequence[tuple[str, str, str]] = (
        ("forward", "forward pass, and the loss", "the network is yours"),
        ("backward", "backward pass", "with what checkpointing recomputes"),
        ("optimizer", "zeroing gradients, and the update", "once per optimizer step; here after every pass"),
    )
    for phase, name, note in phases:
        times = [
            canvas.step_time.at(canvas.phases_s[phase] / canvas.num_examples)
            for canvas in (() if summary is None else summary.canvases)
            if phase in canvas.phases_s
        ]
        if times:
            mean = _mean_of_one_process(times)
            yield Concern(name=name, owner="framework", per_example=mean, note=f"{note}; mean over the canvases timed")


def _mean_of_one_process(times: Sequence[Estimate]) -> Estimate:
    """Return the mean of times with fully correlated errors; its error is the mean of their errors."""
    errors = [one.se for one in times if one.se is not None]
    return Estimate(
        value=fmean(one.value for one in times),
        se=fmean(errors) if len(errors) == len(times) else None,
        dof=min(one.dof for one in times),
    )
