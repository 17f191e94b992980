"""Results as pandas data frames, for notebooks and scripts of one's own.

import vnbench.frames

trials = vnbench.frames.load("results/cpu-amd-epyc/readme.jsonl")
steps = vnbench.frames.load("results/cpu-amd-epyc/readme.jsonl", "steps")
trials[trials.kind == "training"].groupby("precision").valid_px_per_s.median()
steps.merge(trials, on="trial_id")

Each column ends in its unit: s, bytes, px; a ratio is of 1. ``step_time_s_half_width`` is the half-width of the 95 %
interval of ``step_time_s``. What is not known is missing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vnbench.commands.export import frame_of, view_of

if TYPE_CHECKING:
    import pandas

AnyPath = str | os.PathLike[str]


def load(
    results: AnyPath | Iterable[AnyPath], what: str = "trials", *, corpus_id: str | None = None, **run: object
) -> pandas.DataFrame:
    """Return what results files hold as a data frame with a row per trial, step, canvas or configuration of a plan.

    What cannot be read of a file is warned of.

    Args:
        results: a results file, a folder of them, or several of either.
        what: ``trials``: the latest attempt at each trial, with its levers and figures; ``steps``: each optimizer step;
            ``canvases``: each canvas of the compute trials; ``plan``: each configuration that a run is planned with.
        corpus_id: which corpus, where the results hold several.
        run: options of ``vnbench plan`` by name, as ``examples=2000, epochs=20``: the run that is planned (``plan``).

    Raises:
        InputError: a file or option cannot be used, or the records come from several devices or corpora.
        PlanError: the records do not let one plan.
    """
    paths = [results] if isinstance(results, (str, os.PathLike)) else results
    flags = {name.replace("_", "-"): str(value) for name, value in run.items()}
    view, notes = view_of([Path(path).expanduser() for path in paths], flags, what=what, corpus_id=corpus_id)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return frame_of(view)
