"""``vnbench plan``: what a run will take, in which configuration, and what to change, from measured records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vnbench.analysis.capacity import (
    LEVERS,
    Asked,
    PlannedRun,
    recommend,
    single_changes,
)
from vnbench.analysis.configurations import Measured
from vnbench.analysis.fit import fit_families
from vnbench.analysis.loading import summarize_loading
from vnbench.analysis.run_planning import plan_runs, worker_changes
from vnbench.analysis.run_time import measured_start_up_s
from vnbench.analysis.spread import RESTART_S, SNAPSHOT_S, Interruptions, shares_of
from vnbench.analysis.summary import latest_attempts
from vnbench.data.alignment import align
from vnbench.data.sizes import SizeArray, SizeDistribution, draw_sizes, read_sizes_csv
from vnbench.errors import InputError, PlanError
from vnbench.harness.estimate import START_UP_S
from vnbench.options import OPTIONS, RUN_OPTIONS
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.plan_table import plan_table
from vnbench.output.provenance import provenance
from vnbench.plan_report import PlanReport, plan_warnings
from vnbench.record import TrialRecord
from vnbench.shipped import shipped_results
from vnbench.store import load_all
from vnbench.units import PixelRange

MAX_EXAMPLES = 1_000_000
"""Examples of which every pass of every sampler is planned: 20 s."""


def run_plan_command(results: Sequence[Path], flags: Mapping[str, str | None], *, as_json: bool) -> PlanReport:
    """Plan a run from some results files, or from those that ship, and tell of it unless stdout is kept for JSON.

    Raises:
        InputError: an option or a file cannot be used.
        PlanError: the records do not let one plan, or nothing fits.
    """
    values = plan_values(flags)
    console = stderr_console()
    sources = tuple(results) or shipped_results()
    if not results:
        say(console, f"no RESULTS given; planning from records that ship: {', '.join(map(str, sources))}")
    loaded = load_all(sources)
    for note in loaded.notes:
        say(console, note)
    report = plan_records(loaded.records, values, sources=sources)
    if not as_json:
        stdout_console().print(plan_table(report))
    return report


def plan_records(records: Sequence[TrialRecord], values: Mapping[str, Any], *, sources: tuple[Path, ...]) -> PlanReport:
    """Return the plan from some records; ``values`` are the options, understood.

    Raises:
        InputError: the records come from several devices or versions of torch.
        PlanError: the records do not let one plan, or nothing fits.
    """
    origin = provenance(records)
    where = ", ".join(map(str, sources))
    if len(origin.torch_versions) > 1:
        raise InputError(
            where,
            f"(torch {', '.join(origin.torch_versions)})",
            allowed="one plan holds for one version of torch",
            remedy="give the files of one version at a time",
        )
    latest = latest_attempts(records)
    families, left_out = fit_families(records, is_rough_allowed=True)
    if not families:
        reasons = "; ".join(f"{family}: {reason}" for family, reason in list(left_out.items())[:2])
        raise PlanError(
            f"{where}: nothing can be planned from it ({reasons or 'no compute or training trial'}); measure with "
            "vnbench sweep --kind memory,compute"
        )
    asked = _asked(values, latest, device=families[0].spec.device)
    measured = Measured.of(latest, families=families, loading=summarize_loading(records))
    runs = plan_runs(asked, measured)
    if not runs and asked.num_workers is not None and plan_runs(replace(asked, num_workers=None), measured):
        raise PlanError(
            f"--num-workers {values['num-workers']}: no loader of {where} was measured with so many; those measured "
            f"have {', '.join(map(str, sorted({row.spec.num_workers or 0 for row in measured.loading}))) or 'none'}"
        )
    if not runs:
        raise PlanError(
            f"--batch-size, --examples: no configuration of {where} makes such batches; those measured have "
            f"micro-batches of {', '.join(map(str, sorted({one.spec.micro_batch_size for one in families})))}"
        )
    recommended = recommend(runs)
    if recommended is None or (recommended.verdict == "unknown" and asked.memory_bytes is not None):
        raise PlanError(_nothing_fits(runs, asked))
    _refuse_more_interruptions_than_steps(asked, recommended)
    current = _current(runs, values.get("current"), recommended)
    return PlanReport(
        asked=asked,
        values=values,
        runs=runs,
        recommended=recommended,
        current=current,
        changes=(*worker_changes(asked, current), *single_changes(runs, current)),
        shares=shares_of(
            recommended.run,
            recommended.degrees,
            asked.interruptions,
            interval_s=recommended.interval_s,
            seed=asked.seed,
        ),
        warnings=plan_warnings(asked, recommended, current, runs, left_out, is_cpu=origin.is_cpu, values=values),
        origin=origin,
        sources=sources,
    )


def plan_values(flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the options of a plan, understood.

    Raises:
        InputError: one is missing, cannot be used, or is at odds with another.
    """
    parsers = dict(OPTIONS) | dict(RUN_OPTIONS)
    values = {name: parsers[name](text, f"--{name}") for name, text in flags.items() if text is not None}
    for name in ("examples", "epochs"):
        if name not in values:
            raise InputError(f"--{name}", allowed="it is needed", remedy="write --examples 15000 --epochs 50")
    for name in ("examples", "validation"):
        if values.get(name, 0) > MAX_EXAMPLES:
            raise InputError(
                f"--{name}",
                values[name],
                allowed=f"a plan goes through every example, and takes at most {MAX_EXAMPLES:,}",
                remedy=f"plan {MAX_EXAMPLES:,} and more epochs",
            )
    if "interruptions" in values and "mtbi" in values:
        raise InputError(
            "--mtbi", flags["mtbi"], allowed="interruptions come by number or at random", remedy="leave out one of them"
        )
    if "sizes" in values and "widths" in values:
        raise InputError(
            "--sizes", values["sizes"], allowed="--widths tells the sizes as well", remedy="leave out one of them"
        )
    return values


