"""The figures of a sweep as files, and a line for every figure that its records do not support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from vnbench.analysis.findings import Findings
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """One figure that a sweep can give."""

    name: str
    """File name without its suffix."""
    draw: Callable[[Findings, Provenance], Figure | None]
    """Returns the figure, or None where its data are absent."""
    lack: str
    """What is absent then."""
    command: str
    """What would measure it."""


PLOTS = (
    Plot(
        name="step_time",
        draw=lambda has, origin: step_time_figure(has.training, noise=has.noise, origin=origin),
        lack="no training trial has a valid step time",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="peak_memory",
        draw=lambda has, origin: peak_memory_figure(has.memory, origin=origin),
        lack="no worst-case memory trial has a peak",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="padding",
        draw=lambda has, origin: padding_figure(has.training, origin=origin),
        lack="no training trial holds the padding of its plan",
        command="vnbench sweep --sampler random,bucketed",
    ),
    Plot(
        name="repetition",
        draw=lambda has, origin: repetition_figure(has.training, origin=origin),
        lack="no two samplers have a plan with pairs of examples",
        command="vnbench sweep --batch-size 16 --micro-batch-size 4 --sampler random,bucketed",
    ),
    Plot(
        name="workers",
        draw=lambda has, origin: workers_figure(has.training, noise=has.noise, origin=origin),
        lack="no two trials differ in their number of loader workers alone",
        command="vnbench sweep --num-workers 0,2,4",
    ),
    Plot(
        name="epoch_time",
        draw=lambda has, origin: epoch_time_figure(has.training, noise=has.noise, origin=origin),
        lack="no training trial holds both a valid time and a plan to scale it by",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="compute",
        draw=lambda has, origin: compute_figure(has.compute, noise=has.noise, origin=origin),
        lack="no compute trial has a valid step time",
        command="vnbench sweep --kind compute",
    ),
    Plot(
        name="fit",
        draw=lambda has, origin: fit_figure(has.fits, origin=origin),
        lack="no family was timed at three sizes",
        command="vnbench sweep --kind compute",
    ),
    Plot(
        name="supply",
        draw=lambda has, origin: supply_figure(has.loading, computing=has.compute, noise=has.noise, origin=origin),
        lack="no two loader trials differ in their number of workers alone",
        command="vnbench sweep --kind compute,loader --num-workers 0,1,2,4",
    ),
    Plot(
        name="drift",
        draw=lambda has, origin: drift_figure(has.noise, origin=origin),
        lack=f"no timed trial ran {MIN_RUNS} times",
        command=f"vnbench sweep {REPEAT_COMMAND}",
    ),
)
"""Every figure, in the order in which they are drawn."""


def draw_plots(found: Findings, directory: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write every figure that the records hold data for, each as PNG and SVG; the directory is made where missing.

    Returns:
        The files written, and one line per figure left out, naming the command that would measure its data.

    Raises:
        InputError: the records come from more than one device.
        OSError: the directory cannot be written to.
    """
    origin = provenance(found.latest)
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    left_out: list[str] = []
    with styled():
        for plot in PLOTS:
            figure = plot.draw(found, origin)
            if figure is None:
                left_out.append(left_out_line(plot.name, lack=plot.lack, command=plot.command))
            else:
                files += save(figure, directory, name=plot.name)
    return tuple(files), tuple(left_out)


def left_out_line(name: str, *, lack: str, command: str) -> str:
    """Return the line for a figure that is left out, naming what would measure its data."""
    return f"{name}.png is left out: {lack}; measure with: {command}"
