"""``vnbench batching``: the accounts of an epoch's plan, from sizes alone, and the plan itself as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.epoch import own_canvases, plan_epoch, worst_case_budget
from vnbench.batching.plan import BUDGETED_SAMPLER, PlanConfig
from vnbench.batching.ranks import deal_to_ranks, step_efficiency
from vnbench.batching.resume import EpochSampler, PlanState, read_state
from vnbench.batching.sizes import SizeArray, SizeDistribution, draw_sizes
from vnbench.errors import InputError
from vnbench.images.folder import read_sizes_with_notes
from vnbench.output.console import say, stderr_console
from vnbench.request.option import parsed
from vnbench.request.options import BATCHING_OPTIONS, OPTIONS
from vnbench.texts import check_replaceable
from vnbench.units import count, format_percent, mpx, parse_pixel_range

DEFAULT_EPOCH = 2
"""The first epoch with two epochs before it, whose pairs it may repeat."""


MANY_REPEATED = 0.05
"""Share of repeated pairs from which it is told what they mean."""

REPEATED = ("repeated_pair_ratio", "repeated_pair_ratio_two_before")

REPEATED_NOTE = (
    "The more pairs of a step repeat from epoch to epoch, the less each epoch is a new shuffle; what that does to the "
    "trained network was not measured."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """The options of the command, understood."""

    values: Mapping[str, Any]
    sizes_N2: SizeArray
    config: PlanConfig
    epoch: int
    resumed: tuple[EpochSampler, PlanState] | None
    """Where a state stands, and the state; None where none was given."""


def batching_accounts(flags: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Return the account of each sampler that is asked for, under the keys that other programs rely on.

    With ``plan-out`` the plan is written there, all of it or what a state leaves of it.

    Raises:
        InputError: an option that is missing, not understood, or at odds with another.
    """
    return [_account(asked) for asked in _understand(flags)]


def _account(asked: _Asked) -> dict[str, Any]:
    sizes_N2, config, values = asked.sizes_N2, asked.config, asked.values
    answer = {
        "sampler": config.sampler,
        "batch_size": config.batch_size,
        "micro_batch_size": config.micro_batch_size,
        "pixel_budget": config.pixel_budget,
        "shapes": config.shapes,
        "seed": config.seed,
        "epoch": asked.epoch,
        **asdict(account_for_epoch(sizes_N2, config, epoch=asked.epoch)),
    }
    if config.shapes is not None:
        free = account_for_epoch(sizes_N2, replace(config, shapes=None), epoch=asked.epoch)
        answer["shapes_cost_ratio"] = answer["padded_pixels"] / free.padded_pixels - 1
        answer["distinct_shapes_of_any"] = free.distinct_shapes
    if "ranks" in values:
        plan = plan_epoch(sizes_N2, config, epoch=asked.epoch)
        ranks = deal_to_ranks(sizes_N2, plan, config, num_ranks=values["ranks"])
        answer |= {"num_ranks": values["ranks"], "step_efficiency": step_efficiency(ranks)}
    if "resume" in values or "plan-out" in values:
        answer |= _rest_of_epoch(asked)
    return answer


def describe_accounts(accounts: Sequence[Mapping[str, Any]]) -> str:
    """Return the accounts as lines for people, one column for each."""
    columns = [_told(account) for account in accounts]
    names = list(dict.fromkeys(chain.from_iterable(columns)))
    parts = [names, *([column.get(name, "-") for name in names] for column in columns)]
    padded = [[cell.ljust(max(map(len, part))) for cell in part] for part in parts]
    lines = ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]
    repeated = [account[name] or 0.0 for account in accounts for name in REPEATED]
    if max(repeated) >= MANY_REPEATED:
        lines += ["", REPEATED_NOTE]
    return "\n".join(lines)


