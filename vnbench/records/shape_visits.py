"""Whether training has seen a canvas before it is timed: an axis of how one measures, not of how one trains.

The first pass over a canvas pays for what libraries prepare and keep by shape: plans of cuDNN, kernels of oneDNN,
graphs of a compiler. ``warm`` runs a pass over each canvas of the measured steps before they begin: what a step costs
in the long run where canvases are few, or what is kept is enough for all. ``cold`` measures one epoch in which no
canvas was seen before it comes up, but for the single one of the warm-up: what each step costs in a training whose
canvases are more than what is kept. ``auto`` is warm on CUDA and for compiled code, where a first pass costs many times
another; on the CPU it runs no such passes, and its later epochs find what the first one prepared.
"""

from __future__ import annotations

from vnbench.records.spec.trial_spec import TrialSpec


def visits_shapes(spec: TrialSpec) -> bool:
    """Return whether a training trial runs a pass over each canvas before it is timed."""
    if spec.shape_visits == "auto":
        return spec.device == "cuda" or spec.compile != "none"
    return spec.shape_visits == "warm"
