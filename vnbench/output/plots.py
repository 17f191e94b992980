"""The figures of a sweep as files, and a line for every figure that its records do not support."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from vnbench.analysis.summary import MemorySummary, TrialSummary, latest_attempts, summarize, summarize_memory
from vnbench.output.plot_memory import peak_memory_figure
from vnbench.output.plot_padding import padding_figure
from vnbench.output.plot_style import save, styled
from vnbench.output.plot_training import epoch_time_figure, step_time_figure, workers_figure
from vnbench.output.provenance import Provenance, provenance
from vnbench.record import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """One figure that a sweep can give."""

    name: str
    """File name without its suffix."""
    draw: Callable[[Sequence[TrialSummary], Sequence[MemorySummary], Provenance], Figure | None]
    """Returns the figure, or None where its data are absent."""
    lack: str
    """What is absent then."""
    command: str
    """What would measure it."""


PLOTS = (
    Plot(
        name="step_time",
        draw=lambda training, _, origin: step_time_figure(training, origin=origin),
        lack="no training trial has a valid step time",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="peak_memory",
        draw=lambda _, memory, origin: peak_memory_figure(memory, origin=origin),
        lack="no worst-case memory trial has a peak",
        command="vnbench sweep --batch-size 1,2,4,8,16",
    ),
    Plot(
        name="padding",
        draw=lambda training, _, origin: padding_figure(training, origin=origin),
        lack="no training trial holds the padding of its plan",
        command="vnbench sweep --sampler random,bucketed",
    ),
    Plot(
        name="workers",
        draw=lambda training, _, origin: workers_figure(training, origin=origin),
        lack="no two trials differ in their number of loader workers alone",
        command="vnbench sweep --num-workers 0,2,4",
    ),
    Plot(
        name="epoch_time",
        draw=lambda training, _, origin: epoch_time_figure(training, origin=origin),
        lack="no training trial holds both a valid time and a plan to scale it by",
        command="vnbench sweep --batch-size 1,2,4,8,16",
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
    latest = latest_attempts(records)
    origin = provenance(latest)
    training, memory = summarize(latest), summarize_memory(latest)
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    left_out: list[str] = []
    with styled():
        for plot in PLOTS:
            figure = plot.draw(training, memory, origin)
            if figure is None:
                left_out.append(f"{plot.name}.png is left out: {plot.lack}; measure with: {plot.command}")
            else:
                files += save(figure, directory, name=plot.name)
    return tuple(files), tuple(left_out)