def _told(account: Mapping[str, Any]) -> dict[str, str]:
    budget = account["pixel_budget"]
    held_to = f"at most {budget:,} padded px" if budget else f"of {account['micro_batch_size']}"
    correlation = account["lag_1_width_correlation"]
    rows = {
        "sampler": account["sampler"],
        "examples": f"{account['num_examples']:,}",
        "optimizer steps": f"{account['num_steps']:,} of {account['batch_size']}",
        "micro-batches": f"{account['num_batches']:,} {held_to}",
        "valid pixels": f"{mpx(account['valid_pixels']):,.1f} Mpx",
        "padded pixels": f"{mpx(account['padded_pixels']):,.1f} Mpx",
        "padding": format_percent(account["padding_ratio"]),
        "lowest possible padding": format_percent(account["lower_bound_padding_ratio"]),
        "largest micro-batch": f"{mpx(account['largest_padded_pixels']):,.1f} Mpx",
        "distinct shapes": f"{account['distinct_shapes']:,}",
        "pairs repeated from the epoch before": _percent_or_dash(account["repeated_pair_ratio"]),
        "pairs repeated from two epochs before": _percent_or_dash(account["repeated_pair_ratio_two_before"]),
        "pairs repeated from either": _percent_or_dash(account["repeated_pair_ratio_either"]),
        "correlation of successive widths": "-" if correlation is None else f"{correlation:+.2f}",
    }
    if account["shapes"] is not None:
        rows["cost of fewer shapes"] = (
            f"{100 * account['shapes_cost_ratio']:+.1f} % padded pixels, for "
            f"{count(account['distinct_shapes'], 'shape')} instead of {account['distinct_shapes_of_any']:,}"
        )
    if "num_ranks" in account:
        rows["step efficiency"] = (
            f"{format_percent(account['step_efficiency'])} over {count(account['num_ranks'], 'rank')}"
        )
    if "next_step" in account:
        rows["remaining"] = (
            f"{count(account['remaining_examples'], 'example')} in {count(account['remaining_steps'], 'step')}, "
            f"from step {account['next_step']:,}"
        )
    return rows


def _percent_or_dash(ratio: float | None) -> str:
    return "-" if ratio is None else format_percent(ratio)


def _understand(flags: Mapping[str, str | None]) -> list[_Asked]:
    """Return what is asked of each sampler."""
    values = parsed(BATCHING_OPTIONS, flags)
    alone = next((name for name in ("plan-out", "resume") if name in values), None)
    of_one = {"sampler": f"with --{alone} "} if alone else {}
    for name, where in {"batch-size": "", **of_one, "micro-batch-size": "", "shapes": ""}.items():
        if len(values.get(name, (None,))) != 1:
            raise InputError(
                f"--{name}",
                flags[name],
                allowed=f"{where}it takes one value",
                remedy="name one, and run the command once for each",
            )
    (batch_size,) = values["batch-size"]
    (micro_batch_size,) = values.get("micro-batch-size", (None,))
    (shapes,) = values.get("shapes", (None,))
    micro_batch_size = batch_size if micro_batch_size is None else micro_batch_size
    if batch_size % micro_batch_size:
        raise InputError(
            "--micro-batch-size",
            micro_batch_size,
            allowed=f"it does not divide the batch of {batch_size}",
            remedy="write a divisor",
        )
    seed = values.get("seed", 0)
    sizes_N2 = _sizes(values, seed=seed)
    more = "a longer --sizes file" if "sizes" in values else f"--examples {batch_size} or more"
    _refuse_more_than(len(sizes_N2), batch_size, name="batch-size", what="examples", more=more)
    more = "a larger --batch-size"
    _refuse_more_than(batch_size, values.get("ranks", 1), name="ranks", what="examples in a step", more=more)
    budget = values.get("pixel-budget")
    if budget is not None and BUDGETED_SAMPLER not in values["sampler"]:
        raise InputError(
            "--pixel-budget",
            flags["pixel-budget"],
            allowed=f"the sampler {flags['sampler']} has no budget",
            remedy=f"write --sampler {BUDGETED_SAMPLER}, or leave --pixel-budget out",
        )
    if budget is None:
        budget = worst_case_budget(sizes_N2, micro_batch_size=micro_batch_size)
    configs = [
        PlanConfig(
            sampler=sampler,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            pixel_budget=budget if sampler == BUDGETED_SAMPLER else None,
            shapes=shapes,
            seed=seed,
        )
        for sampler in values["sampler"]
    ]
    for config in configs:
        _refuse_a_budget_below_one_example(sizes_N2, config, flags)
    # What is written is to be trained on, from the first epoch; accounts are of one that may repeat pairs.
    epoch = values.get("epoch", 0 if "plan-out" in values else DEFAULT_EPOCH)
    resumed = None
    if "resume" in values:
        state = read_state(values["resume"])
        if values.get("epoch", state.epoch) != state.epoch:
            raise InputError(
                "--epoch",
                flags["epoch"],
                allowed=f"the state is of epoch {state.epoch}",
                remedy="leave --epoch out",
            )
        epoch = state.epoch
        # Refused before anything is accounted for.
        epochs = EpochSampler(sizes_N2, configs[0])
        epochs.resume(state, where=f"--resume {values['resume']}")
        resumed = (epochs, state)
    return [_Asked(values=values, sizes_N2=sizes_N2, config=config, epoch=epoch, resumed=resumed) for config in configs]


