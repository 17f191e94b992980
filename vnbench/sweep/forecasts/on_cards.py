"""Forecasts of every requested configuration on every requested card."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from vnbench.batching.canvases import Size
from vnbench.errors import InputError
from vnbench.forecast.cards import Card
from vnbench.forecast.settings import NATIVE, settings_called
from vnbench.forecast.step import forecast_on_card
from vnbench.images.folder import read_sizes
from vnbench.records.machine_keys import Environment
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.request.config import complete
from vnbench.request.options import OPTIONS
from vnbench.request.reading import Request, read_request
from vnbench.sweep.cells import full_cells, reason_to_leave_out
from vnbench.sweep.design import forecast_spec
from vnbench.sweep.forecasts.traces import (
    Observe,
    Traces,
    first_traced,
    trace_all,
    traced_canvases,
    traced_worst_case,
)

MOST_EXAMPLES = 512
"""Upper limit of the search for the largest micro-batch: larger ones do not train faster on these images."""

KEPT_FACTS = ("vnbench_version", "revision", "python_version", "platform", "torch_version")
"""Facts about the forecasting machine in a forecast's record: none that a time could depend on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecasts:
    """Forecasts for cards."""

    records: tuple[TrialRecord[ForecastSpec], ...]
    """One record per configuration and card."""
    largest: Mapping[tuple[str, str], int | None]
    """Largest micro-batch that fits at the worst case, by card and levers (``lever_key``).

    At most MOST_EXAMPLES; 0 for none, None where no micro-batch could be traced.
    """
    left_out: tuple[str, ...]
    """Combinations that are meaningless, or meaningless on a card, each with its reason."""

    def on(self, card: str) -> list[TrialRecord[ForecastSpec]]:
        """Return the forecasts for one card."""
        return [record for record in self.records if record.spec.card == card]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """Configurations to forecast."""

    specs: tuple[ForecastSpec, ...]
    left_out: tuple[str, ...]


def forecast_cards(
    flags: Mapping[str, str | None],
    cards: Sequence[Card],
    *,
    environment: Environment,
    observe: Observe,
    has_largest: bool,
    allocators: Sequence[str] = (NATIVE,),
) -> Forecasts:
    """Return the forecasts for a sweep's options; ``environment`` is that of this machine.

    ``allocators`` are settings of the caching allocator, by a name or a text of PYTORCH_ALLOC_CONF.

    The record of a configuration whose step cannot be traced says why. Without ``has_largest`` no largest micro-batches
    are looked for, which takes fewer traces.

    Raises:
        InputError: an option cannot be used, or no combination of the values is meaningful on a card.
    """
    asked = _understand(flags, cards, allocators)
    by_name = {card.name: card for card in cards}
    traces = trace_all(asked.specs, by_name, has_largest=has_largest, observe=observe)
    here = forecast_environment(environment)
    return Forecasts(
        records=tuple(_record(spec, traces, by_name[spec.card], environment=here) for spec in asked.specs),
        largest={
            (spec.card, spec.lever_key): _largest(spec, traces, by_name[spec.card])
            for spec in {(one.card, one.lever_key): one for one in asked.specs if has_largest}.values()
        },
        left_out=asked.left_out,
    )


def forecast_environment(environment: Environment) -> Environment:
    """Return what a forecast's record says of the machine that made it."""
    kept: dict[str, Any] = {key: environment.get(key) for key in KEPT_FACTS}
    return cast(Environment, kept | {"device_type": "cuda", "device_name": "forecast"})


def _understand(flags: Mapping[str, str | None], cards: Sequence[Card], allocators: Sequence[str]) -> _Asked:
    request = read_request(
        {**flags, "device": "cuda", "design": "full", "kind": "memory", "sampler": "bucketed", "num-workers": "0"},
        config_path=None,
    )
    smallest, worst_case = _sizes(request)
    specs: dict[ForecastSpec, None] = {}
    left_out: list[str] = []
    for card in cards:
        config = complete(request, environment=_environment_of(card))
        for cell in dict.fromkeys(full_cells(config)):
            reason = reason_to_leave_out(cell, config, num_measured=cell.batch_size) or _not_on(card, cell.precision)
            if reason is not None:
                left_out.append(f"{card.name}: {cell}: {reason}")
                continue
            for allocator in allocators:
                one = dataclasses.replace(cell, allocator=allocator)
                spec = forecast_spec(one, config, card=card.name, smallest=smallest, worst_case=worst_case)
                specs[spec] = None
    if not specs:
        raise InputError(
            "the axes",
            allowed=f"no combination of the values can be forecast ({left_out[0]})",
            remedy="write values that work together",
        )
    return _Asked(specs=tuple(specs), left_out=tuple(left_out))


def _sizes(request: Request) -> tuple[Size, Size]:
    """Return the smallest and the largest requested height and width."""
    if "sizes" in request.values:
        sizes_N2 = read_sizes(request.values["sizes"])
        low, high = sizes_N2.min(axis=0).tolist(), sizes_N2.max(axis=0).tolist()
        return (low[0], low[1]), (high[0], high[1])
    heights, widths = (
        request.values.get(name) or OPTIONS[name].parse(OPTIONS[name].default_on("cuda"), f"--{name}")
        for name in ("heights", "widths")
    )
    return (heights.start, widths.start), (heights.stop, widths.stop)


def _environment_of(card: Card) -> Mapping[str, Any]:
    """Return the facts about a machine with this card that a sweep's defaults depend on."""
    return {"device_type": "cuda", "num_cpus": 1, "native_precisions": None if card.rates is None else list(card.rates)}


def _not_on(card: Card, precision: str) -> str | None:
    return None if card.rates is None or precision in card.rates else f"this card has no units for {precision}"


def _record(spec: ForecastSpec, traces: Traces, card: Card, *, environment: Environment) -> TrialRecord[ForecastSpec]:
    start_s, started_at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    canvases = traced_canvases(traces, spec, card)
    found = None
    if not isinstance(canvases, str):
        found = forecast_on_card(
            canvases,
            card,
            precision=spec.precision,
            settings=settings_called(spec.allocator),
            accumulation_steps=spec.accumulation_steps,
        )
    return TrialRecord(
        spec=spec,
        replicate=0,
        attempt=0,
        status="ok" if found else "crashed",
        cause=Cause(kind="exception", message=canvases) if isinstance(canvases, str) else None,
        environment=environment,
        started_at=started_at,
        elapsed_s=time.monotonic() - start_s,
        card=found,
    )


def _largest(spec: ForecastSpec, traces: Traces, card: Card) -> int | None:
    """Return the largest micro-batch that fits at a configuration's worst case, found by bisection.

    0 for none, None where no micro-batch could be traced. A network with BatchNorm may fail on a single example.
    """
    first = first_traced(traces, spec, card)
    if first is None:
        return None
    settings = settings_called(spec.allocator)

    def fits(size: int) -> bool:
        worst_case = traced_worst_case(traces, spec, card, micro_batch_size=size)
        if worst_case is None:
            return False
        one = forecast_on_card([worst_case], card, precision=spec.precision, settings=settings, accumulation_steps=1)
        return one.verdict == "fits"

    low, high = 0, first
    while high <= MOST_EXAMPLES and fits(high):
        low, high = high, 2 * high
    high = min(high, MOST_EXAMPLES + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
