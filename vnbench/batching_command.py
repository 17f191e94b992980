"""``vnbench batching``: the padding accounts of one epoch, from sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vnbench.data.batching import account_for_sampler
from vnbench.data.sizes import SizeArray, SizeDistribution, draw_sizes, read_sizes_csv
from vnbench.errors import InputError
from vnbench.options import OPTIONS
from vnbench.units import format_percent, mpx


def batching_account(flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the accounts that the options ask for, under the keys that other programs rely on.

    Raises:
        InputError: an option that is missing, not understood, or at odds with another.
    """
    values = {name: OPTIONS[name](text, f"--{name}") for name, text in flags.items() if text is not None}
    for name in ("batch-size", "sampler", "micro-batch-size"):
        if len(values.get(name, (None,))) != 1:
            raise InputError(f"--{name}", flags[name], allowed="one value at a time", remedy="name one")
    (batch_size,), (sampler,) = values["batch-size"], values["sampler"]
    (micro_batch_size,) = values.get("micro-batch-size", (None,))
    micro_batch_size = batch_size if micro_batch_size is None else micro_batch_size
    if batch_size % micro_batch_size:
        raise InputError(
            "--micro-batch-size",
            micro_batch_size,
            allowed=f"it does not divide the batch of {batch_size}",
            remedy="write a divisor",
        )
    seed = values.get("seed", 0)
    account = account_for_sampler(
        _sizes(values, seed=seed),
        sampler=sampler,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        seed=seed,
    )
    asked = {"sampler": sampler, "batch_size": batch_size, "micro_batch_size": micro_batch_size, "seed": seed}
    return asked | asdict(account)


def describe_account(account: Mapping[str, Any]) -> str:
    """Return the accounts as lines for people."""
    repeated = account["repeated_pair_ratio"]
    rows = {
        "sampler": account["sampler"],
        "examples": f"{account['num_examples']:,}",
        "optimizer steps": f"{account['num_steps']:,} of {account['batch_size']}",
        "micro-batches": f"{account['num_batches']:,} of {account['micro_batch_size']}",
        "valid pixels": f"{mpx(account['valid_pixels']):,.1f} Mpx",
        "padded pixels": f"{mpx(account['padded_pixels']):,.1f} Mpx",
        "padding": format_percent(account["padding_ratio"]),
        "least possible padding": format_percent(account["lower_bound_padding_ratio"]),
        "distinct shapes": f"{account['distinct_shapes']:,}",
        "pairs repeated from the epoch before": "-" if repeated is None else format_percent(repeated),
    }
    width = max(len(name) for name in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _sizes(values: Mapping[str, Any], *, seed: int) -> SizeArray:
    if "sizes" in values:
        clash = sorted(values.keys() & {"widths", "heights", "examples", "size-law"})
        if clash:
            raise InputError(
                "--sizes", values["sizes"], allowed="the file names the sizes already", remedy=f"leave --{clash[0]} out"
            )
        return read_sizes_csv(Path(values["sizes"]))
    for name in ("widths", "examples"):
        if name not in values:
            raise InputError(
                f"--{name}", allowed="it is needed where no --sizes is given", remedy="write --widths A:B --examples N"
            )
    heights = values.get("heights") or OPTIONS["heights"]("480:640", "--heights")
    distribution = SizeDistribution(widths=values["widths"], heights=heights, law=values.get("size-law", "uniform"))
    return draw_sizes(distribution, values["examples"], seed=seed)
