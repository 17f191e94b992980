"""What ``vnbench plan`` is asked: its options understood, and what they leave open taken from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from vnbench.analysis.models.run_time import measured_start_up_s
from vnbench.analysis.planning.capacity import Asked
from vnbench.analysis.planning.snapshot_costs import SnapshotCost, cheapest, snapshot_costs
from vnbench.analysis.planning.spread import RESTART_S, SNAPSHOT_S, Interruptions
from vnbench.analysis.trials.measured_sizes import measured_ranges
from vnbench.batching.alignment import align
from vnbench.batching.sizes import SizeArray, SizeDistribution, draw_sizes
from vnbench.errors import InputError
from vnbench.images.folder import read_sizes
from vnbench.records.record import TrialRecord
from vnbench.records.spec.words import DeviceType
from vnbench.request.option import parsed, with_defaults
from vnbench.request.options import DRAWN_RUN_OPTIONS, OPTIONS, RUN_OPTIONS
from vnbench.sweep.estimate import START_UP_S
from vnbench.units import parse_pixel_range

MAX_EXAMPLES = 1_000_000
"""Examples of which every pass of every sampler is planned: 20 s."""


def plan_values(flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the options of a plan, understood.

    Raises:
        InputError: one is missing, cannot be used, or is at odds with another.
    """
    values = parsed(RUN_OPTIONS, flags)
    if "sizes" in values:
        values.setdefault("examples", len(read_sizes(values["sizes"])))
    for name in ("examples", "epochs"):
        if name not in values:
            raise InputError(f"--{name}", allowed="it is required", remedy="write --examples 15000 --epochs 50")
    for name in ("examples", "validation"):
        if values.get(name, 0) > MAX_EXAMPLES:
            raise InputError(
                f"--{name}",
                values[name],
                allowed=f"a plan takes at most {MAX_EXAMPLES:,}",
                remedy=f"plan {MAX_EXAMPLES:,} and more epochs",
            )
    if "interruptions" in values and "mtbi" in values:
        raise InputError(
            "--mtbi",
            flags["mtbi"],
            allowed="interruptions are given by number, or by the time between them",
            remedy="leave out one of them",
        )
    if "sizes" in values and "widths" in values:
        raise InputError(
            "--sizes", values["sizes"], allowed="--widths tells the sizes as well", remedy="leave out one of them"
        )
    return values


def run_values(flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the options of a run that is planned beside other things, understood.

    Raises:
        InputError: one cannot be used.
    """
    return plan_values(dict(flags) | with_defaults(DRAWN_RUN_OPTIONS, flags))


def asked_of(values: Mapping[str, Any], latest: Sequence[TrialRecord], *, device: DeviceType) -> Asked:
    """Return the run that some options ask for; what they leave open the records tell.

    Raises:
        InputError: the file of sizes cannot be used.
    """
    ranges = _ranges(values, latest)
    seed = values.get("seed", 0)
    train_N2 = _sizes(ranges, values["examples"], seed=seed)
    num_validation = values.get("validation", 0)
    return Asked(
        train_sizes_N2=train_N2,
        validation_sizes_N2=_sizes(ranges, num_validation, seed=seed + 1) if num_validation else None,
        worst_case=_worst_case(train_N2),
        num_epochs=values["epochs"],
        batch_sizes=values.get("batch-size"),
        num_workers=values.get("num-workers"),
        memory_bytes=values.get("memory"),
        window_s=values.get("window"),
        interruptions=_interruptions(values, latest),
        snapshots=values.get("snapshot-interval", "best"),
        start_up_s=measured_start_up_s(latest) or START_UP_S[device],
        seed=values.get("seed", 0),
    )


def _interruptions(values: Mapping[str, Any], latest: Sequence[TrialRecord]) -> Interruptions:
    """Return the interruptions asked for; what they cost is what was given, or was measured, or is assumed."""
    count, mtbi_s = values.get("interruptions"), values.get("mtbi")
    found = cheapest(snapshot_costs(latest))
    given = {name for name in ("snapshot-cost", "restart-cost") if name in values}
    if found is None or found.restart is None or len(given) == len(("snapshot-cost", "restart-cost")):
        return Interruptions(
            count=count,
            mtbi_s=mtbi_s,
            restart_s=values.get("restart-cost", RESTART_S),
            snapshot_s=values.get("snapshot-cost", SNAPSHOT_S),
        )
    return Interruptions(
        count=count,
        mtbi_s=mtbi_s,
        restart_s=values.get("restart-cost", found.restart.total_s),
        snapshot_s=values.get("snapshot-cost", found.planned_s),
        source=_source(found, given),
    )


def _source(found: SnapshotCost, given: Set[str]) -> str:
    """Return where measured costs come from, and what they leave out."""
    spec = found.spec
    place = spec.snapshot_target or "the temporary folder"
    disk = "" if found.file_system is None else f" ({found.file_system})"
    parts = []
    if "snapshot-cost" not in given:
        parts.append(f"snapshots were measured: mode {spec.snapshot_mode}, in {place}{disk}")
    if "restart-cost" not in given:
        parts.append("so was going on, from the start of a process: add what passes before with --restart-cost")
    return "; ".join(parts)


def with_examples(asked: Asked, values: Mapping[str, Any], latest: Sequence[TrialRecord], *, count: int) -> Asked:
    """Return the same run with another number of training examples."""
    train_N2 = _sizes(_ranges(values, latest), count, seed=asked.seed)
    return replace(asked, train_sizes_N2=train_N2, worst_case=_worst_case(train_N2))


def _ranges(values: Mapping[str, Any], latest: Sequence[TrialRecord]) -> Mapping[str, Any]:
    """Return the options with the sizes that the records were measured for, where they tell none."""
    return values if "sizes" in values or "widths" in values else dict(values) | measured_ranges(latest)


def _worst_case(sizes_N2: SizeArray) -> tuple[int, int]:
    return int(align(sizes_N2[:, 0]).max()), int(align(sizes_N2[:, 1]).max())


def _sizes(values: Mapping[str, Any], count: int, *, seed: int) -> SizeArray:
    if "sizes" in values:
        given = read_sizes(values["sizes"])
        # The file tells the distribution; a run may have more or fewer examples than it has rows.
        return given[np.arange(count) % len(given)]
    distribution = SizeDistribution(
        widths=values.get("widths") or parse_pixel_range("3200:12800", "--widths"),
        heights=values.get("heights") or parse_pixel_range(str(OPTIONS["heights"].default), "--heights"),
        law=values.get("size-law", "uniform"),
    )
    return draw_sizes(distribution, num_examples=count, seed=seed)
