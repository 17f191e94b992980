"""Every figure of records, of a plan of them and of profiles: what it shows, and what would measure what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from vnbench.analysis.findings import Findings
from vnbench.analysis.planning.lever_path import lever_path
from vnbench.output.plots.capacity_plan import interruptions_figure, interval_figure, pareto_figure, wall_clock_figure
from vnbench.output.plots.compute import compute_figure
from vnbench.output.plots.drift import MIN_RUNS, drift_figure
from vnbench.output.plots.effects import effects_figure
from vnbench.output.plots.fit import fit_figure
from vnbench.output.plots.forecast import forecast_figure
from vnbench.output.plots.levers import waterfall_figure
from vnbench.output.plots.loops.audit import audit_figure
from vnbench.output.plots.memory import peak_memory_figure
from vnbench.output.plots.padding import padding_figure
from vnbench.output.plots.profile import stage_memory_figure
from vnbench.output.plots.repetition import repetition_figure
from vnbench.output.plots.style import save, styled
from vnbench.output.plots.supply import supply_figure
from vnbench.output.plots.training import epoch_time_figure, step_time_figure, workers_figure
from vnbench.output.words.capacity_plan import Report, named
from vnbench.output.words.commands import (
    Options,
    options_of_records,
    profile_command,
    sizes_of_records,
    sweep_command,
)
from vnbench.output.words.profiles import Profile
from vnbench.output.words.provenance import Provenance, is_all_forecast, origin_of, provenance_of_cards
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import AuditSpec, ForecastSpec

Of = TypeVar("Of")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What figures are drawn of. A part that nobody asked for is None, and its figures are not missed."""

    found: Findings
    """What the records of one device say, or forecasts alone."""
    forecasts: Sequence[TrialRecord[ForecastSpec]] = ()
    """Forecasts, of any card."""
    audits: Sequence[TrialRecord[AuditSpec]] = ()
    """Audits of training loops, the last one of each."""
    plan: Report | str | None = None
    """The plan of a run, or why there is none."""
    profiles: Sequence[Profile] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot(Generic[Of]):
    """One figure: all that there is to know of it outside of the module that draws it."""

    name: str
    """File name without its suffix."""
    alt: str
    """What it shows, for who cannot see it."""
    of: Callable[[Subject], Of | str | None]
    """Returns what it is drawn of: a text says why there is none, None that nobody asked for it."""
    draw: Callable[[Of, Provenance], Figure | None]
    """Returns the figure, or None where its data are absent."""
    lack: str
    """What is absent then."""
    command: Callable[[Options, Options], str] | None
    """Returns the command that would measure it, given the options of the sweep at hand and the range of sizes that was
    measured, as options; None where none would."""

    @property
    def words(self) -> str:
        """Its name for people."""
        return self.name.replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """What was drawn."""

    pictures: Mapping[Plot[Any], tuple[Path, ...]] = field(default_factory=dict)
    """The files of each figure, one per format of style.FORMATS in this order."""
    left_out: tuple[str, ...] = ()
    """A line for each figure whose data are absent, with the command that would measure them."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all figures."""
        return tuple(chain.from_iterable(self.pictures.values()))


def records_of(subject: Subject) -> Findings | None:
    """Return what figures of measured trials are drawn of; None where all is forecast, or there are audits alone."""
    is_measured = subject.found.latest or not subject.audits
    return subject.found if is_measured and not is_all_forecast(subject.found.latest) else None


def forecasts_of(subject: Subject) -> Sequence[TrialRecord[ForecastSpec]] | None:
    """Return the forecasts; None where there are none."""
    return subject.forecasts or None


def audits_of(subject: Subject) -> Sequence[TrialRecord[AuditSpec]] | None:
    """Return the audits; None where there are none."""
    return subject.audits or None


def plan_of(subject: Subject) -> Report | str | None:
    """Return what figures of a plan are drawn of, or why there is none; nobody asks for one of audits alone."""
    if subject.audits and not subject.found.latest:
        return None
    return f"no plan: {subject.plan}" if isinstance(subject.plan, str) else subject.plan


def interrupted_of(subject: Subject) -> Report | None:
    """Return what figures of a plan with interruptions are drawn of; None where nothing interrupts it."""
    plan = plan_of(subject)
    return None if plan is None or isinstance(plan, str) or plan.asked.interruptions.is_none else plan


