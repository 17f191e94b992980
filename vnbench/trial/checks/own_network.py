"""Whether a user's own network can be trained, and is exact where that is asked of it, in a process of its own."""

from __future__ import annotations

import json

import torch

from vnbench.errors import VnbenchError
from vnbench.records.failures import summary_line
from vnbench.records.spec import TrialSpec
from vnbench.trial.checks.exactness import find_leak
from vnbench.trial.step.network import SMALLEST_SIDE, build_network, takes_mask, without_dropout

CANVAS = (SMALLEST_SIDE, SMALLEST_SIDE + 32)
"""Height and width in pixels."""


def run(payload: str) -> str:
    """Return ``{"problem": text or null, "remedy": text or null}`` (JSON) for a TrialSpec (JSON)."""
    spec = TrialSpec.from_dict(json.loads(payload))
    remedy = "mend the network"
    try:
        problem = _problem(spec)
        if problem is None and spec.padding == "exact":
            problem, remedy = _inexactness(spec)
    except VnbenchError as error:
        problem = str(error)
    except Exception as error:  # whatever the user's code raises is told, not shown as a traceback
        problem = summary_line(error)
    return json.dumps({"problem": problem, "remedy": remedy})


def _problem(spec: TrialSpec) -> str | None:
    """Return what is wrong with a network's logits or gradient; None if nothing is."""
    torch.manual_seed(spec.seed)
    network = build_network(spec).train()
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return "the network has no parameter to train"
    images_BCHW = torch.rand(2, 1, *CANVAS)
    masks = [torch.ones(2, *CANVAS, dtype=torch.bool)] if takes_mask(spec) else []
    logits = network(images_BCHW, *masks)
    expected = (2, spec.num_classes, *CANVAS)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        return f"for images of shape {tuple(images_BCHW.shape)} it returned {got}, not logits of shape {expected}"
    logits.sum().backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    return None


def _inexactness(spec: TrialSpec) -> tuple[str | None, str]:
    """Return by how much and where padding leaks through a network that is to be exact, and what to do about it."""
    torch.manual_seed(spec.seed)
    leak = find_leak(without_dropout(build_network(spec).train()), takes_mask=takes_mask(spec))
    if leak is None:
        told = None if takes_mask(spec) else "it takes no padding, and needs none: padding changes nothing in it"
        return told, "leave --padding out"
    share = f"{100 * leak.logits_error:.2g} %"
    mask = "" if takes_mask(spec) else ", take the mask of valid pixels (a parameter padding)"
    return (
        f"padding changes the logits of an image's own pixels by {share}, {leak.where}",
        f"mend that module{mask}, or write --padding plain",
    )
