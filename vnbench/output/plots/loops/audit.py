"""The figure of audited training loops: which backward passes flow into which optimizer step."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vnbench.output.plots.style import new_panels
from vnbench.output.words.provenance import provenance_of_audits
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import AuditSpec
from vnbench.units import count

MAX_LOOPS = 4
"""Loops that fit one figure: those with findings come first."""

TITLE_COLUMNS = 60
"""Characters of a panel's title in one line."""

MAX_SIDE = 40
"""Steps and passes of a loop that are drawn."""


def audit_figure(audits: Sequence[TrialRecord[AuditSpec]]) -> Figure | None:
    """Return the contribution matrix of each loop; None if none ran a step."""
    drawn = [record for record in audits if record.audit is not None and record.audit.contributions]
    drawn = sorted(drawn, key=lambda record: record.status == "ok")[:MAX_LOOPS]
    if not drawn:
        return None
    figure, panels = new_panels(
        title="What flows into each optimizer step",
        caption="Dark: the backward pass is in the gradient of the step. A loop that does what it says has its passes "
        "on a staircase, each in one step.",
        origin=provenance_of_audits(drawn),
        trials=count(len(audits), "audit"),
        ratios=[1.0] * len(drawn),
        remarks=[f"{len(audits) - len(drawn)} more audits are not drawn."] if len(audits) > len(drawn) else [],
    )
    for axes, record in zip(panels, drawn, strict=True):
        assert record.audit is not None
        matrix = np.abs(np.array(record.audit.contributions)[:MAX_SIDE, :MAX_SIDE])
        largest = matrix.max(axis=1, keepdims=True, initial=0.0)
        shares = np.divide(matrix, largest, out=np.zeros_like(matrix), where=largest > 0)
        num_steps, num_passes = shares.shape
        axes.imshow(
            shares,
            cmap="Blues",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="nearest",
            extent=(0.5, num_passes + 0.5, num_steps + 0.5, 0.5),
        )
        codes = list(dict.fromkeys(one.code for one in record.audit.findings))
        title = f"{PurePath(record.spec.audited_loop).name}: {', '.join(codes) or 'nothing wrong was found'}"
        axes.set_title(textwrap.fill(title, TITLE_COLUMNS, break_on_hyphens=False), loc="left")
        axes.set_ylabel("step")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.grid(visible=False)
    panels[-1].set_xlim(0.5, 0.5 + min(MAX_SIDE, max(map(_num_passes, drawn))))
    panels[-1].set_xlabel("backward pass")
    return figure


def _num_passes(record: TrialRecord[AuditSpec]) -> int:
    assert record.audit is not None
    return record.audit.num_passes
