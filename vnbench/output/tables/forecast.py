"""What cards are forecast to take, for the terminal: the answer first, then one row per setting of the levers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.comparison.residuals import Quantity, Residual
from vnbench.analysis.planning.capacity import PlannedRun, fastest
from vnbench.output.fitted_table import FittedTable, paragraphs
from vnbench.output.tables.lever_columns import lever_columns, shared_levers
from vnbench.output.view import Column, View
from vnbench.output.words.capacity_plan import named
from vnbench.output.words.levers import describe, varying
from vnbench.output.words.numbers import significant
from vnbench.records.readings import ByteRange, CanvasForecast, CardForecast, TimeRange
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.sweep.forecasts.on_cards import MOST_EXAMPLES
from vnbench.units import count, format_bytes, format_duration, gib

MEASURED_TOO = "Measured too, on the card itself:"

FIGURES: Mapping[Quantity, str] = {
    "allocated_bytes": "allocated",
    "reserved_bytes": "reserved",
    "device_bytes": "memory",
    "step_time_s": "step",
}

OF_NO_ROW = ("batch_size", "micro_batch_size")
"""Levers that differ within a row: it tells of one batch of several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One setting of the levers on one card, told of one of its batches."""

    record: TrialRecord[ForecastSpec]
    """The forecast of that batch: of the fastest that fits, or else of the smallest."""
    largest: int | None
    """Largest micro-batch that fits; 0 for none, None where nothing could be traced, or was looked for."""
    run: PlannedRun | None
    """The run with it; None where it was not planned."""

    @property
    def card(self) -> CardForecast | None:
        """What it takes; None where it could not be traced."""
        return self.record.card

    @property
    def step(self) -> CanvasForecast | None:
        """A step of the worst case; None where it could not be traced."""
        return None if self.card is None else self.card.worst_case


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAsked:
    """The run whose wall clock is told."""

    num_examples: int
    num_epochs: int


def forecast_table(
    rows: Sequence[Row], *, asked: RunAsked, measured: Sequence[Residual], notes: Sequence[str]
) -> RenderableType:
    """Return what the rows say, those of a card together, and what was ``measured`` of the same configurations."""
    specs = [row.record.spec for row in rows]
    cards = list(dict.fromkeys(spec.card for spec in specs))
    starts = {next(at for at, spec in enumerate(specs) if spec.card == card): _title(card, rows) for card in cards}
    view = View(rows, [*lever_columns(_differing(specs), lambda row: row.record.spec), *_columns()])
    parts: list[RenderableType] = [
        paragraphs(list(answer_lines(rows, asked=asked))),
        Text(),
        Text(shared_levers(specs, trials="forecasts")),
        FittedTable(view=view, titles=starts),
        paragraphs([*_notes(rows, asked=asked, is_measured=bool(measured)), *notes]),
    ]
    if measured:
        parts += [Text(), Text(MEASURED_TOO), FittedTable(view=residual_view(measured)), Text(residual_line(measured))]
    return Group(*parts)


def forecast_view(rows: Sequence[Row]) -> View[Row]:
    """Return the same table for a page, on which the cards stand in a column."""
    specs = [row.record.spec for row in rows]
    card: Column[Row] = Column("card", lambda row: row.record.spec.card, align="left", type=str)
    return View(rows, [card, *lever_columns(_differing(specs), lambda row: row.record.spec), *_columns()]).told()


def residual_view(measured: Sequence[Residual]) -> View[Residual]:
    """Return a row for each measured figure beside its forecast."""
    specs = [one.spec for one in measured]
    columns: list[Column[Residual]] = [
        Column("card", lambda one: one.spec.card, align="left", type=str),
        *lever_columns([name for name in varying(specs) if name != "batch_size"], lambda one: one.spec),
        Column("batch", lambda one: one.spec.batch_size, type=int),
        Column("px", lambda one: f"{one.canvas[0]} x {one.canvas[1]}", key="canvas", type=str, gives_way=1),
        Column("figure", lambda one: one.quantity, text=FIGURES.__getitem__, align="left", type=str),
        Column("forecast", lambda one: one, text=_bracket),
        Column("measured", lambda one: one, text=lambda one: _figure(one, one.measured)),
        Column("over\ncentral", lambda one: one.ratio, text=lambda ratio: f"{ratio:.2f}"),
        Column("in the\nbracket", lambda one: "inside" if one.is_inside else "outside", align="left", style=_style),
    ]
    return View(measured, columns)


def residual_line(measured: Sequence[Residual]) -> str:
    """Return how many measured figures their brackets hold."""
    inside = sum(one.is_inside for one in measured)
    return (
        f"{inside} of {count(len(measured), 'measured figure')} inside the bracket. over central: measured over the "
        "central value, of memory the middle of the bracket."
    )


def _differing(specs: Sequence[ForecastSpec]) -> list[str]:
    return [name for name in varying(specs) if name not in OF_NO_ROW]


def _bracket(one: Residual) -> str:
    return f"{_figure(one, one.low).partition(' ')[0]} to {_figure(one, one.high)}"


def _figure(one: Residual, value: float) -> str:
    if one.quantity == "step_time_s":
        return f"{significant(1000 * value, digits=3)} ms"
    return f"{significant(gib(value))} GiB"


def answer_lines(rows: Sequence[Row], *, asked: RunAsked) -> Iterator[str]:
    """Yield a sentence for each card: how long the run takes on it, with what, and in how much memory."""
    for card in dict.fromkeys(row.record.spec.card for row in rows):
        own = [row for row in rows if row.record.spec.card == card]
        planned = [row for row in own if row.run is not None and row.card is not None and row.card.verdict == "fits"]
        run = f"{count(asked.num_examples, 'example')} x {count(asked.num_epochs, 'epoch')}"
        if not planned:
            yield f"{card}: {_without_run(own)}."
            continue
        run_of_best = fastest([row.run for row in planned if row.run is not None])
        best = next(row for row in planned if row.run is run_of_best)
        assert best.run is not None
        assert best.card is not None
        finish = best.run.finish
        yield (
            f"{card}: {run} take {format_duration(finish.p50)} (80 %: {format_duration(finish.p10)} to "
            f"{format_duration(finish.p90)}) with {named(best.run)}, in {_gib(best.card.device_bytes)} GiB of "
            f"{significant(gib(best.card.card_bytes))}."
        )


def _without_run(rows: Sequence[Row]) -> str:
    """Return what can be said of a card on which no run is planned."""
    traced = [(row, row.card) for row in rows if row.card is not None]
    if not traced:
        return "nothing could be forecast"
    if fitting := [row for row, card in traced if card.verdict == "fits"]:
        best = max(fitting, key=lambda row: row.largest or 0)
        is_timed = best.step is not None and best.step.step_time_s is not None
        why = "runs of several passes a step are not planned" if is_timed else "how fast the card is, is not known"
        levers = describe(
            best.record.spec, names=[one for one in varying([row.record.spec for row in rows]) if one not in OF_NO_ROW]
        )
        return f"{_largest(best.largest or 0)} images a pass fit{levers and f' with {levers}'}; {why}"
    smallest = min(card.device_bytes.low for _, card in traced)
    return f"nothing of this is certain to fit; the smallest needs at least {format_bytes(smallest)}"


def _title(card: str, rows: Sequence[Row]) -> str:
    sizes = [row.card.card_bytes for row in rows if row.card is not None and row.record.spec.card == card]
    return f"{card}, {format_bytes(sizes[0])}" if sizes else card


def _columns() -> list[Column[Row]]:
    return [
        Column("largest\nthat fits", lambda row: row.largest, key="largest_micro_batch", text=_largest, type=int),
        Column("batch", lambda row: row.record.spec.batch_size, type=int),
        Column("memory", lambda row: None if row.card is None else row.card.device_bytes, unit="GiB", text=_gib),
        Column("fits", lambda row: None if row.card is None else row.card.verdict, align="left", style=_style),
        Column("step", lambda row: None if row.step is None else row.step.step_time_s, unit="ms", text=_ms),
        Column("run", lambda row: row.run, text=_run, gives_way=1),
    ]


def _largest(examples: int) -> str:
    return f"{examples} or more" if examples >= MOST_EXAMPLES else str(examples)


def _gib(num_bytes: ByteRange) -> str:
    return f"{significant(gib(num_bytes.low))} to {significant(gib(num_bytes.high))}"


def _ms(time: TimeRange) -> str:
    low, central, high = (significant(1000 * seconds, digits=2) for seconds in (time.low, time.central, time.high))
    return f"{central} ({low} to {high})"


def _run(run: PlannedRun) -> str:
    return f"{format_duration(run.finish.p10)} to {format_duration(run.finish.p90)}"


def _style(verdict: str | None) -> str:
    return {"tight": "yellow", "does not fit": "red", "outside": "red"}.get(verdict or "", "")


def _notes(rows: Sequence[Row], *, asked: RunAsked, is_measured: bool) -> Iterator[str]:
    spec = rows[0].record.spec
    extent = "not measured but where a second table says so" if is_measured else "not measured"
    yield f"Forecast, {extent}: each figure is a bracket. How to read this: vnbench guide no-gpu."
    run = f"{count(asked.num_examples, 'example')}, {count(asked.num_epochs, 'epoch')}"
    yield f"Worst case: {spec.worst_case_height} x {spec.worst_case_width} px. run: {run}, the loader keeping up."
