"""The figures of a sweep as files, and a line for every figure that its records do not support."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from vnbench.analysis.compute import ComputeSummary, summarize_compute
from vnbench.analysis.fit import FamilyFit, fit_families
from vnbench.analysis.loading import LoaderSummary, summarize_loading
from vnbench.analysis.noise import Noise, measure_noise
from vnbench.analysis.summary import MemorySummary, TrialSummary, latest_attempts, summarize, summarize_memory
from vnbench.output.noise_lines import REPEAT_COMMAND
from vnbench.output.plot_compute import compute_figure
from vnbench.output.plot_drift import MIN_RUNS, drift_figure
from vnbench.output.plot_fit import fit_figure
from vnbench.output.plot_memory import peak_memory_figure
from vnbench.output.plot_padding import padding_figure
from vnbench.output.plot_repetition import repetition_figure
from vnbench.output.plot_style import save, styled
from vnbench.output.plot_supply import supply_figure
from vnbench.output.plot_training import epoch_time_figure, step_time_figure, workers_figure
from vnbench.output.provenance import Provenance, provenance
from vnbench.record import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Summaries:
    """What the records of one device say, for all figures."""

    training: tuple[TrialSummary, ...]
    """One per training spec."""
    memory: tuple[MemorySummary, ...]
    """One per family with memory trials."""
    compute: tuple[ComputeSummary, ...]
    """One per compute spec."""
    loading: tuple[LoaderSummary, ...]
    """One per loader spec."""
    fits: tuple[FamilyFit, ...]
    """One per family that could be fitted."""
    noise: Noise
    """What repeated trials say."""
    origin: Provenance
    """Where and when they were measured."""

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> Summaries:
        """Return what records say.

        Raises:
            InputError: they come from more than one device.
        """
        latest = latest_attempts(records)
        return cls(
            training=summarize(latest),
            memory=summarize_memory(latest),
            compute=summarize_compute(latest),
            loading=summarize_loading(latest),
            fits=fit_families(latest)[0],
            noise=measure_noise(latest),
            origin=provenance(latest),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """One figure that a sweep can give."""

    name: str
    """File name without its suffix."""
    draw: Callable[[Summaries], Figure | None]
    """Returns the figure, or None where its data are absent."""
    lack: str
    """What is absent then."""
    command: str
    """What would measure it."""


PLOTS = (
    Plot(
        name="step_time",
        draw=lambda has: step_time_figure(has.training, noise=has.noise, origin=has.origin),
        lack="no training trial has a valid step time",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="peak_memory",
        draw=lambda has: peak_memory_figure(has.memory, origin=has.origin),
        lack="no worst-case memory trial has a peak",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="padding",
        draw=lambda has: padding_figure(has.training, origin=has.origin),
        lack="no training trial holds the padding of its plan",
        command="vnbench sweep --sampler random,bucketed",
    ),
    Plot(
        name="repetition",
        draw=lambda has: repetition_figure(has.training, origin=has.origin),
        lack="no two samplers have a plan with pairs of examples",
        command="vnbench sweep --batch-size 16 --micro-batch-size 4 --sampler random,bucketed",
    ),
    Plot(
        name="workers",
        draw=lambda has: workers_figure(has.training, noise=has.noise, origin=has.origin),
        lack="no two trials differ in their number of loader workers alone",
        command="vnbench sweep --num-workers 0,2,4",
    ),
    Plot(
        name="epoch_time",
        draw=lambda has: epoch_time_figure(has.training, noise=has.noise, origin=has.origin),
        lack="no training trial holds both a valid time and a plan to scale it by",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="compute",
        draw=lambda has: compute_figure(has.compute, noise=has.noise, origin=has.origin),
        lack="no compute trial has a valid step time",
        command="vnbench sweep --kind compute",
    ),
    Plot(
        name="fit",
        draw=lambda has: fit_figure(has.fits, origin=has.origin),
        lack="no family was timed at three sizes",
        command="vnbench sweep --kind compute",
    ),
    Plot(
        name="supply",
        draw=lambda has: supply_figure(has.loading, computing=has.compute, noise=has.noise, origin=has.origin),
        lack="no two loader trials differ in their number of workers alone",
        command="vnbench sweep --kind compute,loader --num-workers 0,1,2,4",
    ),
    Plot(
        name="drift",
        draw=lambda has: drift_figure(has.noise, origin=has.origin),
        lack=f"no timed trial ran {MIN_RUNS} times",
        command=f"vnbench sweep {REPEAT_COMMAND}",
    ),
)
"""Every figure, in the order in which they are drawn."""


def draw_plots(records: Sequence[TrialRecord], directory: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write every figure that the records hold data for, each as PNG and SVG; the directory is made where missing.

    Returns:
        The files written, and one line per figure left out, naming the command that would measure its data.

    Raises:
        InputError: the records come from more than one device.
        OSError: the directory cannot be written to.
    """
    summaries = Summaries.of(records)
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    left_out: list[str] = []
    with styled():
        for plot in PLOTS:
            figure = plot.draw(summaries)
            if figure is None:
                left_out.append(f"{plot.name}.png is left out: {plot.lack}; measure with: {plot.command}")
            else:
                files += save(figure, directory, name=plot.name)
    return tuple(files), tuple(left_out)