def profiles_of(subject: Subject) -> Sequence[Profile] | None:
    """Return what figures of profiles are drawn of, which may be none; nobody asks for them of forecasts."""
    return (subject.profiles or None) if is_all_forecast(subject.found.latest) else subject.profiles


def _sweep(**asked: str) -> Callable[[Options, Options], str]:
    """Return what writes the command of a sweep; options stand with underscores."""
    options = {name.replace("_", "-"): text for name, text in asked.items()}
    return lambda known, _: sweep_command(known, options)


PLOTS = (
    Plot(
        name="effects",
        alt="Time and peak memory after one change of each lever, over those of the centre",
        of=records_of,
        draw=lambda found, origin: effects_figure(
            found.training,
            answer=found.answer,
            centre=found.sides.centre,
            computing=found.computing_effects,
            num_compute_trials=sum(row.num_processes for row in found.compute),
            origin=origin,
        ),
        lack="no two trials differ in one lever alone",
        command=_sweep(kind="memory,training", checkpointing="none,stages"),
    ),
    Plot(
        name="forecast",
        alt="Forecast memory and step time on cards, a bracket for each setting of the levers",
        of=forecasts_of,
        draw=lambda records, _: forecast_figure(records, origin=provenance_of_cards(records)),
        lack="no step could be forecast",
        command=None,
    ),
    Plot(
        name="audit",
        alt="Weight of each backward pass in each optimizer step of an audited training loop",
        of=audits_of,
        draw=lambda audits, _: audit_figure(audits),
        lack="no audited loop ran a step",
        command=None,
    ),
    Plot(
        name="wall_clock",
        alt="Wall clock of the planned run against batch size, a line per precision",
        of=plan_of,
        draw=lambda plan, _: wall_clock_figure(plan.runs, asked=plan.asked, origin=plan.origin),
        lack="the plan has a single batch size",
        command=_sweep(kind="memory,compute", batch_size="1,2,4,8,16"),
    ),
    Plot(
        name="pareto",
        alt="Wall clock of the planned run against worst-case memory, one point per configuration",
        of=plan_of,
        draw=lambda plan, _: pareto_figure(plan.runs, asked=plan.asked, origin=plan.origin),
        lack="no worst-case memory is known",
        command=_sweep(kind="memory", batch_size="1,2,4,8,16"),
    ),
    Plot(
        name="levers",
        alt="Wall clock of the planned run after each change of a lever, from the plainest configuration on",
        of=plan_of,
        draw=lambda plan, _: waterfall_figure(
            lever_path(plan.runs, plan.recommended), asked=plan.asked, origin=plan.origin
        ),
        lack="nothing plainer than the recommended configuration was measured",
        command=_sweep(kind="memory,compute", precision="fp32,bf16", sampler="random,bucketed"),
    ),
    Plot(
        name="interruptions",
        alt="Wall clock of the planned run against the number of interruptions, with snapshots and without",
        of=plan_of,
        draw=lambda plan, _: interruptions_figure(
            plan.recommended, asked=plan.asked, origin=plan.origin, name=named(plan.recommended)
        ),
        lack="the run never finishes: plan a shorter one",
        command=None,
    ),
    Plot(
        name="snapshot_interval",
        alt="Wall clock of the planned run against the training between snapshots, with the best of several rules",
        of=interrupted_of,
        draw=lambda plan, _: interval_figure(
            plan.recommended, asked=plan.asked, origin=plan.origin, name=named(plan.recommended)
        ),
        lack="the run never finishes: plan a shorter one",
        command=None,
    ),
    Plot(
        name="stage_memory",
        alt="Memory at the peak of a worst-case step, by the stage that made it",
        of=profiles_of,
        draw=lambda profiles, origin: stage_memory_figure(profiles, origin=origin),
        lack="no profile was given (give one with --profile DIR)",
        command=partial(profile_command, out="profiles"),
    ),
    Plot(
        name="step_time",
        alt="Step time against batch size, with its interval",
        of=records_of,
        draw=lambda found, origin: step_time_figure(found.training, noise=found.noise, origin=origin),
        lack="no training trial has a valid step time",
        command=_sweep(kind="training", batch_size="1,2,4,8,16"),
    ),
    Plot(
        name="peak_memory",
        alt="Worst-case peak memory against micro-batch",
        of=records_of,
        draw=lambda found, origin: peak_memory_figure(found.memory, origin=origin),
        lack="no worst-case memory trial has a peak",
        command=_sweep(kind="memory", batch_size="1,2,4,8,16"),
    ),
    Plot(
        name="padding",
        alt="Padding by sampler and batch size, beside the least that any grouping pads",
        of=records_of,
        draw=lambda found, origin: padding_figure(found.training, origin=origin),
        lack="no training trial holds the padding of its plan",
        command=_sweep(kind="training", sampler="random,bucketed"),
    ),
    Plot(
        name="repetition",
        alt="Padding against the share of pairs that repeat, a point per sampler",
        of=records_of,
        draw=lambda found, origin: repetition_figure(found.training, origin=origin),
        lack="no two samplers have a plan with pairs of examples",
        command=_sweep(kind="training", batch_size="16", micro_batch_size="4", sampler="random,bucketed"),
    ),
    Plot(
        name="workers",
        alt="Throughput against loader workers, with its interval",
        of=records_of,
        draw=lambda found, origin: workers_figure(found.training, noise=found.noise, origin=origin),
        lack="no two trials differ in their number of loader workers alone",
        command=_sweep(kind="training", num_workers="0,2,4"),
    ),
    Plot(
        name="epoch_time",
        alt="Time of an epoch of all training examples against batch size, with its interval",
        of=records_of,
        draw=lambda found, origin: epoch_time_figure(found.training, noise=found.noise, origin=origin),
        lack="no training trial holds both a valid time and a plan to scale it by",
        command=_sweep(kind="training", batch_size="1,2,4,8,16"),
    ),
    Plot(
        name="compute",
        alt="Step time per padded pixel against the pixels of a step, a line per configuration",
        of=records_of,
        draw=lambda found, origin: compute_figure(found.compute, noise=found.noise, origin=origin),
        lack="no compute trial has a valid step time",
        command=_sweep(kind="compute"),
    ),
    Plot(
        name="fit",
        alt="Measured and fitted step time against padded pixels, with the error at sizes left out",
        of=records_of,
        draw=lambda found, origin: fit_figure(found.fits, origin=origin),
        lack="no family was timed at three sizes",
        command=_sweep(kind="compute"),
    ),
    Plot(
        name="supply",
        alt="Examples per second that the loader supplies against its workers, beside what computing takes",
        of=records_of,
        draw=lambda found, origin: supply_figure(
            found.loading, computing=found.compute, noise=found.noise, origin=origin
        ),
        lack="no two loader trials differ in their number of workers alone",
        command=_sweep(kind="compute,loader", num_workers="0,1,2,4"),
    ),
    Plot(
        name="drift",
        alt="Times of repeated trials against their mean, over the course of the sweep",
        of=records_of,
        draw=lambda found, origin: drift_figure(found.noise, origin=origin),
        lack=f"no timed trial ran {MIN_RUNS} times",
        command=_sweep(kind="training", replicates="3"),
    ),
)
"""All of them, in the order in which they are drawn. A new one is a function that draws it and its entry here."""