def _asked(values: Mapping[str, Any], latest: Sequence[TrialRecord], *, device: Any) -> Asked:
    num_examples = values["examples"]
    if "sizes" not in values and "widths" not in values:
        values = dict(values) | _measured_ranges(latest)
    train = _sizes(values, num_examples, seed=values.get("seed", 0))
    num_validation = values.get("validation", 0)
    heights, widths = align(train[:, 0]), align(train[:, 1])
    return Asked(
        train_sizes_N2=train,
        validation_sizes_N2=_sizes(values, num_validation, seed=values.get("seed", 0) + 1) if num_validation else None,
        worst_case=(int(heights.max()), int(widths.max())),
        num_epochs=values["epochs"],
        batch_sizes=values.get("batch-size"),
        num_workers=values.get("num-workers"),
        memory_bytes=values.get("memory"),
        window_s=values.get("window"),
        interruptions=Interruptions(
            count=values.get("interruptions"),
            mtbi_s=values.get("mtbi"),
            restart_s=values.get("restart-cost", RESTART_S),
            snapshot_s=values.get("snapshot-cost", SNAPSHOT_S),
        ),
        snapshots=values.get("snapshot-interval", "best"),
        start_up_s=measured_start_up_s(latest) or START_UP_S[device],
        seed=values.get("seed", 0),
    )


def _measured_ranges(latest: Sequence[TrialRecord]) -> dict[str, PixelRange]:
    """Return the widths and heights that the records were measured for.

    Those of compute trials' canvases; without any, from the smallest canvas of a training step to the worst case.
    """
    canvases = {size for record in latest for size in record.spec.canvas_sizes or ()}
    if not canvases:
        canvases = {
            size
            for record in latest
            if record.kind == "training" and record.steps is not None
            for size in zip(record.steps["canvas_height"], record.steps["canvas_width"], strict=True)
        }
        canvases |= {
            (record.spec.worst_case_height, record.spec.worst_case_width)
            for record in latest
            if record.spec.worst_case_height is not None and record.spec.worst_case_width is not None
        }
    if not canvases:
        return {}
    heights, widths = ([size[side] for size in canvases] for side in (0, 1))
    return {
        "heights": PixelRange(start=min(heights), stop=max(heights)),
        "widths": PixelRange(start=min(widths), stop=max(widths)),
    }


def _sizes(values: Mapping[str, Any], count: int, *, seed: int) -> SizeArray:
    if "sizes" in values:
        given = read_sizes_csv(values["sizes"])
        # The file tells the distribution; a run may have more or fewer examples than it has rows.
        return given[np.arange(count) % len(given)]
    distribution = SizeDistribution(
        widths=values.get("widths") or OPTIONS["widths"]("3200:12800", "--widths"),
        heights=values.get("heights") or OPTIONS["heights"]("480:640", "--heights"),
        law=values.get("size-law", "uniform"),
    )
    return draw_sizes(distribution, num_examples=count, seed=seed)


def _refuse_more_interruptions_than_steps(asked: Asked, recommended: PlannedRun) -> None:
    num_steps = asked.num_epochs * recommended.run.num_steps
    if (asked.interruptions.count or 0) > num_steps:
        raise InputError(
            "--interruptions",
            asked.interruptions.count,
            allowed=f"the run has {num_steps:,} steps: more interruptions than steps",
            remedy="write fewer, or --mtbi TIME",
        )


def _current(runs: Sequence[PlannedRun], wanted: Mapping[str, Any] | None, recommended: PlannedRun) -> PlannedRun:
    if not wanted:
        return recommended
    names = {name.replace("-", "_"): value for name, value in wanted.items()}
    able = [one for one in runs if all(one.levers.get(name) == value for name, value in names.items())]
    if not able:
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        raise PlanError(f"--current {told}: no configuration that was measured is like that")

    def distance(one: PlannedRun) -> tuple[int, float]:
        return sum(one.levers[name] != recommended.levers[name] for name in LEVERS), one.finish.p50

    return min(able, key=distance)


def _nothing_fits(runs: Sequence[PlannedRun], asked: Asked) -> str:
    known = [one for one in runs if one.need_bytes is not None]
    if not known:
        return "no configuration is known to fit: measure the worst case with vnbench sweep --kind memory"
    smallest = min(known, key=lambda one: one.need_bytes or 0.0)
    size = (smallest.need_bytes or 0.0) / 2**30
    given = "" if asked.memory_bytes is None else f"--memory {asked.memory_bytes / 2**30:.3g}GiB: "
    told = ", ".join(f"{name.replace('_', '-')} {smallest.levers[name]}" for name in LEVERS[-5:])
    return (
        f"{given}nothing fits; the smallest that was measured needs {size:.3g} GiB ({told}); try a smaller "
        "micro-batch, bf16 with the norm in input precision, or --checkpointing stages"
    )