def _refuse_more_than(limit: int, number: int, *, name: str, what: str, more: str) -> None:
    if number > limit:
        raise InputError(
            f"--{name}", number, allowed=f"there are only {limit} {what}", remedy=f"write {limit} or less, or {more}"
        )


def _refuse_a_budget_below_one_example(
    sizes_N2: SizeArray, config: PlanConfig, flags: Mapping[str, str | None]
) -> None:
    try:
        own_canvases(sizes_N2, config)
    except ValueError as error:
        one = worst_case_budget(sizes_N2, micro_batch_size=1)
        raise InputError(
            "--pixel-budget",
            flags["pixel-budget"] or "",
            allowed="the largest example alone is above it",
            remedy=f"write {one} or more",
        ) from error


def _rest_of_epoch(asked: _Asked) -> dict[str, Any]:
    """Return what remains of the epoch; write its steps where a file is asked for."""
    next_step = 0
    if asked.resumed is not None:
        sampler, state = asked.resumed
        next_step = state.next_step
    else:
        sampler = EpochSampler(asked.sizes_N2, asked.config)
        sampler.set_epoch(asked.epoch)
    steps = sampler.remaining_steps
    if "plan-out" in asked.values:
        path: Path = asked.values["plan-out"]
        lines = [sampler.state(next_step=next_step).to_json()]
        check_replaceable(path, where="--plan-out", starts=[lines[0].partition(":")[0].encode()])
        for number, step in enumerate(steps, start=next_step):
            micro_batches = [{"examples": examples, "canvas": canvas} for examples, canvas in step]
            lines.append(json.dumps({"step": number, "micro_batches": micro_batches}))
        try:
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(
                "--plan-out", path, allowed=f"it cannot be written ({error.strerror})", remedy="name another file"
            ) from error
        say(stderr_console(), f"written: {path}{_with_validation(asked)}")
    return {
        "next_step": next_step,
        "remaining_steps": len(steps),
        "remaining_examples": sum(len(micro_batch.examples) for step in steps for micro_batch in step),
    }


def _with_validation(asked: _Asked) -> str:
    """Return what to know of a plan of a folder's images: no split is read there, unlike in a sweep."""
    folder: Path | None = asked.values.get("sizes")
    if folder is None or not folder.is_dir():
        return ""
    number = count(len(asked.sizes_N2), "image")
    return (
        f", with all {number} of {folder}, any for validation too; to plan training images alone, name a folder or a "
        "CSV file of only those"
    )


def _sizes(values: Mapping[str, Any], *, seed: int) -> SizeArray:
    if "sizes" in values:
        clash = sorted(values.keys() & {"widths", "heights", "examples", "size-law"})
        if clash:
            raise InputError(
                "--sizes", values["sizes"], allowed="the file names the sizes already", remedy=f"leave --{clash[0]} out"
            )
        sizes_N2, notes = read_sizes_with_notes(values["sizes"])
        for note in notes:
            say(stderr_console(), note)
        return sizes_N2
    for name in ("widths", "examples"):
        if name not in values:
            raise InputError(
                f"--{name}",
                allowed="it is required where no --sizes is given",
                remedy="write --widths A:B --examples N",
            )
    heights = values.get("heights") or parse_pixel_range(str(OPTIONS["heights"].default), "--heights")
    distribution = SizeDistribution(widths=values["widths"], heights=heights, law=values.get("size-law", "uniform"))
    return draw_sizes(distribution, values["examples"], seed=seed)
