"""Results as pandas data frames, for notebooks and scripts.

import vnbench.frames

trials = vnbench.frames.load("results/cpu-amd-epyc/readme.jsonl")
steps = vnbench.frames.load("results/cpu-amd-epyc/readme.jsonl", "steps")
trials[trials.kind == "training"].groupby("precision").valid_px_per_s.median()
steps.merge(trials, on="trial_id")

Column names end in their unit: s, bytes, px. Ratios lie between 0 and 1, not in percent. ``step_time_s_half_width`` is
the half-width of the 95 % interval of ``step_time_s``. Unknown values are missing.
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
    """Return the results as a data frame with one row per trial, step, canvas or planned configuration.

    Parts of a file that cannot be read cause a warning.

    Args:
        results: a results file, a folder of them, or several of either.
        what: the rows. ``trials``: the latest attempt at each trial, with its levers and metrics; ``steps``: each
            optimizer step; ``canvases``: each canvas of the compute trials; ``plan``: each configuration of a plan.
        corpus_id: the corpus to take, if the results hold several.
        run: options of ``vnbench plan`` by name, such as ``examples=2000, epochs=20``; only for ``plan``.

    Raises:
        InputError: a file or option cannot be used, or the records come from several devices or corpora.
        PlanError: the records do not suffice for a plan.
    """
    paths = [results] if isinstance(results, (str, os.PathLike)) else results
    flags = {name.replace("_", "-"): str(value) for name, value in run.items()}
    view, notes = view_of([Path(path).expanduser() for path in paths], flags, what=what, corpus_id=corpus_id)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return frame_of(view)
