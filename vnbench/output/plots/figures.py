"""The figures of a sweep as files, and a line for every figure that its records do not support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from vnbench.analysis.findings import Findings
from vnbench.output.plots.compute import compute_figure
from vnbench.output.plots.drift import MIN_RUNS, drift_figure
from vnbench.output.plots.fit import fit_figure
from vnbench.output.plots.memory import peak_memory_figure
from vnbench.output.plots.padding import padding_figure
from vnbench.output.plots.repetition import repetition_figure
from vnbench.output.plots.style import save, styled
from vnbench.output.plots.supply import supply_figure
from vnbench.output.plots.training import epoch_time_figure, step_time_figure, workers_figure
from vnbench.output.words.commands import Options, options_of_records, sweep_command
from vnbench.output.words.provenance import Provenance, provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """One figure that a sweep can give."""

    name: str
    """File name without its suffix."""
    draw: Callable[[Findings, Provenance], Figure | None]
    """Returns the figure, or None where its data are absent."""
    lack: str
    """What is absent then."""
    asks: Options
    """Options of the sweep that would measure it."""


PLOTS = (
    Plot(
        name="step_time",
        draw=lambda has, origin: step_time_figure(has.training, noise=has.noise, origin=origin),
        lack="no training trial has a valid step time",
        asks={"kind": "training", "batch-size": "1,2,4,8,16"},
    ),
    Plot(
        name="peak_memory",
        draw=lambda has, origin: peak_memory_figure(has.memory, origin=origin),
        lack="no worst-case memory trial has a peak",
        asks={"kind": "memory", "batch-size": "1,2,4,8,16"},
    ),
    Plot(
        name="padding",
        draw=lambda has, origin: padding_figure(has.training, origin=origin),
        lack="no training trial holds the padding of its plan",
        asks={"kind": "training", "sampler": "random,bucketed"},
    ),
    Plot(
        name="repetition",
        draw=lambda has, origin: repetition_figure(has.training, origin=origin),
        lack="no two samplers have a plan with pairs of examples",
        asks={"kind": "training", "batch-size": "16", "micro-batch-size": "4", "sampler": "random,bucketed"},
    ),
    Plot(
        name="workers",
        draw=lambda has, origin: workers_figure(has.training, noise=has.noise, origin=origin),
        lack="no two trials differ in their number of loader workers alone",
        asks={"kind": "training", "num-workers": "0,2,4"},
    ),
    Plot(
        name="epoch_time",
        draw=lambda has, origin: epoch_time_figure(has.training, noise=has.noise, origin=origin),
        lack="no training trial holds both a valid time and a plan to scale it by",
        asks={"kind": "training", "batch-size": "1,2,4,8,16"},
    ),
    Plot(
        name="compute",
        draw=lambda has, origin: compute_figure(has.compute, noise=has.noise, origin=origin),
        lack="no compute trial has a valid step time",
        asks={"kind": "compute"},
    ),
    Plot(
        name="fit",
        draw=lambda has, origin: fit_figure(has.fits, origin=origin),
        lack="no family was timed at three sizes",
        asks={"kind": "compute"},
    ),
    Plot(
        name="supply",
        draw=lambda has, origin: supply_figure(has.loading, computing=has.compute, noise=has.noise, origin=origin),
        lack="no two loader trials differ in their number of workers alone",
        asks={"kind": "compute,loader", "num-workers": "0,1,2,4"},
    ),
    Plot(
        name="drift",
        draw=lambda has, origin: drift_figure(has.noise, origin=origin),
        lack=f"no timed trial ran {MIN_RUNS} times",
        asks={"kind": "training", "replicates": "3"},
    ),
)
"""Every figure, in the order in which they are drawn."""


def draw_plots(
    found: Findings, directory: Path, *, options: Options | None = None
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write every figure that the records hold data for, each as PNG and SVG; the directory is made where missing.

    ``options`` are those of the sweep that left them, as far as anybody knows more than the records tell.

    Returns:
        The files written, and one line per figure left out, naming the command that would measure its data.

    Raises:
        InputError: the records come from more than one device.
        OSError: the directory cannot be written to.
    """
    origin = provenance(found.latest)
    known = options_of_records(found.latest) if options is None else options
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    left_out: list[str] = []
    with styled():
        for plot in PLOTS:
            figure = plot.draw(found, origin)
            if figure is None:
                left_out.append(left_out_line(plot.name, lack=plot.lack, command=sweep_command(known, plot.asks)))
            else:
                files += save(figure, directory, name=plot.name)
    return tuple(files), tuple(left_out)


def left_out_line(name: str, *, lack: str, command: str | None) -> str:
    """Return the line for a figure that is left out, naming what would measure its data."""
    return f"{name}.png is left out: {lack}" + ("" if command is None else f"; measure with: {command}")