def draw_figures(subject: Subject, directory: Path, *, options: Options | None = None, is_needed: bool = True) -> Drawn:
    """Write every figure that there are data for, each as PNG and SVG; the directory is made where missing.

    ``options`` are those of the sweep that left the records, as far as anybody knows more than the records tell. Where
    figures are not ``is_needed``, one that cannot be written is left out.

    Raises:
        InputError: the records come from more than one device.
        OSError: the directory cannot be written to.
    """
    origin = origin_of(subject.found.latest)
    known = options_of_records(subject.found.latest) if options is None else options
    sizes = sizes_of_records(subject.found.latest)
    pictures: dict[Plot[Any], tuple[Path, ...]] = {}
    left_out: list[str] = []
    plots: Sequence[Plot[Any]] = PLOTS  # each is drawn of what its own ``of`` returns
    with styled():
        for plot in plots:
            drawn_of = plot.of(subject)
            if drawn_of is None:
                continue
            if isinstance(drawn_of, str):
                left_out.append(f"{plot.words}: {drawn_of}")
            elif (figure := plot.draw(drawn_of, origin)) is not None:
                try:
                    pictures[plot] = save(figure, directory, name=plot.name)
                except OSError as error:
                    if is_needed:
                        raise
                    left_out.append(f"{plot.words}: {directory} cannot be written ({error.strerror})")
            else:
                remedy = "" if plot.command is None else f"; measure with: {plot.command(known, sizes)}"
                left_out.append(f"{plot.words}: {plot.lack}{remedy}")
    return Drawn(pictures=pictures, left_out=tuple(left_out))
